"""The runner of commands: it writes what happens to them to the spool, and starts their handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf

import msgspec

from agent_client.client import Surroundings
from device_agent.errors import AgentError, SpoolError, SpoolFailed
from device_agent.operator_commands.handler import CommandHandler, refusal_of, run_limited
from device_agent.operator_commands.log import (
    INTERRUPTED,
    Changes,
    CommandEntry,
    CommandLog,
    CommandOutcome,
    Now,
)
from device_agent.spool import Spool, StoredCommand
from wire.command import CommandDeclaration, json_size
from wire.device import Command, CommandRecorded, CommandState
from wire.limits import MAX_COMMANDS
from wire.text import escaped

MAX_DECLARED_BYTES = 96 * 1024
"""Declarations of all commands of a device as JSON: with the metrics they fit into one hello."""

RETRY_SECONDS = 1.0
"""Time before another attempt to write to a disk that was full."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CommandEntry).decode

_log = logging.getLogger(__name__)


class CommandRunner:
    """The commands of one device. `changed` is set when there is something to send to the hub.

    `on_change` is called then, too.
    """

    def __init__(self, spool: Spool, surroundings: Surroundings, on_change: Callable[[], None]) -> None:
        self._spool = spool
        self._surroundings = surroundings
        self._handlers: dict[str, CommandHandler] = {}
        self._declared_bytes = 0
        self._commands = CommandLog(is_durable=spool.durable)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn_ended = asyncio.Event()
        self._is_closed = False
        self._hub_time: tuple[int, float] | None = None
        """A time of the hub's clock, and the monotonic time at which the agent learned it."""
        self.changed = asyncio.Event()
        self._on_change = on_change

    @property
    def declarations(self) -> Sequence[CommandDeclaration]:
        """The commands that the device executes."""
        return [handler.declaration for handler in self._handlers.values()]

    def notify(self) -> None:
        """Report that there is something to send."""
        self.changed.set()
        self._on_change()

    def recent(self, ended: int) -> list[CommandEntry]:
        """Return the commands that have not ended, and the newest that have, at most `ended`."""
        return self._commands.recent(ended)

    def add(self, handler: CommandHandler) -> None:
        """Declare a command. Raises AgentError if there is one of this name, or too many."""
        name = handler.declaration.name
        if name in self._handlers:
            raise AgentError(f"the command {name!r} has a handler already")
        size = self._declared_bytes + json_size(handler.declaration)
        if len(self._handlers) >= MAX_COMMANDS or size > MAX_DECLARED_BYTES:
            raise AgentError(f"a device has at most {MAX_COMMANDS} commands, in {MAX_DECLARED_BYTES:,} bytes")
        self._handlers[name] = handler
        self._declared_bytes = size
        self.notify()

    async def open(self) -> None:
        """Read the commands of earlier runs. Raises SpoolError."""
        now = self._now()
        entries: list[CommandEntry] = []
        for id, content in await self._spool.read_commands():
            try:
                entries.append(_decode(content or b""))
            except msgspec.DecodeError:
                _log.error("the record of the command %s is damaged: whether it ran is not known", escaped(id))
                self._commands.add_damaged(id, now)
        self._commands.load(entries, now)

    async def run(self) -> None:
        """Write changes and start handlers, until cancelled. Raises SpoolFailed."""
        while True:
            self._wake.clear()
            now = self._now()
            self._commands.expire(now, self._obstacle_of)
            if not self._is_closed:
                self._commands.admit(now)
                self._commands.start(self._is_concurrent, lambda name: not self._obstacle_of(name), now)
            self._commands.forget(now)
            changes = self._commands.changes()
            if any(changes):
                await self._write(changes)
                continue
            rest_s = self._commands.next_deadline_s - self._surroundings.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if rest_s == inf else max(0.0, rest_s)):
                    await self._wake.wait()

    def wake(self) -> None:
        """Start what waited for an obstacle that is gone, such as a port that was closed."""
        self._wake.set()

    async def take_turn(self, id: str) -> None:
        """Wait until no command runs that runs alone; from now on no other one starts before `release_turn`."""
        self._commands.reserve(id)
        while not self._commands.has_turn(id):
            self._turn_ended.clear()
            await self._turn_ended.wait()

    def release_turn(self, id: str) -> None:
        """Give the place of a handler that has ended to another command."""
        self._commands.release(id)
        self._turn_ended.set()
        self._wake.set()

    async def drain(self, wait_s: float) -> None:
        """Accept no more commands, let those that wait be, and wait for the handlers that run."""
        self._is_closed = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=wait_s)

    async def close(self) -> None:
        """End the handlers that still run, and record it, after `run` was cancelled. Raises SpoolError."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._commands.stop(self._now())
        changes = self._commands.changes()
        if any(changes):
            await self._spool.write_commands(*_stored(changes))

    def connect(self, hub_ns: int) -> None:
        """Begin a new connection to a hub whose clock shows `hub_ns`."""
        self._hub_time = hub_ns, self._surroundings.monotonic()
        self._commands.connect()
        self._commands.date(self._now())
        self._wake.set()
        self.notify()

    def note_hub_time(self, hub_ns: int) -> None:
        """Apply what the clock of the hub shows now, or a little later: a message may have been delayed on its way."""
        now = self._now()
        self._hub_time = max(hub_ns, now.hub_ns), now.monotonic_s

    def receive(self, command: Command) -> None:
        """Accept a command of the hub, or reject it."""
        if self._is_closed:
            return  # the hub repeats it
        if not self._commands.has_room and not command.queued:
            _log.warning("command %s is not accepted: the hub has not recorded the results of earlier ones", command.id)
            return
        refusal = refusal_of(self._handlers.get(command.name), command.name, command.parameters)
        self._commands.receive(command, refusal, self._now())
        self._wake.set()
        self.notify()

    def record(self, recorded: CommandRecorded) -> None:
        """Apply that a state of a command is on the hub's disk."""
        self._commands.record(recorded)
        self._wake.set()

    def take_reports(self) -> list[CommandState]:
        """Return the states that have to be sent on this connection."""
        return self._commands.take_reports()

    async def _write(self, changes: Changes) -> None:
        try:
            await self._spool.write_commands(*_stored(changes))
        except SpoolFailed:
            raise
        except SpoolError as error:
            _log.warning("commands cannot be recorded, new ones are rejected: %s", error)
            self._commands.refuse_unstored(changes, str(error), self._now())
            self.notify()
            await asyncio.sleep(RETRY_SECONDS)
            return
        for entry in self._commands.commit(changes, self._now()):
            self._start(entry)
        self.notify()

    def _start(self, entry: CommandEntry) -> None:
        self._tasks[entry.id] = asyncio.create_task(self._execute(entry), name=f"command {entry.name}")

    async def _execute(self, entry: CommandEntry) -> None:
        """Run a handler until its end or its time limit. It keeps its place until it has really ended."""
        handler = self._handlers.get(entry.name)
        refusal = refusal_of(handler, entry.name, entry.parameters)
        try:
            if handler is None or refusal is not None:
                # It was accepted in an earlier run.
                self._release(entry)
                self._finish(entry, refusal or INTERRUPTED)
                return
            _log.info("command %s (%s) starts", entry.name, entry.id)
            self._finish(entry, await run_limited(handler, entry.parameters, partial(self._release, entry)))
        finally:
            self._tasks.pop(entry.id, None)

    def _release(self, entry: CommandEntry) -> None:
        self.release_turn(entry.id)

    def _finish(self, entry: CommandEntry, outcome: CommandOutcome) -> None:
        level = logging.INFO if outcome.state == "succeeded" else logging.WARNING
        _log.log(level, "command %s (%s) %s: %s", entry.name, entry.id, outcome.state, outcome.message or "done")
        self._commands.finish(entry.id, outcome, self._now())
        self._wake.set()

    def _is_concurrent(self, name: str) -> bool:
        handler = self._handlers.get(name)
        return handler is not None and handler.concurrent

    def _obstacle_of(self, name: str) -> str:
        handler = self._handlers.get(name)
        return "" if handler is None else handler.obstacle()

    def _now(self) -> Now:
        time_ns, monotonic_s = self._surroundings.time_ns(), self._surroundings.monotonic()
        if self._hub_time is None:
            return Now(time_ns, monotonic_s)
        hub_ns, noted_s = self._hub_time
        return Now(time_ns, monotonic_s, max(1, hub_ns + round((monotonic_s - noted_s) * 1e9)))


def _stored(changes: Changes) -> tuple[list[StoredCommand], Sequence[str]]:
    return [StoredCommand(entry.id, _encode(entry)) for entry in changes.written], changes.deleted
