"""Reduction of InfluxDB's answers for each interval to the points of a chart. Pure.

A series may have been in several measurements, one after the other. Their answers are combined here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hub.model.store import Aggregate
from hub.storage.influxdb.influxql import MeasurementRows
from hub.storage.query import Array, Ends, Intervals, Points

FIRST, LAST = slice(1, None), slice(None, -1)
"""The points that differ in their interval from the point before them, or after them."""


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
    return _lowest(points, points.values, intervals)


def interval_maxima(rows: Sequence[MeasurementRows], intervals: Intervals) -> Points:
    """Return the highest reading of each interval; of equal ones, the earliest."""
    points = join_rows(rows)
    # The lowest int64 cannot be negated; its complement sorts the same way.
    descending = ~points.values if points.values.dtype == np.int64 else -points.values
    return _lowest(points, descending, intervals)


def interval_ends(
    first_readings: Sequence[MeasurementRows],
    first: Sequence[MeasurementRows],
    last: Sequence[MeasurementRows],
    first_moments: Sequence[MeasurementRows],
    last_moments: Sequence[MeasurementRows],
    *,
    intervals: Intervals,
) -> Ends:
    """Return the ends of each interval at their own times.

    `first_readings` contains the first reading of each measurement. `first` and `last` are values of each interval, at
    the interval's begin. The moments contain their times, except of that first reading.
    """
    first = [_at_reading_times(begin, first, first_moments, intervals) for begin in first_readings]
    last = [_at_reading_times(begin, last, last_moments, intervals) for begin in first_readings]
    for begin, rows in zip(first_readings, first, strict=True):
        # Its moments begin with the second reading.
        rows.times_ns[:1] = begin.times_ns
    return Ends(_select_ends(join_rows(first), intervals, FIRST), _select_ends(join_rows(last), intervals, LAST))


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


def _lowest(points: Points, sort_values: Array, intervals: Intervals) -> Points:
    order = np.lexsort((points.times_ns, sort_values, interval_numbers(points.times_ns, intervals)))
    return _select_ends(Points(points.times_ns[order], points.values[order]), intervals, FIRST)


def _select_ends(points: Points, intervals: Intervals, side: slice) -> Points:
    """Return the first or the last point of each interval."""
    numbers = interval_numbers(points.times_ns, intervals)
    chosen = np.ones(len(numbers), np.bool_)
    chosen[side] = numbers[1:] != numbers[:-1]
    return Points(points.times_ns[chosen], points.values[chosen])


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
