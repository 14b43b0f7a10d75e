"""A real Mosquitto and a real hub: what is published is stored, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.end_to_end.hub import Hub, running_hub
from tests.services.mosquitto import Mosquitto

SETTINGS = """
[[mqtt]]
name = "plant"
url = "{url}"
keepalive = 5
subscribe = [
  {{ topic = "sensors/{{device}}/{{metric}}", payload = "value" }},
  {{ topic = "machines/{{device}}", payload = "json" }},
]
"""
START_NS = 1_700_000_000_000_000_000


@pytest.fixture
def broker(mosquitto_program: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(mosquitto_program, tmp_path / "mosquitto") as running:
        yield running


@asynccontextmanager
async def bridged_hub(folder: Path, broker: Mosquitto) -> AsyncIterator[Hub]:
    file = folder / "hub.toml"
    file.write_text(SETTINGS.format(url=broker.url))
    async with running_hub(folder / "data", options=["--config", str(file)]) as hub:
        await connected(hub)
        yield hub


async def once(hub: Hub, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The bridge's state as soon as this is true of it."""
    while True:
        bridge: dict[str, Any] = (await hub.get("/api/v1/mqtt"))["bridges"][0]
        if condition(bridge):
            return bridge
        await asyncio.sleep(0.05)


async def connected(hub: Hub) -> None:
    await once(hub, lambda bridge: bridge["phase"] == "connected")


async def taken(hub: Hub, messages: int) -> dict[str, Any]:
    """What came in, once so many messages have been dealt with since the hub was started."""

    def is_done(bridge: dict[str, Any]) -> bool:
        inward = bridge["inward"]
        return bool(inward["taken"] + inward["undecodable"] + inward["retained"] >= messages)

    inward: dict[str, Any] = (await once(hub, is_done))["inward"]
    return inward


async def stored(hub: Hub) -> int:
    """Readings in the store, once it has what the journal has."""
    return sum(device["stored"] for device in (await hub.settled())["devices"])


def publish(broker: Mosquitto, messages: list[tuple[str, str]], *, retain: bool = False) -> None:
    """Returns when the broker has acknowledged all of them."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(0)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for info in [client.publish(topic, payload, qos=1, retain=retain) for topic, payload in messages]:
        info.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def row(number: int) -> tuple[str, str]:
    return f"machines/m{number % 3}", json.dumps({"ts": START_NS + number * 1_000_000, "speed": number, "on": True})


async def test_what_is_published_is_stored(broker: Mosquitto, tmp_path: Path) -> None:
    """Bare values and JSON; what cannot be understood is in quarantine with its topic, and nothing stops for it."""
    async with bridged_hub(tmp_path, broker) as hub:
        await asyncio.to_thread(
            publish,
            broker,
            [("sensors/boiler/temperature", "21.5"), ("machines/press", "{broken"), *(row(n) for n in range(30))],
        )
        inward = await taken(hub, 32)
        assert (inward["taken"], inward["undecodable"], inward["accepted"]) == (31, 1, 61)
        assert await stored(hub) == 61
        latest = await hub.get("/api/v1/latest")
        assert "21.5" in json.dumps(latest)
        held = await hub.get("/api/v1/quarantine")
        offset = held["quarantine"][0]["offset"]
        assert "machines/press" in json.dumps(await hub.get(f"/api/v1/quarantine/{offset}"))


async def test_a_hub_that_is_killed_loses_nothing_and_stores_nothing_twice(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker keeps what was not acknowledged, and what comes again is known by its time."""
    async with bridged_hub(tmp_path, broker) as hub:
        for part in range(3):
            publishing = asyncio.create_task(
                asyncio.to_thread(publish, broker, [row(n) for n in range(part * 1_000, (part + 1) * 1_000)])
            )
            await taken(hub, 1)
            await hub.kill()
            await publishing
            await hub.start()
            await connected(hub)
        await asyncio.to_thread(publish, broker, [row(3_000)])
        while True:
            inward = (await once(hub, lambda bridge: True))["inward"]
            if await stored(hub) >= 6_002 and inward["received"] == inward["taken"]:
                break
        assert await stored(hub) == 6_002


async def test_a_value_that_was_retained_before_is_no_reading(broker: Mosquitto, tmp_path: Path) -> None:
    """Nobody knows how old it is."""
    await asyncio.to_thread(publish, broker, [("sensors/old/level", "1")], retain=True)
    async with bridged_hub(tmp_path, broker) as hub:
        await asyncio.to_thread(publish, broker, [("sensors/new/level", "2")])
        inward = await taken(hub, 2)
        assert (inward["retained"], inward["accepted"]) == (1, 1)


async def test_a_hub_without_its_broker_works_and_finds_it_again(broker: Mosquitto, tmp_path: Path) -> None:
    """It says what is the matter meanwhile."""
    async with bridged_hub(tmp_path, broker) as hub:
        with broker.down():
            state = await once(hub, lambda bridge: bridge["last_error"] is not None)
            assert state["phase"] == "waiting"
        await connected(hub)
        await asyncio.to_thread(publish, broker, [("sensors/boiler/temperature", "3")])
        assert (await taken(hub, 1))["accepted"] == 1
