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
from hub.registry.database import RegistryError, damaged_row
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
_SERIES = "id, metric, type, unit, description"

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

    `series` contains every metric that was ever declared, by name. Times in nanoseconds since 1970 UTC; `retired_ns` is
    None for a device in service, `stored_seen_ns` is the last contact in the file.
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

    def __post_init__(self) -> None:
        self.stored_seen_ns = self.last_seen_ns


class SeriesRow(NamedTuple):
    """A row of the table `series`."""

    id: int
    metric: str
    type: MetricType
    unit: str
    description: str


class DeclaredRows(NamedTuple):
    """A stored declaration: (row, id, first contact) of the device, and one row for each metric."""

    device: tuple[int, str, int]
    series: list[SeriesRow]


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
        names = {metric.name for metric in metrics if _must_store(known.series.get(metric.name), metric)}
        # By name: if a metric is declared twice, both are stored and the last one counts.
        return [metric for metric in metrics if metric.name in names] or None

    def declared(self, device: str, metrics: Iterable[Metric]) -> dict[str, Series | WireError]:
        """Return the series of a known device by metric. A metric declared with another type is a WireError instead."""
        found: dict[str, Series | WireError] = dict(self.devices[device].series)
        for metric in metrics:
            series = self.devices[device].series[metric.name]
            if series.type != metric.type:
                found[metric.name] = WireError(
                    Code.TYPE_CONFLICT,
                    f"{metric.name} is declared as {metric.type}, but the hub stores it as {series.type}",
                )
        return found

    def apply(self, rows: DeclaredRows) -> None:
        """Apply a stored declaration."""
        row, name, first_seen_ns = rows.device
        device = self.devices.get(name)
        if device is None:
            device = self.devices[name] = KnownDevice(row, name, {}, "", first_seen_ns, first_seen_ns)
        for stored in rows.series:
            series = device.series.get(stored.metric)
            if series is None:
                _add_series(self, device, stored)
            else:
                series.unit, series.description = stored.unit, stored.description

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


def _must_store(known: Series | None, metric: Metric) -> bool:
    if known is None:
        return True
    return known.type == metric.type and (known.unit, known.description) != (metric.unit, metric.description)


def _add_series(fleet: Fleet, device: KnownDevice, stored: SeriesRow) -> None:
    # Ten thousand devices of one model declare the same words: keep each word once.
    metric, unit, description = intern(stored.metric), intern(stored.unit), intern(stored.description)
    series = Series(stored.id, device.id, metric, _TYPES[stored.type], unit, description)
    device.series[metric] = fleet.series[stored.id] = series


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
    series = [_declare_series(connection, row[0], metric) for metric in metrics]
    after = connection.execute(_HIGHEST_SERIES).get
    if after > before:
        if connection.execute("SELECT count(*) FROM series WHERE device = ?", row[:1]).get > MAX_METRICS:
            raise RegistryError(Code.TOO_MANY, f"{device} has declared more than {MAX_METRICS} metrics")
        if after > MAX_SERIES:
            raise RegistryError(
                Code.TOO_MANY, f"the hub has {MAX_SERIES} series, the maximum: no new metric can be declared"
            )
    return DeclaredRows(row, series)


def _declare_series(connection: apsw.Connection, device: int, metric: Metric) -> SeriesRow:
    # If the type differs, nothing changes: the first type and its unit stay.
    row = connection.execute(
        "INSERT INTO series (id, device, metric, type, unit, description) "
        f"VALUES (({_HIGHEST_SERIES}) + 1, ?, ?, ?, ?, ?) "
        "ON CONFLICT (device, metric) DO UPDATE SET unit = excluded.unit, description = excluded.description "
        f"WHERE type = excluded.type RETURNING {_SERIES}, device",
        (device, metric.name, metric.type, metric.unit, metric.description),
    ).get
    if row is None:
        row = connection.execute(
            f"SELECT {_SERIES}, iif({INTACT['series']}, device, NULL) FROM series WHERE device = ? AND metric = ?",
            (device, metric.name),
        ).get
    # A damaged index leads to the row of another series.
    if row[-1] != device or row[1] != metric.name:
        raise damaged_row(f"the row of the metric {metric.name}")
    return SeriesRow(*row[:-1])


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
    for row, *stored in connection.execute(f"SELECT device, {_SERIES} FROM series ORDER BY id"):
        _add_series(fleet, by_row[row], SeriesRow(*stored))
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
