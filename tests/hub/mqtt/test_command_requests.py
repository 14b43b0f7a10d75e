"""Commands of a broker's clients with a real registry: recorded in order, refused with a code, repeated by id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from hub.ingest.command_dispatcher import CommandDispatcher
from hub.model.command import MAX_OPEN_PER_DEVICE, new_command
from hub.mqtt import command_requests, request_answers
from hub.mqtt.command_requests import CommandRequests
from hub.mqtt.command_topic import CommandTopic
from hub.mqtt.message import Message, Publish
from hub.mqtt.paho_client import EncodedProperties, encode_response
from hub.mqtt.request_answers import RequestAnswers
from hub.mqtt.request_queue import MAX_WAITING
from hub.mqtt.topics import TopicTemplate
from hub.registry.registry import Registry
from tests.conditions import until
from tests.tasks import running_task
from wire.command import CommandDeclaration, CommandParameter
from wire.device import Command, CommandState

TOPIC = CommandTopic(TopicTemplate.parse("commands/{device}/{command}"), ["pump-*"])
DECLARED = [
    CommandDeclaration("stop"),
    CommandDeclaration("set_speed", parameters=[CommandParameter("speed", min=0, max=30)]),
    CommandDeclaration("erase", confirm=True),
]


class Link:
    """Connection to a device that keeps its commands."""

    repeats = True

    def __init__(self) -> None:
        self.got: list[Command] = []

    def send(self, message: Command) -> None:
        self.got.append(message)


class Broker:
    """Clients of a broker, and a device of the hub."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.dispatcher = CommandDispatcher(registry.commands, declared=registry.commands.declared, clock=lambda: 7)
        self.requests = CommandRequests(
            TOPIC, self.dispatcher, name="home", declared=registry.commands.declared, read=registry.commands.command,
            answers=RequestAnswers("home", self.publish, [TOPIC.template], {"pump-7"}.__contains__),
        )  # fmt: skip
        self.link = Link()
        self.answers: list[tuple[str, dict[str, Any], bytes]] = []

    def publish(self, message: Publish, properties: EncodedProperties | None = None) -> None:
        assert properties is not None
        self.answers.append((message.topic, json.loads(message.payload), properties.pack()))

    def send(
        self, command: str, content: object, *, device: str = "pump-7", retain: bool = False, answer: str = "answers/me"
    ) -> None:
        payload = json.dumps(content).encode()
        topic = f"commands/{device}/{command}"
        message = Message(topic, payload, retain=retain, response_topic=answer, correlation=b"\0\x07")
        assert self.requests.take([message]) == []

    def states(self) -> list[str]:
        return [answer.get("state") or answer["error"] for _, answer, _ in self.answers]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Broker]:
    async with Registry(folder / "registry.db") as registry:
        await registry.commands.declare("pump-7", DECLARED, replace=True)
        broker = Broker(registry)
        broker.dispatcher.connected("pump-7", broker.link)
        async with running_task(broker.requests.run()):
            yield broker


async def test_the_states_of_a_command_are_published_with_the_correlation_data(tmp_path: Path) -> None:
    """To the response topic, up to the result. The operator is the bridge."""
    async with running(tmp_path) as broker:
        broker.send("set_speed", {"speed": 12.5})
        await until(lambda: bool(broker.link.got))
        command = broker.link.got[0]
        assert (command.name, command.parameters) == ("set_speed", {"speed": 12.5})
        await broker.dispatcher.report("pump-7", CommandState(command.id, "received", 1))
        await broker.dispatcher.report("pump-7", CommandState(command.id, "succeeded", 2, result=[1]))
        await until(lambda: "succeeded" in broker.states())
        assert broker.states() == ["queued", "sent", "received", "succeeded"]
        topic, answer, properties = broker.answers[-1]
        assert (topic, answer["command_id"], answer["result"], answer["last"]) == ("answers/me", command.id, [1], True)
        assert properties == EncodedProperties(encode_response(correlation=b"\0\x07")).pack()
        cancelled = await broker.dispatcher.cancel("pump-7", command.id, "nobody")
        assert cancelled.record is not None
        assert cancelled.record.operator == "mqtt home"
        await until(lambda: not broker.requests._followed)


