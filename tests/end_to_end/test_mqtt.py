"""A real Mosquitto and a real hub: published messages are stored, whichever of the two is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.end_to_end.bridged_hub import START_NS, bridge_when, connected, publish, stored_readings, when_handled
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


@pytest.fixture
def broker(mosquitto_program: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(mosquitto_program, tmp_path / "mosquitto") as running:
        yield running


@asynccontextmanager
async def plant_hub(folder: Path, broker: Mosquitto) -> AsyncIterator[Hub]:
    file = folder / "hub.toml"
    file.write_text(SETTINGS.format(url=broker.url))
    async with running_hub(folder / "data", options=["--config", str(file)]) as hub:
        await connected(hub)
        yield hub


def row(number: int) -> tuple[str, str]:
    return f"machines/m{number % 3}", json.dumps({"ts": START_NS + number * 1_000_000, "speed": number, "on": True})


async def test_published_messages_are_stored(broker: Mosquitto, tmp_path: Path) -> None:
    """Bare values and JSON are stored; a message that cannot be decoded is in quarantine with its topic, and others
    follow it."""
    async with plant_hub(tmp_path, broker) as hub:
        await asyncio.to_thread(
            publish,
            broker,
            [("sensors/boiler/temperature", "21.5"), ("machines/press", "{broken"), *(row(n) for n in range(30))],
        )
        inward = await when_handled(hub, 32)
        assert (inward["taken"], inward["undecodable"], inward["accepted"]) == (31, 1, 61)
        assert await stored_readings(hub) == 61
        latest = await hub.get("/api/v1/latest")
        assert "21.5" in json.dumps(latest)
        held = await hub.get("/api/v1/quarantine")
        offset = held["quarantine"][0]["offset"]
        assert "machines/press" in json.dumps(await hub.get(f"/api/v1/quarantine/{offset}"))


async def test_a_hub_that_is_killed_loses_nothing_and_stores_nothing_twice(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker keeps unacknowledged messages, and the hub recognizes a repeated message by its time."""
    async with plant_hub(tmp_path, broker) as hub:
        for part in range(3):
            publishing = asyncio.create_task(
                asyncio.to_thread(publish, broker, [row(n) for n in range(part * 1_000, (part + 1) * 1_000)])
            )
            await when_handled(hub, 1)
            await hub.kill()
            await publishing
            await hub.start()
            await connected(hub)
        await asyncio.to_thread(publish, broker, [row(3_000)])
        while True:
            inward = (await bridge_when(hub, lambda bridge: True))["inward"]
            if await stored_readings(hub) >= 6_002 and inward["received"] == inward["taken"]:
                break
        assert await stored_readings(hub) == 6_002


async def test_a_retained_value_is_no_reading(broker: Mosquitto, tmp_path: Path) -> None:
    """A retained value has an unknown age, so it is not a reading."""
    await asyncio.to_thread(publish, broker, [("sensors/old/level", "1")], retain=True)
    async with plant_hub(tmp_path, broker) as hub:
        await asyncio.to_thread(publish, broker, [("sensors/new/level", "2")])
        inward = await when_handled(hub, 2)
        assert (inward["retained"], inward["accepted"]) == (1, 1)


async def test_a_hub_without_its_broker_works_and_reconnects(broker: Mosquitto, tmp_path: Path) -> None:
    """The hub reports the outage of the broker and reconnects by itself."""
    async with plant_hub(tmp_path, broker) as hub:
        with broker.down():
            state = await bridge_when(hub, lambda bridge: bridge["last_error"] is not None)
            assert state["phase"] == "waiting"
        await connected(hub)
        await asyncio.to_thread(publish, broker, [("sensors/boiler/temperature", "3")])
        assert (await when_handled(hub, 1))["accepted"] == 1
