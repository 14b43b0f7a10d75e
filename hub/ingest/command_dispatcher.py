"""Delivery of commands to connected devices, and the way of their reports back. Each change is durable first.

The file decides: a change is computed from the stored record in the thread of the registry, and the memory follows in
the order of the commits. The memory has the open commands only.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from hub.ingest.device import CommandLink
from hub.model.command import (
    CommandRecord,
    cancelled,
    deadline_passed,
    new_command,
    reported,
    sent,
    to_repeat,
    to_send,
)
from wire.command import CommandDeclaration, ParametersRefused, unknown_command
from wire.device import CommandState
from wire.errors import WireError
from wire.timestamp import NS_PER_S

RETRY_S = 1.0
"""Wait after a change that could not be stored, as on a full disk, before it is tried again."""

MAX_WATCHES = 256
"""Requests that wait for a change of a command. Each holds a connection; further ones are answered at once."""

SPARE_DEADLINES = 1_000
"""Entries of finished commands among the deadlines, besides as many as there are open commands."""

log = structlog.get_logger(__name__)


class Stored(NamedTuple):
    """Answer of the store to a change: the record, None for an unknown command, and whether it was changed."""

    record: CommandRecord | None
    is_changed: bool = False


Transition = Callable[[CommandRecord], CommandRecord | None]


class CommandStore(Protocol):
    """Durable commands. A future holds the answer once it is on disk; `on_stored` runs first, in commit order."""

    def insert(
        self, record: CommandRecord, on_stored: Callable[[CommandRecord], None]
    ) -> asyncio.Future[CommandRecord]:
        """Store a new command; return it with its number. Fails with TOO_MANY at a bound."""

    def change(
        self,
        device: str,
        ids: Sequence[str],
        transition: Transition,
        on_stored: Callable[[Sequence[Stored]], None],
    ) -> asyncio.Future[Sequence[Stored]]:
        """Replace each of these commands of a device by what `transition` returns, unless that is None."""


class CommandRefused(Exception):
    """A command that is not recorded, with the reason as a code of the API and a sentence."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class NewCommand(NamedTuple):
    """A command that an operator sends. `ttl_s` is None for a call; `is_confirmed`: the operator was asked.

    With an `id` of the sender, the same id again is the same command.
    """

    name: str
    parameters: dict[str, object]
    operator: str
    timeout_ms: int
    ttl_s: float | None = None
    is_confirmed: bool = False
    id: str = ""


