"""Decides whether a batch can be stored, and turns it into the hub's columnar form. Pure; the hot path.

A batch is accepted or refused whole: half a batch would be a loss that nobody was told of.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import lt
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from hub.contract.batch import Batch, Column, Entry, Series
from wire import device, limits
from wire.codec import AGENT_MESSAGES
from wire.columns import ITEM_BYTES
from wire.errors import Code, WireError
from wire.model import MetricType, Value

ARRAY_FROM = 16
"""Columns of at least this many rows become arrays at once, however they came; shorter ones are lists. An array costs
0.3 to 1 µs, and as much again for each thing that is asked of it: a batch of 4 packed columns of 10 rows takes 11 µs as
lists where it takes 17 µs as arrays."""

_LONGS = [Struct(f"<{rows}q") for rows in range(ARRAY_FROM)]
_DOUBLES = [Struct(f"<{rows}d") for rows in range(ARRAY_FROM)]

INT64 = np.dtype("<i8")
FLOAT64 = np.dtype("<f8")
"""Packed columns' items; naming them by a text each time costs a look-up."""

_new: Any = tuple.__new__
"""Named tuples without their Python constructors: 0.1 µs instead of 0.25 µs, once a frame."""

_ALLOWED: dict[MetricType, frozenset[type]] = {
    "float": frozenset({float, int, type(None)}),
    "integer": frozenset({int, type(None)}),
    "boolean": frozenset({bool, type(None)}),
    "string": frozenset({str, type(None)}),
}

_FLOATS = {float}


class Accepted(NamedTuple):
    """An accepted batch. `data` is what goes on disk: the message given, or, where `moved` readings had the time of an
    earlier one of their series, a copy with their times moved on by 1 ns each."""

    batch: Batch
    data: device.Data
    moved: int


def accept(data: device.Data, metrics: Mapping[str, Series | WireError]) -> Accepted:
    """The batch in columnar form. Raises WireError with the batch's seq where it has to go to quarantine.

    `metrics` has the device's declared metrics; a WireError in it is why that metric's batches are refused.
    """
    try:
        times = _times(data.time)
        columns, readings = _columns(data.values, len(times), metrics)
    except WireError as refusal:
        raise WireError(refusal.code, refusal.message, seq=data.seq) from None
    batch = Batch(times, columns, readings=readings, historical=data.historical)
    first = times[0]
    last = first
    rising = True
    if not isinstance(times, list):
        # numpy's all() costs 2 µs, ten times as much as this.
        rising = np.count_nonzero(times[1:] > times[:-1]) == len(times) - 1
        first, last = times.item(0), times.item(-1)
    elif len(times) > 1:
        rising = all(map(lt, times, times[1:]))
        last = times[-1]
    if rising:
        for series, _ in columns:
            if first <= series.last_time_ns:
                break
        else:
            for series, _ in columns:
                series.last_time_ns = last
            batch.rising = True
            accepted: Accepted = _new(Accepted, (batch, data, 0))
            return accepted
    return _with_distinct_times(batch, data)


def decode(data: device.Data, metrics: Mapping[str, Series | WireError]) -> Batch:
    """The batch of a message that was accepted before, as it was then; used for what is read back from the journal."""
    times = _times(data.time)
    columns, readings = _columns(data.values, len(times), metrics)
    return Batch(times, columns, readings=readings, historical=data.historical)


def decode_entry(entry: Entry, metrics: Mapping[str, Series | WireError]) -> Batch:
    """The batch of a BATCH entry that was read back from the journal's file."""
    message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    if not isinstance(message, device.Data):
        raise WireError(Code.BAD_MESSAGE, f"offset {entry.offset} is not a batch")
    return decode(message, metrics)


