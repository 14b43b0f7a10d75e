"""The requests of one broker's clients, to command devices or to set desired values, until they are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hub.mqtt.command_topic import CommandTarget, CommandTopic, TopicRefused
from hub.mqtt.message import Message
from hub.mqtt.request_answers import RequestAnswers

MAX_WAITING = 256
"""Requests of a kind that wait until the ones before them are on disk: a second of them. Further ones are refused."""


class RequestQueue:
    """Bounded queue of requests, in the order of their arrival. `kind` is what they are, for people."""

    def __init__(self, topic: CommandTopic, answers: RequestAnswers, kind: str) -> None:
        self._topic = topic
        self._answers = answers
        self._kind = kind
        self._waiting: asyncio.Queue[tuple[CommandTarget, Message]] = asyncio.Queue(MAX_WAITING)

    def take(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Take the requests among these messages and return the others. Does not wait."""
        others = []
        for message in messages:
            target = self._topic.target(message.topic)
            if target is None:
                others.append(message)
            elif message.retain:
                # It would take effect again after each connection.
                sentence = f"a retained {self._kind} is ignored: publish it without retain"
                self._answers.log(target, "retained", sentence)
            elif self._waiting.full():
                sentence = f"too many {self._kind}s wait: send it again later"
                self._answers.refuse(target, message, "", "busy", sentence)
            else:
                self._waiting.put_nowait((target, message))
        return others if len(others) < len(messages) else messages

    async def next(self) -> tuple[CommandTarget, Message]:
        """Return the next request, as soon as there is one."""
        return await self._waiting.get()

    def check(self, target: CommandTarget, message: Message) -> None:
        """Raise TopicRefused if clients of the broker may not command the device, or not in this way."""
        if not self._topic.may_command(target.device):
            sentence = f"clients of the broker may not command {target.device}: see command_devices in the settings"
            raise TopicRefused("not_allowed", sentence)
        self._answers.check(target, message)
