"""Commands on a topic of a real Mosquitto to a real agent, with answers on the response topic of MQTT 5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device_agent import Agent, Limits, Metric
from hub.mqtt.message import Publish
from hub.mqtt.paho_client import EncodedProperties, encode_response
from tests.end_to_end.bridged_hub import bridged_hub, connected, publish
from tests.hub.mqtt.connection import Client
from tests.hub.mqtt.connection import connected as connected_client
from tests.services.mosquitto import Mosquitto

SETTINGS = """
allow_commands = true
command_topic = "telemetry/{device}/command/{command}"
setting_topic = "telemetry/{device}/setting/{setting}"
command_devices = ["pump-*"]
publish = [{ topic = "hub/{device}/{metric}" }]
"""
TOPIC, SETTING_TOPIC = "telemetry/pump-7/command/set_speed", "telemetry/pump-7/setting/pressure"


class Operator:
    """A program that sends commands over the broker, and reads the answers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent = 0

    async def ask(self, payload: bytes, *, topic: str = TOPIC) -> list[dict[str, Any]]:
        """Send a command; return its answers up to the last."""
        self._sent += 1
        correlation = self._sent.to_bytes(4, "big")
        properties = EncodedProperties(encode_response("answers/me", correlation))
        self._client.connection.publish(Publish(topic, payload, 1), properties)
        count = 1
        while True:
            received = await self._client.got(count)
            count = len(received) + 1
            answers = [json.loads(message.payload) for message in received if message.correlation == correlation]
            if answers and answers[-1]["last"]:
                return answers


@pytest.mark.deadline(120)
async def test_commands_are_executed_and_answered(mosquitto_program: Path, tmp_path: Path) -> None:
    """As a plain value, as JSON, and once for each id, also after the hub was killed. Retained ones never are."""
    speeds: list[float] = []
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        publish(broker, [(TOPIC, "1")], retain=True)
        async with (
            bridged_hub(tmp_path / "hub", broker, SETTINGS) as hub,
            connected_client(broker.port) as client,
        ):
            await connected(hub)
            await client.subscribe("answers/me")
            operator = Operator(client)
            token = await hub.token("gateway", "--devices", "*")
            agent = Agent(hub.url, device="pump-7", token=token, metrics=[Metric("speed")])

            @agent.command("set_speed", limits={"speed": Limits(0, 30, unit="m/s")})
            def set_speed(speed: float) -> float:
                speeds.append(speed)
                return speed

            async with agent:
                await agent.send({"speed": 0.0})
                await agent.drain(30)
                answers = await operator.ask(b"12.5")
                assert [answer["state"] for answer in answers][-2:] == ["received", "succeeded"]
                assert answers[-1]["result"] == 12.5
                (refused,) = await operator.ask(b"99")
                assert (refused["error"], speeds) == ("wrong_parameters", [12.5])
                (refused,) = await operator.ask(b"1", topic="telemetry/pump-8/command/set_speed")
                assert refused["message"] == "there is no device pump-8"
                (refused,) = await operator.ask(b"1", topic="telemetry/boiler/command/set_speed")
                assert refused["error"] == "not_allowed"
                repeated = b'{"parameters": {"speed": 3}, "id": "morning"}'
                first = (await operator.ask(repeated))[-1]
                publish(broker, [(TOPIC, "4"), (SETTING_TOPIC, "4")], retain=True)
                assert (await operator.ask(b"5"))[-1]["result"] == 5.0
                assert "a retained desired value is ignored" in hub.log()
                await hub.kill()
                await hub.start()
                await connected(hub)
                # The broker would deliver the retained command before it delivers this one.
                again = (await operator.ask(repeated))[-1]
                assert (again["command_id"], again["result"], again["time"]) == (
                    first["command_id"], first["result"], first["time"],
                )  # fmt: skip
    assert speeds == [12.5, 3.0, 5.0]
    assert "a retained command is ignored" in hub.log()
