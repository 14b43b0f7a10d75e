"""Every documented message through a real broker into a real hub: the API answers with what was published."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.mqtt_peers import Publisher
from tests.hub.mqtt.decoders.samples import FILES, SampleFile, read_samples
from tests.services.mosquitto import Mosquitto

CONNECTED_S = 30.0
LAST_TOPIC = "zigbee2mqtt/the last"


def expected(golden: list[SampleFile]) -> dict[tuple[str, str], tuple[Any, str]]:
    """Return the last value and the unit of each metric."""
    latest: dict[tuple[str, str], tuple[Any, str]] = {}
    units: dict[tuple[str, str], str] = {}
    newest: dict[tuple[str, str], int] = {}
    for file in golden:
        for _, found in file.messages:
            for item in found or []:
                if "declared" in item:
                    for metric in item.get("metrics", ()):
                        units[item["declared"], metric["name"]] = metric.get("unit", "")
                device: str = item.get("row") or item.get("sample") or ""
                values = (
                    item["values"] if "row" in item else {item["metric"]: item["value"]} if "sample" in item else {}
                )
                for metric, value in values.items():
                    key = (device, metric)
                    time_ns = item.get("time_ns", 2**63)
                    if item.get("unit"):
                        units[key] = item["unit"]
                    if time_ns >= newest.get(key, 0):
                        newest[key] = time_ns
                        latest[key] = (value, "")
    return {key: (value, units.get(key, "")) for key, (value, _) in latest.items()}


async def connected(hub: Hub) -> None:
    async with asyncio.timeout(CONNECTED_S):
        while True:
            (bridge,) = (await hub.get("/api/v1/mqtt"))["bridges"]
            if bridge["phase"] == "connected":
                return
            await asyncio.sleep(0.05)


async def came(hub: Hub, device: str) -> None:
    async with asyncio.timeout(CONNECTED_S):
        while True:
            if device in str(await hub.get("/api/v1/devices")):
                return
            await asyncio.sleep(0.05)


@pytest.mark.deadline(120)
async def test_the_documented_messages_of_every_preset_are_stored(mosquitto_program: Path, tmp_path: Path) -> None:
    """With all presets on one broker, values and units are stored and nothing is in quarantine."""
    golden = [read_samples(path) for path in FILES]
    presets = list(dict.fromkeys(file.preset for file in golden))
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        settings = tmp_path / "hub.toml"
        settings.write_text(f"[[mqtt]]\nurl = 'mqtt://127.0.0.1:{broker.port}'\npresets = {presets}\n")
        async with (
            running_hub(tmp_path / "data", options=["--config", str(settings)]) as hub,
            Publisher(broker.port, "devices") as publisher,
        ):
            await connected(hub)
            for file in golden:
                for message, _ in file.messages:
                    publisher.publish(message.topic, message.payload)
            publisher.publish(LAST_TOPIC, b'{"last": true}')
            await publisher.drain()
            await came(hub, "the_last")
            stored = {}
            for entry in (await hub.get("/api/v1/latest", limit=1000))["latest"]:
                stored[entry["device"], entry["metric"]] = (entry["latest"]["value"], entry["unit"])
            stored = {key: value for key, value in stored.items() if not key[0].startswith("the_last")}
            assert stored == expected(golden)
            assert (await hub.get("/api/v1/quarantine"))["quarantine"] == []
