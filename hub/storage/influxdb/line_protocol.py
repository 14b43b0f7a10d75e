"""InfluxDB line protocol: batches as the bodies of write requests, and the readings that are or may be refused. Pure.

A point is `measurement,tag=value field=1.5,other=2i 1700000000000000000`. Numbers of float metrics stay floats, and
only numbers of integer metrics get the `i`: InfluxDB fixes the type of a field with its first value.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.storage.influxdb.series_naming import RefusalReason, SeriesName, SeriesNames
from wire.errors import Code
from wire.model import MetricType, Value

MAX_TIME_NS = 2**63 - 2
"""The newest time that InfluxDB accepts, one nanosecond before the largest int64."""

_IN_STRING = re.compile(r'["\\]')
_ESCAPED = r"\\\g<0>"

Texts = list[str | None]
"""The text `field=value` of each row of a column; None for a row without a value."""


def value_text(type: MetricType, value: Value) -> str | None:
    """Return a value in line protocol; None for infinities, which InfluxDB cannot store, and for no value."""
    if value is None:
        return None
    if type == "float":
        return repr(float(value)) if math.isfinite(float(value)) else None
    if type == "integer":
        return f"{value}i"
    if type == "boolean":
        return "true" if value else "false"
    return f'"{_IN_STRING.sub(_ESCAPED, str(value))}"'


def column_texts(field: str, type: MetricType, values: Sequence[Value] | NDArray[Any]) -> Texts:
    """Return the text of each row of a column. `field` is a SeriesLocation.field_key."""
    if isinstance(values, np.ndarray):
        plain_values: Sequence[Any] = values.tolist()
        has_all_values = bool(np.isfinite(values).all())
    else:
        plain_values = values
        has_all_values = type != "float" and None not in values
        if type == "float":
            try:
                total: float = sum(values)  # type: ignore[arg-type]
                has_all_values = total - total == 0.0
            except TypeError:
                has_all_values = False
    if not has_all_values:
        texts = (value_text(type, value) for value in plain_values)
        return [None if text is None else field + text for text in texts]
    if type == "float":
        # An integer needs no decimal point in a float column.
        return [f"{field}{value!r}" for value in plain_values]
    if type == "integer":
        return [f"{field}{value}i" for value in plain_values]
    if type == "boolean":
        return [f"{field}true" if value else f"{field}false" for value in plain_values]
    return [f'{field}"{_IN_STRING.sub(_ESCAPED, value)}"' for value in plain_values]


def lines(prefix: str, columns: Sequence[Texts], times: Iterable[int]) -> list[str]:
    """Return the points of columns that share a prefix, one for each row that has a value."""
    if len(columns) == 1:
        return [f"{prefix} {text} {time}" for text, time in zip(columns[0], times, strict=True) if text is not None]
    if any(None in column for column in columns):
        rows = (",".join(filter(None, row)) for row in zip(*columns, strict=True))
        return [f"{prefix} {row} {time}" for row, time in zip(rows, times, strict=True) if row]
    return [f"{prefix} {','.join(row)} {time}" for row, time in zip(zip(*columns, strict=True), times, strict=True)]


MAX_BODY_BYTES = 1 << 20
"""Maximum bytes of one request, except for a single larger batch. A server with small limits accepts it, and a few
requests in flight use little memory."""

MAX_LINES = 5_000
"""Maximum points of one request, as InfluxDB's documentation recommends."""

TOO_LATE = RefusalReason(
    Code.OUT_OF_RANGE.value, f"InfluxDB's last time is {MAX_TIME_NS} ns, one nanosecond before the largest integer"
)
NOT_FINITE = RefusalReason(Code.NOT_FINITE.value, "InfluxDB has no infinities")


class Cell(NamedTuple):
    """One reading of an entry's batch, by column and row."""

    entry: Entry
    column: int
    row: int

    @property
    def series(self) -> Series:
        """Return the series of the reading."""
        return _batch(self.entry).columns[self.column][0]

    @property
    def time_ns(self) -> int:
        """Return the time of the reading."""
        return int(_batch(self.entry).times[self.row])

    @property
    def value(self) -> Value:
        """Return the value of the reading."""
        value: Value = _batch(self.entry).columns[self.column][1][self.row]
        return value


Point = tuple[Cell, ...]
"""Readings of one line: of one entry and row, with one prefix."""


class EntryColumns(NamedTuple):
    """The columns of an entry that are sent together."""

    entry: Entry
    columns: Sequence[int]


class WriteRequest(NamedTuple):
    """A request body and its contents."""

    body: bytes
    contents: Sequence[EntryColumns]


class WritePlan(NamedTuple):
    """Requests to send, readings that may be refused (sorted by series and time), and readings refused without sending.

    `readings` counts the readings that are sent, by series id.
    """

    requests: list[WriteRequest]
    suspects: list[Point]
    refused: list[tuple[Cell, RefusalReason]]
    readings: Counter[int]


