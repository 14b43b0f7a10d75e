"""A command to a device: its record, and the state machine of its life. Pure.

    QUEUED ──sent──► SENT ──received──► RECEIVED ──result──► SUCCEEDED | FAILED | REJECTED
      │ ├─deadline─► EXPIRED  │            │                       ▲
      │ └─cancel───► CANCELLED└──deadline──┴──► TIMED_OUT ──late result──┘

A queued command that reached nobody is QUEUED again. Each function returns the record after something happened, or
None if that changes nothing. A record is written to disk before anything follows from it. A report of the device always
counts: it knows what happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from hub.model.event import Event
from wire.command import ParameterValue
from wire.device import Command, CommandState
from wire.limits import MAX_COMMANDS_SENT
from wire.timestamp import NS_PER_S

GRACE_NS = 60 * NS_PER_S
"""Time after the start of a hub in which a command that an earlier run sent does not time out: its result may wait in
the spool of the agent, which tries to connect at least every half minute."""

MAX_OPEN_PER_DEVICE = 100
"""Commands of a device that are not finished. More than a person sends by hand to a device that is offline."""

MAX_OPEN = 20_000
"""Unfinished commands of all devices: they are in memory, 20 MB at most on average."""

KEPT_PER_DEVICE = 200
"""Finished commands of a device that are kept, the newest."""

KEPT_NS = 30 * 86_400 * NS_PER_S
"""Age at which a finished command is deleted."""

MAX_KEPT = 50_000
"""Finished commands of all devices. The oldest are deleted beyond it: with small parameters they are 30 MB."""

MAX_TTL_S = 7 * 86_400
"""Longest life of a queued command: agents keep the ids of commands for 7 days, so none is executed twice."""

DEFAULT_TTL_S = 86_400
DEFAULT_TIMEOUT_S = 10

MAX_RETURNS = 8
"""Returns of a command to the queue because it reached nobody. A device that reports states and has subscribed to
no commands would otherwise cost a write with each of its messages."""

SENT_ONCE = "sent_once"
"""Code of SENT for a device that does not recognise a command by its id: the hub does not send it a second time."""

CommandMode = Literal["call", "queue"]
"""`call`: the device is connected, and answers before the time-out. `queue`: the command waits for the device."""


class CommandPhase(StrEnum):
    """State of a command."""

    QUEUED = "queued"
    SENT = "sent"
    RECEIVED = "received"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Return whether the hub still waits for something."""
        return self in _OPEN

    @property
    def is_final(self) -> bool:
        """Return whether the state cannot change any more, whatever a device reports in time or late."""
        return self in _RESULTS or self in (CommandPhase.EXPIRED, CommandPhase.CANCELLED)


_OPEN = frozenset({CommandPhase.QUEUED, CommandPhase.SENT, CommandPhase.RECEIVED})
_RESULTS = frozenset({CommandPhase.SUCCEEDED, CommandPhase.FAILED, CommandPhase.REJECTED})


class PhaseChange(Struct, frozen=True, omit_defaults=True):
    """A state that a command had, since when by the hub's clock, and the reason as a code and a sentence."""

    state: CommandPhase
    time_ns: int
    code: str = ""
    message: str = ""


class CommandRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command with its history. `number` orders the commands of a hub; 0 before the record is stored.

    `operator` is who sent it, as Identity has it. `job` is the id of its job, empty if it was sent alone.
    `expires_ns` is when the hub stops sending it. `late`: the device reported after the hub had stopped waiting.
    """

    number: int = 0
    id: str
    device: str
    name: str
    parameters: dict[str, ParameterValue] = {}
    mode: CommandMode
    operator: str
    job: str = ""
    created_ns: int
    timeout_ms: int
    expires_ns: int
    state: CommandPhase = CommandPhase.QUEUED
    changes: tuple[PhaseChange, ...] = ()
    result: Any = None
    late: bool = False

    @property
    def reason(self) -> PhaseChange:
        """The change that led to the current state."""
        return next(change for change in reversed(self.changes) if change.state is self.state)

    @property
    def is_sent_once(self) -> bool:
        """Return whether it is sent to a device that does not recognise a repetition, and not answered."""
        return self.state is CommandPhase.SENT and self.reason.code == SENT_ONCE

    @property
    def held_until_ns(self) -> int:
        """When a command that is sent and not answered stops to count among those on their way; 0 for other states."""
        return self.reason.time_ns + self.timeout_ms * 1_000_000 if self.state is CommandPhase.SENT else 0

    @property
    def message(self) -> Command:
        """The message to the agent."""
        queued = self.mode == "queue"
        return Command(self.id, self.name, dict(self.parameters), self.created_ns, self.timeout_ms, queued)


class Undelivered(NamedTuple):
    """A command that was recorded as sent and reached nobody: its id, and why, as a code and a sentence."""

    id: str
    code: str
    message: str


class Turn(NamedTuple):
    """The command that a device executes now, the oldest one that it has received, and since when it is its turn."""

    id: str
    since_ns: int


def new_command(
    *,
    id: str,
    device: str,
    name: str,
    parameters: Mapping[str, ParameterValue],
    operator: str,
    now_ns: int,
    timeout_ms: int,
    ttl_s: float | None = None,
    reason: tuple[str, str] = ("", ""),
    job: str = "",
) -> CommandRecord:
    """Return a command that is queued: with `ttl_s` it waits for the device, without it is a call."""
    return CommandRecord(
        id=id,
        device=device,
        name=name,
        parameters=dict(parameters),
        mode="call" if ttl_s is None else "queue",
        operator=operator,
        job=job,
        created_ns=now_ns,
        timeout_ms=timeout_ms,
        expires_ns=now_ns + (timeout_ms * 1_000_000 if ttl_s is None else int(ttl_s * NS_PER_S)),
        changes=(PhaseChange(CommandPhase.QUEUED, now_ns, *reason),),
    )


def sent(record: CommandRecord, now_ns: int, *, repeats: bool = True) -> CommandRecord | None:
    """The hub is about to send the command. `repeats`: the device recognises a repetition by the id."""
    if record.state is not CommandPhase.QUEUED or now_ns >= record.expires_ns:
        return None
    reason = ("", "") if repeats else (SENT_ONCE, "the device does not recognise a repetition: it is not sent again")
    return _changed(record, PhaseChange(CommandPhase.SENT, now_ns, *reason))


def undelivered(record: CommandRecord, why: Undelivered, now_ns: int) -> CommandRecord | None:
    """The command reached nobody: a queued one waits again, the operator of a call waits in vain."""
    if record.state is not CommandPhase.SENT:
        return None
    state = CommandPhase.REJECTED
    if record.mode == "queue":
        returns = sum(change.state is CommandPhase.QUEUED for change in record.changes)
        if now_ns >= record.expires_ns:
            state = CommandPhase.EXPIRED
        elif returns <= MAX_RETURNS:
            state = CommandPhase.QUEUED
    return _changed(record, PhaseChange(state, now_ns, why.code, why.message))


def reported(record: CommandRecord, report: CommandState, now_ns: int) -> CommandRecord | None:
    """The device reported a state, in time, late, or for the second time."""
    phase = CommandPhase(report.state)
    change = PhaseChange(phase, now_ns, report.code, report.message)
    if phase in (CommandPhase.FAILED, CommandPhase.REJECTED) and not report.code:
        change = PhaseChange(phase, now_ns, "no_reason", report.message or "the device reported no reason")
    if record.state in _RESULTS:
        return None
    if phase in _RESULTS:
        return replace(_changed(record, change), result=report.result, late=record.late or not record.state.is_open)
    if any(known.state is CommandPhase.RECEIVED for known in record.changes):
        return None
    if record.state.is_open:
        return _changed(record, change)
    # The hub has stopped waiting, and continues to show that; that the device has the command is worth to know.
    return replace(record, changes=(*record.changes, change), late=True)


def turn_of(commands: Iterable[CommandRecord], before: Turn | None, now_ns: int) -> Turn | None:
    """Return whose turn it is at a device, given the turn before the newest change; None if it executes nothing."""
    received = next((record for record in commands if record.state is CommandPhase.RECEIVED), None)
    if received is None or (before is not None and before.id == received.id):
        return None if received is None else before
    return Turn(received.id, now_ns)


def deadline_of(record: CommandRecord, turn: Turn | None, grace_ns: int = 0) -> int | None:
    """Return when the hub stops waiting for what comes next, but not before `grace_ns`; None without a deadline.

    A device executes its commands one after the other. So the time-out of a queued one, which may have many before it,
    begins with its turn. One that is sent once has its time-out from then on: nothing sends it later.
    """
    if not record.state.is_open:
        return None
    if record.mode == "queue" and record.is_sent_once:
        return max(grace_ns, record.held_until_ns)
    if record.mode == "call" or record.state is not CommandPhase.RECEIVED:
        return max(grace_ns, record.expires_ns)
    if turn is None or turn.id != record.id:
        return None
    return max(grace_ns, turn.since_ns + record.timeout_ms * 1_000_000)


def deadline_passed(record: CommandRecord, now_ns: int, state: CommandPhase) -> CommandRecord | None:
    """The time in this state is over. None if the command has left the state meanwhile."""
    if not record.state.is_open or record.state is not state:
        return None
    match record.state:
        case CommandPhase.QUEUED:
            message = "the time passed before the command could be sent: the device does not have it"
            change = PhaseChange(CommandPhase.EXPIRED, now_ns, "not_sent", message)
        case CommandPhase.SENT:
            how = "sent once, and not answered" if record.is_sent_once else "sent, and not confirmed"
            message = f"{how} in time: whether the device has it is unknown. A late result is recorded"
            change = PhaseChange(CommandPhase.TIMED_OUT, now_ns, "not_confirmed", message)
        case _:
            message = "the device has the command, and reported no result in time. A late result is recorded"
            change = PhaseChange(CommandPhase.TIMED_OUT, now_ns, "no_result", message)
    return _changed(record, change)


def cancelled(record: CommandRecord, operator: str, now_ns: int) -> CommandRecord | None:
    """An operator takes the command back. None if it was sent: nobody can take it back then."""
    if record.state is not CommandPhase.QUEUED:
        return None
    return _changed(record, PhaseChange(CommandPhase.CANCELLED, now_ns, "cancelled", f"by {operator}"))


def created_event(record: CommandRecord) -> Event:
    """Return the event of a new command, for the events of the device: what was sent, and by whom."""
    words = " ".join((record.name, *(f"{name}={value}" for name, value in record.parameters.items())))
    job = f", job {record.job}" if record.job else ""
    text = f"{words} ({record.mode} {record.id}) by {record.operator}{job}"
    return Event(0, record.device, record.created_ns, "command", text)


def ended_event(record: CommandRecord, time_ns: int) -> Event | None:
    """Return the event of the newest change of a command: how it ended. None while it is open."""
    if record.state.is_open:
        return None
    change = record.changes[-1]
    reason = "".join(f": {text}" for text in (change.code, change.message) if text)
    text = f"{record.name} ({record.id}{', late' if record.late else ''}){reason}"
    return Event(0, record.device, time_ns, f"command {change.state.value.replace('_', ' ')}", text)


def to_repeat(commands: Iterable[CommandRecord], now_ns: int) -> list[CommandRecord]:
    """Return the commands of a device to send again after a welcome: it has not answered them, and there is time.

    None of those that were sent once: the device may have executed them, and would not recognise them.
    """
    unanswered = [record for record in commands if record.state is CommandPhase.SENT and not record.is_sent_once]
    return [record for record in unanswered if now_ns < record.expires_ns]


def to_send(commands: Iterable[CommandRecord], now_ns: int) -> list[CommandRecord]:
    """Return the queued commands of a device to send now, in their order.

    For a call, commands that the device has received leave room. A queue also waits for their ends: a device that
    executes slowly would refuse most of it as busy. A command that the device has not answered within its time-out
    does not hold later ones back: it may never do so.
    """
    commands = list(commands)
    sent_count = sum(now_ns < record.held_until_ns for record in commands)
    received_count = sum(record.state is CommandPhase.RECEIVED for record in commands)
    chosen: list[CommandRecord] = []
    for record in commands:
        if record.state is not CommandPhase.QUEUED or now_ns >= record.expires_ns:
            continue
        if sent_count + (received_count if record.mode == "queue" else 0) + len(chosen) >= MAX_COMMANDS_SENT:
            break
        chosen.append(record)
    return chosen


def _changed(record: CommandRecord, change: PhaseChange) -> CommandRecord:
    return replace(record, state=change.state, changes=(*record.changes, change))
