"""The durable commands, and the commands that devices declare. Both tables are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import apsw
import msgspec
import structlog

from hub.ingest.command_dispatcher import IdInUse, Stored, Transition
from hub.model.command import (
    KEPT_NS,
    KEPT_PER_DEVICE,
    MAX_KEPT,
    MAX_OPEN,
    MAX_OPEN_PER_DEVICE,
    CommandPhase,
    CommandRecord,
    created_event,
    ended_event,
)
from hub.model.event import Event
from hub.registry.command_target import follow_command
from hub.registry.database import RegistryError, RegistryThread
from hub.registry.declared import DeclarationTable
from hub.registry.event import MAX_KIND, insert_events
from hub.registry.schema import INTACT
from wire.command import CommandDeclaration
from wire.errors import Code
from wire.limits import MAX_COMMANDS, MAX_INTEGER, MAX_MESSAGE

MAX_PAGE = 200
"""Commands in one answer."""

PRUNING_PERIOD = 64
"""Finished commands of all devices are counted after so many new ones: the count takes a millisecond."""

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(CommandRecord).decode
_COLUMNS = f"{INTACT['commands']}, number, record"


class CommandTable:
    """The commands in the registry. Implements hub.ingest.command_dispatcher.CommandStore."""

    def __init__(self, thread: RegistryThread, clock: Callable[[], int]) -> None:
        self._thread = thread
        self._clock = clock
        self._declarations = DeclarationTable(
            thread, clock, "declared_commands", CommandDeclaration, max_declared=MAX_COMMANDS
        )

    async def open(self) -> None:
        """Read what the devices have declared, and delete old commands. Raises RegistryError."""
        now_ns = self._clock()
        await self._thread.write(lambda connection: delete_old(connection, now_ns))
        await self._declarations.open()

    def declared(self, device: str) -> list[CommandDeclaration]:
        """Return the commands that a device declares, in the order of their declaration."""
        return self._declarations.of(device)

    def watch_declared(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each device that declares other commands than before, once that is durable."""
        self._declarations.watch(watcher)

    async def declare(self, device: str, commands: Sequence[CommandDeclaration], *, replace: bool) -> list[str]:
        """Record what a device declares, durable on return. `replace`: these are all. Without news nothing is written.

        Return the names of commands that have no room, which are left out. Raises RegistryError.
        """
        return await self._declarations.declare(device, commands, replace=replace)

    def insert(
        self, record: CommandRecord, on_stored: Callable[[CommandRecord], None]
    ) -> asyncio.Future[CommandRecord]:
        """Store a new command; return it with its number. Fails with IdInUse, and with TOO_MANY at a bound."""
        return self._thread.write(lambda connection: insert_with_new_id(connection, record), on_stored)

    def change(
        self,
        device: str,
        ids: Sequence[str],
        transition: Transition,
        on_stored: Callable[[Sequence[Stored]], None],
    ) -> asyncio.Future[Sequence[Stored]]:
        """Replace each of these commands of a device by what `transition` returns, unless that is None."""
        now_ns = self._clock()
        return self._thread.write(
            lambda connection: change_commands(connection, device, ids, transition, now_ns), on_stored
        )

    async def open_commands(self) -> list[CommandRecord]:
        """Return every command that is not finished, in their order. Raises RegistryError."""
        return await self._thread.read(select_open)

    async def command(self, device: str, id: str) -> CommandRecord | None:
        """Return a command of a device, None if there is none. Raises RegistryError."""
        return await self._thread.read(lambda connection: select_command(connection, device, id))

    async def commands(
        self, device: str, *, limit: int, before: int | None = None, states: Sequence[CommandPhase] = ()
    ) -> list[CommandRecord]:
        """Return commands of a device in these states (all without one), the newest first. Raises RegistryError."""
        return await self._thread.read(
            lambda connection: select_commands(connection, device, limit=limit, before=before, states=states)
        )


def insert_with_new_id(connection: apsw.Connection, record: CommandRecord) -> CommandRecord:
    """Store a new command and return it with its number, inside a transaction.

    Raises IdInUse if there is a command with its id, of whatever device, and RegistryError(TOO_MANY).
    """
    if connection.execute("SELECT 1 FROM commands WHERE id = ?", (record.id,)).get is not None:
        raise IdInUse(record.id)
    return insert_command(connection, record)


