"""Commands to devices of a real broker: each preset sets and confirms, refuses, and is silent as documented."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hub.mqtt.message import Message, Publish
from hub.mqtt.paho_client import EncodedProperties, encode_response
from tests.conditions import result_of
from tests.end_to_end.bridged_hub import bridged_hub, connected
from tests.end_to_end.command_devices import command_devices, declared, sent
from tests.end_to_end.hub import operator
from tests.hub.mqtt.command_samples import FILES, read_command_samples
from tests.hub.mqtt.connection import connected as connected_client
from tests.services.mosquitto import Mosquitto

SILENCE_S = 0.5
"""Time-out of the commands that no device answers."""


@pytest.mark.deadline(120)
async def test_the_documented_conversations_of_every_preset(mosquitto_program: Path, tmp_path: Path) -> None:
    """With all presets on one broker, each command ends as the answer of its device says."""
    samples = [read_command_samples(path) for path in FILES]
    presets = [file.preset for file in samples]
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            bridged_hub(tmp_path / "hub", broker, f"presets = {presets}\nallow_commands = true") as hub,
            command_devices(broker.port, samples) as devices,
            operator(hub) as client,
        ):
            await connected(hub)
            for file in samples:
                for device, usages in file.declared.items():
                    assert sorted(await declared(client, device, len(usages))) == sorted(usages)
                for exchange in file.exchanges:
                    devices.exchange = exchange
                    wanted = {"code": "", "message": "", "result": None, **exchange.ends}
                    timeout_s = SILENCE_S if wanted["state"] == "timed_out" else 30
                    row = await sent(
                        client, exchange.device, exchange.command, exchange.parameters, timeout_s=timeout_s
                    )
                    if wanted["state"] == "timed_out":
                        wanted["message"] = row["message"]
                    assert {name: row[name] for name in wanted} == wanted, exchange
            assert (await hub.get("/api/v1/quarantine"))["quarantine"] == []


TEMPLATES = """
subscribe = [{ topic = "plant/{device}/state", payload = "json" }]
allow_commands = true

[[mqtt.commands]]
name = "set_speed"
devices = "pump-*"
parameters = [{ name = "speed", unit = "m/s", min = 0, max = 30 }]
topic = "plant/{device}/set"
response_topic = "{client_id}/{device}/answers"

[[mqtt.commands]]
name = "set_level"
devices = "tank"
parameters = [{ name = "level", type = "integer" }]
topic = "plant/{device}/level"
payload = "{level}"
confirm_topic = "plant/{device}/events"
confirm_pattern = "^level {level}$"
"""


@pytest.mark.deadline(120)
async def test_commands_by_templates(mosquitto_program: Path, tmp_path: Path) -> None:
    """MQTT 5 answers by correlation data, other devices by a message that matches; nobody confirms for another."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            bridged_hub(tmp_path / "hub", broker, TEMPLATES) as hub,
            connected_client(broker.port) as device,
            operator(hub) as client,
        ):
            await connected(hub)
            await device.subscribe("plant/+/set")
            await device.subscribe("plant/+/level")
            for name in ("pump-1", "tank"):
                device.connection.publish(Publish(f"plant/{name}/state", b'{"speed": 1}', 1))
            assert await declared(client, "pump-1", 1) == ["set_speed speed=FLOAT m/s (0 to 30)"]
            assert await declared(client, "tank", 1) == ["set_level level=INTEGER"]

            first, second = (
                asyncio.create_task(sent(client, "pump-1", "set_speed", {"speed": speed}, timeout_s=60))
                for speed in (1, 2)
            )
            requests = {json.loads(request.payload)["speed"]: request for request in await device.got(2)}

            def answer(speed: int, payload: bytes, correlation: bytes | None = None) -> None:
                request = requests[speed]
                properties = EncodedProperties(encode_response("", correlation or request.correlation))
                device.connection.publish(Publish(request.response_topic, payload, 1), properties)

            answer(2, b'{"ok": true}', b"f" * 32)
            answer(2, b'{"error": "too_hot", "message": "80 C"}')
            answer(1, b'{"ok": true, "value": 1.5}')
            row = await second
            assert (row["state"], row["code"], row["message"]) == ("failed", "too_hot", "80 C")
            row = await first
            assert (row["state"], row["result"]) == ("succeeded", 1.5)

            level = asyncio.create_task(sent(client, "tank", "set_level", {"level": 7}, timeout_s=60))
            assert (await device.got(3))[2].payload == b"7"
            device.connection.publish(Publish("plant/tank/events", b"level 70", 1))
            device.connection.publish(Publish("plant/pump-1/events", b"level 7", 1))
            device.connection.publish(Publish("plant/tank/events", b"level 7", 1))
            row = await level
            assert (row["state"], row["result"]) == ("succeeded", "level 7")
            assert (await hub.get("/api/v1/quarantine"))["quarantine"] == []


