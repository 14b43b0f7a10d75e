"""Validate batches and convert them to the hub's columnar form. Pure; the hot path.

A batch is valid as a whole or not at all. hub.ingest.partial_batch separates the valid values of one that is not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import itemgetter, lt
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from hub.model.batch import Batch, Column, Entry, EntryKind, Series
from wire import device, limits
from wire.codec import AGENT_MESSAGES
from wire.columns import ITEM_BYTES
from wire.errors import Code, WireError
from wire.model import Metric, MetricType, Value

ARRAY_FROM = 16
"""Columns of at least this many rows become arrays at once; shorter ones are lists. An array costs 0.3 to 1 µs, and as
much again for each operation: a batch of 4 packed columns of 10 rows takes 11 µs as lists and 17 µs as arrays."""

_LONGS = [Struct(f"<{rows}q") for rows in range(ARRAY_FROM)]
_DOUBLES = [Struct(f"<{rows}d") for rows in range(ARRAY_FROM)]

INT64 = np.dtype("<i8")
FLOAT64 = np.dtype("<f8")
"""Items of packed columns. Naming a type by a string each time would cost a look-up."""

_new: Any = tuple.__new__
"""Constructor of named tuples without their Python constructors: 0.1 µs instead of 0.25 µs, once a frame."""

_ALLOWED: dict[MetricType, frozenset[type]] = {
    "float": frozenset({float, int, type(None)}),
    "integer": frozenset({int, type(None)}),
    "boolean": frozenset({bool, type(None)}),
    "string": frozenset({str, type(None)}),
}

_FLOATS = {float}

MAX_STEPS = 8
"""Steps for each reading of a batch in the search of times that are free in all series of a row."""


class ValidBatch(NamedTuple):
    """Batch that passed validation. `data` is the message to write to disk. Where `moved` readings had the time of an
    earlier one of their series, it is a copy with these times moved by 1 ns each."""

    batch: Batch
    data: device.Data
    moved: int


def validate(data: device.Data, metrics: Mapping[str, Series | WireError]) -> ValidBatch:
    """Return the batch in columnar form. Raises WireError, with the batch's seq, for a batch that must be quarantined.

    `metrics` has the device's declared metrics; a WireError in it is the reason why batches of that metric are
    rejected.
    """
    try:
        times, rising = read_times(data.time)
        columns, readings = _columns(data.values, len(times), metrics)
    except WireError as refusal:
        raise WireError(refusal.code, refusal.message, seq=data.seq) from None
    batch = Batch(times, columns, readings=readings, historical=data.historical)
    if rising:
        first, last = (times[0], times[-1]) if isinstance(times, list) else (times.item(0), times.item(-1))
        for series, _ in columns:
            if first <= series.last_time_ns:
                break
        else:
            if readings == len(times) * len(columns):
                for series, _ in columns:
                    series.last_time_ns = series.run_ns = last
            else:
                for series, values in columns:
                    present = _present(values)
                    if present:
                        series.reach(int(times[present[-1]]))
            batch.rising = True
            valid: ValidBatch = _new(ValidBatch, (batch, data, 0))
            return valid
    return _with_distinct_times(batch, data)


def decode(data: device.Data, metrics: Mapping[str, Series | WireError]) -> Batch:
    """Return the batch of a message that was accepted before and is read back from the journal."""
    if isinstance(data.time, bytes) and len(data.time) >= ARRAY_FROM * ITEM_BYTES:
        # Accepted times are valid. Checking them again would be a fifth of the work.
        times: list[int] | NDArray[np.int64] = np.frombuffer(data.time, INT64)
    else:
        times, _ = read_times(data.time)
    rows = len(times)
    try:
        columns, readings = _columns(data.values, rows, metrics)
    except WireError:
        columns, readings = _columns(data.values, rows, _as_accepted(data.values, rows, metrics))
    return Batch(times, columns, readings=readings, historical=data.historical)


def metrics_to_widen(values: Mapping[str, object], metrics: Mapping[str, Series | WireError]) -> list[Metric]:
    """Return the integer metrics to which a batch brings floats, as the float metrics that they have to become.

    Call it for a batch that is not valid: a metric that is widened never needs it again.
    """
    found = {}
    for name, column in values.items():
        series = metrics.get(name)
        if isinstance(series, Series) and series.type == "integer" and _has_float(column):
            found[series.metric] = Metric(series.metric, "float", series.unit, series.description)
    return list(found.values())


def _has_float(column: object) -> bool:
    if isinstance(column, bytes):
        whole = len(column) - len(column) % ITEM_BYTES
        return bool(np.isfinite(np.frombuffer(column[:whole], FLOAT64)).any())
    return isinstance(column, list) and any(type(value) is float and isfinite(value) for value in column)


def _as_accepted(
    values: Mapping[str, device.Column], rows: int, metrics: Mapping[str, Series | WireError]
) -> dict[str, Series | WireError]:
    """Return the metrics of an accepted batch, each with the newest of its types that its values have."""
    found: dict[str, Series | WireError] = {}
    for name, column in values.items():
        series = metrics.get(name) or _unknown(name)
        found[name] = series
        if isinstance(series, Series):
            parts = (series, *reversed(series.parts))
            found[name] = next((part for part in parts if _fits(name, part, column, rows)), series)
    return found


def _fits(name: str, series: Series, column: device.Column, rows: int) -> bool:
    try:
        _columns({name: column}, rows, {name: series})
    except WireError as refusal:
        return refusal.code is Code.EMPTY  # no value: every type fits
    return True


def decode_entry(entry: Entry, metrics: Mapping[str, Series | WireError]) -> Batch:
    """Return the batch of a BATCH entry that was read back from the journal's file. Raises WireError."""
    message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    if not isinstance(message, device.Data):
        raise WireError(Code.BAD_MESSAGE, f"offset {entry.offset} is not a batch")
    return decode(message, metrics)


