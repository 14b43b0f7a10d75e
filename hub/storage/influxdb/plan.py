"""What one write sends to InfluxDB: batches as bodies of requests, and apart from them what may or will be refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.storage.influxdb.line import MAX_TIME_NS, Texts, column_texts, lines, value_text
from hub.storage.influxdb.names import Name, Names, Reason
from wire.errors import Code
from wire.model import Value

MAX_BODY_BYTES = 1 << 20
"""Of one request, but for a single batch that is larger: few enough that a server with small bounds takes it, and that
a few in flight keep the memory small."""

MAX_LINES = 5_000
"""Points of one request: what InfluxDB's own documents call the best."""

TOO_LATE = Reason(
    Code.OUT_OF_RANGE.value, f"InfluxDB's times end at {MAX_TIME_NS} ns, one nanosecond before the largest integer"
)
NOT_FINITE = Reason(Code.NOT_FINITE.value, "InfluxDB has no infinities")


class Cell(NamedTuple):
    """One reading of an entry's batch: which column, and which row."""

    entry: Entry
    column: int
    row: int

    @property
    def series(self) -> Series:
        """Whose reading it is."""
        return _batch(self.entry).columns[self.column][0]

    @property
    def time_ns(self) -> int:
        """When it was."""
        return int(_batch(self.entry).times[self.row])

    @property
    def value(self) -> Value:
        """What it was."""
        value: Value = _batch(self.entry).columns[self.column][1][self.row]
        return value


Point = tuple[Cell, ...]
"""Readings that go into one line: of one entry and row, under one prefix."""


class Part(NamedTuple):
    """The columns of an entry that are sent together."""

    entry: Entry
    columns: Sequence[int]


class Request(NamedTuple):
    """A body, and what is in it."""

    body: bytes
    parts: Sequence[Part]


class Plan(NamedTuple):
    """What to send, the readings that may be refused (sorted by series and time), and those that need not be sent.

    `readings` counts what is sent, by series id.
    """

    requests: list[Request]
    suspects: list[Point]
    refused: list[tuple[Cell, Reason]]
    readings: Counter[int]


def make_plan(
    entries: Iterable[Entry],
    names: Names,
    suspects: Container[int],
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_lines: int = MAX_LINES,
) -> Plan:
    """Encodes the entries' batches. `suspects` are ids of series whose readings InfluxDB refused the last time.

    Raises ValueError for a BATCH entry that is not decoded.
    """
    plan = Plan([], [], [], Counter())
    texts: list[str] = []
    parts: list[Part] = []
    size_bytes = count = 0
    for entry in entries:
        if entry.batch is None:
            if entry.kind is EntryKind.BATCH:
                raise ValueError(f"entry {entry.offset} is not decoded")
            continue
        part, encoded = _encode(entry, entry.batch, names, suspects, plan)
        if not encoded:
            continue
        text = "\n".join(encoded)
        if texts and (size_bytes + len(text) > max_body_bytes or count + len(encoded) > max_lines):
            plan.requests.append(Request("\n".join(texts).encode(), parts))
            texts, parts, size_bytes, count = [], [], 0, 0
        texts.append(text)
        parts.append(part)
        size_bytes += len(text)
        count += len(encoded)
    if texts:
        plan.requests.append(Request("\n".join(texts).encode(), parts))
    plan.suspects.sort(key=by_series)
    return plan


def points_of(parts: Iterable[Part], names: Names) -> list[Point]:
    """The lines that a request has, as the readings that they are made of."""
    points: list[Point] = []
    for entry, columns in parts:
        batch = _batch(entry)
        groups: dict[str, list[int]] = {}
        for column in columns:
            groups.setdefault(names.of(batch.columns[column][0]).prefix, []).append(column)
        for group in groups.values():
            for row in range(len(batch.times)):
                cells = tuple(cell for column in group if _text(cell := Cell(entry, column, row), names) is not None)
                if cells:
                    points.append(cells)
    return points


def encode_points(points: Iterable[Point], names: Names) -> bytes:
    """The body of a request for these points."""
    return "\n".join(_line(point, names) for point in points).encode()


def by_series(point: Point) -> tuple[int, int]:
    """An order of points of one reading: what is refused together is side by side."""
    return point[0].series.id, point[0].time_ns


def _encode(entry: Entry, batch: Batch, names: Names, suspects: Container[int], plan: Plan) -> tuple[Part, list[str]]:
    """The lines of one batch; what cannot or should not be among them goes into the plan."""
    times: list[int] = batch.times if isinstance(batch.times, list) else batch.times.tolist()
    late = [row for row, time in enumerate(times) if time > MAX_TIME_NS] if max(times, default=0) > MAX_TIME_NS else []
    groups: dict[str, list[Texts]] = {}
    columns = []
    for column, (series, values) in enumerate(batch.columns):
        name = names.of(series)
        if name.problem is not None:
            plan.refused.extend((Cell(entry, column, row), name.problem) for row in _present(values))
            continue
        texts = column_texts(name.field, series.type, values)
        if None in texts or late:
            _leave_out(entry, column, texts, late, plan)
            plan.readings[series.id] += len(texts) - texts.count(None)
        else:
            plan.readings[series.id] += len(texts)
        if series.id in suspects:
            plan.suspects.extend((Cell(entry, column, row),) for row, text in enumerate(texts) if text is not None)
            continue
        columns.append(column)
        groups.setdefault(name.prefix, []).append(texts)
    encoded: list[str] = []
    for prefix, group in groups.items():
        encoded += lines(prefix, group, times)
    return Part(entry, columns), encoded


def _leave_out(entry: Entry, column: int, texts: Texts, late: Sequence[int], plan: Plan) -> None:
    values = _batch(entry).columns[column][1]
    for row in _present(values):
        if texts[row] is None:
            plan.refused.append((Cell(entry, column, row), NOT_FINITE))
        elif row in late:
            plan.refused.append((Cell(entry, column, row), TOO_LATE))
            texts[row] = None


def _present(values: Iterable[Any]) -> Iterator[int]:
    # NaN says that there is no value, and is not equal to itself.
    return (row for row, value in enumerate(values) if value is not None and value == value)


def _line(point: Point, names: Names) -> str:
    first = point[0]
    return f"{names.of(first.series).prefix} {','.join(_text(cell, names) or '' for cell in point)} {first.time_ns}"


def _text(cell: Cell, names: Names) -> str | None:
    if cell.time_ns > MAX_TIME_NS or cell.value != cell.value:
        return None
    name: Name = names.of(cell.series)
    text = value_text(cell.series.type, cell.value)
    return None if text is None else name.field + text


def _batch(entry: Entry) -> Batch:
    assert entry.batch is not None
    return entry.batch
