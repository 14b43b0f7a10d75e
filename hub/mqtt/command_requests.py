"""Commands that clients of a broker send to devices of the hub, and the answers on their way back."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from hub.ingest.command_dispatcher import CommandDispatcher, CommandRefused, NewCommand
from hub.model.command import CommandRecord
from hub.mqtt.command_topic import (
    CommandMessage,
    CommandTarget,
    CommandTopic,
    TopicRefused,
    command_id,
    read_command,
    state_answer,
)
from hub.mqtt.message import Message
from hub.mqtt.request_answers import RequestAnswers
from hub.mqtt.request_queue import RequestQueue
from wire.command import CommandDeclaration
from wire.errors import Code, WireError

MAX_FOLLOWED = 64
"""Commands of a broker whose states are published to their senders: a quarter of the dispatcher's watches. Of older
ones no further states are published."""


class CommandRequests:
    """Commands of one broker's clients. Run `run()` in a task.

    They are recorded one after the other, in their order. Operator of the commands is `mqtt` and the bridge's name.
    """

    def __init__(
        self,
        topic: CommandTopic,
        dispatcher: CommandDispatcher,
        *,
        name: str,
        declared: Callable[[str], Sequence[CommandDeclaration]],
        read: Callable[[str, str], Awaitable[CommandRecord | None]],
        answers: RequestAnswers,
    ) -> None:
        """`declared` returns the commands of a device, `read` a recorded one."""
        self._dispatcher = dispatcher
        self._name = name
        self._declared = declared
        self._read = read
        self._answers = answers
        self._queue = RequestQueue(topic, answers, "command")
        self._followed: OrderedDict[asyncio.Task[None], None] = OrderedDict()

    def take(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Take the commands among these messages and return the others. Does not wait."""
        return self._queue.take(messages)

    async def run(self) -> None:
        """Record the commands that arrive, and publish their states, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._record(tasks, *await self._queue.next())

    async def _record(self, tasks: asyncio.TaskGroup, target: CommandTarget, message: Message) -> None:
        request = CommandMessage()
        try:
            request = self._request(target, message)
            record = await self._dispatcher.send(target.device, self._new(target, request))
        except (TopicRefused, CommandRefused) as refused:
            self._answers.refuse(target, message, request.id, refused.code, str(refused))
        except WireError as error:
            code = "queue_full" if error.code is Code.TOO_MANY else error.code.value
            self._answers.refuse(target, message, request.id, code, error.message)
        else:
            if message.response_topic:
                self._follow(tasks, message, request.id, record)

    def _request(self, target: CommandTarget, message: Message) -> CommandMessage:
        """Return the content of a command. Raises TopicRefused."""
        self._queue.check(target, message)
        declared = {declaration.name: declaration for declaration in self._declared(target.device)}
        return read_command(message.payload, declared.get(target.command))

    def _new(self, target: CommandTarget, request: CommandMessage) -> NewCommand:
        return NewCommand(
            target.command,
            dict(request.parameters),
            f"mqtt {self._name}",
            round(request.timeout_s * 1000),
            request.ttl_s if request.mode == "queue" else None,
            request.confirmed,
            command_id(self._name, target.device, request.id) if request.id else "",
        )

    def _follow(self, tasks: asyncio.TaskGroup, message: Message, id: str, record: CommandRecord) -> None:
        if len(self._followed) >= MAX_FOLLOWED:
            oldest, _ = self._followed.popitem(last=False)
            oldest.cancel()
        task = tasks.create_task(self._publish_states(message, id, record), name=f"{self._name} answers {record.id}")
        self._followed[task] = None
        task.add_done_callback(lambda done: self._followed.pop(done, None))

    async def _publish_states(self, message: Message, id: str, record: CommandRecord) -> None:
        """Publish each state of a command until it has ended."""
        published = 0
        with self._dispatcher.watch(record.id) as watch:
            try:
                current = await self._read(record.device, record.id)
            except WireError:
                return
            while current is not None:
                for change in current.changes[published:]:
                    self._answers.answer(message, state_answer(current, change, id))
                published = len(current.changes)
                if watch is None or not current.state.is_open:
                    return
                current = await watch.next()
