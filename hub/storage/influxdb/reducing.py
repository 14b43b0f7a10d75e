"""Points of a chart out of what InfluxDB found for each interval. Pure.

A series may have been in several measurements, one after the other: what was found in each is put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hub.model.store import Aggregate
from hub.storage.influxdb.influxql import Intervals
from hub.storage.influxdb.rows import Array, Rows


class Points(NamedTuple):
    """Times and values, in order of time."""

    times_ns: Array
    values: Array


class Ends(NamedTuple):
    """The first and the last reading of each interval that has readings, in order of the intervals."""

    first: Points
    last: Points


def joined(rows: Sequence[Rows]) -> Points:
    """All rows, in order of time; those of one time stay in the order of `rows`."""
    if len(rows) == 1:
        return Points(rows[0].times_ns, rows[0].values)
    times_ns = np.concatenate([part.times_ns for part in rows])
    values = np.concatenate([part.values for part in rows])
    order = np.argsort(times_ns, kind="stable")
    return Points(times_ns[order], values[order])


def parts_of(times_ns: Array, intervals: Intervals) -> Array:
    """The number of the interval that each time is in."""
    parts: Array = (times_ns - intervals.from_ns) // intervals.width_ns
    return parts


def lowest(rows: Sequence[Rows], intervals: Intervals) -> Points:
    """Of each interval the lowest, of equal ones the earliest."""
    points = joined(rows)
    return _first_of_each(_sorted(points, points.values, intervals), intervals)


def highest(rows: Sequence[Rows], intervals: Intervals) -> Points:
    """Of each interval the highest, of equal ones the earliest."""
    points = joined(rows)
    # The lowest int64 cannot be negated; its complement is as good.
    falling = ~points.values if points.values.dtype == np.int64 else -points.values
    return _first_of_each(_sorted(points, falling, intervals), intervals)


def ends_of(
    begin: Sequence[Rows],
    *,
    values: tuple[Sequence[Rows], Sequence[Rows]],
    moments: tuple[Sequence[Rows], Sequence[Rows]],
    intervals: Intervals,
) -> Ends:
    """The ends of each interval, at their own times.

    `begin` is the first reading of each measurement. `values` are the first and the last of each interval, at the
    interval's begin; `moments` have the times of the first and the last but for that first reading.
    """
    first, last = (
        [_timed(one, _of(one, values[end]), _of(one, moments[end]), intervals) for one in begin] for end in (0, 1)
    )
    for one, rows in zip(begin, first, strict=True):
        # Its moments begin with the second reading.
        rows.times_ns[:1] = one.times_ns
    return Ends(_first_of_each(joined(first), intervals), _last_of_each(joined(last), intervals))


def _timed(begin: Rows, values: Rows, moments: Rows, intervals: Intervals) -> Rows:
    """The values of intervals at the times of their readings; that of the first reading where there is no other."""
    known = dict(zip(parts_of(moments.times_ns, intervals).tolist(), moments.times_ns.tolist(), strict=True))
    first_ns = int(begin.times_ns[0])
    times = [known.get(part, first_ns) for part in parts_of(values.times_ns, intervals).tolist()]
    return Rows(begin.measurement, np.array(times, np.int64), values.values)


def _of(begin: Rows, rows: Sequence[Rows]) -> Rows:
    nothing = Rows(begin.measurement, begin.times_ns[:0], begin.values[:0])
    return next((part for part in rows if part.measurement == begin.measurement), nothing)


def _sorted(points: Points, by: Array, intervals: Intervals) -> Points:
    order = np.lexsort((points.times_ns, by, parts_of(points.times_ns, intervals)))
    return Points(points.times_ns[order], points.values[order])


def _first_of_each(points: Points, intervals: Intervals) -> Points:
    parts = parts_of(points.times_ns, intervals)
    chosen = np.ones(len(parts), np.bool_)
    chosen[1:] = parts[1:] != parts[:-1]
    return Points(points.times_ns[chosen], points.values[chosen])


def _last_of_each(points: Points, intervals: Intervals) -> Points:
    parts = parts_of(points.times_ns, intervals)
    chosen = np.ones(len(parts), np.bool_)
    chosen[:-1] = parts[1:] != parts[:-1]
    return Points(points.times_ns[chosen], points.values[chosen])


def woven(early: Points, late: Points, ends: Ends | None = None) -> Points:
    """The two points of each interval, and before and after them those of the whole range; each reading once."""
    swapped = early.times_ns > late.times_ns
    columns = []
    for one, other in zip(early, late, strict=True):
        pairs = np.stack([np.where(swapped, other, one), np.where(swapped, one, other)], 1).ravel()
        columns.append(pairs)
    times_ns, values = columns
    if ends is not None:
        times_ns = np.concatenate([ends.first.times_ns, times_ns, ends.last.times_ns])
        values = np.concatenate([ends.first.values, values, ends.last.values])
    new = np.ones(len(times_ns), np.bool_)
    new[1:] = times_ns[1:] != times_ns[:-1]
    return Points(times_ns[new], values[new])


def combined(rows: Sequence[Rows], aggregate: Aggregate, counts: Sequence[Rows] = ()) -> Points:
    """What each interval comes to, of all measurements: of their minima, maxima, counts, or averages with counts.

    Intervals without any have no rows.
    """
    points = joined(rows)
    if len(rows) == 1:
        return points
    times_ns, parts = np.unique(points.times_ns, return_inverse=True)
    if aggregate == "avg":
        weights = joined(counts).values.astype(np.float64)
        sums = np.bincount(parts, points.values * weights)
        return Points(times_ns, sums / np.bincount(parts, weights))
    order = np.argsort(parts, kind="stable")
    begins = np.flatnonzero(np.diff(parts[order], prepend=-1))
    reduce: dict[str, np.ufunc] = {"min": np.minimum, "max": np.maximum, "count": np.add}
    return Points(times_ns, reduce[aggregate].reduceat(points.values[order], begins))
