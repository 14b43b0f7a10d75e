"""Devices and their series: all in memory, and on disk before a new one is reported.

The event loop owns the memory, the registry's thread runs the statements; they exchange rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import NamedTuple, get_args

import apsw
import msgspec

from hub.model.batch import Series
from hub.model.metric import accepts, widens
from hub.registry.database import RegistryError, damaged_row
from hub.registry.metric_edit import (
    COLUMNS,
    NO_EDITS,
    SeriesEdits,
    SeriesRow,
    declared_row,
    find_series,
    select_all_edits,
    select_edits,
    write_row,
)
from hub.registry.schema import INTACT
from wire.errors import Code, WireError
from wire.limits import MAX_METRICS
from wire.model import Metric, MetricType
from wire.timestamp import NS_PER_S

MAX_DEVICES = 100_000
"""Devices in service: ten times the fleet that one hub is measured with. A gateway chooses device ids freely, so there
must be a bound: further devices are rejected with TOO_MANY. Retired devices do not count."""

MAX_DEVICES_EVER = 1_000_000
"""Devices including retired ones, whose series stay readable and in memory. As many as there may be series."""

MAX_SERIES = 1_000_000
"""Series of all devices. A series takes about 500 bytes of memory, its device included. Further series are rejected
with TOO_MANY."""

SEEN_RESOLUTION_NS = 60 * NS_PER_S
"""The last contact of a device is stored at most once a minute, not with each batch. It is exact to the minute after
the hub was killed, and exact after it was stopped."""

_TYPES: dict[str, MetricType] = {name: name for name in get_args(MetricType)}

RESERVED = "reserved_series"
"""Name of the fact that holds the highest reserved series id. No new series gets this id or a lower one."""

_DEVICES = (
    "SELECT (SELECT coalesce(max(id), 0) FROM devices), (SELECT count(*) FROM devices WHERE retired_ns IS NOT NULL)"
)
"""The number of devices ever declared, none of which is ever deleted, and the number of retired ones."""

_HIGHEST_SERIES = (
    "SELECT max((SELECT coalesce(max(id), 0) FROM series), "
    f"(SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM facts WHERE name = '{RESERVED}'))"
)


@dataclass(slots=True, eq=False)
class KnownDevice:
    """A device that was declared at least once. One object per device; read only.

    `series` contains every metric that was ever declared, by its current name; `names` also by the names that it had
    before. Times in nanoseconds since 1970 UTC; `retired_ns` is None for a device in service, `stored_seen_ns` is the
    last contact in the file.
    """

    row: int
    id: str
    tags: Mapping[str, str]
    agent: str
    first_seen_ns: int
    last_seen_ns: int
    retired_ns: int | None = None
    stored_seen_ns: int = field(init=False)
    series: dict[str, Series] = field(init=False, default_factory=dict)
    names: dict[str, Series] = field(init=False)

    def __post_init__(self) -> None:
        self.stored_seen_ns = self.last_seen_ns
        self.names = self.series  # one mapping for both until a metric is renamed


class DeclaredRows(NamedTuple):
    """A stored declaration: (row, id, first contact) of the device, and one row for each metric."""

    device: tuple[int, str, int]
    series: list[SeriesRow]


class ChangedSeries(NamedTuple):
    """A known series that changed, and the type and unit that it had before."""

    series: Series
    earlier_type: MetricType
    earlier_unit: str


class DeviceFacts(NamedTuple):
    """Facts of a device that wait to be stored. `is_back`: the device was retired and is in service again."""

    tags: str
    agent: str
    last_seen_ns: int
    is_back: bool
    row: int


class Fleet:
    """All devices and series of the hub in memory."""

    def __init__(self) -> None:
        self.devices: dict[str, KnownDevice] = {}
        self.series: dict[int, Series] = {}
        self.edits: dict[int, SeriesEdits] = {}
        self._changed: set[KnownDevice] = set()
        self._retired = 0
        self._back: set[int] = set()

    @property
    def in_service(self) -> int:
        """Number of devices that are not retired."""
        return len(self.devices) - self._retired

    def undeclared(self, device: str, metrics: Sequence[Metric]) -> list[Metric] | None:
        """Return the metrics to store: new ones, and new units and descriptions. None: there is nothing to store.

        An empty list means that only the device is new.
        """
        known = self.devices.get(device)
        if known is None:
            return list(metrics)
        names = {metric.name for metric in metrics if self._must_store(known.names.get(metric.name), metric)}
        # By name: if a metric is declared twice, both are stored and the last one counts.
        return [metric for metric in metrics if metric.name in names] or None

    def declared(self, device: str, metrics: Iterable[Metric]) -> dict[str, Series | WireError]:
        """Return the series of a known device by metric, also by earlier names.

        A metric declared with a type for whose values the series has no room is a WireError instead.
        """
        known = self.devices[device].names
        found: dict[str, Series | WireError] = dict(known)
        for metric in metrics:
            series = known[metric.name]
            if not accepts(series.type, metric.type):
                found[metric.name] = WireError(
                    Code.TYPE_CONFLICT,
                    f"{metric.name} is declared as {metric.type}, but the hub stores it as {series.type}: change it "
                    f"with `hub metric retype`, or let the device send {series.type}",
                )
        return found

    def apply(self, rows: DeclaredRows) -> list[ChangedSeries]:
        """Apply stored rows. Return the known series that changed."""
        row, name, first_seen_ns = rows.device
        device = self.devices.get(name)
        if device is None:
            device = self.devices[name] = KnownDevice(row, name, {}, "", first_seen_ns, first_seen_ns)
        changed = []
        for stored in rows.series:
            series = self.series.get(stored.id)
            if series is None:
                _add_series(self, device, stored)
                continue
            type, unit = series.type, series.unit
            if (current := self._change(device, series, stored)) is not None:
                changed.append(ChangedSeries(current, type, unit))
        return changed

    def declared_unit(self, device: str, metric: str) -> str:
        """Return the unit that a metric was declared with, "" if there is none or a person has set it."""
        known = self.devices.get(device)
        series = known.names.get(metric) if known is not None else None
        return "" if series is None or "unit" in self.edits.get(series.id, NO_EDITS).kept else series.unit

    def _must_store(self, known: Series | None, metric: Metric) -> bool:
        if known is None or widens(known.type, metric.type):
            return True
        if not accepts(known.type, metric.type):
            return False
        kept = self.edits.get(known.id, NO_EDITS).kept
        return any(
            getattr(known, name) != getattr(metric, name) for name in ("unit", "description") if name not in kept
        )

    def _change(self, device: KnownDevice, series: Series, stored: SeriesRow) -> Series | None:
        """Apply a stored row to a known series. Return the current series if it differs now."""
        before = (series.metric, series.type, series.unit, series.description)
        if before == stored[1:5] and self.edits.get(series.id, NO_EDITS) == stored.edits:
            return None
        del device.series[series.metric]
        current = _edited(series, stored)
        self.series[series.id] = device.series[current.metric] = current
        self.keep_edits(device, current, stored.edits)
        return None if before == stored[1:5] else current

    def keep_edits(self, device: KnownDevice, series: Series, edits: SeriesEdits) -> None:
        """Keep the edits of a series, and find it by every name that it had."""
        if edits != NO_EDITS:
            self.edits[series.id] = edits
        if edits.names and device.names is device.series:
            device.names = dict(device.series)
        for name in (series.metric, *edits.names):
            device.names[name] = series

    def describe(self, device: str, tags: Mapping[str, str], agent: str) -> None:
        """Record the tags and the version of the agent. Raises KeyError for a device that was not declared."""
        known = self.devices[device]
        if known.tags != tags or known.agent != agent:
            known.tags, known.agent = dict(tags), agent
            self._changed.add(known)

    def record_contact(self, device: str, time_ns: int) -> None:
        """Record a contact with the device. Raises KeyError for a device that was not declared."""
        known = self.devices[device]
        if time_ns > known.last_seen_ns:
            known.last_seen_ns = time_ns
            if time_ns - known.stored_seen_ns >= SEEN_RESOLUTION_NS:
                self._changed.add(known)

    def retire(self, ids: Iterable[str], now_ns: int) -> None:
        """Apply the retirement of devices."""
        for id in ids:
            known = self.devices[id]
            self._retired += known.retired_ns is None
            known.retired_ns = now_ns
            self._back.discard(known.row)

    def restore(self, device: str) -> None:
        """Put a device back into service. Raises KeyError for a device that was not declared."""
        known = self.devices[device]
        if known.retired_ns is not None:
            known.retired_ns = None
            self._retired -= 1
            self._back.add(known.row)
            self._changed.add(known)

    def drain_facts(self, *, everything: bool = False) -> list[DeviceFacts]:
        """Return and clear the facts to store; with `everything` also contacts within the resolution."""
        if everything:
            self._changed.update(
                device for device in self.devices.values() if device.last_seen_ns > device.stored_seen_ns
            )
        facts = []
        for device in self._changed:
            device.stored_seen_ns = device.last_seen_ns
            facts.append(
                DeviceFacts(
                    msgspec.json.encode(device.tags).decode(),
                    device.agent,
                    device.last_seen_ns,
                    device.row in self._back,
                    device.row,
                )
            )
        self._changed.clear()
        self._back.clear()
        return facts

    def restore_facts(self, facts: Sequence[DeviceFacts]) -> None:
        """Put back facts that could not be stored."""
        written = {fact.row: fact for fact in facts}
        for device in self.devices.values():
            fact = written.get(device.row)
            if fact is not None:
                self._changed.add(device)
                if fact.is_back and device.retired_ns is None:
                    self._back.add(device.row)


def _add_series(fleet: Fleet, device: KnownDevice, stored: SeriesRow) -> None:
    # Ten thousand devices of one model declare the same words: keep each word once.
    metric, unit, description = intern(stored.metric), intern(stored.unit), intern(stored.description)
    series = Series(stored.id, device.id, metric, _TYPES[stored.type], unit, description)
    series = _edited(series, stored)
    device.series[metric] = device.names[metric] = fleet.series[stored.id] = series
    fleet.keep_edits(device, series, stored.edits)


def _edited(series: Series, stored: SeriesRow) -> Series:
    """Return the current series after a stored change.

    It is the same object unless the type differs: batches that were accepted before keep the series of their type.
    """
    types = stored.edits.types or (stored.type,)
    by_type = {part.type: part for part in series.parts or (series,)}
    parts = [by_type.get(type) or Series(series.id, series.device, series.metric, _TYPES[type]) for type in types]
    current = next(part for part in parts if part.type == stored.type)
    current.last_time_ns, current.run_ns = series.last_time_ns, series.run_ns
    for part in parts:
        part.metric, part.unit, part.description = map(intern, (stored.metric, stored.unit, stored.description))
        part.names = stored.edits.names
        part.parts = tuple(parts) if len(parts) > 1 else ()
    return current


def declare(connection: apsw.Connection, device: str, metrics: Sequence[Metric], now_ns: int) -> DeclaredRows:
    """Store the new part of a declaration, inside a transaction. Raises RegistryError(TOO_MANY).

    The ids come from the file, so two processes never assign the same one.
    """
    found = connection.execute(
        f"SELECT id, name, first_seen_ns, {INTACT['devices']} FROM devices WHERE name = ?", (device,)
    ).fetchone()
    if found is not None and not found[-1]:
        raise damaged_row(f"the row of {device}")
    row = None if found is None else found[:-1]
    if row is None:
        ever, retired = connection.execute(_DEVICES).get
        if ever - retired >= MAX_DEVICES or ever >= MAX_DEVICES_EVER:
            raise RegistryError(
                Code.TOO_MANY,
                f"the hub has {ever - retired} devices, the maximum: retire unused ones with `hub device retire`",
            )
        connection.execute(
            "INSERT INTO devices (name, first_seen_ns, last_seen_ns) VALUES (?, ?, ?)", (device, now_ns, now_ns)
        )
        row = (connection.last_insert_rowid(), device, now_ns)
    before = connection.execute(_HIGHEST_SERIES).get
    edits = select_edits(connection, row[0]) if found is not None else {}
    series = [_declare_series(connection, row[0], metric, edits) for metric in metrics]
    after = connection.execute(_HIGHEST_SERIES).get
    if after > before:
        if connection.execute("SELECT count(*) FROM series WHERE device = ?", row[:1]).get > MAX_METRICS:
            raise RegistryError(Code.TOO_MANY, f"{device} has declared more than {MAX_METRICS} metrics")
        if after > MAX_SERIES:
            raise RegistryError(
                Code.TOO_MANY, f"the hub has {MAX_SERIES} series, the maximum: no new metric can be declared"
            )
    return DeclaredRows(row, series)


def _declare_series(
    connection: apsw.Connection, device: int, metric: Metric, edits: dict[int, SeriesEdits]
) -> SeriesRow:
    before = find_series(connection, device, metric.name, edits)
    if before is None:
        return SeriesRow(
            *connection.execute(
                "INSERT INTO series (id, device, metric, type, unit, description) "
                f"VALUES (({_HIGHEST_SERIES}) + 1, ?, ?, ?, ?, ?) RETURNING {COLUMNS}",
                (device, metric.name, metric.type, metric.unit, metric.description),
            ).get
        )
    if not accepts(before.type, metric.type) and not widens(before.type, metric.type):
        return before  # the type and the unit stay
    after = declared_row(before, metric, metric.type if widens(before.type, metric.type) else before.type)
    edits[after.id] = after.edits
    return write_row(connection, before, after)


def reserve_series(connection: apsw.Connection, highest: int) -> None:
    """Reserve this series id and all lower ones, inside a transaction."""
    if highest > connection.execute(_HIGHEST_SERIES).get:
        connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (RESERVED, str(highest)))


def select_fleet(connection: apsw.Connection) -> Fleet:
    """Return all devices and series in the file."""
    fleet = Fleet()
    by_row: dict[int, KnownDevice] = {}
    for row, name, tags, *facts, retired_ns in connection.execute(
        "SELECT id, name, tags, agent, first_seen_ns, last_seen_ns, retired_ns FROM devices ORDER BY id"
    ):
        decoded = {} if tags == "{}" else msgspec.json.decode(tags, type=dict[str, str])
        by_row[row] = fleet.devices[name] = KnownDevice(row, name, decoded, *facts)
        if retired_ns is not None:
            fleet.retire([name], retired_ns)
    edits = select_all_edits(connection)
    for row, *stored in connection.execute(f"SELECT device, {COLUMNS} FROM series ORDER BY id"):
        _add_series(fleet, by_row[row], SeriesRow(*stored)._replace(edits=edits.get(stored[0], NO_EDITS)))
    return fleet


def update_facts(connection: apsw.Connection, facts: Sequence[DeviceFacts]) -> None:
    """Store facts of devices, inside a transaction."""
    connection.executemany(
        "UPDATE devices SET tags = ?, agent = ?, last_seen_ns = ?, retired_ns = iif(?, NULL, retired_ns) WHERE id = ?",
        facts,
    )


def retire(connection: apsw.Connection, ids: Iterable[str], now_ns: int) -> None:
    """Retire devices, inside a transaction."""
    connection.executemany("UPDATE devices SET retired_ns = ? WHERE name = ?", ((now_ns, id) for id in ids))