def read_times(times: device.Times) -> tuple[list[int] | NDArray[np.int64], bool]:
    """Return few times as a list, more as an array, and whether they rise from row to row. Raises WireError."""
    if isinstance(times, list):
        # The codec has validated each of them.
        rows = len(times)
        _check_rows(rows)
        if rows < ARRAY_FROM:
            return times, rows == 1 or all(map(lt, times, times[1:]))
        array = np.array(times, dtype=np.int64)
        return array, _rises(array)
    rows, rest = divmod(len(times), ITEM_BYTES)
    if rest:
        raise WireError(
            Code.LENGTH_MISMATCH, f"a packed column consists of 8-byte items, this one has {len(times)} bytes"
        )
    _check_rows(rows)
    if rows < ARRAY_FROM:
        listed = list(_LONGS[rows].unpack(times))
        _check_oldest(min(listed))
        return listed, rows == 1 or all(map(lt, listed, listed[1:]))
    array = np.frombuffer(times, INT64)
    rising = _rises(array)
    # Rising times, the usual case, begin with the oldest: a search costs 1.4 µs.
    _check_oldest(array.item(0) if rising else array.min())
    return array, rising


def _rises(times: NDArray[np.int64]) -> bool:
    # numpy's all() costs 2 µs, ten times as much.
    return bool(np.count_nonzero(times[1:] > times[:-1]) == len(times) - 1)


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
        if series.names:
            check_name(name, series, values)
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


def check_name(name: str, series: Series, values: Mapping[str, object]) -> None:
    """Raise WireError for an earlier name of a metric that the batch also has under its current or another name."""
    preferred = next(known for known in (series.metric, *series.names) if known in values)
    if name != preferred:
        raise WireError(
            Code.UNKNOWN_METRIC,
            f"{name} was renamed to {series.metric}, and the batch has {preferred} as well: let the device send one",
        )


def _packed_matrix(
    values: dict[str, device.Column], rows: int, metrics: Mapping[str, Series | WireError]
) -> list[Column] | None:
    """Convert all columns at once where all are packed, complete and for float series; return None otherwise.

    This is one conversion and one check for each frame instead of each column: a call of numpy costs about 1 µs here.
    """
    found = []
    size = rows * ITEM_BYTES
    for name, column in values.items():
        series = metrics.get(name)
        if type(column) is not bytes or len(column) != size or type(series) is not Series or series.type != "float":
            return None
        if series.names:
            check_name(name, series, values)
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
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            raise WireError(Code.OUT_OF_RANGE, f"{name} has an integer that is no float") from None
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
    """Return whether floats are certainly finite: their sum is finite only where all of them are."""
    total: float = sum(values)  # type: ignore[arg-type]
    return total - total == 0.0


