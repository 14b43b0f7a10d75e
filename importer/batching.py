"""Rows to batches, always the same batches for the same rows: a batch's number says which part of the file it is.

The file is cut into slices. In each slice the rows of a device and group make batches, in order of time within the
slice. Slices bound the memory; that a file has the rows of its devices mixed costs nothing but smaller batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple, cast

from importer.row import Row
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES
from wire.columns import pack_floats, pack_times
from wire.model import MetricType, Value

SLICE_BYTES = 8 << 20
"""Of the file's text in one slice. Two are in memory, one being read and one being sent."""

SLICE_READINGS = 100_000
"""Readings of one slice: about 10 MB as Python's objects, and a thousand readings in a batch of a hundred devices."""

BATCH_BYTES = 64 << 10
"""A batch's size: large enough that its frame costs nothing beside its readings, small beside what a hub takes."""

PACK_FROM_ROWS = 8
"""Columns of as many rows travel packed; below it a list costs the hub less."""

_ENVELOPE_BYTES = 100
"""What a frame needs besides its columns' content, at most."""
_ITEM_BYTES = 9
"""A time, a number or a truth value in msgpack, at most."""
_HEAD_BYTES = 10
"""The heads of a column's name and of the column itself, at most."""
_TEXT_HEAD_BYTES = 5

_time_of = attrgetter("time_ns")


class Batch(NamedTuple):
    """Rows of one device that are sent as one batch, under the number `seq`."""

    device: str
    seq: int
    rows: list[Row]

    @property
    def readings(self) -> int:
        """How many values."""
        return sum(len(row.values) for row in self.rows)


def slices(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in portions that fit into memory."""
    portion: list[Row] = []
    size = readings = 0
    for row in rows:
        portion.append(row)
        size += len(row.raw)
        readings += len(row.values)
        if size >= SLICE_BYTES or readings >= SLICE_READINGS:
            yield portion
            portion, size, readings = [], 0, 0
    if portion:
        yield portion


class Numbering:
    """Cuts slices into batches and numbers each device's, from 1. `batches` has how many there are by now."""

    def __init__(self) -> None:
        self.batches: dict[str, int] = {}

    def cut(self, portion: Iterable[Row]) -> list[list[Batch]]:
        """The batches of the next slice, a list for each device."""
        devices: dict[str, dict[str, list[Row]]] = {}
        for row in portion:
            devices.setdefault(row.device, {}).setdefault(row.group, []).append(row)
        return [self._number(device, groups.values()) for device, groups in devices.items()]

    def _number(self, device: str, groups: Iterable[list[Row]]) -> list[Batch]:
        seq = self.batches.get(device, 0)
        numbered = [
            Batch(device, number, rows)
            for number, rows in enumerate((batch for group in groups for batch in _cut(group)), seq + 1)
        ]
        self.batches[device] = seq + len(numbered)
        return numbered


def _cut(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows of one group in batches of BATCH_BYTES, in order of time; no frame is larger than what a hub takes."""
    rows.sort(key=_time_of)
    batch: list[Row] = []
    names: dict[str, int] = {}
    heads = texts = 0
    for row in rows:
        new = {name: _head_bytes(name) for name in row.values if name not in names}
        more_heads, more_texts = sum(new.values()), _text_bytes(row)
        size = heads + more_heads + texts + more_texts
        size += _ITEM_BYTES * (len(batch) + 1) * (1 + len(names) + len(new))
        if batch and (size > BATCH_BYTES or len(batch) >= limits.MAX_TIMES):
            yield batch
            batch, names, heads, texts = [], {}, 0, 0
            new = {name: _head_bytes(name) for name in row.values}
            more_heads = sum(new.values())
        if not batch and more_heads + more_texts + _ITEM_BYTES * (1 + len(new)) > BATCH_BYTES:
            yield from ([part] for part in _split(row))
            continue
        batch.append(row)
        names.update(new)
        heads += more_heads
        texts += more_texts
    if batch:
        yield batch


def _split(row: Row) -> Iterator[Row]:
    """A row that is large by itself, in parts with some of its values each."""
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


def _head_bytes(name: str) -> int:
    return len(name.encode()) + _HEAD_BYTES


def _text_bytes(row: Row) -> int:
    return sum(len(value.encode()) + _TEXT_HEAD_BYTES for value in row.values.values() if isinstance(value, str))


def encode(batch: Batch, types: Mapping[str, MetricType]) -> bytes:
    """The batch as a message of the device protocol, msgpack, historical; `types` are those of the device's metrics."""
    rows = batch.rows
    packed = len(rows) >= PACK_FROM_ROWS
    times = [row.time_ns for row in rows]
    names = dict.fromkeys(name for row in rows for name in row.values)
    values: dict[str, messages.Column] = {}
    for name in names:
        column = [row.values.get(name) for row in rows]
        values[name] = pack_floats(cast("list[float | None]", column)) if packed and types[name] == "float" else column
    return AGENT_MESSAGES["msgpack"].encode(
        messages.Data(batch.seq, pack_times(times) if packed else times, values, historical=True)
    )