class CommandDispatcher:
    """The commands of all devices, from the operator to the device and back. Run `run()` in a task.

    `declared` returns what a device declared. Implements hub.ingest.device.CommandInbox.
    """

    def __init__(
        self,
        store: CommandStore,
        *,
        declared: Callable[[str], Sequence[CommandDeclaration]],
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._links: dict[str, CommandLink] = {}
        self._declared = declared
        self._clock = clock
        self._open: dict[str, dict[str, CommandRecord]] = {}
        self._open_count = 0
        self._sending: set[str] = set()
        self._stalled: set[str] = set()
        self._deadlines: list[tuple[int, str, str]] = []
        self._wake = asyncio.Event()
        self._watches: dict[str, set[asyncio.Event]] = {}

    def restore(self, commands: Iterable[CommandRecord]) -> None:
        """Continue with the open commands of the file, in their order."""
        for record in commands:
            self._follow(record)

    # Operators.

    async def send(self, device: str, new: NewCommand) -> CommandRecord:
        """Record a command, to be sent as soon as the device takes it. Raises CommandRefused and WireError.

        A command whose id is known is returned as it is: its sender repeats it. A caller with ids sends one at a time.
        """
        known = await self._known(device, new) if new.id else None
        if known is not None:
            return known
        declared = {declaration.name: declaration for declaration in self._declared(device)}
        declaration = declared.get(new.name)
        if declaration is None:
            raise CommandRefused(unknown_command(new.name, [*declared]), code="unknown_command")
        try:
            parameters = declaration.accepted(new.parameters)
        except ParametersRefused as refused:
            detail = f"{'; '.join(refused.problems)}. Expected: {declaration.signature()}"
            raise CommandRefused(detail, code="wrong_parameters") from None
        if declaration.confirm and not new.is_confirmed:
            detail = f"{device} asks for a confirmation of {new.name}: send it again as confirmed"
            raise CommandRefused(detail, code="not_confirmed")
        link = self._links.get(device)
        if link is None and new.ttl_s is None:
            detail = f"{device} is not connected, or its agent takes no commands: queue the command instead"
            raise CommandRefused(detail, code="not_connected")
        now_ns = self._clock()
        offline = ("not_connected", "the device is not connected: the command is sent when it returns")
        record = new_command(
            id=new.id or secrets.token_hex(16),
            device=device,
            name=new.name,
            parameters=parameters,
            operator=new.operator,
            now_ns=now_ns,
            timeout_ms=new.timeout_ms,
            ttl_s=new.ttl_s,
            reason=offline if link is None else ("", ""),
        )
        return await self._store.insert(record, self._inserted)

    async def _known(self, device: str, new: NewCommand) -> CommandRecord | None:
        """Return the command with this id, None if there is none. Raises CommandRefused if it is another command."""
        known = (await self._change(device, new.id, lambda record: None)).record
        if known is None:
            return None
        expected = dict(new.parameters)
        declaration = next((declared for declared in self._declared(device) if declared.name == new.name), None)
        if declaration is not None:
            with suppress(ParametersRefused):
                expected = dict(declaration.accepted(new.parameters))
        if (known.name, known.parameters, known.mode) != (new.name, expected, "call" if new.ttl_s is None else "queue"):
            detail = f"the id is that of another command to {device}: {known.name}. Use a new id for each command"
            raise CommandRefused(detail, code="id_in_use")
        return known

    async def cancel(self, device: str, id: str, operator: str) -> Stored:
        """Take a queued command back. A command that was sent stays as it is. Raises WireError."""
        return await self._change(device, id, partial(cancelled, operator=operator, now_ns=self._clock()))

    @contextmanager
    def watch(self, id: str) -> Iterator[asyncio.Event | None]:
        """Yield an event that is set at each change of a command; None at MAX_WATCHES."""
        if sum(map(len, self._watches.values())) >= MAX_WATCHES:
            yield None
            return
        watches = self._watches.setdefault(id, set())
        event = asyncio.Event()
        watches.add(event)
        try:
            yield event
        finally:
            watches.discard(event)
            if not watches and self._watches.get(id) is watches:
                del self._watches[id]

    # Devices.

    def connected(self, device: str, link: CommandLink) -> None:
        """Send the device what it has not answered, and what waits for it, through this connection from now on."""
        self._links[device] = link
        for record in to_repeat(self._open.get(device, {}).values(), self._clock()):
            link.send(record.message)
        self._pump(device)

    def disconnected(self, device: str, link: CommandLink) -> None:
        """Send nothing through this connection any more."""
        if self._links.get(device) is link:
            del self._links[device]

    async def report(self, device: str, report: CommandState) -> bool:
        """Record a state that a device reports. Return False if the hub has no such command of it. Raises WireError."""
        stored = await self._change(device, report.id, partial(reported, report=report, now_ns=self._clock()))
        return stored.record is not None

    # Time.

    async def run(self) -> None:
        """End the commands whose time has passed, until cancelled."""
        while True:
            self._wake.clear()
            self.pass_deadlines()
            wait_s = RETRY_S if self._stalled else None
            if self._deadlines:
                left_s = max(0.0, (self._deadlines[0][0] - self._clock()) / NS_PER_S)
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                self.retry()

    def pass_deadlines(self) -> None:
        """Submit the end of each command whose time has passed."""
        now_ns = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, device, id = heapq.heappop(self._deadlines)
            record = self._open.get(device, {}).get(id)
            if record is not None and record.deadline_ns <= now_ns:
                done = self._store.change(device, [id], partial(deadline_passed, now_ns=now_ns), self._changed)
                done.add_done_callback(partial(self._ended, record))

    def retry(self) -> None:
        """Try again to send what could not be stored as sent."""
        stalled, self._stalled = self._stalled, set()
        for device in stalled:
            self._pump(device)

    def _ended(self, record: CommandRecord, done: asyncio.Future[Sequence[Stored]]) -> None:
        if _failed(done):
            retry_ns = self._clock() + int(RETRY_S * NS_PER_S)
            heapq.heappush(self._deadlines, (retry_ns, record.device, record.id))
            self._wake.set()

    # The memory follows the file.

    async def _change(self, device: str, id: str, transition: Transition) -> Stored:
        (stored,) = await self._store.change(device, [id], transition, self._changed)
        return stored

    def _inserted(self, record: CommandRecord) -> None:
        self._follow(record)
        self._pump(record.device)

    def _changed(self, changes: Sequence[Stored]) -> None:
        for record in (stored.record for stored in changes if stored.is_changed):
            assert record is not None
            self._follow(record)
            for event in self._watches.get(record.id, ()):
                event.set()
            self._pump(record.device)

    def _follow(self, record: CommandRecord) -> None:
        commands = self._open.setdefault(record.device, {})
        self._open_count -= record.id in commands
        if record.state.is_open:
            commands[record.id] = record
            self._open_count += 1
            self._expect(record)
            return
        commands.pop(record.id, None)
        if not commands:
            del self._open[record.device]

    def _expect(self, record: CommandRecord) -> None:
        heapq.heappush(self._deadlines, (record.deadline_ns, record.device, record.id))
        # An entry of a finished command stays until its time. They must not become more than the open commands.
        if len(self._deadlines) > 2 * self._open_count + SPARE_DEADLINES:
            opened = (record for commands in self._open.values() for record in commands.values())
            self._deadlines = [(record.deadline_ns, record.device, record.id) for record in opened]
            heapq.heapify(self._deadlines)
        self._wake.set()

    def _pump(self, device: str) -> None:
        """Write as sent, and then send, the queued commands that the device may have now: one write at a time."""
        if device in self._sending or self._links.get(device) is None:
            return
        now_ns = self._clock()
        ids = [record.id for record in to_send(self._open.get(device, {}).values(), now_ns)]
        if ids:
            self._sending.add(device)
            done = self._store.change(device, ids, partial(sent, now_ns=now_ns), self._sent)
            done.add_done_callback(partial(self._sending_ended, device))

    def _sent(self, changes: Sequence[Stored]) -> None:
        for record in (stored.record for stored in changes if stored.is_changed):
            assert record is not None
            link = self._links.get(record.device)
            if link is not None:
                link.send(record.message)
        self._changed(changes)

    def _sending_ended(self, device: str, done: asyncio.Future[Sequence[Stored]]) -> None:
        self._sending.discard(device)
        if _failed(done):
            self._stalled.add(device)
            self._wake.set()
        else:
            self._pump(device)


def _failed(done: asyncio.Future[Sequence[Stored]]) -> bool:
    """Return whether a change could not be stored, and log why."""
    if done.cancelled():
        return True
    error = done.exception()
    if isinstance(error, WireError):
        log.error("command cannot be stored, retrying", error=error.message)
    elif error is not None:
        log.error("change of a command failed", exc_info=error)
    return error is not None
