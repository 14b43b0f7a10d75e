"""kill -9 of the hub around the publication of a command: no device of a broker ever gets one twice."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx
import pytest

from hub.mqtt.message import Message, Publish
from hub.mqtt.paho_client import EncodedProperties, encode_response
from tests.conditions import result_of, until
from tests.end_to_end.hub import Hub, operator
from tests.end_to_end.killed_hub import kill_at
from tests.hub.mqtt.connection import Client, connected
from tests.services.mosquitto import Mosquitto

SETTINGS = """
[[mqtt]]
url = "{url}"
subscribe = [{{ topic = "plant/{{device}}/state", payload = "json" }}]
allow_commands = true

[[mqtt.commands]]
name = "set_speed"
devices = "pump"
parameters = [{{ name = "speed" }}]
topic = "plant/{{device}}/set"
response_topic = "{{client_id}}/{{device}}/answers"

[[mqtt.commands]]
name = "set_speed"
devices = "fan"
parameters = [{{ name = "speed" }}]
topic = "plant/{{device}}/set"
payload = "{{speed}}"
confirm_topic = "plant/{{device}}/events"
confirm_pattern = "^speed {{speed}}$"
"""

POINTS = [
    ("pump", "sent after", "sent", 0),
    ("pump", "succeeded before", "succeeded", 1),
    ("fan", "succeeded before", "sent", 1),
]
"""Device, point of the kill, the state of its command after the next start, and how often it was published."""


async def send(client: httpx.AsyncClient, device: str, speed: int) -> None:
    """Queue a command as soon as the device is connected. The hub may end before it answers."""
    body = {"name": "set_speed", "parameters": {"speed": speed}, "mode": "queue", "timeout_s": 600}

    async def sent() -> bool | None:
        answer = await client.post(f"/api/v1/devices/{device}/commands", json=body)
        return True if answer.status_code == 201 else None

    try:
        await result_of(sent)
    except httpx.TransportError:
        return


async def state_of(client: httpx.AsyncClient, device: str, speed: int, wanted: str) -> None:
    """Return when the command with this speed is in a state."""

    async def found() -> bool | None:
        commands = (await client.get(f"/api/v1/devices/{device}/commands")).json()["commands"]
        states = [row["state"] for row in commands if row["parameters"]["speed"] == speed]
        return True if states == [wanted] else None

    await result_of(found)


async def connect(devices: Client, client: httpx.AsyncClient, device: str) -> None:
    """Publish a state of a device until the hub, which may not have subscribed yet, knows its commands."""

    async def found() -> bool | None:
        devices.connection.publish(Publish(f"plant/{device}/state", b'{"flow": 1}', 1))
        answer = await client.get(f"/api/v1/devices/{device}/commands/declared")
        return True if answer.status_code == 200 and answer.json()["commands"] else None

    await result_of(found)


def answer(client: Client, request: Message) -> None:
    """Answer a command as the device that the topic names."""
    device = request.topic.split("/")[1]
    if device == "pump":
        properties = EncodedProperties(encode_response("", request.correlation))
        client.connection.publish(Publish(request.response_topic, b'{"ok": true}', 1), properties)
    else:
        client.connection.publish(Publish("plant/fan/events", b"speed " + request.payload, 1))


@pytest.mark.deadline(300)
async def test_a_command_is_never_published_twice(mosquitto_program: Path, tmp_path: Path) -> None:
    """Killed before it is published, and between the answer and its record; the broker delivers the answer again."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        settings = tmp_path / "hub.toml"
        settings.write_text(SETTINGS.format(url=broker.url))
        hub = Hub(tmp_path / "data", options=["--config", str(settings)])
        try:
            async with connected(broker.port) as devices:
                await devices.subscribe("plant/+/set")
                answered = 0
                published = 0
                for speed, (device, place, _, count) in enumerate(POINTS, 1):
                    hub.prepare = partial(kill_at, f"{place} {speed}")
                    await hub.start()
                    async with operator(hub) as client:
                        await connect(devices, client, device)
                        await send(client, device, speed)
                    published += count
                    for request in (await devices.got(published))[answered:]:
                        answer(devices, request)
                        answered += 1
                    await hub.ended()
                hub.prepare = None
                await hub.start()
                async with operator(hub) as client:
                    for speed, (device, _, state, _) in enumerate(POINTS, 1):
                        await state_of(client, device, speed, state)
                    for device in ("pump", "fan"):
                        devices.connection.publish(Publish(f"plant/{device}/state", b'{"flow": 2}', 1))
                        await send(client, device, 99)
                    await until(lambda: len(devices.received) >= published + 2)
                    for request in devices.received[published:]:
                        answer(devices, request)
                    for device in ("pump", "fan"):
                        await state_of(client, device, 99, "succeeded")
                    # Each connection was used after the restart, and nothing of before was published again.
                    assert len(devices.received) == published + 2
                assert await hub.stop() == 0, hub.log()[-3000:]
        finally:
            await hub.kill()
