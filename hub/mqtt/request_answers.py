"""Answers to the messages with which clients of a broker command devices, and the log of those that are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from hub.mqtt.command_topic import CommandTarget, TopicRefused, may_answer, refusal_answer
from hub.mqtt.message import Message, Publish
from hub.mqtt.paho_client import EncodedProperties, encode_response
from hub.mqtt.topics import TopicTemplate

MAX_REPORTED = 1_000
"""Refusals that are logged once each, by device, command and code."""

log = structlog.get_logger(__name__)


class PublishAnswer(Protocol):
    """Publishes a message with properties and returns its id. Without a connection it is dropped."""

    def __call__(self, message: Publish, properties: EncodedProperties | None = None) -> int | None:
        """Publish the message."""


class RequestAnswers:
    """Answers of one bridge. No answer goes to `reserved` topics."""

    def __init__(
        self, name: str, publish: PublishAnswer, reserved: Sequence[TopicTemplate], has_device: Callable[[str], bool]
    ) -> None:
        """`name` is that of the bridge. `has_device` returns whether the hub knows a device."""
        self._name = name
        self._publish = publish
        self._reserved = reserved
        self._has_device = has_device
        self._reported: set[tuple[str, ...]] = set()

    def check(self, target: CommandTarget, message: Message) -> None:
        """Raise TopicRefused for an unknown device, and if the hub may not publish at the response topic."""
        if message.response_topic and not may_answer(message.response_topic, self._reserved):
            sentence = "the response topic belongs to the hub, or is no topic to publish to: use one of your own"
            raise TopicRefused("wrong_response_topic", sentence)
        if not self._has_device(target.device):
            raise TopicRefused(f"unknown_{target.kind}", f"there is no device {target.device}")

    def answer(self, message: Message, payload: bytes) -> None:
        """Publish an answer to a message, if its sender expects one."""
        if message.response_topic and may_answer(message.response_topic, self._reserved):
            # At QoS 0: a sender that misses it repeats its message.
            properties = EncodedProperties(encode_response(correlation=message.correlation))
            self._publish(Publish(message.response_topic, payload), properties)

    def refuse(self, target: CommandTarget, message: Message, id: str, code: str, sentence: str) -> None:
        """Log a message that is refused, and answer it."""
        self.log(target, code, sentence)
        self.answer(message, refusal_answer(target, id, code, sentence))

    def log(self, target: CommandTarget, code: str, sentence: str) -> None:
        """Log a message that is refused or ignored, once for each device, command and code."""
        subject = (target.device, target.command, code)
        if subject not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add(subject)
            log.warning(
                "message of a broker's client refused",
                bridge=self._name,
                device=target.device,
                command=target.command,
                code=code,
                reason=sentence,
            )
