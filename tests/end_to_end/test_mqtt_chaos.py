"""MQTT in both directions while everything in between is killed, cut and restarted: nothing is lost or stored twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from bench.mqtt_frames import Published
from device_agent import Agent, Metric
from tests.end_to_end.hub import Hub
from tests.end_to_end.mqtt_peers import Forwarder, Publisher, Subscriber, forwarder_to
from tests.services.mosquitto import Mosquitto

READINGS = int(os.environ.get("HUB_TEST_CHAOS_READINGS", "100000"))
"""Messages in each direction."""

KILLS, CUTS, RESTARTS = 10, 50, 5
DEVICES = 4
START_NS = 1_790_000_000_000_000_000
STEP_NS = 1_000_000
PER_MESSAGE = 4
"""Readings of one time in a message, out and in."""
ROWS_A_BATCH = 10
METRICS = [f"m{i}" for i in range(PER_MESSAGE)]

Fault = Literal["kill", "cut", "restart"]
CONFIG = """
[[mqtt]]
url = "mqtt://127.0.0.1:{port}"
[[mqtt.subscribe]]
topic = "in/{{device}}"
[[mqtt.publish]]
topic = "out/{{device}}/state"
payload = "json"
"""


class ReceivedNumbers:
    """Messages of the subscriber: by device the numbers in order of first arrival, and how often each arrived."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = {f"out-{n}": [] for n in range(DEVICES)}
        self.came: dict[tuple[str, int], tuple[str, str]] = {}
        self.repeated = 0
        self.wrong: list[str] = []

    @property
    def count(self) -> int:
        return len(self.came)

    def record(self, message: Published) -> None:
        """Record a message. Every row has its number in each metric; a repetition must name the batch of its first
        arrival."""
        device = message.topic.split("/")[1]
        row = json.loads(message.payload)
        number = int(row[METRICS[0]])
        origin = message.properties["hub-epoch"], message.properties["hub-seq"]
        if [row[metric] for metric in METRICS] != [number] * PER_MESSAGE or message.properties["hub-device"] != device:
            self.wrong.append(f"{message}")
        before = self.came.setdefault((device, number), origin)
        if before != origin:
            self.wrong.append(f"{device} {number} of {origin} came before in {before}")
        if len(self.came) > sum(map(len, self.numbers.values())):
            self.numbers[device].append(number)
        else:
            self.repeated += 1


@contextlib.asynccontextmanager
async def bridged_hub(folder: Path, port: int) -> AsyncIterator[Hub]:
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(port=port))
    hub = Hub(folder / "data", options=("--config", str(config)))
    await hub.start()
    try:
        yield hub
    finally:
        await hub.kill()


async def strike(fault: Fault, hub: Hub, forwarder: Forwarder, broker: Mosquitto) -> None:
    match fault:
        case "kill":
            await hub.kill()
            await hub.start()
        case "cut":
            await forwarder.cut()
        case "restart":
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)


@pytest.mark.deadline(300 * max(1, READINGS // 300_000))
async def test_nothing_is_lost_in_either_direction_over_any_failure(mosquitto_program: Path, tmp_path: Path) -> None:
    """The hub is killed ten times, its connection cut fifty times and the broker restarted five times, in any order.
    Every reading of the devices reaches the subscriber. Every published reading is stored once, with its own time."""
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    faults: list[Fault] = [*["kill"] * KILLS, *["cut"] * CUTS, *["restart"] * RESTARTS]  # type: ignore[list-item]
    chance.shuffle(faults)
    rows = READINGS // PER_MESSAGE // DEVICES
    steps = [rows * n // len(faults) for n in range(len(faults) + 1)]
    received = ReceivedNumbers()
    async with contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto(mosquitto_program, tmp_path / "broker"))
        forwarder = await stack.enter_async_context(forwarder_to(broker.port))
        hub = await stack.enter_async_context(bridged_hub(tmp_path, forwarder.port))
        token = await hub.token("gateway", "--devices", "out-*")
        subscriber = await stack.enter_async_context(Subscriber(broker.port, "subscriber", "out/#", received.record))
        publisher = await stack.enter_async_context(Publisher(broker.port, "publisher"))
        await subscribed(hub, publisher)
        agents = [
            await stack.enter_async_context(
                Agent(hub.url, device=name, token=token, metrics=[Metric(metric) for metric in METRICS])
            )
            for name in received.numbers
        ]
        for fault, begin, end in zip(faults, steps, steps[1:], strict=False):
            for number in range(begin + 1, end + 1):
                payload = json.dumps({"ts": START_NS + number * STEP_NS, **dict.fromkeys(METRICS, number)}).encode()
                for n in range(DEVICES):
                    publisher.publish(f"in/in-{n}", payload)
            for first in range(begin + 1, end + 1, ROWS_A_BATCH):
                rows_of_batch = [
                    (START_NS + number * STEP_NS, dict.fromkeys(METRICS, float(number)))
                    for number in range(first, min(first + ROWS_A_BATCH, end + 1))
                ]
                for agent in agents:
                    await agent.send_rows(rows_of_batch)
            reached = DEVICES * begin + chance.randint(1, DEVICES * (end - begin))
            await subscriber.until(lambda reached=reached: received.count >= reached)  # type: ignore[misc]
            await strike(fault, hub, forwarder, broker)
        await publisher.drain()
        await subscriber.until(lambda: received.count >= DEVICES * rows)
        await accepted_from_mqtt(hub, DEVICES * rows * PER_MESSAGE)
        flow = await hub.settled()
        print(f"seed {seed}: {received.repeated} messages came twice, {publisher.repeated} were published again")
        assert received.wrong == [], f"seed {seed}"
        for device, numbers in received.numbers.items():
            assert numbers == [*range(1, rows + 1)], f"{device}, seed {seed}"
        by_device = {device["device"]: device for device in flow["devices"]}
        for n in range(DEVICES):
            book = by_device[f"in-{n}"]
            assert book["accepted"] == book["stored"] == rows * PER_MESSAGE, f"seed {seed}"
            answer = await hub.get("/api/v1/history", device=f"in-{n}", points=0, **{"from": "0"})
            assert len(answer["series"]) == PER_MESSAGE
            for series in answer["series"]:
                assert series["values"] == [*range(1, rows + 1)], f"seed {seed}"
                assert series["time_ns"] == [START_NS + number * STEP_NS for number in range(1, rows + 1)]
        assert await hub.stop() == 0


async def subscribed(hub: Hub, publisher: Publisher) -> None:
    """Return when the broker has the hub's subscription: it keeps no messages for the hub before."""
    while not any(device["device"] == "probe" for device in (await hub.get("/api/v1/flow"))["devices"]):
        publisher.publish("in/probe", b'{"m0": 0}')
        await asyncio.sleep(0.05)


async def accepted_from_mqtt(hub: Hub, readings: int) -> None:
    """Return when the hub has accepted this number of readings from MQTT; the test's deadline ends the wait."""
    while True:
        flow = await hub.get("/api/v1/flow")
        if sum(device["accepted"] for device in flow["devices"] if device["device"].startswith("in-")) >= readings:
            return
        await asyncio.sleep(0.05)
