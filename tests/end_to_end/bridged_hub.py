"""A real hub with a bridge to a real broker, and what the bridge reports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.end_to_end.hub import Hub, running_hub
from tests.services.mosquitto import Mosquitto

START_NS = 1_700_000_000_000_000_000
"""Time of the first reading that a test publishes."""


@contextlib.asynccontextmanager
async def bridged_hub(folder: Path, broker: Mosquitto, rest: str) -> AsyncIterator[Hub]:
    """Run a hub with its data in the folder and one broker; `rest` continues the broker's settings."""
    folder.mkdir(exist_ok=True)
    config = folder / "hub.toml"
    config.write_text(f'[[mqtt]]\nurl = "{broker.url}"\n{rest}\n')
    async with running_hub(folder / "data", options=["--config", str(config)]) as hub:
        yield hub


async def bridge_when(hub: Hub, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first state of the bridge that meets the condition."""
    while True:
        bridge: dict[str, Any] = (await hub.get("/api/v1/mqtt"))["bridges"][0]
        if condition(bridge):
            return bridge
        await asyncio.sleep(0.05)


async def connected(hub: Hub) -> None:
    """Return when the bridge is connected."""
    await bridge_when(hub, lambda bridge: bridge["phase"] == "connected")


async def when_handled(hub: Hub, messages: int) -> dict[str, Any]:
    """Return the inward counts as soon as the hub has handled this number of messages since it started."""

    def is_done(bridge: dict[str, Any]) -> bool:
        inward = bridge["inward"]
        return bool(inward["taken"] + inward["undecodable"] + inward["retained"] >= messages)

    inward: dict[str, Any] = (await bridge_when(hub, is_done))["inward"]
    return inward


async def stored_readings(hub: Hub) -> int:
    """Return the number of stored readings as soon as the store has all entries of the journal."""
    return sum(device["stored"] for device in (await hub.settled())["devices"])


def publish(broker: Mosquitto, messages: Sequence[tuple[str, str | bytes]], *, retain: bool = False) -> None:
    """Publish the messages; return when the broker has acknowledged all of them."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(0)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for info in [client.publish(topic, payload, qos=1, retain=retain) for topic, payload in messages]:
        info.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
