"""Desired values that a broker's clients set, with a real registry, and the reported values for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.ingest.desired_dispatcher import DesiredDispatcher
from hub.mqtt.command_topic import MAX_PAYLOAD_BYTES, CommandTopic, TopicRefused, read_setting
from hub.mqtt.message import Message, Publish
from hub.mqtt.paho_client import EncodedProperties
from hub.mqtt.request_answers import RequestAnswers
from hub.mqtt.request_queue import MAX_WAITING
from hub.mqtt.setting_requests import SettingMessages, SettingRequests
from hub.mqtt.topics import TopicTemplate
from hub.registry.registry import Registry
from tests.conditions import until
from tests.tasks import running_task
from wire.command import CommandParameter, ParameterValue

TOPIC = CommandTopic(TopicTemplate.parse("settings/{device}/{setting}"), ["pump-*"], "setting")
DECLARED = [CommandParameter("pressure", min=0, max=5, unit="bar"), CommandParameter("mode", "string")]


class Broker:
    """Clients of a broker that set desired values."""

    def __init__(self, registry: Registry) -> None:
        self.desired = DesiredDispatcher(registry.desired, declared=registry.desired.declared, clock=lambda: 7)
        answers = RequestAnswers("home", self.publish, [TOPIC.template], {"pump-7"}.__contains__)
        declared = registry.desired.declared
        self.requests = SettingRequests(TOPIC, self.desired, name="home", declared=declared, answers=answers)
        self.answers: list[dict[str, Any]] = []

    def publish(self, message: Publish, properties: EncodedProperties | None = None) -> None:
        self.answers.append(json.loads(message.payload))

    def set(self, setting: str, payload: bytes, *, device: str = "pump-7", retain: bool = False) -> None:
        message = Message(f"settings/{device}/{setting}", payload, retain=retain, response_topic="answers/me")
        assert self.requests.take([message]) == []

    def values(self) -> dict[str, ParameterValue]:
        return {name: desired.value for name, desired in self.desired.record("pump-7").values.items()}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Broker]:
    async with Registry(folder / "registry.db") as registry:
        await registry.desired.declare("pump-7", DECLARED, replace=True)
        broker = Broker(registry)
        async with running_task(broker.requests.run()):
            yield broker


async def test_a_message_sets_a_desired_value_and_an_empty_one_removes_it(tmp_path: Path) -> None:
    """The answer has the version of the document. Its operator is the bridge."""
    async with running(tmp_path) as broker:
        broker.set("pressure", b"2.5")
        broker.set("mode", b'{"eco"}')
        await until(lambda: len(broker.answers) == 2)
        assert broker.values() == {"pressure": 2.5, "mode": '{"eco"}'}
        assert broker.desired.record("pump-7").changed_by == "mqtt home"
        assert broker.answers[0] == {
            "device": "pump-7", "setting": "pressure", "version": 1, "last": True, "desired": 2.5,
        }  # fmt: skip
        broker.set("pressure", b"")
        await until(lambda: len(broker.answers) == 3)
        assert broker.values() == {"mode": '{"eco"}'}


async def test_a_refused_value_is_answered_with_a_code(tmp_path: Path) -> None:
    """Nothing changes. Retained values are ignored, and other messages pass."""
    async with running(tmp_path) as broker:
        broker.set("pressure", b"9")
        broker.set("speed", b"1")
        broker.set("pressure", b"1", device="boiler")
        broker.set("pressure", b"1", retain=True)
        broker.set("pressure", b"1", device="pump-8")
        await until(lambda: len(broker.answers) == 4)
        codes = ["wrong_value", "unknown_setting", "not_allowed", "unknown_setting"]
        assert [answer["error"] for answer in broker.answers] == codes
        assert broker.answers[3]["message"] == "there is no device pump-8"
        assert broker.answers[0]["setting"] == "pressure"
        assert broker.values() == {}
        other = Message("sensors/pump-7/flow", b"1")
        assert broker.requests.take([other]) == [other]
        for _ in range(MAX_WAITING + 1):
            broker.set("speed", b"1")
        assert broker.answers[-1]["error"] == "busy"


def test_payloads_of_settings() -> None:
    """A text is taken as it is, everything else is JSON or one of the words of a boolean."""
    assert read_setting(b"12", CommandParameter("a", "string")) == "12"
    assert read_setting(b"1" * MAX_PAYLOAD_BYTES, CommandParameter("a", "string")) == "1" * MAX_PAYLOAD_BYTES
    assert read_setting(b"12", CommandParameter("a", "integer")) == 12
    assert read_setting(b"OFF", CommandParameter("a", "boolean")) is False
    assert read_setting(b"fast", CommandParameter("a", "float")) == "fast"
    with pytest.raises(TopicRefused, match="not UTF-8"):
        read_setting(b"\xff", CommandParameter("a", "string"))
    with pytest.raises(TopicRefused, match="more than"):
        read_setting(b"1" * (MAX_PAYLOAD_BYTES + 1), CommandParameter("a", "string"))


def test_reported_values_are_published_when_they_change() -> None:
    """Retained, and all of them after a new connection. A setting that disappears is removed."""
    reported: dict[str, dict[str, ParameterValue]] = {"pump-7": {"pressure": 2.5, "on": True, "mode": "a b"}}
    changed: list[int] = []
    messages = SettingMessages(
        TOPIC, devices=lambda: ["pump-7", "boiler"], reported=reported.__getitem__, on_change=lambda: changed.append(1)
    )
    messages.connected()
    assert len(changed) == 1
    assert messages.pending() == [
        Publish("settings/pump-7/pressure/reported", b"2.5", 1, True),
        Publish("settings/pump-7/on/reported", b"true", 1, True),
        Publish("settings/pump-7/mode/reported", b"a b", 1, True),
    ]
    messages.setting_changed("pump-7")
    messages.setting_changed("boiler")
    assert (messages.pending(), len(changed)) == ([], 2)
    reported["pump-7"] = {"pressure": 3.0, "mode": "a b"}
    messages.setting_changed("pump-7")
    assert messages.pending() == [
        Publish("settings/pump-7/on/reported", b"", 1, True),
        Publish("settings/pump-7/pressure/reported", b"3.0", 1, True),
    ]
    messages.connected()
    assert messages.pending() == [
        Publish("settings/pump-7/pressure/reported", b"3.0", 1, True),
        Publish("settings/pump-7/mode/reported", b"a b", 1, True),
    ]