def plan_write(entries: Iterable[Entry], names: SeriesNames, suspects: Container[int]) -> WritePlan:
    """Encode the batches of these entries.

    `suspects` contains the ids of series whose last readings InfluxDB refused. Raises ValueError for a BATCH entry that
    is not decoded.
    """
    plan = WritePlan([], [], [], Counter())
    texts: list[str] = []
    contents: list[EntryColumns] = []
    size_bytes = count = 0
    for entry in entries:
        if entry.batch is None:
            if entry.kind is EntryKind.BATCH:
                raise ValueError(f"entry {entry.offset} is not decoded")
            continue
        entry_columns, encoded = _encode(entry, entry.batch, names, suspects, plan)
        if not encoded:
            continue
        text = "\n".join(encoded)
        if texts and (size_bytes + len(text) > MAX_BODY_BYTES or count + len(encoded) > MAX_LINES):
            plan.requests.append(WriteRequest("\n".join(texts).encode(), contents))
            texts, contents, size_bytes, count = [], [], 0, 0
        texts.append(text)
        contents.append(entry_columns)
        size_bytes += len(text)
        count += len(encoded)
    if texts:
        plan.requests.append(WriteRequest("\n".join(texts).encode(), contents))
    plan.suspects.sort(key=by_series)
    return plan


def request_points(contents: Iterable[EntryColumns], names: SeriesNames) -> list[Point]:
    """Return the lines of a request as the readings of which they consist."""
    points: list[Point] = []
    for entry, columns in contents:
        batch = _batch(entry)
        groups: dict[str, list[int]] = {}
        for column in columns:
            groups.setdefault(names.name_of(batch.columns[column][0]).prefix, []).append(column)
        for group in groups.values():
            for row in range(len(batch.times)):
                cells = tuple(cell for column in group if _text(cell := Cell(entry, column, row), names) is not None)
                if cells:
                    points.append(cells)
    return points


def encode_points(points: Iterable[Point], names: SeriesNames) -> bytes:
    """Return the request body for these points."""
    return "\n".join(_line(point, names) for point in points).encode()


def by_series(point: Point) -> tuple[int, int]:
    """Return the sort key of points of one reading. It places readings next to each other that are refused together."""
    return point[0].series.id, point[0].time_ns


def _encode(
    entry: Entry, batch: Batch, names: SeriesNames, suspects: Container[int], plan: WritePlan
) -> tuple[EntryColumns, list[str]]:
    """Return the lines of one batch, and add readings that cannot or should not be among them to the plan."""
    times: list[int] = batch.times if isinstance(batch.times, list) else batch.times.tolist()
    has_late_rows = max(times, default=0) > MAX_TIME_NS
    late_rows = [row for row, time in enumerate(times) if time > MAX_TIME_NS] if has_late_rows else []
    groups: dict[str, list[Texts]] = {}
    columns = []
    for column, (series, values) in enumerate(batch.columns):
        name = names.name_of(series)
        if name.problem is not None:
            plan.refused.extend((Cell(entry, column, row), name.problem) for row in _rows_with_value(values))
            continue
        texts = column_texts(name.field, series.type, values)
        if None in texts or late_rows:
            for row in _rows_with_value(values):
                if texts[row] is None:
                    plan.refused.append((Cell(entry, column, row), NOT_FINITE))
                elif row in late_rows:
                    plan.refused.append((Cell(entry, column, row), TOO_LATE))
                    texts[row] = None
        plan.readings[series.id] += len(texts) - texts.count(None)
        if series.id in suspects:
            plan.suspects.extend((Cell(entry, column, row),) for row, text in enumerate(texts) if text is not None)
            continue
        columns.append(column)
        groups.setdefault(name.prefix, []).append(texts)
    encoded: list[str] = []
    for prefix, group in groups.items():
        encoded += lines(prefix, group, times)
    return EntryColumns(entry, columns), encoded


def _rows_with_value(values: Iterable[Any]) -> Iterator[int]:
    # NaN means "no value" and is not equal to itself.
    return (row for row, value in enumerate(values) if value is not None and value == value)


def _line(point: Point, names: SeriesNames) -> str:
    first = point[0]
    return (
        f"{names.name_of(first.series).prefix} {','.join(_text(cell, names) or '' for cell in point)} {first.time_ns}"
    )


def _text(cell: Cell, names: SeriesNames) -> str | None:
    if cell.time_ns > MAX_TIME_NS or cell.value != cell.value:
        return None
    name: SeriesName = names.name_of(cell.series)
    text = value_text(cell.series.type, cell.value)
    return None if text is None else name.field + text


def _batch(entry: Entry) -> Batch:
    assert entry.batch is not None
    return entry.batch
