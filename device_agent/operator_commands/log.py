"""The record of the commands that an agent received: a pure state machine whose changes are written before they count.

    command ──► waiting ──► running ──► finished ──► recorded ──► forgotten
                   └──────── rejected ─────┘            after 1,000 others, or 7 days

`changes` are what has to be written; `commit` says that they are on disk. A handler starts, and a state is reported,
only after that. So a command runs at most once, whenever the agent is killed: a new run finds it as `waiting`, which
was never started, or as `running`, and then it is not known whether it took effect.

The hub repeats a command until it has recorded an answer, and the agent repeats each state until the hub has recorded
it. The id of a command makes both harmless.

The time-out of a call begins when the hub creates it: one that was delayed on its way, or while the agent was
suspended, must not run after its operator has given up. That of a queued command begins when its turn comes: when the
queued command before it has ended. Ages within one run are measured with a clock that never jumps, and those that go
back to an earlier run with the clock of the hub: a device without a battery may begin with a wrong time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from wire.command import ParameterValue
from wire.device import Command, CommandRecorded, CommandState
from wire.limits import MAX_COMMANDS_SENT

MAX_WAITING = 16
"""Commands that wait for their turn. At this bound a call is rejected, because its operator waits; a queued command is
accepted later: the hub keeps it, and those behind it, meanwhile."""

MAX_OPEN = 256
"""Commands whose result the hub has not recorded. At this bound a further one is not accepted before the hub records:
it stays in the hub, which repeats it with the next connection."""

MAX_KEPT = 1000
"""Ids that are kept so that a repeated command is recognised. The hub repeats at most a few of the newest."""

KEPT_NS = 7 * 86_400 * 1_000_000_000
"""Time after which an id is forgotten: longer than a command waits anywhere."""

NOT_DURABLE = "the agent keeps commands in memory: if it restarts, this one is lost, and whether it ran is not known"

Step = Literal["waiting", "running", "finished", "recorded"]


class Now(NamedTuple):
    """The time by the clock of the device, by one that never jumps, and by the hub's; 0 until that is known."""

    time_ns: int
    monotonic_s: float
    hub_ns: int = 0

    def hub_ns_at(self, monotonic_s: float) -> int:
        """Return an earlier time by the clock of the hub; 0 if that is not known."""
        return max(1, self.hub_ns - round((self.monotonic_s - monotonic_s) * 1e9)) if self.hub_ns else 0


class CommandOutcome(Struct, frozen=True, omit_defaults=True):
    """End of a command, and why. `rejected`: its handler did not run, or refused it."""

    state: Literal["succeeded", "failed", "rejected"]
    code: str = ""
    message: str = ""
    result: Any = None


class CommandEntry(Struct, frozen=True, omit_defaults=True):
    """A command as it is on disk. `time_ns` is the time of its step, and `outcome` is set at its end.

    `hub_ns` is the time of its step by the hub's clock, that of a waiting call the time of its creation; 0 if that was
    not known.
    """

    id: str
    name: str
    parameters: dict[str, ParameterValue]
    received_ns: int
    timeout_ms: int
    step: Step
    time_ns: int
    outcome: CommandOutcome | None = None
    queued: bool = False
    hub_ns: int = 0

    @property
    def timeout_s(self) -> float:
        """The time in which the hub expects the result, from the beginning of its turn."""
        return self.timeout_ms / 1000


class Changes(NamedTuple):
    """Entries to write, in the order in which the commands arrived, and ids to delete."""

    written: Sequence[CommandEntry]
    deleted: Sequence[str]


