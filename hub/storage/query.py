"""Rules that the queries of every store share: limits, time ranges, intervals and the form of answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hub.model.batch import Series
from hub.model.store import MIN_POINTS, Aggregate, HistoryQuery, SeriesHistory, StoreError
from wire.limits import MAX_TIME_NS
from wire.model import MetricType, Value

Array = NDArray[Any]

SeriesResolution = Literal["raw", "reduced", "minute", "hour"]
"""The source of the points of an answer."""

DTYPES: dict[MetricType, type[np.generic]] = {
    "float": np.float64,
    "integer": np.int64,
    "boolean": np.bool_,
    "string": np.object_,
}
"""The dtype of the values of each metric type. Only a float array can express "no value", as NaN."""

NUMBERS: tuple[MetricType, ...] = ("float", "integer")
"""The metric types that have sums and extremes."""

NUMERIC_AGGREGATES = ("avg", "min", "max")
"""Aggregates that apply to NUMBERS only."""

MIN_POINTS_WITH_ENDS = 4
"""From this number of points, a series' first and last reading are among them, so a line ends where its data end."""

MAX_READINGS = 2_000_000
"""Maximum readings in one raw answer, which is sorted by time in memory. The hub grows by 260 MB (JSON, Arrow) to
310 MB (CSV) for one such answer, and by 410 MB for four at once. A larger query is rejected; an export has no limit."""

MAX_TEXT_BYTES = 64_000_000
"""Maximum bytes of strings in one raw answer. Several copies of them exist while the answer is built."""


class TimeRange(NamedTuple):
    """A range from its first to its last nanosecond, both included. It is empty if the first is after the last."""

    first_ns: int
    last_ns: int

    @property
    def is_empty(self) -> bool:
        """Return True if no time is in the range."""
        return self.first_ns > self.last_ns


def clip_range(start_ns: int, end_ns: int, *, newest_ns: int = MAX_TIME_NS) -> TimeRange:
    """Return the part of [start, end) in which readings can exist. It may be empty."""
    return TimeRange(max(start_ns, 0), min(end_ns - 1, newest_ns))


