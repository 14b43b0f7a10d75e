"""The answers of the HTTP API about jobs, which send a command to many devices, and the bodies of its requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.http.answers import Page, TimeNs
from hub.http.command_answers import CommandKey, DeclaredCommand
from hub.model.command import DEFAULT_TIMEOUT_S, DEFAULT_TTL_S, MAX_TTL_S, CommandMode
from hub.model.command_job import (
    DEFAULT_BATCH,
    DEFAULT_JOB_S,
    DEFAULT_STOP_SHARE,
    MAX_BATCH,
    MAX_JOB_S,
    CommandJob,
    JobProgress,
    Target,
)
from wire.limits import (
    MAX_COMMAND_NAME,
    MAX_COMMAND_TIMEOUT_MS,
    MAX_PARAMETERS,
    MAX_SELECTORS,
    MAX_TAG_KEY,
    MAX_TAG_VALUE,
)

JobStateName = Literal["pending", "running", "stopped", "cancelled", "completed"]
TargetStateName = Literal[
    "pending", "refused", "queued", "sent", "received", "succeeded", "failed", "rejected", "expired", "timed_out",
    "cancelled",
]  # fmt: skip

Term = Annotated[str, Meta(min_length=1, max_length=MAX_TAG_KEY + 1 + MAX_TAG_VALUE)]
StopShare = Annotated[
    Annotated[float, Meta(ge=0, le=1)] | None,
    Meta(
        description="Begin no further batch if at least this share of the targets that have ended did not succeed. "
        "0: after the first failure; null: never stop."
    ),
]


DeviceTerms = Annotated[
    list[Term],
    Meta(
        min_length=1,
        max_length=MAX_SELECTORS,
        description="Device ids, and tags as `KEY=VALUE`; `*` stands for any run of characters. A device is a "
        "target if one of the ids matches, and for each key one of its values.",
    ),
]


class CommandJobRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A command to send to many devices, in batches."""

    to: DeviceTerms
    name: Annotated[str, Meta(max_length=MAX_COMMAND_NAME)]
    parameters: Annotated[
        dict[str, Any], Meta(max_length=MAX_PARAMETERS, description="Numbers, booleans and texts, as declared.")
    ] = {}
    mode: Annotated[
        CommandMode,
        Meta(description="`call`: a device that is not connected is refused. `queue`: the command waits for it."),
    ] = "call"
    timeout_s: Annotated[
        float, Meta(ge=0.1, le=MAX_COMMAND_TIMEOUT_MS / 1000, description="Time of each command for its result.")
    ] = DEFAULT_TIMEOUT_S
    ttl_s: Annotated[
        float, Meta(ge=1, le=MAX_TTL_S, description="Time in which each queued command is sent; later it expires.")
    ] = DEFAULT_TTL_S
    confirmed: Annotated[bool, Meta(description="The operator was asked, for a command with `confirm`.")] = False
    batch_size: Annotated[
        int,
        Meta(ge=1, le=MAX_BATCH, description="Targets of a batch. The next one begins when none of them is open."),
    ] = DEFAULT_BATCH
    stop_share: StopShare = DEFAULT_STOP_SHARE
    deadline_s: Annotated[
        float, Meta(ge=1, le=MAX_JOB_S, description="Time of the job: after it no further command is sent.")
    ] = DEFAULT_JOB_S
    id: Annotated[
        CommandKey | None,
        Meta(description="Id that the sender chooses: the same request with the same id again is the same job."),
    ] = None


class CommandJobCounts(Struct, frozen=True):
    """The number of targets in each state."""

    pending: Annotated[int, Meta(description="Without a command yet. In a job that has ended they get none.")] = 0
    refused: Annotated[int, Meta(description="The hub could not send the command, for the reason of the target.")] = 0
    queued: int = 0
    sent: int = 0
    received: int = 0
    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    expired: int = 0
    timed_out: int = 0
    cancelled: int = 0


class CommandJobChange(Struct, frozen=True):
    """A state of a job, since when, and the reason."""

    state: JobStateName
    time_ns: TimeNs
    code: Annotated[str, Meta(description="The reason for programs; empty if there is none.")]
    message: str


