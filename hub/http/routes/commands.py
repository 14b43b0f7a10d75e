"""Commands to devices: the declared ones, and to send, list, show and cancel them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from hub.http import paging
from hub.http.command_answers import (
    CommandDetails,
    CommandKey,
    CommandRequest,
    CommandsPage,
    DeclaredCommands,
    StateName,
    Wait,
    described,
    details,
)
from hub.http.long_poll import LongPolls
from hub.http.problem import ProblemCode, Refusal
from hub.http.routes.devices import DeviceName
from hub.http.routing import Operation
from hub.http.status import Status
from hub.ingest.command_dispatcher import CommandDispatcher, CommandRefused, NewCommand
from hub.model.command import CommandPhase, CommandRecord
from hub.model.identity import Action, Identity
from wire.command import CommandDeclaration
from wire.errors import Code, WireError

MAX_COMMAND_PAGE = 200
"""The hub keeps about as many finished commands of a device."""

REFUSALS = {
    "unknown_command": (HTTPStatus.UNPROCESSABLE_ENTITY, ProblemCode.UNKNOWN_COMMAND),
    "wrong_parameters": (HTTPStatus.UNPROCESSABLE_ENTITY, ProblemCode.WRONG_PARAMETERS),
    "not_confirmed": (HTTPStatus.CONFLICT, ProblemCode.NOT_CONFIRMED),
    "id_in_use": (HTTPStatus.CONFLICT, ProblemCode.ID_IN_USE),
    "not_connected": (HTTPStatus.CONFLICT, ProblemCode.NOT_CONNECTED),
}


class ReadCommands(Protocol):
    """Reads commands from the registry."""

    def declared(self, device: str) -> Sequence[CommandDeclaration]:
        """Return the commands that a device declares, in the order of their declaration."""

    async def command(self, device: str, id: str) -> CommandRecord | None:
        """Return a command of a device, None if there is none."""

    async def commands(
        self, device: str, *, limit: int, before: int | None = None, states: Sequence[CommandPhase] = ()
    ) -> Sequence[CommandRecord]:
        """Return commands of a device in these states (all without one), the newest first."""


class CommandsQuery(Struct, frozen=True):
    """The parameters of a list of commands."""

    state: Annotated[list[StateName] | None, Meta(description="States to return. All without it.")] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_COMMAND_PAGE, description=paging.LIMIT)] = 100
    cursor: paging.Cursor = None


class CommandQuery(Struct, frozen=True):
    """The parameters of one command."""

    wait_s: Wait = 0
    seen: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Wait for more than so many states. Without it, wait until the command has ended."),
    ] = None


@dataclass(frozen=True)
class CommandRoutes:
    """The operations about commands."""

    status: Status
    dispatcher: CommandDispatcher
    table: ReadCommands
    long_polls: LongPolls

    @Operation("GET", "/api/v1/devices/{device}/commands/declared", may=Action.READ)
    async def declared(self, device: DeviceName) -> DeclaredCommands:
        """Return the commands that a device declares, with their parameters."""
        self._check_device(device)
        return DeclaredCommands([*map(described, self.table.declared(device))])

    @Operation("POST", "/api/v1/devices/{device}/commands", may=Action.OPERATE, status=201, errors=(409, 503))
    async def send_command(self, caller: Identity, device: DeviceName, body: CommandRequest) -> CommandDetails:
        """Send a command that the device declares. The answer is the command as it is recorded, or, with `wait_s`, as
        it is when it has ended or the time has passed. A request with the `id` of a recorded command sends nothing and
        returns that command."""
        self._check_device(device)
        new = NewCommand(
            body.name,
            dict(body.parameters),
            caller.operator,
            round(body.timeout_s * 1000),
            body.ttl_s if body.mode == "queue" else None,
            body.confirmed,
            body.id or "",
        )
        try:
            record = await self.dispatcher.send(device, new)
        except CommandRefused as refused:
            status, code = REFUSALS[refused.code]
            raise Refusal(status, str(refused), code=code) from None
        except WireError as error:
            if error.code is not Code.TOO_MANY:
                raise
            raise Refusal(HTTPStatus.CONFLICT, error.message, code=ProblemCode.QUEUE_FULL) from None
        return details(await self._wait(record.device, record.id, body.wait_s, None) if body.wait_s else record)

    @Operation("GET", "/api/v1/devices/{device}/commands", may=Action.READ, errors=(503,))
    async def commands(self, device: DeviceName, query: CommandsQuery) -> CommandsPage:
        """Return a device's commands, newest first."""
        self._check_device(device)
        before = None if query.cursor is None else paging.decode_cursor(query.cursor, "commands", int)
        states = [CommandPhase(state) for state in query.state or ()]
        found = await self.table.commands(device, limit=query.limit + 1, before=before, states=states)
        page, following = paging.end_page([*found], attrgetter("number"), list_name="commands", limit=query.limit)
        return CommandsPage(commands=[*map(details, page)], next=following)

    @Operation("GET", "/api/v1/devices/{device}/commands/{command}", may=Action.READ, errors=(503,))
    async def command(self, device: DeviceName, command: CommandKey, query: CommandQuery) -> CommandDetails:
        """Return one command, or wait for its next state."""
        return details(await self._wait(device, command, query.wait_s, query.seen))

    @Operation("POST", "/api/v1/devices/{device}/commands/{command}/cancel", may=Action.OPERATE, errors=(409, 503))
    async def cancel_command(self, caller: Identity, device: DeviceName, command: CommandKey) -> CommandDetails:
        """Take back a command that is not sent yet."""
        stored = await self.dispatcher.cancel(device, command, caller.operator)
        record = stored.record
        if record is None:
            raise _unknown(device, command)
        if not stored.is_changed and record.state is not CommandPhase.CANCELLED:
            detail = (
                f"the command is {record.state.value.replace('_', ' ')}: only one that is not sent can be cancelled"
            )
            raise Refusal(HTTPStatus.CONFLICT, detail)
        return details(record)

    async def _wait(self, device: str, id: str, wait_s: float, seen: int | None) -> CommandRecord:
        """Return a command as soon as it has more than `seen` states, or has ended, or the time has passed."""
        with self.dispatcher.watch(id) as watch:
            record = self.dispatcher.open_command(device, id) or await self._command(device, id)
            if watch is None or not wait_s:
                return record
            async with self.long_polls.within(wait_s):
                while not _has_news(record, seen):
                    record = await watch.next()
            return record

    async def _command(self, device: str, id: str) -> CommandRecord:
        record = await self.table.command(device, id)
        if record is None:
            raise _unknown(device, id)
        return record

    def _check_device(self, device: str) -> None:
        if self.status.devices.get(device) is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no device {device}")


def _has_news(record: CommandRecord, seen: int | None) -> bool:
    return not record.state.is_open if seen is None else len(record.changes) > seen


def _unknown(device: str, id: str) -> Refusal:
    detail = f"{device} has no command {id}: it never had it, or the hub does not keep it any more"
    return Refusal(HTTPStatus.NOT_FOUND, detail)
