"""The answers of the HTTP API about commands to devices, and the bodies of its requests. See hub.http.answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict

from hub.http.answers import Page, TimeNs
from hub.model.command import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_S,
    MAX_TTL_S,
    CommandMode,
    CommandRecord,
)
from wire.command import CommandDeclaration, ParameterValue
from wire.limits import MAX_COMMAND_NAME, MAX_COMMAND_TIMEOUT_MS, MAX_PARAMETERS
from wire.model import MetricType

MAX_WAIT_S = 60
"""Longest time that a request waits: proxies end a request without an answer after a minute or more."""

StateName = Literal[
    "queued", "sent", "received", "succeeded", "failed", "rejected", "expired", "timed_out", "cancelled"
]

Wait = Annotated[
    float,
    Meta(ge=0, le=MAX_WAIT_S, description="Wait so long for a change, or for the end; 0: answer at once."),
]


CommandKey = Annotated[str, Meta(pattern=r"^[0-9a-f]{16,32}\Z")]


class CommandRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A command to send."""

    name: Annotated[str, Meta(max_length=MAX_COMMAND_NAME)]
    # Any: a text must not become a number, as it would in a query.
    parameters: Annotated[
        dict[str, Any], Meta(max_length=MAX_PARAMETERS, description="Numbers, booleans and texts, as declared.")
    ] = {}
    mode: Annotated[
        CommandMode,
        Meta(description="`call`: only to a connected device. `queue`: the command waits until the device returns."),
    ] = "call"
    timeout_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=MAX_COMMAND_TIMEOUT_MS / 1000,
            description="Time for the result: of a call from now on, of a queued command after the device has it.",
        ),
    ] = DEFAULT_TIMEOUT_S
    ttl_s: Annotated[
        float, Meta(ge=1, le=MAX_TTL_S, description="Time in which a queued command is sent; later it expires.")
    ] = DEFAULT_TTL_S
    confirmed: Annotated[bool, Meta(description="The operator was asked, for a command with `confirm`.")] = False
    wait_s: Wait = 0
    id: Annotated[
        CommandKey | None,
        Meta(description="Id that the sender chooses: the same request with the same id again is the same command."),
    ] = None


class CommandStateChange(Struct, frozen=True):
    """A state of a command, since when, and the reason."""

    state: StateName
    time_ns: TimeNs
    code: Annotated[str, Meta(description="The reason for programs; empty if there is none.")]
    message: str


class CommandDetails(Struct, frozen=True):
    """A command with its history. `states` begins with `queued` and ends with the newest."""

    id: str
    device: str
    name: str
    parameters: dict[str, ParameterValue]
    mode: CommandMode
    operator: Annotated[str, Meta(description="Role and id of the token, or the user of a local command line.")]
    job: Annotated[str | None, Meta(description="Id of the job that sent it to many devices; else null.")]
    created_ns: TimeNs
    timeout_ms: int
    expires_ns: Annotated[TimeNs, Meta(description="The hub does not send it after this time.")]
    state: StateName
    code: Annotated[str, Meta(description="The reason of the state, for programs.")]
    message: Annotated[str, Meta(description="The reason of the state, for people.")]
    late: Annotated[bool, Meta(description="The device reported after the hub had stopped waiting.")]
    result: Annotated[Any, Meta(description="The value that the device returned; null if there is none.")]
    states: list[CommandStateChange]


class CommandsPage(Page):
    """The commands of a device, newest first."""

    commands: list[CommandDetails]


class DeclaredParameter(Struct, frozen=True):
    """A parameter of a command that a device declares."""

    name: str
    type: MetricType
    unit: str
    min: float | int | None
    max: float | int | None
    choices: Annotated[list[ParameterValue], Meta(description="If there are any, no other value is accepted.")]
    required: bool
    default: ParameterValue | None
    description: str


class DeclaredCommand(Struct, frozen=True):
    """A command that a device declares."""

    name: str
    description: str
    confirm: Annotated[bool, Meta(description="Ask the operator for a confirmation, and send `confirmed`.")]
    parameters: list[DeclaredParameter]
    usage: Annotated[str, Meta(description="The command with its parameters in one line, for people.")]


class DeclaredCommands(Struct, frozen=True):
    """The commands that a device declares, in its order."""

    commands: list[DeclaredCommand]


def described(declaration: CommandDeclaration) -> DeclaredCommand:
    """Return a declared command as the API shows it."""
    return DeclaredCommand(
        name=declaration.name,
        description=declaration.description,
        confirm=declaration.confirm,
        parameters=[DeclaredParameter(**asdict(parameter)) for parameter in declaration.parameters],
        usage=declaration.signature(),
    )


def details(record: CommandRecord) -> CommandDetails:
    """Return a command as the API shows it."""
    reason = record.reason
    return CommandDetails(
        id=record.id,
        device=record.device,
        name=record.name,
        parameters=record.parameters,
        mode=record.mode,
        operator=record.operator,
        job=record.job or None,
        created_ns=record.created_ns,
        timeout_ms=record.timeout_ms,
        expires_ns=record.expires_ns,
        state=record.state.value,
        code=reason.code,
        message=reason.message,
        late=record.late,
        result=record.result,
        states=[CommandStateChange(c.state.value, c.time_ns, c.code, c.message) for c in record.changes],
    )
