"""Rows to batches. The same rows always make the same batches, so the number of a batch identifies a part of the file.

The file is cut into slices. In each slice the rows of a device that have metrics in common become batches, in order of
time. Slices bound the memory. A file that mixes the rows of many devices only gets smaller batches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple, TypeAlias, cast

from formats.block import Block
from formats.record import Row, lines_of
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES
from wire.columns import pack_floats, pack_times
from wire.model import MetricType, Value

SLICE_BYTES = 8 << 20
"""Bytes of the file in one slice. Two slices are in memory: one is read while the other is sent."""

SLICE_READINGS = 100_000
"""Readings in one slice: about 10 MB as Python objects, and a thousand readings per batch with a hundred devices."""

MORE_ROWS = 1_000
"""Rows of one time that a slice may have in addition. A file whose times are all the same is cut nevertheless."""

BATCH_BYTES = 64 << 10
"""Size of a batch: large beside the overhead of a frame, small beside the largest frame of a hub."""

PACK_FROM_ROWS = 8
"""Columns with at least this many rows are packed; below it a list costs the hub less."""

_ENVELOPE_BYTES = 100
"""Most bytes of a frame besides the content of its columns."""
_ITEM_BYTES = 9
"""Most bytes of a time, a number or a boolean in msgpack."""
_HEAD_BYTES = 10
"""Most bytes of the headers of a column and of its name."""
_TEXT_HEAD_BYTES = 5

Item: TypeAlias = Row | Block
"""A part of a file: one row, or many of one device at once. Its rows have a time, a device and values."""


class BlockPart(NamedTuple):
    """Rows of a block: the numbers of their lines, their times, and a list of values for each metric."""

    line_numbers: Sequence[int]
    times: list[int]
    columns: dict[str, list[float]]

    @property
    def readings(self) -> int:
        """The number of values."""
        return len(self.times) * len(self.columns)


class FileBatch(NamedTuple):
    """Rows of one device that are sent as batch `seq`."""

    device: str
    seq: int
    rows: list[Row] | BlockPart

    @property
    def readings(self) -> int:
        """The number of values."""
        return self.rows.readings if isinstance(self.rows, BlockPart) else sum(len(row.values) for row in self.rows)

    @property
    def place(self) -> tuple[str, int, int, int]:
        """The device, the number, the first line and the rows: other rows make batches with other places."""
        if isinstance(self.rows, BlockPart):
            return self.device, self.seq, self.rows.line_numbers[0], len(self.rows.times)
        return self.device, self.seq, self.rows[0].line, len(self.rows)

    def lines(self, numbers: Collection[int] = ()) -> list[tuple[int, int]]:
        """Return the lines of the file: first lines of records, and how many each has.

        With `numbers` only those of these rows of the message, and of the rows that were merged with them.
        """
        if isinstance(self.rows, BlockPart):
            return [(line, 1) for number, line in enumerate(self.rows.line_numbers) if not numbers or number in numbers]
        chosen: Sequence[Row] = self.rows
        if numbers:
            sent = [row for row in self.rows if row.values]
            refused = [row for number, row in enumerate(sent) if number in numbers]
            times = {row.time_ns for row in refused}
            chosen = [*refused, *(row for row in self.rows if not row.values and row.time_ns in times)]
        return [(row.line, lines_of(row.raw)) for row in chosen]


def slices(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the rows in portions that fit into memory. Rows of one time stay together, up to MORE_ROWS of them."""
    portion: list[Item] = []
    size = readings = more = 0
    time_ns: int | None = None
    for item in items:
        is_row = type(item) is Row
        if size >= SLICE_BYTES or readings >= SLICE_READINGS:
            more += 1
            if not is_row or item.time_ns != time_ns or more > MORE_ROWS:  # type: ignore[union-attr]
                yield portion
                portion, size, readings, more = [], 0, 0, 0
        portion.append(item)
        size += len(item.raw)
        if is_row:
            time_ns = item.time_ns  # type: ignore[union-attr]
            readings += len(item.values)  # type: ignore[union-attr]
        else:
            readings += item.readings  # type: ignore[union-attr]
    if portion:
        yield portion


