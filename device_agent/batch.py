"""Batches: rows to columns, and columns to bytes that can be sent under any number without encoding them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import msgspec

from wire.codec import Format
from wire.columns import pack_floats, pack_times, unpack_floats, unpack_times
from wire.device import Column, Times
from wire.model import Metric, Seq, Value

PACK_FROM_ROWS = 8
"""Columns with at least this many rows are packed. The size is the same; below it a list costs the hub less."""

ENVELOPE_BYTES = 80
"""Most bytes of a frame besides its two columns: the keys, the longest number and the flag, in JSON."""

_ENCODE: dict[Format, Callable[[object], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}


class ReadingColumns(NamedTuple):
    """Readings in columns: a time in nanoseconds per row, and per metric a value per row, None for no value."""

    times: list[int]
    values: dict[str, list[Value]]
    historical: bool = False

    @property
    def readings(self) -> int:
        """The number of values that are not None."""
        return sum(len(column) - column.count(None) for column in self.values.values())


class EncodedBatch(NamedTuple):
    """A batch without its number: the time column and the value columns, each encoded in `format`.

    `readings` counts the values that are not None.
    """

    format: Format
    historical: bool
    readings: int
    time: bytes
    values: bytes

    @property
    def size(self) -> int:
        """Bytes of the two columns."""
        return len(self.time) + len(self.values)


class _Frame(msgspec.Struct, frozen=True, omit_defaults=True, tag="data"):
    """`wire.device.Data` with encoded columns; a test asserts that both have the same bytes."""

    seq: Seq
    time: msgspec.Raw
    values: msgspec.Raw
    historical: bool = False


def encode_row(time_ns: int, values: Mapping[str, Value], *, historical: bool, format: Format) -> EncodedBatch:
    """Return a batch of one row, in which no value is None."""
    encode = _ENCODE[format]
    columns = {name: (value,) for name, value in values.items()}
    return EncodedBatch(format, historical, len(values), encode((time_ns,)), encode(columns))


def encode_batch(columns: ReadingColumns, metrics: Mapping[str, Metric], format: Format) -> EncodedBatch:
    """Encode columns: packed in msgpack from PACK_FROM_ROWS rows on, as lists otherwise (JSON stays readable)."""
    encode = _ENCODE[format]
    packed = format == "msgpack" and len(columns.times) >= PACK_FROM_ROWS
    time: Times = pack_times(columns.times) if packed else columns.times
    values: dict[str, Column] = {
        name: _packed(column) if packed and metrics[name].type == "float" else column
        for name, column in columns.values.items()
    }
    return EncodedBatch(format, columns.historical, columns.readings, encode(time), encode(values))


def _packed(column: list[Value]) -> Column:
    """Return a column of a float metric packed; as it is if it has the type that the metric had in an earlier run."""
    if bool in map(type, column):
        return column  # a boolean would become a number
    try:
        return pack_floats(cast("list[float | None]", column))
    except TypeError:
        return column


def encode_frame(seq: int, batch: EncodedBatch) -> bytes:
    """Return the data message of a batch under this number, in the format of the batch."""
    frame = _Frame(seq, msgspec.Raw(batch.time), msgspec.Raw(batch.values), batch.historical)
    return _ENCODE[batch.format](frame)


def decode_batch(batch: EncodedBatch) -> ReadingColumns:
    """Return the columns of a batch. Raises msgspec.DecodeError for bytes that `encode_batch` does not make."""
    decode = msgspec.json.decode if batch.format == "json" else msgspec.msgpack.decode
    time = decode(batch.time)
    values = decode(batch.values)
    return ReadingColumns(
        unpack_times(time) if isinstance(time, bytes) else time,
        {
            name: cast("list[Value]", unpack_floats(column)) if isinstance(column, bytes) else column
            for name, column in values.items()
        },
        batch.historical,
    )


def columns_of_rows(rows: Sequence[tuple[int, Mapping[str, Value]]], *, historical: bool) -> ReadingColumns:
    """Return rows of (time_ns, values) as columns, with None where a row has no value of a metric."""
    values: dict[str, list[Value]] = {}
    for position, (_, row) in enumerate(rows):
        for name, value in row.items():
            column = values.get(name)
            if column is None:
                column = values[name] = [None] * len(rows)
            column[position] = value
    return ReadingColumns([time_ns for time_ns, _ in rows], values, historical)


def split(columns: ReadingColumns) -> tuple[ReadingColumns, ReadingColumns] | None:
    """Return the readings in two halves: of the rows, or of the metrics of a single row. None: they cannot be split."""
    times, values, historical = columns
    if len(times) > 1:
        middle = len(times) // 2
        first, second = (
            ReadingColumns(
                times[rows],
                {name: column[rows] for name, column in values.items() if column[rows].count(None) < len(times[rows])},
                historical,
            )
            for rows in (slice(None, middle), slice(middle, None))
        )
        return first, second
    if len(values) > 1:
        middle = len(values) // 2
        columns_of_row = list(values.items())
        return (
            ReadingColumns(times, dict(columns_of_row[:middle]), historical),
            ReadingColumns(times, dict(columns_of_row[middle:]), historical),
        )
    return None


def encode_within(
    columns: ReadingColumns, metrics: Mapping[str, Metric], format: Format, *, max_bytes: int, max_rows: int
) -> list[EncodedBatch]:
    """Return the readings in as many batches as the bounds require, in order; a value above the bound is left out.

    No frame is larger than `max_bytes`. A single value can be above it only when the bound of a hub is below
    MAX_STRING_VALUE_BYTES.
    """
    if not columns.values:
        return []
    if len(columns.times) <= max_rows:
        batch = encode_batch(columns, metrics, format)
        if batch.size + ENVELOPE_BYTES <= max_bytes:
            return [batch]
    parts = split(columns)
    if parts is None:
        return []
    return [
        batch
        for part in parts
        for batch in encode_within(part, metrics, format, max_bytes=max_bytes, max_rows=max_rows)
    ]
