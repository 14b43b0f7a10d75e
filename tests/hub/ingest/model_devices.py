"""Devices that execute commands by the rules of the documents, and a connection to them, for tests without sockets."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from device_agent.operator_commands.log import MAX_WAITING
from wire.device import Command, CommandRecorded, CommandState


class Link:
    """A connection: what is on its way, in both directions."""

    def __init__(self, repeats: bool) -> None:
        self.repeats = repeats
        self.to_device: deque[Command | CommandRecorded] = deque()
        self.to_hub: deque[CommandState] = deque()

    def send(self, message: Command | CommandRecorded) -> None:
        self.to_device.append(message)


class ModelDevice:
    """A device by the rules of docs/protocol.md. `known` and `started` are on its disk; `executed` is what it did."""

    repeats = True

    def __init__(self, executed: Counter[str]) -> None:
        self.known: dict[str, CommandState] = {}
        self.started: set[str] = set()
        self.unrecorded: set[str] = set()
        self.executed = executed

    @property
    def is_executing(self) -> bool:
        return any(state.state == "received" for state in self.known.values())

    def receive(self, message: Command | CommandRecorded, link: Link) -> None:
        if isinstance(message, CommandRecorded):
            if self.known[message.id].state == message.state:
                self.unrecorded.discard(message.id)
            return
        if message.id not in self.known:
            is_busy = len(self.waiting) >= MAX_WAITING
            self._report(CommandState(message.id, "rejected" if is_busy else "received", 1), None)
        link.to_hub.append(self.known[message.id])

    @property
    def waiting(self) -> list[str]:
        return [id for id, state in self.known.items() if state.state == "received" and id not in self.started]

    def start(self) -> None:
        """Begin to execute the oldest command: from here on it may have had an effect."""
        for id in self.waiting[:1]:
            self.started.add(id)
            self.executed[id] += 1

    def finish(self, state: Any, link: Link | None) -> None:
        for id in [id for id in self.started if self.known[id].state == "received"][:1]:
            self._report(CommandState(id, state, 2, result={"done": True} if state == "succeeded" else None), link)

    def crash(self) -> None:
        for id in self.started:
            if self.known[id].state == "received":
                self._report(CommandState(id, "failed", 3, "interrupted", "the agent ended meanwhile"), None)

    def _report(self, state: CommandState, link: Link | None) -> None:
        self.known[state.id] = state
        self.unrecorded.add(state.id)
        if link is not None:
            link.to_hub.append(state)


class ForgetfulDevice:
    """A device without a memory: it executes whatever arrives, and answers when it has finished.

    `finished` is not in the device: the test keeps every result that there was.
    """

    repeats = False

    def __init__(self, executed: Counter[str]) -> None:
        self.executed = executed
        self.waiting: deque[str] = deque()
        self.is_started = False
        self.finished: dict[str, CommandState] = {}

    @property
    def is_executing(self) -> bool:
        return bool(self.waiting)

    def receive(self, message: Command | CommandRecorded, link: Link) -> None:
        if isinstance(message, Command):
            self.waiting.append(message.id)

    def start(self) -> None:
        if self.waiting and not self.is_started:
            self.is_started = True
            self.executed[self.waiting[0]] += 1

    def finish(self, state: Any, link: Link | None) -> None:
        if self.is_started:
            self.is_started = False
            id = self.waiting.popleft()
            self.finished[id] = CommandState(id, state, 2, result={"done": True} if state == "succeeded" else None)
            if link is not None:
                link.to_hub.append(self.finished[id])

    def crash(self) -> None:
        self.waiting.clear()
        self.is_started = False
