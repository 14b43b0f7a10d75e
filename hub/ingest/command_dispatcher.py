"""Delivery of commands to connected devices, and the way of their reports back. Each change is durable first.

The file decides: a change is computed from the stored record in the thread of the registry, and the memory follows in
the order of the commits. The memory has the open commands only.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from hub.ingest.device import CommandLink
from hub.ingest.watches import Watch, Watches
from hub.model.command import (
    GRACE_NS,
    CommandPhase,
    CommandRecord,
    Turn,
    Undelivered,
    cancelled,
    deadline_of,
    deadline_passed,
    new_command,
    reported,
    sent,
    to_repeat,
    to_send,
    turn_of,
    undelivered,
)
from wire.command import CommandDeclaration, ParametersRefused, unknown_command
from wire.device import CommandState
from wire.errors import WireError
from wire.timestamp import NS_PER_S

RETRY_S = 1.0
"""Wait after a change that could not be stored, as on a full disk, before it is tried again."""

MAX_SLEEP_S = 60.0
"""Longest sleep until the next deadline: a wall clock that was corrected meanwhile is noticed after it."""

SPARE_DEADLINES = 1_000
"""Outdated entries among the deadlines, besides one for each device with open commands."""

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
        """Store a new command; return it with its number. Fails with IdInUse, and with TOO_MANY at a bound."""

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


class IdInUse(Exception):
    """A command that is not stored, because there is one with its id."""


class NewCommand(NamedTuple):
    """A command that an operator sends. `ttl_s` is None for a call; `is_confirmed`: the operator was asked.

    With an `id` of the sender, the same id again is the same command. `job` is the id of the job of the command.
    """

    name: str
    parameters: dict[str, object]
    operator: str
    timeout_ms: int
    ttl_s: float | None = None
    is_confirmed: bool = False
    id: str = ""
    job: str = ""


class CommandDispatcher:
    """The commands of all devices, from the operator to the device and back. Run `run()` in a task.

    `declared` returns what a device declared, `is_retired` whether it is retired. Implements
    hub.ingest.device.CommandInbox.
    """

    def __init__(
        self,
        store: CommandStore,
        *,
        declared: Callable[[str], Sequence[CommandDeclaration]],
        clock: Callable[[], int],
        is_retired: Callable[[str], bool] = lambda device: False,
    ) -> None:
        self._store = store
        self._links: dict[str, CommandLink] = {}
        self._unreachable: dict[str, tuple[CommandLink, str]] = {}
        self._declared = declared
        self._clock = clock
        self._is_retired = is_retired
        self._open: dict[str, dict[str, CommandRecord]] = {}
        self._inserting: dict[str, dict[str, CommandRecord]] = {}
        self._turns: dict[str, Turn] = {}
        self._grace_ns: dict[str, int] = {}
        self._sending: set[str] = set()
        self._ending: set[str] = set()
        self._stalled: set[str] = set()
        self._due: dict[str, int] = {}
        self._deadlines: list[tuple[int, str]] = []
        """When to look at a device, as in `_due`, and outdated entries."""
        self._wake = asyncio.Event()
        self._watches = Watches[CommandRecord]()
        self._job_watchers: list[Callable[[str], None]] = []

    def restore(self, commands: Iterable[CommandRecord]) -> None:
        """Continue with the open commands of the file, in their order."""
        now_ns = self._clock()
        for record in commands:
            if record.state is not CommandPhase.QUEUED:
                self._grace_ns[record.id] = now_ns + GRACE_NS
            self._follow(record, now_ns)

    # Operators.

    async def send(self, device: str, new: NewCommand) -> CommandRecord:
        """Record a command, to be sent as soon as the device takes it. Raises CommandRefused and WireError.

        A command whose id is known is returned as it is: its sender repeats it.
        """
        known = await self._known(device, new) if new.id else None
        if known is not None:
            return known
        record = self.prepare(device, new)
        link = self._links.get(device)
        try:
            return await self._insert(record if link is None else self._sent_at_once(record, link, record.created_ns))
        except IdInUse:
            # The same request was stored meanwhile, or the id is that of a command to another device.
            known = await self._known(device, new) if new.id else None
            if known is None:
                raise _id_in_use("another device") from None
            return known

    def prepare(self, device: str, new: NewCommand) -> CommandRecord:
        """Return the record of a command that the device takes as far as the hub knows. Raises CommandRefused."""
        if device not in self._links and self._is_retired(device):
            raise CommandRefused(f"{device} is retired: it takes commands again when it connects", code="not_connected")
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
        _, unreachable = self._unreachable.get(device, (None, ""))
        if link is None and new.ttl_s is None:
            why = unreachable or f"{device} is offline, or its connection takes no commands"
            raise CommandRefused(f"{why}: queue the command instead", code="not_connected")
        now_ns = self._clock()
        why = unreachable or "the device is not connected"
        offline = ("not_connected", f"{why}: the command is sent when it connects again")
        return new_command(
            id=new.id or secrets.token_hex(16),
            device=device,
            name=new.name,
            parameters=parameters,
            operator=new.operator,
            now_ns=now_ns,
            timeout_ms=new.timeout_ms,
            ttl_s=new.ttl_s,
            reason=offline if link is None else ("", ""),
            job=new.job,
        )

    def follow(self, changes: Sequence[Stored]) -> None:
        """Continue with commands that a job has stored, new ones too. Call it in the order of the commits."""
        self._changed(changes)

    def watch_jobs(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with the id of a job when one of its commands has ended, or has ended in another way."""
        self._job_watchers.append(watcher)

    def _sent_at_once(self, record: CommandRecord, link: CommandLink, now_ns: int) -> CommandRecord:
        """Return the new command as sent, if it may be sent now: one commit fewer than for two states."""
        before = (*self._open.get(record.device, {}).values(), *self._inserting.get(record.device, {}).values())
        if to_send((*before, record), now_ns) != [record]:
            return record
        return sent(record, now_ns, repeats=link.repeats) or record

    async def _insert(self, record: CommandRecord) -> CommandRecord:
        self._inserting.setdefault(record.device, {})[record.id] = record
        done = self._store.insert(record, self._inserted)
        done.add_done_callback(lambda _: self._insert_ended(record))
        # A caller that is cancelled does not end the write, and the next command has to take it into account.
        return await asyncio.shield(done)

    def open_command(self, device: str, id: str) -> CommandRecord | None:
        """Return a command of a device that has not ended; None without one."""
        return self._open.get(device, {}).get(id)

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
            raise _id_in_use(f"{device}: {known.name}")
        return known

    async def cancel(self, device: str, id: str, operator: str) -> Stored:
        """Take a queued command back. A command that was sent stays as it is. Raises WireError."""
        return await self._change(device, id, partial(cancelled, operator=operator, now_ns=self._clock()))

    def watch(self, id: str) -> AbstractContextManager[Watch[CommandRecord] | None]:
        """Yield what reports each change of a command from now on; None if too many requests wait."""
        return self._watches.watch(id)

    # Devices.

    def connected(self, device: str, link: CommandLink) -> None:
        """Send the device what waits for it through this connection from now on, and first what it has not answered.

        The latter only if the connection repeats commands.
        """
        self._links[device] = link
        if link.repeats:
            for record in to_repeat(self._open.get(device, {}).values(), self._clock()):
                link.send(record.message)
        self._pump(device)

    def disconnected(self, device: str, link: CommandLink) -> None:
        """Send nothing through this connection any more."""
        if self._links.get(device) is link:
            del self._links[device]
        if self._unreachable.get(device, (None, ""))[0] is link:
            del self._unreachable[device]

    def unreachable(self, device: str, link: CommandLink, reason: str) -> None:
        """Note that the device is connected, and why it gets no commands; until `disconnected`."""
        self._unreachable[device] = link, reason

    async def report(self, device: str, report: CommandState | Undelivered) -> bool:
        """Record a state that a device reports, or that it cannot report. Raises WireError.

        Return False if the hub has no such command of it.
        """
        now_ns = self._clock()
        transition: Transition
        if isinstance(report, Undelivered):
            transition = partial(undelivered, why=report, now_ns=now_ns)
        else:
            transition = partial(reported, report=report, now_ns=now_ns)
        stored = await self._change(device, report.id, transition)
        return stored.record is not None

    # Time.

    async def run(self) -> None:
        """End the commands whose time has passed, until cancelled."""
        while True:
            self._wake.clear()
            self.pass_deadlines()
            if self._stalled:
                await asyncio.sleep(RETRY_S)
                self.retry()
                continue
            left_s = (self._deadlines[0][0] - self._clock()) / NS_PER_S if self._deadlines else MAX_SLEEP_S
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(left_s, MAX_SLEEP_S))):
                    await self._wake.wait()

    def pass_deadlines(self) -> None:
        """Submit the end of each command whose time has passed; send those that an unanswered one has held back."""
        now_ns = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            due_ns, device = heapq.heappop(self._deadlines)
            if self._due.get(device) != due_ns:
                continue
            del self._due[device]
            for deadline_ns, record in self._expected(device):
                if deadline_ns <= now_ns:
                    self._ending.add(record.id)
                    end = partial(deadline_passed, now_ns=now_ns, state=record.state)
                    done = self._store.change(device, [record.id], end, self._changed)
                    done.add_done_callback(partial(self._end_stored, record))
            self._pump(device)
            self._expect(device)

    def retry(self) -> None:
        """Try again to write what could not be stored."""
        stalled, self._stalled = self._stalled, set()
        for device in stalled:
            self._pump(device)
            self._expect(device)

    def _end_stored(self, record: CommandRecord, done: asyncio.Future[Sequence[Stored]]) -> None:
        self._ending.discard(record.id)
        if _failed(done):
            self._stall(record.device)
        else:
            self._expect(record.device)

    def _stall(self, device: str) -> None:
        self._stalled.add(device)
        self._wake.set()

    def _expected(self, device: str) -> list[tuple[int, CommandRecord]]:
        """Return the open commands of a device that end at a time, and whose end is not being written."""
        turn = self._turns.get(device)
        expected = []
        for record in self._open.get(device, {}).values():
            deadline_ns = deadline_of(record, turn, self._grace_ns.get(record.id, 0))
            if deadline_ns is not None and record.id not in self._ending:
                expected.append((deadline_ns, record))
        return expected

    def _expect(self, device: str) -> None:
        """Set when to look at a device: at its next deadline, or when a sent command holds no others back any more."""
        times_ns = [deadline_ns for deadline_ns, _ in self._expected(device)]
        now_ns = self._clock()
        held_ns = [record.held_until_ns for record in self._open.get(device, {}).values()]
        times_ns += [time_ns for time_ns in held_ns if now_ns < time_ns]
        due_ns = min(times_ns, default=None)
        if due_ns is None or device in self._stalled:
            self._due.pop(device, None)
            return
        if self._due.get(device) == due_ns:
            return
        self._due[device] = due_ns
        heapq.heappush(self._deadlines, (due_ns, device))
        # An outdated entry stays until its time. They must not become more than the devices that wait.
        if len(self._deadlines) > 2 * len(self._due) + SPARE_DEADLINES:
            self._deadlines = [(due_ns, device) for device, due_ns in self._due.items()]
            heapq.heapify(self._deadlines)
        if self._deadlines[0][0] == due_ns:
            self._wake.set()

    # The memory follows the file.

    async def _change(self, device: str, id: str, transition: Transition) -> Stored:
        (stored,) = await self._store.change(device, [id], transition, self._changed)
        return stored

    def _inserted(self, record: CommandRecord) -> None:
        self._insert_ended(record)
        self._follow(record, record.created_ns)
        if record.state is CommandPhase.SENT:
            self._send(record)
        self._pump(record.device)

    def _insert_ended(self, record: CommandRecord) -> None:
        inserting = self._inserting.get(record.device, {})
        inserting.pop(record.id, None)
        if not inserting:
            self._inserting.pop(record.device, None)

    def _changed(self, changes: Sequence[Stored]) -> None:
        for record in (stored.record for stored in changes if stored.is_changed):
            assert record is not None
            self._grace_ns.pop(record.id, None)
            self._follow(record, record.changes[-1].time_ns)
            self._watches.notify(record.id, record)
            if record.job and not record.state.is_open:
                for watcher in self._job_watchers:
                    watcher(record.job)
            self._pump(record.device)

    def _follow(self, record: CommandRecord, time_ns: int) -> None:
        """Apply what a record has become at this time."""
        device = record.device
        commands = self._open.setdefault(device, {})
        if record.state.is_open:
            commands[record.id] = record
        else:
            commands.pop(record.id, None)
        turn = turn_of(commands.values(), self._turns.pop(device, None), time_ns)
        if turn is not None:
            self._turns[device] = turn
        if not commands:
            del self._open[device]
        self._expect(device)

    def _pump(self, device: str) -> None:
        """Write as sent, and then send, the queued commands that the device may have now: one write at a time."""
        link = self._links.get(device)
        if device in self._sending or device not in self._open or link is None:
            return
        now_ns = self._clock()
        ids = [record.id for record in to_send(self._open[device].values(), now_ns)]
        if ids:
            self._sending.add(device)
            done = self._store.change(device, ids, partial(sent, now_ns=now_ns, repeats=link.repeats), self._sent)
            done.add_done_callback(partial(self._sending_ended, device))

    def _sent(self, changes: Sequence[Stored]) -> None:
        for record in (stored.record for stored in changes if stored.is_changed):
            assert record is not None
            self._send(record)
        self._changed(changes)

    def _send(self, record: CommandRecord) -> None:
        link = self._links.get(record.device)
        # Another connection may have come during the write. What an agent may get again goes to an agent only.
        if link is not None and (link.repeats or record.is_sent_once):
            link.send(record.message)

    def _sending_ended(self, device: str, done: asyncio.Future[Sequence[Stored]]) -> None:
        self._sending.discard(device)
        if _failed(done):
            self._stall(device)
        else:
            self._pump(device)


def _id_in_use(owner: str) -> CommandRefused:
    detail = f"the id is that of another command to {owner}. Use a new id for each command"
    return CommandRefused(detail, code="id_in_use")


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
