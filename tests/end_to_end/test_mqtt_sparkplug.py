"""An edge node of another Sparkplug B implementation, a real Mosquitto and a real hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command_devices import sent
from tests.end_to_end.hub import Hub, operator, running_hub
from tests.services.built import BuildError
from tests.services.mosquitto import Mosquitto
from tests.services.sparkplug import SparkplugPeer, peer_python

SETTINGS = """
[[mqtt]]
name = "plant"
url = "{url}"
host_id = "hub"
allow_commands = true
"""
DOUBLE = 10
NODE, PUMP = "plant.edge", "plant.edge.pump"


def double(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "datatype": DOUBLE, "value": value, "timestamp": time.time_ns() // 1_000_000}


async def once(hub: Hub, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Return when the condition holds for the fleet, by device id."""
    while True:
        answer = await hub.get("/api/v1/devices")
        if condition({device["device"]: device for device in answer["devices"]}):
            return
        await asyncio.sleep(0.05)


def online(*expected: bool) -> Callable[[dict[str, Any]], bool]:
    return lambda fleet: [fleet.get(id, {}).get("connected") for id in (NODE, PUMP)] == list(expected)


@pytest.mark.deadline(120)
async def test_an_edge_node_is_stored_and_followed(mosquitto_program: Path, tmp_path: Path) -> None:
    """Births create devices that are connected, and data is stored. A command is confirmed by data, and not sent again
    by a hub that was killed. It requests the births, and the last will makes the devices absent."""
    try:
        python = await asyncio.to_thread(peer_python)
    except BuildError as error:
        pytest.skip(f"no other implementation of Sparkplug B: {error}")
    file = tmp_path / "hub.toml"
    with Mosquitto(mosquitto_program, tmp_path / "mosquitto") as broker, SparkplugPeer(python) as peer:
        file.write_text(SETTINGS.format(url=broker.url))
        async with running_hub(tmp_path / "data", options=["--config", str(file)]) as hub:
            await bridged(hub)
            birth = {
                "group": "plant", "node": "edge", "metrics": [double("load", 0.5)],
                "devices": {"pump": [double("speed", 1.0), double("flow", 2.0)]},
            }  # fmt: skip
            peer.ask("connect", port=broker.port, **birth)
            await once(hub, online(True, True))
            for value in range(3):
                peer.ask("update", device="pump", metrics=[double("flow", 3.0 + value)])
            await stored(hub, PUMP, 5)
            async with operator(hub) as client:
                sending = asyncio.create_task(sent(client, PUMP, "set_speed", {"value": 12.5}))
                assert await command_of(peer) == ("speed", 12.5)
                peer.ask("update", device="pump", metrics=[double("speed", 12.5)])
                command = await sending
                assert (command["state"], command["result"]) == ("succeeded", {"speed": 12.5})
                unconfirmed = await sent(client, PUMP, "set_flow", {"value": 7.0}, timeout_s=1, wait_s=0)
                assert await command_of(peer) == ("flow", 7.0)

            await hub.kill()
            await hub.start()
            await bridged(hub)
            peer.ask("update", device="pump", metrics=[double("speed", 9.0)])
            assert await command_of(peer) == ("Node Control/Rebirth", True)
            peer.ask("disconnect")
            peer.ask("reconnect", port=broker.port)
            await once(hub, online(True, True))
            async with operator(hub) as client:
                await sent(client, NODE, "set_load", {"value": 0.75}, wait_s=0)
                assert await command_of(peer) == ("load", 0.75)
                path = f"/api/v1/devices/{PUMP}/commands/{unconfirmed['id']}"
                assert (await client.get(path)).json()["state"] == "sent"
            peer.cut()
            await once(hub, online(False, False))


async def command_of(peer: SparkplugPeer) -> tuple[str, Any]:
    """Return the name and the value of the next command that the edge node gets."""
    (metric,) = await asyncio.to_thread(peer.ask, "command")
    return metric["name"], metric["value"]


async def stored(hub: Hub, id: str, readings: int) -> None:
    while True:
        devices = (await hub.settled())["devices"]
        if any(device["device"] == id and device["stored"] == readings for device in devices):
            return
        await asyncio.sleep(0.05)


async def bridged(hub: Hub) -> None:
    while True:
        if (await hub.get("/api/v1/mqtt"))["bridges"][0]["phase"] == "connected":
            return
        await asyncio.sleep(0.05)
