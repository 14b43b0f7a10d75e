"""Which tables answer which part of a range: raw readings where they are, rollups where they fit or nothing else is.

Pure. Rollups are pieces of whole buckets, so the ends of a range, which lie inside of buckets, come from the finer
table wherever that still has them; and what a rollup does not have yet comes from the last rows of the finer table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from hub.storage.duckdb.answer import Range
from hub.storage.duckdb.schema import TIERS
from wire.limits import MAX_TIME_NS

Resolution = Literal["raw", "minute", "hour"]

MINUTE_NS, HOUR_NS = TIERS["minute"], TIERS["hour"]

BUCKETS_FOR_PEAKS = 1
"""Buckets in an interval from which on its minimum and its maximum may come from a rollup. They are true readings at
their own times, whichever interval their bucket lies in."""

BUCKETS_FOR_VALUES = 10
"""Buckets in an interval from which on its average, its count or its ends may come from a rollup whose buckets do not
begin where the intervals begin: a tenth of the readings at most are counted to a neighbour."""


class Held(NamedTuple):
    """From when on the raw readings and the minutes are there; older ones a retention deleted."""

    raw_from_ns: int
    minute_from_ns: int


class Part(NamedTuple):
    """Rows of one table with a time (of rollups: a bucket's begin) in the range. `behind`: only those that the next
    coarser rollup does not have yet."""

    table: Resolution
    within: Range
    behind: bool = False


def resolution_for(width_ns: int, start_ns: int | None) -> Resolution:
    """The coarsest table for intervals of this width. `start_ns` is where intervals of values begin, None for peaks."""
    for tier in ("hour", "minute"):
        bucket_ns = TIERS[tier]
        if start_ns is None:
            fits = width_ns >= BUCKETS_FOR_PEAKS * bucket_ns
        else:
            fits = width_ns >= BUCKETS_FOR_VALUES * bucket_ns or width_ns % bucket_ns == start_ns % bucket_ns == 0
        if fits:
            return tier
    return "raw"


def plan(within: Range, resolution: Resolution, held: Held) -> list[Part]:
    """The parts that together have each reading of the range once, none of them finer than it has to be."""
    # Of the bucket in which the deleted end the finer table has only a part.
    raw_from, minute_from = _up(held.raw_from_ns, HOUR_NS), _up(held.minute_from_ns, HOUR_NS)
    planned = _Plan(raw_from, minute_from)
    answer = {"raw": planned.raw, "minute": planned.minutes, "hour": planned.hours}[resolution]
    return list(answer(within.first_ns, within.last_ns + 1))


class _Plan(NamedTuple):
    """Ranges here have their first and not their last nanosecond, and are not empty."""

    raw_from: int
    minute_from: int

    def raw(self, start: int, end: int) -> Iterator[Part]:
        if start < self.raw_from:
            yield from self.minutes(start, min(end, self.raw_from))
        if end > self.raw_from:
            yield _part("raw", max(start, self.raw_from), end)

    def minutes(self, start: int, end: int) -> Iterator[Part]:
        if start < self.minute_from:
            yield from self.hours(start, min(end, self.minute_from))
            start = self.minute_from
        if start >= end:
            return
        first, last = _whole(start, end, MINUTE_NS, self.raw_from)
        if first >= last:
            yield _part("raw", start, end)
            return
        if start < first:
            yield _part("raw", start, first)
        yield _part("minute", first, last)
        yield _part("raw", first, last, behind=True)
        if last < end:
            yield _part("raw", last, end)

    def hours(self, start: int, end: int) -> Iterator[Part]:
        first, last = _whole(start, end, HOUR_NS, self.minute_from)
        if first >= last:
            yield from self.minutes(start, end)
            return
        if start < first:
            yield from self.minutes(start, first)
        yield _part("hour", first, last)
        yield _part("minute", first, last, behind=True)
        yield _part("raw", first, last, behind=True)
        if last < end:
            yield from self.minutes(last, end)


def _whole(start: int, end: int, bucket: int, finer_from: int) -> tuple[int, int]:
    """The buckets inside of a range; at an end that no finer table has, with the one that the end is in."""
    first = _up(start, bucket) if start >= finer_from else start - start % bucket
    last = end - end % bucket if end > finer_from else _up(end, bucket)
    return first, last


def _up(time_ns: int, bucket: int) -> int:
    return -(-time_ns // bucket) * bucket


def _part(table: Resolution, start: int, end: int, *, behind: bool = False) -> Part:
    return Part(table, Range(start, min(end - 1, MAX_TIME_NS)), behind)