def _times(times: device.Times) -> list[int] | NDArray[np.int64]:
    """The times as a list where they are few, else as an array."""
    if isinstance(times, list):
        # The codec has judged each of them.
        _check_rows(len(times))
        return times if len(times) < ARRAY_FROM else np.array(times, dtype=np.int64)
    rows, rest = divmod(len(times), ITEM_BYTES)
    if rest:
        raise WireError(
            Code.LENGTH_MISMATCH, f"a packed column is made of 8-byte items, this one has {len(times)} bytes"
        )
    _check_rows(rows)
    if rows < ARRAY_FROM:
        listed = list(_LONGS[rows].unpack(times))
        _check_oldest(min(listed))
        return listed
    array = np.frombuffer(times, INT64)
    _check_oldest(array.min())
    return array


def _check_rows(rows: int) -> None:
    if not rows:
        raise WireError(Code.EMPTY, "the time column is empty")
    if rows > limits.MAX_TIMES:
        raise WireError(Code.TOO_MANY, f"a batch has at most {limits.MAX_TIMES} times, this one has {rows}")


def _check_oldest(time_ns: int) -> None:
    if time_ns < 0:
        raise WireError(Code.OUT_OF_RANGE, "a time before 1970")


def _columns(
    values: dict[str, device.Column], rows: int, metrics: Mapping[str, Series | WireError]
) -> tuple[list[Column], int]:
    if rows >= ARRAY_FROM and (matrix := _packed_matrix(values, rows, metrics)) is not None:
        return matrix, rows * len(matrix)
    columns: list[Column] = []
    readings = 0
    for name, column in values.items():
        series = metrics.get(name)
        if type(series) is not Series:
            raise series if isinstance(series, WireError) else _unknown(name)
        if isinstance(column, list):
            if len(column) != rows:
                raise WireError(Code.LENGTH_MISMATCH, f"{name} has {len(column)} values for {rows} times")
            if rows == 1:
                count = _check_one(name, series, column[0])
                columns.append((series, column))
            else:
                checked, count = _check_list(name, series, column)
                columns.append((series, checked))
        else:
            packed, count = _check_packed(name, series, column, rows)
            columns.append((series, packed))
        readings += count
    if not readings:
        raise WireError(Code.EMPTY, "the batch has no reading")
    return columns, readings


def _packed_matrix(
    values: dict[str, device.Column], rows: int, metrics: Mapping[str, Series | WireError]
) -> list[Column] | None:
    """All columns at once where all are packed, whole and for float series; None where any needs a closer look.

    One conversion and one check a frame instead of one a column: each call of numpy costs about 1 µs here.
    """
    found = []
    size = rows * ITEM_BYTES
    for name, column in values.items():
        series = metrics.get(name)
        if type(column) is not bytes or len(column) != size or type(series) is not Series or series.type != "float":
            return None
        found.append(series)
    if not found:
        return None
    matrix = np.frombuffer(b"".join(values.values()), FLOAT64).reshape(len(found), rows)  # type: ignore[arg-type]
    if np.count_nonzero(np.isfinite(matrix)) != matrix.size:
        return None
    return list(zip(found, matrix, strict=True))


def _unknown(name: str) -> WireError:
    return WireError(Code.UNKNOWN_METRIC, f"{name} was not declared")


def _check_one(name: str, series: Series, value: Value) -> int:
    kind = type(value)
    if kind is float and series.type == "float":
        if value - value != 0.0:  # type: ignore[operator]  # NaN and the infinities, in one comparison
            raise WireError(Code.NOT_FINITE, f"{name} is {value}")
        return 1
    if value is None:
        return 0
    return _check_list(name, series, [value])[1]


