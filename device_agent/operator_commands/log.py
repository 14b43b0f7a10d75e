"""The record of the commands that an agent received: a pure state machine whose changes are written before they count.

    command ──► waiting ──► running ──► finished ──► recorded ──► forgotten
                   └──────── rejected ─────┘            after 1,000 others, or 7 days

`changes` are what has to be written; `commit` says that they are on disk. A handler starts, and a state is reported,
only after that. So a command runs at most once, whenever the agent is killed: a new run finds it as `waiting`, which
was never started, or as `running`, and then it is not known whether it took effect.

The hub repeats a command until it has recorded an answer, and the agent repeats each state until the hub has recorded
it. The id of a command makes both harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from wire.command import ParameterValue
from wire.device import Command, CommandRecorded, CommandState

MAX_WAITING = 16
"""Commands that wait for their turn. One more is rejected: an operator does not queue more for a device that works."""

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
    """The time by the clock of the device, and by one that never jumps."""

    time_ns: int
    monotonic_s: float


class CommandOutcome(Struct, frozen=True, omit_defaults=True):
    """End of a command, and why. `rejected`: its handler did not run, or refused it."""

    state: Literal["succeeded", "failed", "rejected"]
    code: str = ""
    message: str = ""
    result: Any = None


class CommandEntry(Struct, frozen=True, omit_defaults=True):
    """A command as it is on disk. `time_ns` is the time of its step, and `outcome` is set at its end."""

    id: str
    name: str
    parameters: dict[str, ParameterValue]
    received_ns: int
    timeout_ms: int
    step: Step
    time_ns: int
    outcome: CommandOutcome | None = None


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
        self._recorded: dict[str, None] = {}
        self._busy: dict[str, bool] = {}
        """Commands whose handlers run, and whether each runs alone."""
        self._received_recorded: set[str] = set()
        self._sent: dict[str, str] = {}

    def load(self, entries: Iterable[CommandEntry], now: Now) -> None:
        """Continue with the entries of an earlier run. Those that ran then are `interrupted`, and are not run again."""
        for entry in entries:
            self._entries[entry.id] = self._stored[entry.id] = entry
            if entry.step == "recorded":
                self._recorded[entry.id] = None
                continue
            self._open[entry.id] = None
            if entry.step == "waiting":
                self._wait(entry, now)
            elif entry.step == "running":
                self.finish(entry.id, INTERRUPTED, now)

    def add_damaged(self, id: str, now: Now) -> None:
        """Add a command whose record is damaged on disk: whether it ran is not known."""
        self._put(CommandEntry(id, "", {}, now.time_ns, 0, "running", now.time_ns))
        self._open[id] = None
        self.finish(id, DAMAGED, now)

    @property
    def has_room(self) -> bool:
        """Return whether another command can be accepted."""
        return len(self._open) < MAX_OPEN

    def receive(self, command: Command, refusal: CommandOutcome | None, now: Now) -> None:
        """Accept a command, or reject it for this reason. For a known id, report its current state again.

        Does nothing without room.
        """
        entry = self._entries.get(command.id)
        if entry is not None:
            self._repeat(entry)
            return
        if not self.has_room:
            return
        if refusal is None and len(self._waiting) >= MAX_WAITING:
            refusal = CommandOutcome("rejected", "busy", f"{MAX_WAITING} commands wait for the device already")
        self._open[command.id] = None
        entry = CommandEntry(
            command.id, command.name, command.parameters, now.time_ns, command.timeout_ms, "waiting", now.time_ns
        )
        self._put(entry)
        if refusal is None:
            self._wait(entry, now)
        else:
            self.finish(command.id, refusal, now)

    def start(self, is_concurrent: Callable[[str], bool], now: Now) -> None:
        """Let commands that wait begin, in their order: all that may run beside others, and one of the rest."""
        for id in list(self._waiting):
            entry = self._entries[id]
            is_alone = not is_concurrent(entry.name)
            # What waits has to be on disk first, so that it never starts without having been received.
            if self._stored.get(id) is not entry or (is_alone and True in self._busy.values()):
                continue
            del self._waiting[id]
            self._busy[id] = is_alone
            self._put(replace(entry, step="running", time_ns=now.time_ns))

    def expire(self, now: Now) -> None:
        """Reject what has waited for longer than the hub waits for the result: an operator does not expect it any more.

        A speed that was set an hour ago must not be set now.
        """
        for id in [id for id in self._waiting if self._deadlines_s[id] <= now.monotonic_s]:
            self.finish(id, TOO_LATE, now)

    @property
    def next_deadline_s(self) -> float:
        """The time at which the next waiting command is too late; infinity without one."""
        return min((self._deadlines_s[id] for id in self._waiting), default=inf)

    def finish(self, id: str, outcome: CommandOutcome, now: Now) -> None:
        """Record the end of a command. Its handler may still occupy its place until `release`."""
        entry = self._entries[id]
        if entry.step in ("waiting", "running"):
            self._waiting.pop(id, None)
            self._deadlines_s.pop(id, None)
            self._put(replace(entry, step="finished", time_ns=now.time_ns, outcome=outcome))

    def release(self, id: str) -> None:
        """Give the place of a handler that has ended to another command."""
        self._busy.pop(id, None)

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
            if self._deadlines_s[entry.id] <= now.monotonic_s:
                # The disk was full for some time.
                self.release(entry.id)
                self.finish(entry.id, TOO_LATE, now)
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
        """Report everything that the hub has not recorded again, on a new connection."""
        self._sent.clear()

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

    def _wait(self, entry: CommandEntry, now: Now) -> None:
        waited_s = max(0, now.time_ns - entry.received_ns) / 1e9
        self._deadlines_s[entry.id] = now.monotonic_s + entry.timeout_ms / 1000 - waited_s
        self._waiting[entry.id] = None

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

TOO_LATE = CommandOutcome(
    "rejected",
    "too_late",
    "the command waited in the agent for longer than the hub waits for its result, and was not run",
)