class Groups:
    """The rows of one device in a slice, in groups that have no metric in common.

    The hub moves a row if its time is taken by another reading in the columns of its batch, whatever the row has. A
    metric in one group only is in the columns of the batches that have its readings, and of no others.
    """

    def __init__(self) -> None:
        self._of_kind: dict[tuple[str, ...], list[Row]] = {}
        self._of_metric: dict[str, list[Row]] = {}

    def add(self, row: Row) -> None:
        """Add a row."""
        kind = tuple(row.values)
        rows = self._of_kind.get(kind)
        if rows is None:
            rows = self._of_kind[kind] = self._joined(kind)
        rows.append(row)

    def _joined(self, kind: tuple[str, ...]) -> list[Row]:
        """Return the group of these metrics, joined from those that have one of them."""
        found = {id(rows): rows for name in kind if (rows := self._of_metric.get(name)) is not None}
        first, *others = found.values() or ([],)
        for rows in others:
            first += rows
            self._of_kind.update({known: first for known, value in self._of_kind.items() if value is rows})
            self._of_metric.update({name: first for name, value in self._of_metric.items() if value is rows})
        self._of_metric.update(dict.fromkeys(kind, first))
        return first

    def __iter__(self) -> Iterator[list[Row]]:
        """Yield the groups, in the order of their first rows."""
        return iter({id(rows): rows for rows in self._of_kind.values()}.values())


class Numbering:
    """Numbering of the batches of each device, from 1. `batches` counts them."""

    def __init__(self) -> None:
        self.batches: dict[str, int] = {}

    def cut(self, portion: Iterable[Item]) -> list[list[FileBatch]]:
        """Return the batches of the next slice, a list for each device."""
        devices: dict[str, Groups] = {}
        blocks: dict[str, list[Block]] = {}
        for item in portion:
            groups = devices.get(item.device)
            if groups is None:
                groups = devices[item.device] = Groups()
            if type(item) is Row:
                groups.add(item)
            else:
                blocks.setdefault(item.device, []).append(cast("Block", item))
        batches: list[list[FileBatch]] = []
        for device, groups in devices.items():
            parts: list[list[Row] | BlockPart] = [part for rows in groups for part in _cut(rows)]
            parts += [part for block in blocks.get(device, ()) for part in _cut_block(block)]
            first = self.batches.get(device, 0) + 1
            batches.append([FileBatch(device, seq, part) for seq, part in enumerate(parts, first)])
            self.batches[device] = batches[-1][-1].seq
        return batches


def _cut(rows: list[Row]) -> Iterator[list[Row]]:
    """Yield the rows of one group in batches of BATCH_BYTES, in order of time; every frame fits the hub's limit."""
    rows.sort(key=attrgetter("time_ns"))
    batch: list[Row] = []
    names: dict[str, int] = {}
    heads = texts = 0
    for row in _spread(rows):
        values = row.values
        more_heads = 0
        if not values.keys() <= names.keys():
            more_heads = sum(_head_bytes(name) for name in values if name not in names)
            names.update((name, 0) for name in values)
        more_texts = _text_bytes(row)
        size = heads + more_heads + texts + more_texts + _ITEM_BYTES * (len(batch) + 1) * (1 + len(names))
        if batch and (size > BATCH_BYTES or len(batch) >= limits.MAX_TIMES):
            yield batch
            batch, heads, texts = [], 0, 0
            names = dict.fromkeys(values, 0)
            more_heads = sum(map(_head_bytes, values))
        if not batch and more_heads + more_texts + _ITEM_BYTES * (1 + len(names)) > BATCH_BYTES:
            yield from ([part] for part in _split(row))
            names = {}
            continue
        batch.append(row)
        heads += more_heads
        texts += more_texts
    if batch:
        yield batch