def interval_width(query: HistoryQuery, points: int) -> int:
    """Return the width in nanoseconds of the equal intervals of an aggregate query."""
    return -((query.start_ns - query.end_ns) // points)


def has_ends(type: MetricType, points: int) -> bool:
    """Return True if the points of a reduced series include its first and its last reading."""
    return type in NUMBERS and points >= MIN_POINTS_WITH_ENDS


def interval_count(type: MetricType, points: int) -> int:
    """Return the number of intervals of a reduced series: two points each, besides the two of `has_ends`."""
    return (points - 2 if has_ends(type, points) else points) // 2


class Intervals(NamedTuple):
    """Intervals of `width_ns` each. Interval 0 begins at `from_ns`."""

    from_ns: int
    width_ns: int


def divide(time_range: TimeRange, type: MetricType, points: int) -> Intervals:
    """Return the intervals that divide a range for at most `points` points."""
    first_ns, last_ns = time_range
    return Intervals(first_ns, (last_ns - first_ns) // interval_count(type, points) + 1)


class Points(NamedTuple):
    """Times and values in time order."""

    times_ns: Array
    values: Array


class Ends(NamedTuple):
    """The first and the last reading of each interval that has readings, in order of the intervals."""

    first: Points
    last: Points


def interleave(early: Points, late: Points, ends: Ends | None = None) -> Points:
    """Return the two points of each interval in time order, and around them the ends of the range. No duplicates."""
    swapped = early.times_ns > late.times_ns
    times_ns, values = (
        np.stack([np.where(swapped, after, before), np.where(swapped, before, after)], 1).ravel()
        for before, after in zip(early, late, strict=True)
    )
    if ends is not None:
        times_ns = np.concatenate([ends.first.times_ns, times_ns, ends.last.times_ns])
        values = np.concatenate([ends.first.values, values, ends.last.values])
    # One reading may be the minimum, the maximum and an end at the same time.
    is_new = np.ones(len(times_ns), np.bool_)
    is_new[1:] = (times_ns[1:] != times_ns[:-1]) | (values[1:] != values[:-1])
    return Points(times_ns[is_new], values[is_new])


def series_history(series: Series, times_ns: Array, values: Array, resolution: SeriesResolution) -> SeriesHistory:
    """Return arrays in the form of the store's contract: strings become a list."""
    listed: list[Value] | Array = values.tolist() if values.dtype == np.object_ else values
    return SeriesHistory(series, times_ns, listed, resolution)


class HistoryPart(NamedTuple):
    """The stored readings of a series that one answer contains: those of all these types.

    `series` has the type of the values of the answer.
    """

    series: Series
    types: tuple[MetricType, ...]


def history_parts(series: Series, aggregate: Aggregate = "minmax") -> list[HistoryPart]:
    """Return the parts of a series, the one of its current type first; only those to which the aggregate applies.

    A series whose type was changed has stored readings of several types. Its floats and integers are one part, of
    floats; texts and booleans are parts of their own.
    """
    if not series.parts:
        return [HistoryPart(series, (series.type,))]
    numbers = tuple(type for type in NUMBERS if type in series.types)
    kinds = [(series.type,), *((type,) for type in series.types)]
    merged = [numbers if types[0] in NUMBERS else types for types in kinds]
    label = {part.type: part for part in series.parts}
    return [
        HistoryPart(label[types[0]], types)
        for types in dict.fromkeys(merged)
        if types[0] in NUMBERS or aggregate not in NUMERIC_AGGREGATES
    ]


def by_types(parts: Iterable[HistoryPart]) -> dict[tuple[MetricType, ...], dict[int, Series]]:
    """Return the series of these parts by the types that are read together, and by id."""
    found: dict[tuple[MetricType, ...], dict[int, Series]] = {}
    for series, types in parts:
        found.setdefault(types, {})[series.id] = series
    return found


def in_query_order(query: HistoryQuery, found: Mapping[Series, SeriesHistory]) -> list[SeriesHistory]:
    """Return the answers in the order of the query. The first part of a series is empty if it has no answer."""
    nothing = np.empty(0, np.int64)
    answers = []
    for item in query.series:
        for number, (series, _) in enumerate(history_parts(item, query.aggregate)):
            if series in found:
                answers.append(found[series])
            elif number == 0:
                answers.append(series_history(series, nothing, np.empty(0, DTYPES[series.type]), "raw"))
    return answers


def check_query(query: HistoryQuery) -> None:
    """Raise ValueError for fewer than MIN_POINTS points, and StoreError if the aggregate does not apply to a series."""
    if query.points is None:
        return
    if query.points < MIN_POINTS:
        raise ValueError(f"a query asks for at least {MIN_POINTS} points")
    if query.aggregate in NUMERIC_AGGREGATES:
        others = [f"{item.device} {item.metric} ({item.type})" for item in query.series if item.type not in NUMBERS]
        if others:
            raise StoreError(
                f"{query.aggregate} is for float and integer series only, not for {', '.join(others)}: ask for first, "
                "last or count"
            )


def check_answer_size(*, readings: int = 0, text_bytes: int = 0, max_readings: int = MAX_READINGS) -> None:
    """Raise StoreError for a raw answer of more than `max_readings` readings or MAX_TEXT_BYTES of strings."""
    if readings > max_readings:
        excess = f"{max_readings} readings"
    elif text_bytes > MAX_TEXT_BYTES:
        excess = f"{MAX_TEXT_BYTES // 1_000_000} MB of text"
    else:
        return
    raise StoreError(
        f"more than {excess}: ask for a shorter range, fewer series or a number of points, or export everything with "
        "/api/v1/export or `hub export`"
    )