class CommandJobDetails(Struct, frozen=True):
    """A job with its history and its progress. `states` begins with `pending` and ends with the newest."""

    id: str
    to: list[str]
    name: str
    parameters: dict[str, Any]
    mode: CommandMode
    operator: Annotated[str, Meta(description="Role and id of the token, or the user of a local command line.")]
    created_ns: TimeNs
    deadline_ns: TimeNs
    timeout_ms: int
    ttl_s: Annotated[float | None, Meta(description="Time in which a queued command is sent; null for a call.")]
    batch_size: int
    batches: int
    stop_share: float | None
    targets: int
    state: JobStateName
    code: Annotated[str, Meta(description="The reason of the state, for programs.")]
    message: Annotated[str, Meta(description="The reason of the state, for people.")]
    ended: Annotated[int, Meta(description="Targets that have ended.")]
    failed: Annotated[int, Meta(description="Targets that have ended, and whose command did not succeed.")]
    counts: CommandJobCounts
    states: list[CommandJobChange]


class CommandJobsPage(Page):
    """The jobs, newest first."""

    jobs: list[CommandJobDetails]


class CommandJobTarget(Struct, frozen=True):
    """A device of a job, with the state of its command."""

    device: str
    batch: Annotated[int, Meta(description="The first batch is 1.")]
    state: TargetStateName
    command: Annotated[str, Meta(description="Id of the command; empty if there is none.")]
    code: Annotated[str, Meta(description="The reason of the state, for programs.")]
    message: Annotated[str, Meta(description="The reason of the state, for people.")]


class CommandJobTargetsPage(Page):
    """The targets of a job, in the order of batches."""

    targets: list[CommandJobTarget]


class CommandJobCandidate(Struct, frozen=True):
    """A device that a job would have as a target."""

    device: str
    batch: Annotated[int, Meta(description="The first batch is 1.")]
    code: Annotated[str, Meta(description="Why the hub would refuse the device now, for programs; else empty.")]
    message: Annotated[str, Meta(description="The same for people.")]


class DifferingUnit(Struct, frozen=True):
    """A unit in which some devices take a parameter, and most of them do not."""

    parameter: str
    unit: Annotated[str, Meta(description="Empty if these devices declare none.")]
    expected: Annotated[str, Meta(description="The unit of most devices; empty if they declare none.")]
    devices: Annotated[int, Meta(description="Devices that take it in this unit.")]


class CommandJobDryRun(Struct, frozen=True):
    """The targets that a job would have. Nothing is recorded."""

    targets: int
    batches: int
    refused: Annotated[int, Meta(description="Targets that the hub would refuse now.")]
    command: Annotated[
        DeclaredCommand | None,
        Meta(description="The command as most of these devices declare it; null if none declares it."),
    ]
    units: Annotated[list[DifferingUnit], Meta(description="Other units in which devices take a parameter.")]
    devices: list[CommandJobCandidate]


class CommonCommand(Struct, frozen=True):
    """A command that selected devices declare."""

    command: Annotated[DeclaredCommand, Meta(description="As most of these devices declare it.")]
    devices: Annotated[int, Meta(description="Selected devices that declare it.")]
    differing: Annotated[int, Meta(description="Of these, the devices that declare other parameters.")]
    units: Annotated[list[DifferingUnit], Meta(description="Other units in which devices take a parameter.")]


class CommonCommands(Struct, frozen=True):
    """The commands that selected devices declare, those of the most devices first."""

    targets: Annotated[int, Meta(description="Selected devices.")]
    commands: list[CommonCommand]


def job_details(job: CommandJob, progress: JobProgress) -> CommandJobDetails:
    """Return a job as the API shows it."""
    reason = job.reason
    return CommandJobDetails(
        id=job.id,
        to=list(job.to),
        name=job.name,
        parameters=job.parameters,
        mode=job.mode,
        operator=job.operator,
        created_ns=job.created_ns,
        deadline_ns=job.deadline_ns,
        timeout_ms=job.timeout_ms,
        ttl_s=job.ttl_s,
        batch_size=job.batch_size,
        batches=job.batches,
        stop_share=job.stop_share,
        targets=job.targets,
        state=job.state.value,
        code=reason.code,
        message=reason.message,
        ended=progress.ended,
        failed=progress.failed,
        counts=CommandJobCounts(**{state.value: count for state, count in progress.counts.items()}),
        states=[CommandJobChange(c.state.value, c.time_ns, c.code, c.message) for c in job.changes],
    )


def target_details(target: Target) -> CommandJobTarget:
    """Return a target as the API shows it."""
    return CommandJobTarget(
        target.device, target.batch + 1, target.state.value, target.command, target.code, target.message
    )
