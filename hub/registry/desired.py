"""The durable desired values of devices, with their reports, and the settings that devices declare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

import apsw
import msgspec
import structlog

from hub.ingest.desired_dispatcher import DesiredTransition
from hub.model.desired import DesiredRecord, events_of
from hub.registry.database import RegistryThread
from hub.registry.declared import DeclarationTable
from hub.registry.event import insert_events
from hub.registry.schema import INTACT
from wire.command import CommandParameter
from wire.limits import MAX_MESSAGE, MAX_SETTINGS

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DesiredRecord).decode
_COLUMNS = f"{INTACT['desired']}, device, record"


class DesiredTable:
    """The desired values in the registry, one row a device. Implements hub.ingest.desired_dispatcher.DesiredStore."""

    def __init__(self, thread: RegistryThread, clock: Callable[[], int]) -> None:
        self._thread = thread
        self._clock = clock
        self._declarations = DeclarationTable(
            thread, clock, "declared_settings", CommandParameter, max_declared=MAX_SETTINGS
        )

    async def open(self) -> None:
        """Read what the devices have declared. Raises RegistryError."""
        await self._declarations.open()

    def declared(self, device: str) -> list[CommandParameter]:
        """Return the settings that a device declares, in the order of their declaration."""
        return self._declarations.of(device)

    def watch_declared(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each device that declares other settings than before, once that is durable."""
        self._declarations.watch(watcher)

    async def declare(self, device: str, settings: Sequence[CommandParameter], *, replace: bool) -> list[str]:
        """Record what a device declares, durable on return. `replace`: these are all. Without news nothing is written.

        Return the names of settings that have no room, which are left out. Raises RegistryError.
        """
        return await self._declarations.declare(device, settings, replace=replace)

    def change(
        self, device: str, transition: DesiredTransition, on_stored: Callable[[DesiredRecord], None]
    ) -> asyncio.Future[DesiredRecord]:
        """Replace the record of a device by what `transition` returns, unless that is None. Return the record."""
        now_ns, declared = self._clock(), self._declarations.names(device)
        return self._thread.write(
            lambda connection: change_desired(connection, device, transition, declared, now_ns), on_stored
        )

    async def records(self) -> list[DesiredRecord]:
        """Return the records of all devices. Raises RegistryError."""
        return await self._thread.read(select_all)


def change_desired(
    connection: apsw.Connection, device: str, transition: DesiredTransition, declared: Collection[str], now_ns: int
) -> DesiredRecord:
    """Replace the record of a device by what `transition` returns, unless that is None, inside a transaction."""
    record = select_desired(connection, device) or DesiredRecord(device=device)
    changed = transition(record)
    if changed is None:
        return record
    connection.execute(
        "INSERT INTO desired (device, record) VALUES (?, ?) "
        "ON CONFLICT (device) DO UPDATE SET record = excluded.record",
        (device, _encode(changed).decode()),
    )
    events = events_of(record, changed, declared, now_ns)
    if events:
        insert_events(connection, [event._replace(detail=event.detail[:MAX_MESSAGE]) for event in events])
    return changed


def select_desired(connection: apsw.Connection, device: str) -> DesiredRecord | None:
    """Return the record of a device, None if there is none."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM desired WHERE device = ?", (device,))
    return next(iter(_records(rows)), None)


def select_all(connection: apsw.Connection) -> list[DesiredRecord]:
    """Return the records of all devices."""
    return _records(connection.execute(f"SELECT {_COLUMNS} FROM desired ORDER BY device"))


def _records(rows: Iterable[tuple[object, ...]]) -> list[DesiredRecord]:
    """Return the intact ones of these rows. Damaged ones are left out and logged."""
    records = []
    for is_intact, device, record in rows:
        if is_intact:
            records.append(_decode(str(record)))
        else:
            log.error(
                "desired values are damaged and left out, the next start of the hub repairs the registry", device=device
            )
    return records
