"""A job: one command to many devices, in batches. Its record, and the state machine of its life. Pure.

    PENDING ──first batch──► RUNNING ──every target has ended──────────► COMPLETED
       │ │                     │ └────share of failures, or deadline──► STOPPED
       │ └─deadline────────────│──────────────────────────────────────► STOPPED
       └──cancel───────────────┴──────────────────────────────────────► CANCELLED

Each target is a device, and gets at most one command. The next batch begins when no target of the earlier ones is open.
What became of the targets is in the counts by their states, and continues to change after the end of a job: a late
result counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from hub.model.command import MAX_TTL_S, CommandMode, CommandPhase, CommandRecord
from hub.model.event import Event
from wire.text import plural
from wire.timestamp import NS_PER_S

MAX_TARGETS = 10_000
"""Targets of a job: as many as the devices that a hub is measured with."""

MAX_OPEN_JOBS = 16
"""Jobs that have not ended. Their targets are at most as many as eight times the open commands of a hub."""

MAX_BATCH = 1_000
"""Targets of a batch: their commands are open at the same time, and a hub has at most 20,000 open ones."""

MAX_STARTED = 100
"""Commands of a job in one transaction, which takes about 20 ms: devices and other commands wait that long."""

KEPT_JOBS = 100
"""Ended jobs that are kept, the newest."""

KEPT_TARGETS = 100_000
"""Targets of the ended jobs that are kept: 25 MB on disk."""

MAX_JOB_S = 30 * 86_400
"""Longest life of a job. Ended commands are kept as long."""

DEFAULT_JOB_S = MAX_TTL_S
DEFAULT_BATCH = 10
DEFAULT_STOP_SHARE = 0.2


class TargetState(StrEnum):
    """State of a target: that of its command, or the reason why it has none."""

    PENDING = "pending"
    """It has no command yet. In a job that has ended it gets none."""
    REFUSED = "refused"
    """The hub could not send it the command."""
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
        """Return whether the target has a command that has not ended."""
        return self in OPEN_TARGETS

    @property
    def is_end(self) -> bool:
        """Return whether the target has ended. A late result can still change how."""
        return self is not TargetState.PENDING and self not in OPEN_TARGETS

    @property
    def is_failure(self) -> bool:
        """Return whether the target has ended, and its command did not succeed."""
        return self in FAILED_TARGETS


OPEN_TARGETS = frozenset({TargetState.QUEUED, TargetState.SENT, TargetState.RECEIVED})
FAILED_TARGETS = frozenset(TargetState) - OPEN_TARGETS - {TargetState.PENDING, TargetState.SUCCEEDED}


class Target(Struct, frozen=True, kw_only=True):
    """A device of a job. `command` is the id of its command, empty if it has none. `number` orders the targets."""

    number: int
    device: str
    batch: int
    state: TargetState
    command: str
    code: str
    message: str


class JobState(StrEnum):
    """State of a job."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    COMPLETED = "completed"

    @property
    def is_open(self) -> bool:
        """Return whether the job may send further commands."""
        return self in (JobState.PENDING, JobState.RUNNING)


class JobChange(Struct, frozen=True, omit_defaults=True):
    """A state that a job had, since when by the hub's clock, and the reason as a code and a sentence."""

    state: JobState
    time_ns: int
    code: str = ""
    message: str = ""


class CommandJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job with its history. `number` orders the jobs of a hub; 0 before the job is stored.

    `to` is the selection as the operator wrote it; `targets` is the number of devices that it selected when the job was
    made. `ttl_s` is None for calls. The job stops if at least `stop_share` of the targets that have ended did not
    succeed; None: it never stops for that. No command is sent after `deadline_ns`.
    """

    number: int = 0
    id: str
    to: tuple[str, ...]
    name: str
    parameters: dict[str, Any] = {}
    operator: str
    created_ns: int
    deadline_ns: int
    timeout_ms: int
    ttl_s: float | None = None
    is_confirmed: bool = False
    batch_size: int
    stop_share: float | None
    targets: int
    state: JobState = JobState.PENDING
    changes: tuple[JobChange, ...] = ()

    @property
    def mode(self) -> CommandMode:
        """The mode of each command."""
        return "call" if self.ttl_s is None else "queue"

    @property
    def batches(self) -> int:
        """The number of batches."""
        return -(-self.targets // self.batch_size)

    @property
    def reason(self) -> JobChange:
        """The change that led to the current state."""
        return self.changes[-1]

    def life_s(self, now_ns: int) -> float | None:
        """Return the time to live of a command that is made now: it ends with the job. None for a call."""
        return None if self.ttl_s is None else min(self.ttl_s, max(0, self.deadline_ns - now_ns) / NS_PER_S)


class JobProgress(NamedTuple):
    """The targets of a job: how many have each state, and the earliest batch that has not ended.

    `is_begun`: a target of that batch is not pending any more. `pending` are the devices of this batch that get their
    commands next, at most MAX_STARTED of them.
    """

    counts: Mapping[TargetState, int]
    is_begun: bool = False
    pending: Sequence[str] = ()

    @property
    def ended(self) -> int:
        """The number of targets that have ended."""
        return sum(count for state, count in self.counts.items() if state.is_end)

    @property
    def failed(self) -> int:
        """The number of targets that have ended, and whose command did not succeed."""
        return sum(count for state, count in self.counts.items() if state.is_failure)

    @property
    def is_complete(self) -> bool:
        """Return whether every target has ended."""
        return all(state.is_end or not count for state, count in self.counts.items())


class StartTargets(NamedTuple):
    """Send the command to these devices now."""

    devices: Sequence[str]


class EndJob(NamedTuple):
    """End the job in this state, for this reason."""

    state: JobState
    code: str = ""
    message: str = ""


class Attempt(NamedTuple):
    """The new command of a target, or the code and the sentence of its refusal."""

    device: str
    command: CommandRecord | None
    code: str = ""
    message: str = ""


def new_job(
    *,
    id: str,
    to: Sequence[str],
    name: str,
    parameters: Mapping[str, Any],
    operator: str,
    now_ns: int,
    life_s: float,
    timeout_ms: int,
    ttl_s: float | None,
    is_confirmed: bool,
    batch_size: int,
    stop_share: float | None,
    targets: int,
) -> CommandJob:
    """Return a job that has not begun."""
    return CommandJob(
        id=id,
        to=tuple(to),
        name=name,
        parameters=dict(parameters),
        operator=operator,
        created_ns=now_ns,
        deadline_ns=now_ns + int(life_s * NS_PER_S),
        timeout_ms=timeout_ms,
        ttl_s=ttl_s,
        is_confirmed=is_confirmed,
        batch_size=batch_size,
        stop_share=stop_share,
        targets=targets,
        changes=(JobChange(JobState.PENDING, now_ns),),
    )


def command_id(job: str, device: str) -> str:
    """Return the id of the command of a target: the same after each crash, so that it cannot be sent twice."""
    return hashlib.sha256(f"{job} {device}".encode()).hexdigest()[:32]


def next_step(job: CommandJob, progress: JobProgress, now_ns: int) -> StartTargets | EndJob | None:
    """Return what the hub does next for a job; None if it waits for devices, or the job has ended.

    The share of failures is compared between two batches only: the first answers of a batch say little about it.
    """
    if not job.state.is_open:
        return None
    if progress.is_complete:
        return EndJob(JobState.COMPLETED)
    if now_ns >= job.deadline_ns:
        return EndJob(JobState.STOPPED, "deadline", "the time of the job is over: no further command is sent")
    if not progress.pending:
        return None
    failed, ended = progress.failed, progress.ended
    if not progress.is_begun and job.stop_share is not None and failed and failed >= job.stop_share * ended:
        message = f"{failed:,} of {plural(ended, 'target')} did not succeed: no further command is sent"
        return EndJob(JobState.STOPPED, "too_many_failures", message)
    return StartTargets(progress.pending)


def begun(job: CommandJob, now_ns: int) -> CommandJob | None:
    """The first command of the job is about to be recorded."""
    return _changed(job, JobChange(JobState.RUNNING, now_ns)) if job.state is JobState.PENDING else None


def ended(job: CommandJob, end: EndJob, now_ns: int) -> CommandJob | None:
    """The job ends in this way, unless it has ended already."""
    return _changed(job, JobChange(end.state, now_ns, end.code, end.message)) if job.state.is_open else None


def target_state(command: CommandRecord) -> tuple[TargetState, str, str]:
    """Return the state of a target with this command, and the reason as a code and a sentence."""
    reason = command.reason
    if command.state is CommandPhase.SUCCEEDED:
        return TargetState.SUCCEEDED, "", ""
    return TargetState(command.state.value), reason.code, reason.message


def event_of_job(job: CommandJob) -> Event | None:
    """Return the event of the newest change, for the events of the hub: who sent what to which devices, and its end."""
    change = job.changes[-1]
    match change.state:
        case JobState.PENDING:
            words = " ".join((job.name, *(f"{name}={value}" for name, value in job.parameters.items())))
            targets = f"{plural(job.targets, 'device')} ({' '.join(job.to)})"
            detail = f"{words} to {targets}, {job.mode} {job.id} by {job.operator}"
            return Event(0, None, change.time_ns, "command job", detail)
        case JobState.RUNNING:
            return None
    reason = "".join(f": {text}" for text in (change.code, change.message) if text)
    return Event(0, None, change.time_ns, f"command job {change.state.value}", f"{job.name} ({job.id}){reason}")


def _changed(job: CommandJob, change: JobChange) -> CommandJob:
    return replace(job, state=change.state, changes=(*job.changes, change))