@pytest.mark.deadline(120)
async def test_a_queued_command_that_reaches_nobody_waits_again(mosquitto_program: Path, tmp_path: Path) -> None:
    """The device publishes, and has not subscribed: the broker was restarted, or the device fails."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            bridged_hub(tmp_path / "hub", broker, TEMPLATES) as hub,
            connected_client(broker.port) as device,
            operator(hub) as client,
        ):
            await connected(hub)
            device.connection.publish(Publish("plant/tank/state", b'{"speed": 1}', 1))
            await declared(client, "tank", 1)
            path = "/api/v1/devices/tank/commands"
            body = {"name": "set_level", "parameters": {"level": 7}, "mode": "queue"}
            id = (await client.post(path, json=body)).json()["id"]

            async def command(state: str, code: str = "") -> Any:
                row = (await client.get(f"{path}/{id}")).json()
                return row if (row["state"], row["code"]) == (state, code) else None

            await result_of(partial(command, "queued", "no_subscriber"))
            refused = await client.post(path, json={**body, "mode": "call"})
            assert (refused.status_code, refused.json()["code"]) == (409, "not_connected")
            await device.subscribe("plant/+/level")
            device.connection.publish(Publish("plant/tank/state", b'{"speed": 2}', 1))
            assert (await device.got(1))[0].payload == b"7"
            device.connection.publish(Publish("plant/tank/events", b"level 7", 1))
            row = await result_of(partial(command, "succeeded"))
            states = [change["state"] for change in row["states"]]
            assert states == ["queued", "sent", "queued", "sent", "succeeded"]


@pytest.mark.deadline(120)
async def test_an_offline_device_refuses_calls_and_gets_queued_commands_later(
    mosquitto_program: Path, tmp_path: Path
) -> None:
    """Its last will decides; a queued command is published when it returns."""
    samples = next(file for file in map(read_command_samples, FILES) if file.preset == "tasmota")
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            bridged_hub(tmp_path / "hub", broker, "presets = ['tasmota']\nallow_commands = true") as hub,
            command_devices(broker.port, [samples]) as devices,
            operator(hub) as client,
        ):
            await connected(hub)
            await declared(client, "plug", len(samples.declared["plug"]))
            devices.exchange = samples.exchanges[0]
            assert (await sent(client, "plug", "set_POWER", {"POWER": True}))["state"] == "succeeded"
            devices.publish(Message("tele/plug/LWT", b"Offline", retain=True))
            path = "/api/v1/devices/plug/commands"
            body = {"name": "set_POWER", "parameters": {"POWER": True}, "timeout_s": 0.1}

            async def refusal() -> Any:
                answer = await client.post(path, json=body)
                return answer.json()["code"] if answer.status_code == 409 else None

            assert await result_of(refusal) == "not_connected"
            queued = (await client.post(path, json={**body, "mode": "queue", "timeout_s": 30})).json()
            assert (queued["state"], queued["code"]) == ("queued", "not_connected")
            before = len(devices.published)
            devices.publish(Message("tele/plug/LWT", b"Online", retain=True))
            row = (await client.get(f"{path}/{queued['id']}", params={"wait_s": 30})).json()
            assert row["state"] == "succeeded"
            assert len(devices.published) == before + 1