def insert_command(
    connection: apsw.Connection,
    record: CommandRecord,
    *,
    max_open_per_device: int = MAX_OPEN_PER_DEVICE,
    max_open: int = MAX_OPEN,
) -> CommandRecord:
    """Store a new command and return it with its number, inside a transaction. Raises RegistryError(TOO_MANY)."""
    count = "SELECT count(*) FROM commands WHERE deadline_ns > 0"
    if connection.execute(f"{count} AND device = ?", (record.device,)).get >= max_open_per_device:
        raise RegistryError(
            Code.TOO_MANY,
            f"{record.device} has {max_open_per_device} commands that are not finished, the maximum: cancel some, or "
            "wait for the device",
        )
    if connection.execute(count).get >= max_open:
        raise RegistryError(
            Code.TOO_MANY, f"the hub has {max_open} commands that are not finished, the maximum: cancel some"
        )
    connection.execute(
        "INSERT INTO commands (id, device, state, created_ns, deadline_ns, record) VALUES (?, ?, ?, ?, ?, ?)",
        (record.id, record.device, record.state.value, record.created_ns, record.expires_ns, _encode(record).decode()),
    )
    stored = msgspec.structs.replace(record, number=connection.last_insert_rowid())
    _record_event(connection, created_event(stored))
    return stored


def change_commands(
    connection: apsw.Connection,
    device: str,
    ids: Iterable[str],
    transition: Transition,
    now_ns: int,
) -> list[Stored]:
    """Replace commands of a device by what `transition` returns, unless that is None, inside a transaction."""
    return [_change(connection, select_command(connection, device, id), transition, now_ns) for id in ids]


def _change(connection: apsw.Connection, record: CommandRecord | None, transition: Transition, now_ns: int) -> Stored:
    changed = None if record is None else transition(record)
    if record is None or changed is None:
        return Stored(record)
    connection.execute(
        "UPDATE commands SET state = ?, deadline_ns = ?, record = ? WHERE number = ?",
        (
            changed.state.value,
            changed.expires_ns if changed.state.is_open else 0,
            _encode(msgspec.structs.replace(changed, number=0)).decode(),
            changed.number,
        ),
    )
    follow_command(connection, changed)
    _record_event(connection, ended_event(changed, now_ns))
    if record.state.is_open and not changed.state.is_open:
        delete_surplus(connection, record.device)
        if record.number % PRUNING_PERIOD == 0:
            delete_old(connection, now_ns)
    return Stored(changed, True)


def _record_event(connection: apsw.Connection, event: Event | None) -> None:
    if event is not None:
        cut = event._replace(kind=event.kind[:MAX_KIND], detail=event.detail[:MAX_MESSAGE])
        insert_events(connection, [cut])


def delete_surplus(connection: apsw.Connection, device: str, per_device: int = KEPT_PER_DEVICE) -> None:
    """Delete the finished commands of a device beyond the newest ones, inside a transaction."""
    connection.execute(
        "DELETE FROM commands WHERE device = ?1 AND deadline_ns = 0 AND number <= (SELECT number FROM commands "
        "WHERE device = ?1 AND deadline_ns = 0 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (device, per_device),
    )


def delete_old(connection: apsw.Connection, now_ns: int, *, in_all: int = MAX_KEPT, kept_ns: int = KEPT_NS) -> None:
    """Delete finished commands of all devices that are too old, or too many, inside a transaction."""
    beyond = connection.execute(
        "SELECT created_ns FROM commands WHERE deadline_ns = 0 ORDER BY created_ns DESC LIMIT 1 OFFSET ?", (in_all,)
    ).get
    oldest_ns = max(now_ns - kept_ns, 0 if beyond is None else beyond + 1)
    connection.execute("DELETE FROM commands WHERE deadline_ns = 0 AND created_ns < ?", (oldest_ns,))


def select_open(connection: apsw.Connection) -> list[CommandRecord]:
    """Return every command that is not finished, in their order."""
    return _records(connection.execute(f"SELECT {_COLUMNS} FROM commands WHERE deadline_ns > 0 ORDER BY number"))


def select_command(connection: apsw.Connection, device: str, id: str) -> CommandRecord | None:
    """Return a command of a device, None if there is none."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM commands WHERE id = ? AND device = ?", (id, device))
    return next(iter(_records(rows)), None)


def select_commands(
    connection: apsw.Connection,
    device: str,
    *,
    limit: int,
    before: int | None = None,
    states: Sequence[CommandPhase] = (),
) -> list[CommandRecord]:
    """Return at most `limit` and MAX_PAGE + 1 commands of a device before this number, the newest first."""
    chosen = [phase.value for phase in states or CommandPhase]
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM commands WHERE device = ? AND number < ? "
        f"AND state IN ({', '.join('?' for _ in chosen)}) ORDER BY number DESC LIMIT ?",
        (device, MAX_INTEGER if before is None else before, *chosen, max(0, min(limit, MAX_PAGE + 1))),
    )
    return _records(rows)


def _records(rows: Iterable[tuple[object, ...]]) -> list[CommandRecord]:
    """Return the intact ones of these rows. Damaged ones are left out and logged."""
    records = []
    for is_intact, number, record in rows:
        if is_intact:
            records.append(msgspec.structs.replace(_decode_record(str(record)), number=number))
        else:
            log.error("command is damaged and left out, the next start of the hub repairs the registry", number=number)
    return records
