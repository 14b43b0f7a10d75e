"""Reduction of InfluxDB's answers for each interval to the points of a chart. Pure.

A series may have been in several measurements, one after the other. Their answers are combined here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hub.model.store import Aggregate
from hub.storage.influxdb.influxql import MeasurementRows
from hub.storage.query import Array, Intervals


class Points(NamedTuple):
    """Times and values in time order."""

    times_ns: Array
    values: Array


class Ends(NamedTuple):
    """The first and the last reading of each interval that has readings, in order of the intervals."""

    first: Points
    last: Points


def join_rows(rows: Sequence[MeasurementRows]) -> Points:
    """Return all rows in time order. Rows of one time keep the order of `rows`."""
    if len(rows) == 1:
        return Points(rows[0].times_ns, rows[0].values)
    times_ns = np.concatenate([part.times_ns for part in rows])
    values = np.concatenate([part.values for part in rows])
    order = np.argsort(times_ns, kind="stable")
    return Points(times_ns[order], values[order])


def interval_numbers(times_ns: Array, intervals: Intervals) -> Array:
    """Return the number of the interval of each time."""
    parts: Array = (times_ns - intervals.from_ns) // intervals.width_ns
    return parts


def interval_minima(rows: Sequence[MeasurementRows], intervals: Intervals) -> Points:
    """Return the lowest reading of each interval; of equal ones, the earliest."""
    points = join_rows(rows)
    return _first_of_each(_sorted(points, points.values, intervals), intervals)


def interval_maxima(rows: Sequence[MeasurementRows], intervals: Intervals) -> Points:
    """Return the highest reading of each interval; of equal ones, the earliest."""
    points = join_rows(rows)
    # The lowest int64 cannot be negated; its complement sorts the same way.
    descending = ~points.values if points.values.dtype == np.int64 else -points.values
    return _first_of_each(_sorted(points, descending, intervals), intervals)


def interval_ends(
    first_readings: Sequence[MeasurementRows],
    *,
    values: tuple[Sequence[MeasurementRows], Sequence[MeasurementRows]],
    moments: tuple[Sequence[MeasurementRows], Sequence[MeasurementRows]],
    intervals: Intervals,
) -> Ends:
    """Return the ends of each interval at their own times.

    `first_readings` contains the first reading of each measurement. `values` are the first and the last of each
    interval, at the interval's begin. `moments` contain the times of the first and the last, except of that first
    reading.
    """
    first, last = (
        [_at_reading_times(begin, values[end], moments[end], intervals) for begin in first_readings] for end in (0, 1)
    )
    for begin, rows in zip(first_readings, first, strict=True):
        # Its moments begin with the second reading.
        rows.times_ns[:1] = begin.times_ns
    return Ends(_first_of_each(join_rows(first), intervals), _last_of_each(join_rows(last), intervals))


def _at_reading_times(
    begin: MeasurementRows, values: Sequence[MeasurementRows], moments: Sequence[MeasurementRows], intervals: Intervals
) -> MeasurementRows:
    """Return the values of a measurement at the times of their readings, by default the time of its first reading."""
    value_rows, moment_rows = _same_measurement(begin, values), _same_measurement(begin, moments)
    numbers = interval_numbers(moment_rows.times_ns, intervals).tolist()
    time_by_number = dict(zip(numbers, moment_rows.times_ns.tolist(), strict=True))
    first_ns = int(begin.times_ns[0])
    times = [
        time_by_number.get(number, first_ns) for number in interval_numbers(value_rows.times_ns, intervals).tolist()
    ]
    return MeasurementRows(begin.measurement, np.array(times, np.int64), value_rows.values)


def _same_measurement(begin: MeasurementRows, rows: Sequence[MeasurementRows]) -> MeasurementRows:
    nothing = MeasurementRows(begin.measurement, begin.times_ns[:0], begin.values[:0])
    return next((candidate for candidate in rows if candidate.measurement == begin.measurement), nothing)


def _sorted(points: Points, sort_values: Array, intervals: Intervals) -> Points:
    order = np.lexsort((points.times_ns, sort_values, interval_numbers(points.times_ns, intervals)))
    return Points(points.times_ns[order], points.values[order])


def _first_of_each(points: Points, intervals: Intervals) -> Points:
    parts = interval_numbers(points.times_ns, intervals)
    chosen = np.ones(len(parts), np.bool_)
    chosen[1:] = parts[1:] != parts[:-1]
    return Points(points.times_ns[chosen], points.values[chosen])


def _last_of_each(points: Points, intervals: Intervals) -> Points:
    parts = interval_numbers(points.times_ns, intervals)
    chosen = np.ones(len(parts), np.bool_)
    chosen[:-1] = parts[1:] != parts[:-1]
    return Points(points.times_ns[chosen], points.values[chosen])


def interleave(early: Points, late: Points, ends: Ends | None = None) -> Points:
    """Return the two points of each interval in time order, and around them the ends of the range. No duplicates."""
    swapped = early.times_ns > late.times_ns
    columns = []
    for rows_of_measurement, other in zip(early, late, strict=True):
        pairs = np.stack(
            [np.where(swapped, other, rows_of_measurement), np.where(swapped, rows_of_measurement, other)], 1
        ).ravel()
        columns.append(pairs)
    times_ns, values = columns
    if ends is not None:
        times_ns = np.concatenate([ends.first.times_ns, times_ns, ends.last.times_ns])
        values = np.concatenate([ends.first.values, values, ends.last.values])
    is_new = np.ones(len(times_ns), np.bool_)
    is_new[1:] = times_ns[1:] != times_ns[:-1]
    return Points(times_ns[is_new], values[is_new])


def combine_measurements(
    rows: Sequence[MeasurementRows], aggregate: Aggregate, counts: Sequence[MeasurementRows] = ()
) -> Points:
    """Combine the intervals of several measurements: minima, maxima, counts, or averages with their counts.

    Intervals without readings have no rows.
    """
    points = join_rows(rows)
    if len(rows) == 1:
        return points
    times_ns, parts = np.unique(points.times_ns, return_inverse=True)
    if aggregate == "avg":
        weights = join_rows(counts).values.astype(np.float64)
        sums = np.bincount(parts, points.values * weights)
        return Points(times_ns, sums / np.bincount(parts, weights))
    order = np.argsort(parts, kind="stable")
    begins = np.flatnonzero(np.diff(parts[order], prepend=-1))
    reduce: dict[str, np.ufunc] = {"min": np.minimum, "max": np.maximum, "count": np.add}
    return Points(times_ns, reduce[aggregate].reduceat(points.values[order], begins))