class CommandLog:
    """All commands that the agent knows. `is_durable` says whether they survive the end of the process."""

    def __init__(self, *, is_durable: bool) -> None:
        self._is_durable = is_durable
        self._entries: dict[str, CommandEntry] = {}
        self._stored: dict[str, CommandEntry] = {}
        self._changed: dict[str, None] = {}
        self._open: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        self._deadlines_s: dict[str, float] = {}
        self._queue: dict[str, None] = {}
        """Queued commands that wait or run, in their order. The time-out of the first has begun."""
        self._undated: dict[str, int] = {}
        """Commands of an earlier run that wait until their age is known, and when their time-outs began."""
        self._parked: dict[str, tuple[Command, CommandOutcome | None]] = {}
        """Queued commands that are accepted when there is room; the hub has them, too."""
        self._recorded: dict[str, None] = {}
        self._busy: dict[str, bool] = {}
        """Commands whose handlers run, and whether each runs alone."""
        self._received_recorded: set[str] = set()
        self._sent: dict[str, str] = {}

    def load(self, entries: Iterable[CommandEntry], now: Now) -> None:
        """Continue with the entries of an earlier run. Those that ran then are `interrupted`, and are not run again.

        Those that wait start when `date` has found out that they are not too late.
        """
        turn_ns: int | None = 0
        for entry in entries:
            self._entries[entry.id] = self._stored[entry.id] = entry
            if entry.step == "recorded":
                self._recorded[entry.id] = None
            else:
                self._open[entry.id] = None
            if entry.step in ("waiting", "running") and entry.queued:
                self._queue[entry.id] = None
            if entry.step == "waiting":
                is_first = not entry.queued or len(self._queue) == 1
                self._restore(entry, turn_ns if entry.queued else 0, now, is_first=is_first)
            elif entry.queued and entry.outcome is not None and not self._queue:
                # An end whose time is not known: the next turn has begun with this run, at the latest.
                turn_ns = max(turn_ns, entry.hub_ns) if entry.hub_ns and turn_ns is not None else None
        for id in [id for id in self._open if self._entries[id].step == "running"]:
            self.finish(id, INTERRUPTED, now)

    def _restore(self, entry: CommandEntry, turn_ns: int | None, now: Now, *, is_first: bool) -> None:
        self._waiting[entry.id] = None
        self._deadlines_s[entry.id] = now.monotonic_s + entry.timeout_s if is_first else inf
        if not is_first or turn_ns is None:
            return
        if entry.hub_ns:
            self._undated[entry.id] = max(entry.hub_ns, turn_ns)
            if now.hub_ns:
                self.date(now)
        else:
            # A record of an older version.
            self._deadlines_s[entry.id] -= max(0, now.time_ns - entry.received_ns) / 1e9

    def date(self, now: Now) -> None:
        """Compute the ages of the commands of an earlier run: the clock of the hub is known now."""
        for id, began_ns in self._undated.items():
            late_s = now.monotonic_s + self._entries[id].timeout_s - max(0, now.hub_ns - began_ns) / 1e9
            self._deadlines_s[id] = min(self._deadlines_s[id], late_s)
        self._undated.clear()
        for entry in [self._entries[id] for id in self._open]:
            if entry.queued and entry.outcome is not None and not entry.hub_ns:
                self._put(replace(entry, hub_ns=now.hub_ns))

    def add_damaged(self, id: str, now: Now) -> None:
        """Add a command whose record is damaged on disk: whether it ran is not known."""
        self._put(CommandEntry(id, "", {}, now.time_ns, 0, "running", now.time_ns))
        self._open[id] = None
        self.finish(id, DAMAGED, now)

    def recent(self, ended: int) -> list[CommandEntry]:
        """Return the commands that have not ended, and before them the newest that have, at most `ended`."""
        entries = self._entries.values()
        finished = sorted((entry for entry in entries if entry.outcome is not None), key=lambda entry: entry.time_ns)
        waiting = [entry for entry in (self._entries[id] for id in self._open) if entry.outcome is None]
        return [*finished[max(0, len(finished) - ended) :], *waiting]

    @property
    def has_room(self) -> bool:
        """Return whether another command can be accepted."""
        return len(self._open) < MAX_OPEN

    def receive(self, command: Command, refusal: CommandOutcome | None, now: Now) -> None:
        """Accept a command, or reject it for this reason. For a known id, report its current state again.

        Without room, a queued command waits for it, and a call is rejected, or left to the hub at MAX_OPEN.
        """
        entry = self._entries.get(command.id)
        if entry is not None:
            self._repeat(entry)
        elif command.queued and (self._parked or not self._has_room_to_wait):
            # The hub sends no more than this before they are answered, and repeats them with each connection.
            if len(self._parked) < MAX_COMMANDS_SENT:
                self._parked[command.id] = command, refusal
        elif self.has_room:
            if refusal is None and len(self._waiting) >= MAX_WAITING:
                refusal = CommandOutcome("rejected", "busy", f"{MAX_WAITING} commands wait for the device already")
            self._accept(command, refusal, now)

    def admit(self, now: Now) -> None:
        """Accept the queued commands for which there is room now."""
        while self._parked and self._has_room_to_wait:
            self._accept(*self._parked.pop(next(iter(self._parked))), now)

    @property
    def _has_room_to_wait(self) -> bool:
        return self.has_room and len(self._waiting) < MAX_WAITING

    def _accept(self, command: Command, refusal: CommandOutcome | None, now: Now) -> None:
        self._open[command.id] = None
        began_ns = now.hub_ns if command.queued else min(now.hub_ns, command.created)
        entry = CommandEntry(
            command.id, command.name, command.parameters, now.time_ns, command.timeout_ms, "waiting", now.time_ns,
            queued=command.queued, hub_ns=began_ns,
        )  # fmt: skip
        self._put(entry)
        if refusal is not None:
            self.finish(command.id, refusal, now)
            return
        is_behind = entry.queued and bool(self._queue)
        if entry.queued:
            self._queue[entry.id] = None
        self._waiting[entry.id] = None
        left_s = entry.timeout_s - (now.hub_ns - began_ns) / 1e9
        self._deadlines_s[entry.id] = inf if is_behind else now.monotonic_s + left_s

    def start(self, is_concurrent: Callable[[str], bool], is_ready: Callable[[str], bool], now: Now) -> None:
        """Let commands that wait begin, in their order: all that may run beside others, and one of the rest.

        A command that is not ready, because the port that it needs is closed, continues to wait.
        """
        for id in list(self._waiting):
            entry = self._entries[id]
            is_alone = not is_concurrent(entry.name)
            # What waits has to be on disk first, so that it never starts without having been received.
            if self._stored.get(id) is not entry or id in self._undated or not is_ready(entry.name):
                continue
            if is_alone and True in self._busy.values():
                continue
            del self._waiting[id]
            self._busy[id] = is_alone
            self._put(replace(entry, step="running", time_ns=now.time_ns, hub_ns=now.hub_ns))

    def expire(self, now: Now, obstacle_of: Callable[[str], str] = lambda name: "") -> None:
        """Reject what has waited for longer than the hub waits for the result: an operator does not expect it any more.

        A speed that was set an hour ago must not be set now. `obstacle_of` is what a command of this name waits for,
        as a sentence, if it is not ready.
        """
        # The end of a queued command begins the time-out of the next, which may be over, too.
        while ids := [id for id in self._waiting if self._deadlines_s[id] <= now.monotonic_s]:
            for id in ids:
                obstacle = obstacle_of(self._entries[id].name)
                outcome = replace(NOT_OPEN, message=f"{obstacle}; nothing was sent") if obstacle else TOO_LATE
                self._finish(id, outcome, now, self._deadlines_s[id])

    @property
    def next_deadline_s(self) -> float:
        """The time at which the next waiting command is too late; infinity without one."""
        return min((self._deadlines_s[id] for id in self._waiting), default=inf)

    def finish(self, id: str, outcome: CommandOutcome, now: Now) -> None:
        """Record the end of a command. Its handler may still occupy its place until `release`."""
        self._finish(id, outcome, now, now.monotonic_s)

    def _finish(self, id: str, outcome: CommandOutcome, now: Now, ended_s: float) -> None:
        entry = self._entries[id]
        if entry.step not in ("waiting", "running"):
            return
        self._waiting.pop(id, None)
        self._deadlines_s.pop(id, None)
        self._undated.pop(id, None)
        self._put(replace(entry, step="finished", time_ns=now.time_ns, hub_ns=now.hub_ns_at(ended_s), outcome=outcome))
        if id in self._queue:
            is_first = next(iter(self._queue)) == id
            del self._queue[id]
            following = next(iter(self._queue), "")
            if is_first and following in self._waiting:
                self._deadlines_s[following] = ended_s + self._entries[following].timeout_s

    def release(self, id: str) -> None:
        """Give the place of a handler that has ended to another command."""
        self._busy.pop(id, None)

    def reserve(self, id: str) -> None:
        """Take the next place of a handler that runs alone, for something else than a command."""
        self._busy[id] = True

    def has_turn(self, id: str) -> bool:
        """Return whether no other handler runs that runs alone."""
        return not any(is_alone for other, is_alone in self._busy.items() if other != id)

    def record(self, recorded: CommandRecorded) -> None:
        """Apply that a state is on the hub's disk: it is not reported again."""
        if recorded.id not in self._open:
            return
        if recorded.state == "received":
            self._received_recorded.add(recorded.id)
            return
        entry = self._stored.get(recorded.id)
        if entry is None or entry.step != "finished" or entry.outcome is None or entry.outcome.state != recorded.state:
            return
        # The result may be long, and the hub has it.
        self._put(replace(entry, step="recorded", outcome=replace(entry.outcome, result=None)))
        del self._open[entry.id]
        self._sent.pop(entry.id, None)
        self._received_recorded.discard(entry.id)
        self._recorded[entry.id] = None

    def forget(self, now: Now) -> None:
        """Forget the oldest recorded commands beyond the bounds."""
        for id in list(self._recorded):
            if len(self._entries) <= MAX_KEPT and self._entries[id].time_ns > now.time_ns - KEPT_NS:
                return
            del self._recorded[id], self._entries[id]
            self._changed[id] = None

    def changes(self) -> Changes:
        """Return what is not on disk yet."""
        changed = [(id, self._entries.get(id)) for id in self._changed]
        return Changes(
            [entry for _, entry in changed if entry is not None], [id for id, entry in changed if entry is None]
        )

    def commit(self, changes: Changes, now: Now) -> list[CommandEntry]:
        """Apply that changes are on disk; return the commands whose handlers start now."""
        for id in changes.deleted:
            self._stored.pop(id, None)
            self._settle(id)
        started: list[CommandEntry] = []
        for entry in changes.written:
            self._stored[entry.id] = entry
            self._settle(entry.id)
            if entry.step != "running" or self._entries.get(entry.id) is not entry:
                continue
            deadline_s = self._deadlines_s[entry.id]
            if deadline_s <= now.monotonic_s:
                # The disk was full for some time.
                self.release(entry.id)
                self._finish(entry.id, TOO_LATE, now, deadline_s)
            else:
                started.append(entry)
        return started

    def refuse_unstored(self, changes: Changes, reason: str, now: Now) -> None:
        """Reject the new commands of changes that cannot be written: they did not run, and no disk knows them.

        All other changes stay, to be written later.
        """
        for entry in changes.written:
            if entry.id in self._stored:
                continue
            self.finish(entry.id, CommandOutcome("rejected", "not_stored", reason), now)
            self._stored[entry.id] = self._entries[entry.id]
            self._changed.pop(entry.id, None)

    def stop(self, now: Now) -> None:
        """End the commands that run, at the end of the agent. Those that did not start continue to wait."""
        for id in [id for id in self._open if self._entries[id].step == "running"]:
            if self._stored.get(id) is self._entries[id]:
                self.finish(id, INTERRUPTED, now)
            else:
                self._put(self._stored[id])

    def connect(self) -> None:
        """Report everything that the hub has not recorded again, on a new connection; it repeats what is parked."""
        self._sent.clear()
        self._parked.clear()

    def take_reports(self) -> list[CommandState]:
        """Return the states that are on disk, and neither sent on this connection nor recorded by the hub."""
        reports: list[CommandState] = []
        for id in self._open:
            entry = self._stored.get(id)
            if entry is None:
                continue
            report = self._report(entry)
            if self._sent.get(id) == report.state or (report.state == "received" and id in self._received_recorded):
                continue
            self._sent[id] = report.state
            reports.append(report)
        return reports

    def _report(self, entry: CommandEntry) -> CommandState:
        outcome = entry.outcome
        if outcome is not None:
            return CommandState(entry.id, outcome.state, entry.time_ns, outcome.code, outcome.message, outcome.result)
        if self._is_durable:
            return CommandState(entry.id, "received", entry.received_ns)
        return CommandState(entry.id, "received", entry.received_ns, "not_durable", NOT_DURABLE)

    def _repeat(self, entry: CommandEntry) -> None:
        """Report the state of a command again: the hub does not have it."""
        self._sent.pop(entry.id, None)
        self._received_recorded.discard(entry.id)
        if self._recorded.pop(entry.id, "") is None:
            self._open[entry.id] = None
            self._put(replace(entry, step="finished"))

    def _put(self, entry: CommandEntry) -> None:
        self._entries[entry.id] = entry
        self._changed[entry.id] = None

    def _settle(self, id: str) -> None:
        if self._entries.get(id) is self._stored.get(id):
            self._changed.pop(id, None)


INTERRUPTED = CommandOutcome(
    "failed",
    "interrupted",
    "the agent ended while the command ran; whether it took effect is not known, and it is not run again",
)

DAMAGED = CommandOutcome(
    "failed",
    "record_damaged",
    "the record of the command was damaged on the agent's disk; whether it took effect is not known",
)

NOT_OPEN = CommandOutcome("rejected", "not_open")
"""The port that the command needs was closed until its time was over."""

TOO_LATE = CommandOutcome(
    "rejected",
    "too_late",
    "the command waited in the agent for longer than the hub waits for its result, and was not run",
)
