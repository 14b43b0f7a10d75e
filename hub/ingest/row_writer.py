"""Rows of many devices on their way into the journal: metrics are declared, and rows become batches.

Every input that the hub itself reads uses it: bridges to brokers, plain WebSockets, HTTP and line protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

from formats.line_block import LineBlock
from hub.ingest.agent_session import MetricDirectory
from hub.ingest.device import Devices
from hub.ingest.local_source import LocalSource
from hub.model.batch import Series
from hub.model.metric import widens
from wire import device as messages
from wire import limits
from wire.columns import ITEM_BYTES, pack_floats, pack_times
from wire.errors import Code, WireError
from wire.model import Metric, MetricType

ROWS_PER_BATCH = 1_000
PACKED_FROM = 16
"""Rows from which a column of floats is packed, so that validation converts it to an array at once."""

PACKED_BYTES = limits.MAX_BATCH_BYTES * 3 // 4
"""Bytes of the columns of a batch: an integer takes nine bytes at most, and the names of the metrics need room."""

STORAGE_CODES = frozenset({Code.STORAGE_FULL, Code.STORAGE_FAILED, Code.BUSY, Code.SHUTTING_DOWN})
"""Codes of errors that end by themselves: the same rows can be accepted later."""

_FLOATS = {float}

M = TypeVar("M")


class PendingRow(NamedTuple, Generic[M]):
    """One row on its way to the journal. `message` is what the client sent. `relayed` means that another hub published
    it."""

    message: M
    time_ns: int
    values: dict[str, float | int | bool | str]
    has_time: bool
    historical: bool
    relayed: bool


class DeviceDescription(NamedTuple):
    """Description of a device that came with its rows: metrics with units and types, and tags; None for no tags."""

    metrics: Mapping[str, Metric] = {}
    tags: Mapping[str, str] | None = None


NO_DESCRIPTION = DeviceDescription()

RefuseRow = Callable[[LocalSource, PendingRow[M], WireError], None]
"""Receives a row that cannot be accepted as it is, and the reason."""


class RowWriter(Generic[M]):
    """Writer of the rows of one input, each device through its LocalSource."""

    def __init__(
        self, devices: Devices, directory: MetricDirectory, *, epoch: str, agent: str, has_presence: bool = True
    ) -> None:
        """`epoch`, `agent` and `has_presence` are those of every LocalSource."""
        self._devices = devices
        self._directory = directory
        self._epoch = epoch
        self._agent = agent
        self._has_presence = has_presence
        self._sources: dict[str, LocalSource] = {}

    @property
    def sources(self) -> Iterable[LocalSource]:
        """The sources of all devices that have sent something since the hub started."""
        return self._sources.values()

    def source(self, device: str) -> LocalSource:
        """Return the source of a device."""
        source = self._sources.get(device)
        if source is None:
            source = self._sources[device] = LocalSource(
                self._devices,
                self._directory,
                device,
                epoch=self._epoch,
                agent=self._agent,
                has_presence=self._has_presence,
            )
        return source

    def is_present(self, device: str) -> bool:
        """Return whether a device is connected through this input."""
        source = self._sources.get(device)
        return source is not None and source.device.session is source

    async def declare(
        self, device: str, batches: Sequence[Sequence[PendingRow[Any]]], details: DeviceDescription = NO_DESCRIPTION
    ) -> WireError | None:
        """Register a device with the metrics of its batches. Return why some cannot be; raise a WireError of the
        storage."""
        source = self.source(device)
        known = source.device.metrics
        wanted: dict[str, Metric] = {}
        for rows in batches:
            # All rows of a batch have the same metrics.
            for name, value in rows[0].values.items():
                series = known.get(name)
                if series is None:
                    if name not in wanted:
                        wanted[name] = Metric(name, value_type(value))
                elif type(series) is Series and series.type == "integer" and _has_float(rows, name):
                    wanted[name] = Metric(name, "float", series.unit, series.description)
        wanted |= {
            name: metric
            for name, metric in details.metrics.items()
            if _is_news(known.get(name), metric) and not source.has_declared(metric)
        }
        if source.declared and not wanted and details.tags is None:
            return None
        try:
            await source.declare(list(wanted.values()), details.tags)
        except WireError as error:
            if error.code in STORAGE_CODES:
                raise
            return error
        return None

    def is_ready(self, block: LineBlock) -> bool:
        """Return whether a block can be submitted as it is: all its metrics are declared with the types that it has."""
        source = self.source(block.device)
        if not source.declared:
            return False
        known = source.device.metrics
        for name, values in block.columns.items():
            series = known.get(name)
            if type(series) is not Series or series.type != ("integer" if type(values[0]) is int else "float"):
                return False
        return True

    def submit_block(self, block: LineBlock, received_ns: int) -> Sequence[LineBlock]:
        """Submit a block that is ready, and return the parts of it that cannot be accepted as they are."""
        source = self.source(block.device)
        source.epoch = self._epoch
        rows = min(ROWS_PER_BATCH, PACKED_BYTES // (ITEM_BYTES * (len(block.columns) + 1)))
        refused = []
        for part in block.parts(rows):
            try:
                source.submit(_packed(part, received_ns))
            except WireError:
                refused.append(part)
        return refused

    def submit(
        self,
        source: LocalSource,
        rows: Sequence[PendingRow[M]],
        refuse: RefuseRow[M],
        *,
        error: WireError | None = None,
        epoch: str = "",
    ) -> int:
        """Submit rows that `group_rows` grouped; return how many readings were accepted.

        `refuse` gets each row that is not valid, or all of them after an `error` of their declaration. An `epoch`
        replaces that of the source.
        """
        if error is None:
            source.epoch = epoch or self._epoch
            try:
                return source.submit(batch_of(rows))
            except WireError as refusal:
                error = refusal
        if len(rows) > 1 and not source.is_taken:
            # One row is invalid. Find it by halving, so that the others are stored.
            half = len(rows) // 2
            return sum(self.submit(source, part, refuse, epoch=epoch) for part in (rows[:half], rows[half:]))
        for row in rows:
            refuse(source, row, error)
        return 0


def group_rows(rows: Sequence[PendingRow[M]], limit: int = ROWS_PER_BATCH) -> list[list[PendingRow[M]]]:
    """Group rows with the same metrics and origin into as few batches as the order of each metric allows."""
    made: list[list[PendingRow[M]]] = []
    open_batches: dict[tuple[object, ...], list[PendingRow[M]]] = {}
    last: dict[str, tuple[object, ...]] = {}
    key: tuple[object, ...] = ()
    batch: list[PendingRow[M]] | None = None
    for row in rows:
        names = tuple(row.values)
        # Most rows are like the one before: comparing is cheaper than the hash of forty names.
        if batch is None or (names, row.historical, row.relayed) != key:
            key = (names, row.historical, row.relayed)
            batch = open_batches.get(key)
        if batch is None or len(batch) >= limit:
            for name in names:
                # An earlier batch with this metric is closed, so that its rows stay before this one.
                if last.get(name) is not None:
                    open_batches.pop(last[name], None)
                last[name] = key
            batch = open_batches[key] = []
            made.append(batch)
        batch.append(row)
    return made


def batch_of(rows: Sequence[PendingRow[M]]) -> messages.Data:
    """Return the batch of rows that `group_rows` grouped, without a sequence number."""
    first = rows[0]
    times: Any = [row.time_ns for row in rows]
    # One list of all values, cut into columns: a third of the time of a list for each column.
    flat = [*chain.from_iterable(row.values.values() for row in rows)]
    width = len(first.values)
    values: dict[str, Any] = {name: flat[place::width] for place, name in enumerate(first.values)}
    if len(rows) >= PACKED_FROM and set(map(type, flat)) == _FLOATS:
        times = pack_times(times)
        values = {name: pack_floats(column) for name, column in values.items()}
    return messages.Data(1, times, values, first.historical)


def _packed(block: LineBlock, received_ns: int) -> messages.Data:
    """Return the batch of a block. Only few rows, and integers, are lists."""
    times: Any = block.times or [received_ns] * block.rows
    values: dict[str, Any] = dict(block.columns)
    if block.rows >= PACKED_FROM:
        times = pack_times(times)
        for name, column in block.columns.items():
            if type(column[0]) is float:
                values[name] = pack_floats(column)
    return messages.Data(1, times, values)


def value_type(value: float | int | bool | str) -> MetricType:
    """Return the type of a metric whose first value this is. Every number is a float."""
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "float"


def _is_news(known: Series | WireError | None, metric: Metric) -> bool:
    """Return whether a declaration changes the hub: the metric is new, its unit changed, or it widens to a float."""
    if not isinstance(known, Series):
        return True
    return widens(known.type, metric.type) or (metric.unit not in ("", known.unit) and metric.type == known.type)


def _has_float(rows: Sequence[PendingRow[Any]], name: str) -> bool:
    return any(type(row.values[name]) is float for row in rows)