async def test_a_refused_command_is_answered_with_a_code(tmp_path: Path) -> None:
    """Nothing is recorded, and no device gets it."""
    async with running(tmp_path) as broker:
        broker.send("fly", {})
        broker.send("set_speed", {"speed": 99})
        broker.send("set_speed", {"parameters": {}, "mode": "now"})
        broker.send("erase", {})
        broker.send("stop", {}, device="boiler")
        broker.send("stop", {}, device="pump-8")
        await until(lambda: len(broker.answers) == 6)
        wrong = ["unknown_command", "wrong_parameters", "wrong_parameters"]
        assert broker.states() == [*wrong, "not_confirmed", "not_allowed", "unknown_command"]
        assert "99 is above 30" in broker.answers[1][1]["message"]
        assert broker.answers[5][1]["message"] == "there is no device pump-8"
        assert broker.link.got == []


async def test_no_answer_goes_to_a_topic_of_the_hub(tmp_path: Path) -> None:
    """It would be the next command. The one that asks for it is refused, and a sender may do without an answer."""
    async with running(tmp_path) as broker:
        with capture_logs() as logged:
            broker.send("stop", {}, answer="commands/pump-7/stop")
            broker.send("stop", {}, answer="")
            await until(lambda: broker.link.got)
        assert [entry["code"] for entry in logged] == ["wrong_response_topic"]
        assert (len(broker.link.got), broker.answers) == (1, [])


async def test_an_id_of_the_sender_makes_a_command_repeatable(tmp_path: Path) -> None:
    """The same id is the same command, whose state is answered again. With other content it is refused."""
    async with running(tmp_path) as broker:
        for speed in (3, 3.0, 4):
            broker.send("set_speed", {"parameters": {"speed": speed}, "id": "morning"})
        await until(lambda: "id_in_use" in broker.states() and bool(broker.link.got))
        broker.send("stop", {"parameters": {}, "id": "morning"})
        await until(lambda: broker.states().count("id_in_use") == 2)
        assert len(broker.link.got) == 1
        assert broker.answers[0][1]["id"] == "morning"
        assert len({answer["command_id"] for _, answer, _ in broker.answers if "command_id" in answer}) == 1


async def test_retained_commands_are_ignored_and_other_messages_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retained command would be executed after each connection. It is logged once, and the number of those that are
    logged has a bound."""
    monkeypatch.setattr(request_answers, "MAX_REPORTED", 1)
    async with running(tmp_path) as broker:
        with capture_logs() as logged:
            for command in ("stop", "stop", "erase"):
                broker.send(command, {}, retain=True)
        assert [(entry["command"], entry["code"]) for entry in logged] == [("stop", "retained")]
        other = Message("sensors/pump-7/flow", b"1")
        assert broker.requests.take([other]) == [other]
        broker.send("stop", {})
        await until(lambda: len(broker.link.got) == 1)


async def test_commands_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    """They are answered at once, and those before them are recorded."""
    async with running(tmp_path) as broker:
        for _ in range(MAX_WAITING + 2):
            broker.send("fly", {})
        assert broker.states() == ["busy", "busy"]
        await until(lambda: len(broker.answers) == MAX_WAITING + 2)


async def test_a_device_with_a_full_queue_refuses_a_command(tmp_path: Path) -> None:
    """With the code of the API."""
    async with running(tmp_path) as broker:
        full = [
            new_command(
                id=f"{number:032x}", device="pump-7", name="stop", parameters={}, operator="", now_ns=7, timeout_ms=1,
                ttl_s=1,
            )
            for number in range(MAX_OPEN_PER_DEVICE)
        ]  # fmt: skip
        await asyncio.gather(*(broker.registry.commands.insert(record, lambda _: None) for record in full))
        broker.send("stop", {})
        await until(lambda: broker.answers)
        assert broker.states() == ["queue_full"]


async def test_at_the_bound_of_watches_the_recorded_states_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later ones. Further commands are recorded."""
    async with running(tmp_path) as broker:
        monkeypatch.setattr(broker.dispatcher._watches, "_max_watches", 0)
        for _ in range(2):
            broker.send("stop", {})
        await until(lambda: len(broker.answers) == 4)
        assert sorted(broker.states()) == ["queued", "queued", "sent", "sent"]
        await until(lambda: not broker.requests._followed)


async def test_of_the_oldest_command_no_further_states_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the number of commands that are followed."""
    monkeypatch.setattr(command_requests, "MAX_FOLLOWED", 1)
    async with running(tmp_path) as broker:
        for _ in range(2):
            broker.send("stop", {})
        await until(lambda: len(broker.link.got) == 2)
        for command in broker.link.got:
            await broker.dispatcher.report("pump-7", CommandState(command.id, "succeeded", 1))
        await until(lambda: "succeeded" in broker.states())
        ended = [answer["command_id"] for _, answer, _ in broker.answers if answer.get("state") == "succeeded"]
        assert ended == [broker.link.got[1].id]