def _spread(rows: list[Row]) -> Iterator[Row]:
    """Yield the rows; of rows with one time, each value in the first row that has no other value of its metric.

    The hub moves a row whose time is taken, with all its values. Only the second reading of a series may move.
    """
    waiting: list[Row] = []
    for row in rows:
        if waiting and row.time_ns != waiting[0].time_ns:
            yield from _distinct(waiting) if len(waiting) > 1 else waiting
            waiting = []
        waiting.append(row)
    yield from _distinct(waiting) if len(waiting) > 1 else waiting


def _distinct(rows: list[Row]) -> list[Row]:
    found: list[dict[str, Value]] = [dict(rows[0].values)]
    counts = dict.fromkeys(rows[0].values, 1)
    for row in rows[1:]:
        for name, value in row.values.items():
            place = counts.get(name, 0)
            counts[name] = place + 1
            if place == len(found):
                found.append({})
            found[place][name] = value
    # A row without a value stays: its line belongs to the batch.
    found += [{} for _ in rows[len(found) :]]
    return [row._replace(values=values) for row, values in zip(rows, found, strict=True)]


def _split(row: Row) -> Iterator[Row]:
    """Yield a large row in parts, each with some of its values."""
    values: dict[str, Value] = {}
    size = 0
    for name, value in row.values.items():
        more = _head_bytes(name) + _ITEM_BYTES + (len(value.encode()) if isinstance(value, str) else 0)
        if values and size + more > BATCH_BYTES:
            yield row._replace(values=values)
            values, size = {}, 0
        values[name] = value
        size += more
    yield row._replace(values=values)


def _cut_block(block: Block) -> Iterator[BlockPart]:
    """Yield a block in batches of BATCH_BYTES, in order of time."""
    times, columns = block.times or [], block.columns
    numbers: Sequence[int] = range(block.line, block.line + len(times))
    if not all(first <= second for first, second in pairwise(times)):
        order = sorted(range(len(times)), key=times.__getitem__)
        numbers = [numbers[place] for place in order]
        times = [times[place] for place in order]
        columns = {name: [column[place] for place in order] for name, column in columns.items()}
    heads = sum(map(_head_bytes, columns))
    rows = max(1, min((BATCH_BYTES - heads) // (_ITEM_BYTES * (1 + len(columns))), limits.MAX_TIMES))
    for start in range(0, len(times), rows):
        part = slice(start, start + rows)
        yield BlockPart(numbers[part], times[part], {name: column[part] for name, column in columns.items()})


def _head_bytes(name: str) -> int:
    return len(name.encode()) + _HEAD_BYTES


def _text_bytes(row: Row) -> int:
    return sum(len(value.encode()) + _TEXT_HEAD_BYTES for value in row.values.values() if type(value) is str)


def encode(batch: FileBatch, types: Mapping[str, MetricType]) -> bytes:
    """Encode a batch as a historical data message in msgpack; `types` are the types of the device's metrics."""
    rows = batch.rows
    times: list[int]
    columns: dict[str, list[Value]]
    if isinstance(rows, BlockPart):
        times, columns = rows.times, cast("dict[str, list[Value]]", rows.columns)
    else:
        rows = [row for row in rows if row.values]
        times = [row.time_ns or 0 for row in rows]
        names = dict.fromkeys(name for row in rows for name in row.values)
        columns = {name: [row.values.get(name) for row in rows] for name in names}
    packed = len(times) >= PACK_FROM_ROWS
    values: dict[str, messages.Column] = {
        name: pack_floats(cast("list[float | None]", column)) if packed and types[name] == "float" else column
        for name, column in columns.items()
    }
    return AGENT_MESSAGES["msgpack"].encode(
        messages.Data(batch.seq, pack_times(times) if packed else times, values, historical=True)
    )