def _with_distinct_times(batch: Batch, data: device.Data) -> ValidBatch:
    """Move rows in which a series has a time for the second time to the next time that is free in all their series.

    A row has one time for all its series, so the whole row moves. Of each series only the newest stored time is known,
    with the times that lead up to it in steps of 1 ns. A late row that equals an older stored one is not found, and
    both keep their times.
    """
    columns = [(series, values, rows) for series, values in batch.columns if (rows := _present(values))]
    free = _FreeTimes((series.run_ns, series.last_time_ns) for series, _, _ in columns if series.last_time_ns >= 0)
    given = [int(time) for time in batch.times]
    times = [free.allocate(time) for time in given]
    if times != given:
        # Rows of one time without a common series can keep it.
        times = _free_in_series(given, columns) or times
    if max(times) > limits.MAX_TIME_NS:
        raise WireError(Code.OUT_OF_RANGE, "a time beyond the year 2262", seq=data.seq)
    for series, _, rows in columns:
        _reach(series, {times[row] for row in rows})
    moved_rows = {row for row, (before, after) in enumerate(zip(given, times, strict=True)) if before != after}
    if not moved_rows:
        return ValidBatch(batch, data, 0)
    batch.times = times if len(times) < ARRAY_FROM else np.array(times, dtype=np.int64)
    packed = isinstance(data.time, bytes)
    return ValidBatch(
        batch,
        replace(data, time=np.array(times, dtype="<i8").tobytes() if packed else times),
        sum(row in moved_rows for _, _, rows in columns for row in rows),
    )


def _free_in_series(given: list[int], columns: Sequence[tuple[Series, object, Sequence[int]]]) -> list[int] | None:
    """Return for each row the first time from the given one on that is free in all series of the row.

    None if it takes too many steps, as where two series of a row have every second time.
    """
    series_of: list[list[_FreeTimes]] = [[] for _ in given]
    left = 0
    for series, _, rows in columns:
        free = _FreeTimes([(series.run_ns, series.last_time_ns)] if series.last_time_ns >= 0 else [])
        left += MAX_STEPS * len(rows)
        for row in rows:
            series_of[row].append(free)
    times = []
    for time, series_free in zip(given, series_of, strict=True):
        while (found := max((free.find(time) for free in series_free), default=time)) != time:
            time = found
            left -= len(series_free)
            if left < 0:
                return None
        for free in series_free:
            free.reserve(time)
        times.append(time)
    return times


class _FreeTimes:
    """Allocator of distinct times.

    Each result is cached for all times that led to it, so that many rows of one time cost no more than rows of
    different times: 65,536 of them take 0.1 s. A search in steps of 1 ns took minutes.
    """

    def __init__(self, taken: Iterable[tuple[int, int]]) -> None:
        """Start with the ranges that are taken, both ends included."""
        self._ranges: list[tuple[int, int]] = []
        for first, last in sorted(taken):
            if self._ranges and first <= self._ranges[-1][1] + 1:
                self._ranges[-1] = (self._ranges[-1][0], max(last, self._ranges[-1][1]))
            else:
                self._ranges.append((first, last))
        self._next: dict[int, int] = {}

    def allocate(self, time_ns: int) -> int:
        """Return the first free time from `time_ns` on, and reserve it."""
        time_ns = self.find(time_ns)
        self.reserve(time_ns)
        return time_ns

    def find(self, time_ns: int) -> int:
        """Return the first free time from `time_ns` on."""
        passed = []
        while (following := self._next.get(time_ns) or self._after_range(time_ns)) is not None:
            passed.append(time_ns)
            time_ns = following
        if len(passed) > 1:
            self._next.update(dict.fromkeys(passed, time_ns))
        return time_ns

    def reserve(self, time_ns: int) -> None:
        """Reserve a free time."""
        self._next[time_ns] = time_ns + 1

    def _after_range(self, time_ns: int) -> int | None:
        place = bisect_right(self._ranges, time_ns, key=itemgetter(0)) - 1
        return self._ranges[place][1] + 1 if place >= 0 and time_ns <= self._ranges[place][1] else None


def _reach(series: Series, times_ns: set[int]) -> None:
    """Update the newest time of the series, and the run of times that leads up to it, with these stored times."""
    newest = max(times_ns)
    if newest <= series.last_time_ns:
        return
    first = newest
    while first - 1 in times_ns:
        first -= 1
    series.run_ns = series.run_ns if first - 1 == series.last_time_ns else first
    series.last_time_ns = newest


def _present(values: list[Value] | NDArray[np.float64]) -> Sequence[int]:
    """Return the rows that have a value."""
    if isinstance(values, list):
        return [row for row, value in enumerate(values) if value is not None and value == value]
    found: list[int] = np.flatnonzero(~np.isnan(values)).tolist()
    return found


def count_readings(entry: Entry) -> int:
    """Return how many readings an entry has, without knowing its metrics; 0 for one that is not a readable batch."""
    if entry.batch is not None:
        return entry.batch.readings
    if entry.kind is not EntryKind.BATCH:
        return 0
    try:
        message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    except WireError:
        return 0
    if not isinstance(message, device.Data):
        return 0
    return sum(map(count_values, message.values.values()))


def count_values(column: device.Column) -> int:
    """Return how many values a valid column has that are not missing."""
    if isinstance(column, bytes):
        return int(np.count_nonzero(~np.isnan(np.frombuffer(column, FLOAT64))))
    return len(column) - column.count(None)