def _check_list(name: str, series: Series, values: list[Value]) -> tuple[list[Value] | NDArray[np.float64], int]:
    expected = series.type
    kinds = set(map(type, values))
    if kinds == _FLOATS and expected == "float" and len(values) < ARRAY_FROM and _all_finite(values):
        return values, len(values)
    extra = kinds - _ALLOWED[expected]
    if extra:
        got = ", ".join(sorted(kind.__name__ for kind in extra))
        raise WireError(Code.WRONG_TYPE, f"{name} is declared {expected} but has {got}")
    nulls = values.count(None)
    count = len(values) - nulls
    if expected == "float":
        array = np.array(values, dtype=np.float64)
        if np.count_nonzero(np.isfinite(array)) != count:
            raise WireError(Code.NOT_FINITE, f"{name} has a value that is not a finite number")
        return (array if len(values) >= ARRAY_FROM else values), count
    if expected == "integer" and count:
        present = [value for value in values if value is not None] if nulls else values
        if min(present) < limits.MIN_INTEGER or max(present) > limits.MAX_INTEGER:  # type: ignore[type-var,operator]
            raise WireError(Code.OUT_OF_RANGE, f"{name} has an integer outside signed 64 bits")
    elif expected == "string":
        for value in values:
            # A character is at most 4 bytes, so most strings are cleared by their length alone.
            is_long = isinstance(value, str) and len(value) * 4 > limits.MAX_STRING_VALUE_BYTES
            if is_long and len(str(value).encode()) > limits.MAX_STRING_VALUE_BYTES:
                raise WireError(Code.OUT_OF_RANGE, f"{name} has a string over {limits.MAX_STRING_VALUE_BYTES} bytes")
    return values, count


def _check_packed(name: str, series: Series, packed: bytes, rows: int) -> tuple[list[Value] | NDArray[np.float64], int]:
    if series.type != "float":
        raise WireError(Code.WRONG_TYPE, f"{name} is declared {series.type}; packed columns are for float metrics")
    if len(packed) != rows * ITEM_BYTES:
        raise WireError(Code.LENGTH_MISMATCH, f"{name} has {len(packed)} bytes for {rows} times of 8 bytes each")
    if rows < ARRAY_FROM:
        values: list[Value] = list(_DOUBLES[rows].unpack(packed))
        if _all_finite(values):
            return values, rows
    array = np.frombuffer(packed, FLOAT64)
    count = int(np.count_nonzero(np.isfinite(array)))
    if count != rows and np.isinf(array).any():
        raise WireError(Code.NOT_FINITE, f"{name} has an infinity")
    return array, count


def _all_finite(values: list[Value]) -> bool:
    """Whether floats are finite for certain: their sum is only where all of them are (and it does not overflow)."""
    total: float = sum(values)  # type: ignore[arg-type]
    return total - total == 0.0


def _with_distinct_times(batch: Batch, data: device.Data) -> Accepted:
    """Rows that are out of order, or have the time of another row or of the newest stored one.

    A row has one time for all its series, so where one of them has to move the row moves. Only the newest stored time
    of a series is known here: a late row that equals an older stored one is not found, and both stay as they are.
    """
    newest = {series.last_time_ns for series, _ in batch.columns}
    taken = set(newest)
    times = [int(time) for time in batch.times]
    moved_rows = []
    for row, time in enumerate(times):
        moved = time
        while moved in taken:
            moved += 1
        if moved > limits.MAX_TIME_NS:
            raise WireError(Code.OUT_OF_RANGE, "a time beyond the year 2262", seq=data.seq)
        if moved != time:
            times[row] = moved
            moved_rows.append(row)
        taken.add(moved)
    last = max(times)
    for series, _ in batch.columns:
        series.last_time_ns = max(series.last_time_ns, last)
    if not moved_rows:
        return Accepted(batch, data, 0)
    moved_readings = sum(
        1 for row in moved_rows for _, values in batch.columns if (v := values[row]) is not None and v == v
    )
    batch.times = times if len(times) == 1 else np.array(times, dtype=np.int64)
    packed = isinstance(data.time, bytes)
    return Accepted(
        batch,
        replace(data, time=np.array(times, dtype="<i8").tobytes() if packed else times),
        moved_readings,
    )
