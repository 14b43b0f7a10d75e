"""Rows to batches. The same rows always make the same batches, so the number of a batch identifies a part of the file.

The file is cut into slices. In each slice the rows of a device and group become batches, in order of time. Slices bound
the memory. A file that mixes the rows of many devices only gets smaller batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple, cast

from importer.records import FileRow
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES
from wire.columns import pack_floats, pack_times
from wire.model import MetricType, Value

SLICE_BYTES = 8 << 20
"""Bytes of the file in one slice. Two slices are in memory: one is read while the other is sent."""

SLICE_READINGS = 100_000
"""Readings in one slice: about 10 MB as Python objects, and a thousand readings per batch with a hundred devices."""

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


class FileBatch(NamedTuple):
    """Rows of one device that are sent as batch `seq`."""

    device: str
    seq: int
    rows: list[FileRow]

    @property
    def readings(self) -> int:
        """The number of values."""
        return sum(len(row.values) for row in self.rows)


def slices(rows: Iterable[FileRow]) -> Iterator[list[FileRow]]:
    """Yield the rows in portions that fit into memory."""
    portion: list[FileRow] = []
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
    """Numbering of the batches of each device, from 1. `batches` counts them."""

    def __init__(self) -> None:
        self.batches: dict[str, int] = {}

    def cut(self, portion: Iterable[FileRow]) -> list[list[FileBatch]]:
        """Return the batches of the next slice, a list for each device."""
        devices: dict[str, dict[str, list[FileRow]]] = {}
        for row in portion:
            devices.setdefault(row.device, {}).setdefault(row.group, []).append(row)
        batches: list[list[FileBatch]] = []
        for device, groups in devices.items():
            parts = (part for group in groups.values() for part in _cut(group))
            first = self.batches.get(device, 0) + 1
            batches.append([FileBatch(device, seq, part) for seq, part in enumerate(parts, first)])
            self.batches[device] = batches[-1][-1].seq
        return batches


def _cut(rows: list[FileRow]) -> Iterator[list[FileRow]]:
    """Yield the rows of one group in batches of BATCH_BYTES, in order of time; every frame fits the hub's limit."""
    rows.sort(key=attrgetter("time_ns"))
    batch: list[FileRow] = []
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


def _split(row: FileRow) -> Iterator[FileRow]:
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


def _head_bytes(name: str) -> int:
    return len(name.encode()) + _HEAD_BYTES


def _text_bytes(row: FileRow) -> int:
    return sum(len(value.encode()) + _TEXT_HEAD_BYTES for value in row.values.values() if isinstance(value, str))


def encode(batch: FileBatch, types: Mapping[str, MetricType]) -> bytes:
    """Encode a batch as a historical data message in msgpack; `types` are the types of the device's metrics."""
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
