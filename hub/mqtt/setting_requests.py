"""Desired values that clients of a broker set for devices of the hub, and the values that devices report. See
hub.mqtt.command_topic for the topics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from hub.ingest.desired_dispatcher import DesiredDispatcher, NewValues
from hub.model.desired import DesiredRefused
from hub.mqtt.command_topic import CommandTarget, CommandTopic, TopicRefused, read_setting
from hub.mqtt.message import Message, Publish
from hub.mqtt.request_answers import RequestAnswers
from hub.mqtt.request_queue import RequestQueue
from wire.command import CommandParameter, ParameterValue
from wire.errors import WireError

REPORTED = "/reported"
"""End of the topic with the value that a device reports."""


class SettingRequests:
    """Desired values that one broker's clients set. Run `run()` in a task.

    They are recorded one after the other, in their order. Their operator is `mqtt` and the bridge's name.
    """

    def __init__(
        self,
        topic: CommandTopic,
        dispatcher: DesiredDispatcher,
        *,
        name: str,
        declared: Callable[[str], Sequence[CommandParameter]],
        answers: RequestAnswers,
    ) -> None:
        """`declared` returns the settings of a device."""
        self._dispatcher = dispatcher
        self._name = name
        self._declared = declared
        self._answers = answers
        self._queue = RequestQueue(topic, answers, "desired value")

    def take(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Take the desired values among these messages and return the others. Does not wait."""
        return self._queue.take(messages)

    async def run(self) -> None:
        """Record the desired values that arrive, until cancelled."""
        while True:
            await self._record(*await self._queue.next())

    async def _record(self, target: CommandTarget, message: Message) -> None:
        try:
            new = self._new(target, message)
            record = await self._dispatcher.change(target.device, new)
        except (TopicRefused, DesiredRefused) as refused:
            self._answers.refuse(target, message, "", refused.code, str(refused))
        except WireError as error:
            self._answers.refuse(target, message, "", error.code.value, error.message)
        else:
            desired = record.values.get(target.command)
            answer = {"device": target.device, "setting": target.command, "version": record.version, "last": True}
            value = {} if desired is None else {"desired": desired.value}
            self._answers.answer(message, msgspec.json.encode(answer | value))

    def _new(self, target: CommandTarget, message: Message) -> NewValues:
        """Return the change that a message asks for. Raises TopicRefused."""
        self._queue.check(target, message)
        operator = f"mqtt {self._name}"
        declared = {setting.name: setting for setting in self._declared(target.device)}
        if not message.payload:
            return NewValues({}, [target.command], operator)
        return NewValues({target.command: read_setting(message.payload, declared.get(target.command))}, [], operator)


class SettingMessages:
    """Retained messages with the values that devices report, which one bridge has to publish.

    A value is published when it differs from what the broker has, which is remembered, and every one after a new
    connection. An empty message removes that of a setting that the device does not declare any more.
    """

    def __init__(
        self,
        topic: CommandTopic,
        *,
        devices: Callable[[], Iterable[str]],
        reported: Callable[[str], Mapping[str, ParameterValue]],
        on_change: Callable[[], None],
    ) -> None:
        """`reported` returns the values of the declared settings of a device. `on_change` is called when `pending` may
        have messages."""
        self._topic = topic
        self._devices = devices
        self._reported = reported
        self._on_change = on_change
        self._sent: dict[str, dict[str, bytes]] = {}
        self._due: dict[str, None] = {}

    def connected(self) -> None:
        """Publish every value again, on a new connection."""
        self._sent.clear()
        self._due = dict.fromkeys(self._devices())
        self._on_change()

    def setting_changed(self, device: str) -> None:
        """Note that the settings of a device, or their values, may have changed."""
        if self._topic.may_command(device):
            self._due[device] = None
            self._on_change()

    def pending(self) -> list[Publish]:
        """Return the messages that became due since the last call."""
        due, self._due = self._due, {}
        found: list[Publish] = []
        for device in filter(self._topic.may_command, due):
            sent = self._sent.pop(device, {})
            values = {name: _payload(value) for name, value in self._reported(device).items()}
            gone = dict.fromkeys(sent.keys() - values.keys(), b"")
            changed = {name: payload for name, payload in values.items() if sent.get(name) != payload}
            found += [
                Publish(reported_topic(self._topic, device, name), payload, 1, retain=True)
                for name, payload in (gone | changed).items()
            ]
            if values:
                self._sent[device] = values
        return found


def reported_topic(topic: CommandTopic, device: str, setting: str) -> str:
    """Return the topic with the value that a device reports."""
    return topic.topic_of(device, setting) + REPORTED


def _payload(value: ParameterValue) -> bytes:
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)
