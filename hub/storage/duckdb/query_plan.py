"""Selection of the tables that a query reads: raw readings where they exist, rollups where they fit or nothing else
exists.

Rollups consist of whole buckets. The ends of a range, which lie inside buckets, come from the finer table wherever it
still has them. Rows that a rollup does not contain yet come from the last rows of the finer table. So each reading of
the range is in exactly one relation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hub.model.store import StoreCursor
from hub.storage.duckdb import schema
from hub.storage.duckdb.database import SnapshotReader
from hub.storage.duckdb.schema import RESOLUTIONS, TIERS, Resolution
from hub.storage.query import NUMBERS, TimeRange
from wire.limits import MAX_TIME_NS
from wire.model import MetricType

MINUTE_NS, HOUR_NS = TIERS["minute"], TIERS["hour"]

BUCKETS_FOR_PEAKS = 1
"""Buckets in an interval from which its minimum and maximum may come from a rollup. They are true readings at their own
times, whichever interval their bucket lies in."""

BUCKETS_FOR_VALUES = 10
"""Buckets in an interval from which its average, its count or its ends may come from a rollup whose buckets do not
begin where the intervals begin: at most a tenth of the readings count to a neighbour."""


class TierStarts(NamedTuple):
    """The times from which raw readings and minutes exist. A retention deleted the older ones."""

    raw_from_ns: int
    minute_from_ns: int


class RollupBacklog(NamedTuple):
    """Rows at the end of the raw table and of the minutes that are not in the next rollup yet."""

    readings: int
    minutes: int


class TableRange(NamedTuple):
    """Rows of one table whose time (for rollups, the begin of the bucket) is in the range.

    If `backlog_only`, only the rows that the next coarser rollup does not contain yet.
    """

    table: Resolution
    time_range: TimeRange
    backlog_only: bool = False


def resolution_for(width_ns: int, start_ns: int | None) -> Resolution:
    """Return the coarsest table for intervals of this width.

    `start_ns` is where intervals of values begin; None for peaks.
    """
    for tier in ("hour", "minute"):
        bucket_ns = TIERS[tier]
        if start_ns is None:
            fits = width_ns >= BUCKETS_FOR_PEAKS * bucket_ns
        else:
            fits = width_ns >= BUCKETS_FOR_VALUES * bucket_ns or width_ns % bucket_ns == start_ns % bucket_ns == 0
        if fits:
            return tier
    return "raw"


def plan_tables(time_range: TimeRange, resolution: Resolution, tier_starts: TierStarts) -> list[TableRange]:
    """Return the ranges that together contain each reading of the range once, none of them finer than necessary."""
    # The finer table contains only a part of the bucket in which the deleted readings end.
    starts = [_round_up(start_ns, HOUR_NS) for start_ns in (*tier_starts, 0)]
    return list(_plan(RESOLUTIONS.index(resolution), time_range.first_ns, time_range.last_ns + 1, starts))


def _plan(level: int, start: int, end: int, starts: Sequence[int]) -> Iterator[TableRange]:
    """Yield the plan of a range without its end: a table of RESOLUTIONS at this level if it fits and exists there.

    `starts` contains the time from which the table of each level exists.
    """
    if start < starts[level]:
        yield from _plan(level + 1, start, min(end, starts[level]), starts)
        start = starts[level]
    if start >= end:
        return
    if level == 0:
        yield TableRange("raw", TimeRange(start, end - 1))
        return
    first, last = _whole_buckets(start, end, (MINUTE_NS, HOUR_NS)[level - 1], starts[level - 1])
    if first >= last:
        yield from _plan(level - 1, start, end, starts)
        return
    if start < first:
        yield from _plan(level - 1, start, first, starts)
    buckets = TimeRange(first, min(last - 1, MAX_TIME_NS))
    yield TableRange(RESOLUTIONS[level], buckets)
    for finer in RESOLUTIONS[:level]:
        yield TableRange(finer, buckets, backlog_only=True)
    if last < end:
        yield from _plan(level - 1, last, end, starts)


def _whole_buckets(start: int, end: int, bucket: int, finer_from: int) -> tuple[int, int]:
    """Return the whole buckets of a range; at an end that no finer table has, including the bucket of that end."""
    first = _round_up(start, bucket) if start >= finer_from else start - start % bucket
    last = end - end % bucket if end > finer_from else _round_up(end, bucket)
    return first, last


def _round_up(time_ns: int, bucket: int) -> int:
    return -(-time_ns // bucket) * bucket


_READING = "series, time_ns, value"


class QuerySources(NamedTuple):
    """The contents of the reader's snapshot: its cursor, the start of each tier and the backlog of the rollups."""

    reader: SnapshotReader
    cursor: StoreCursor
    tier_starts: TierStarts
    backlog: Mapping[str, RollupBacklog]

    def readings(self, types: Sequence[MetricType], table_ranges: Sequence[TableRange]) -> str:
        """Return a relation (series, time_ns, value, resolution) of the readings of the series in the table `wanted`.

        Readings of several types are values of the first one.

        A piece of a rollup returns the readings that it contains at their own times: first and last, and of numbers the
        lowest and the highest, some of them twice. They may lie outside the range by less than a bucket.
        """
        kept = ("first", "low", "high", "last") if types[0] in NUMBERS else ("first", "last")
        times, values = (", ".join(f"{name}{end}" for name in kept) for end in ("_ns", ""))
        piece = f"series, unnest([{times}]) AS time_ns, unnest([{values}]) AS value"
        return _union(select for type in types for select in self._selects(type, table_ranges, _READING, piece))

    def pieces(self, types: Sequence[MetricType], table_ranges: Sequence[TableRange]) -> str:
        """Return a relation of rollup pieces and their resolution. A raw reading is a piece of its own."""

        def selects(type: MetricType) -> list[str]:
            raw = schema.piece_columns(type, lambda column: f"{column.one_reading} AS {column.name}")
            columns = schema.piece_columns(type, lambda column: column.name)
            return self._selects(type, table_ranges, f"series, time_ns, {raw}", f"series, time_ns, {columns}")

        return _union(select for type in types for select in selects(type))

    def _selects(self, type: MetricType, table_ranges: Sequence[TableRange], raw: str, piece: str) -> list[str]:
        # One scan reads all ranges of a table: each scan begins with the bounds of all row groups, which is half of the
        # work if there are a billion rows.
        scans: dict[tuple[Resolution, bool], list[str]] = {}
        for resolution, time_range, backlog_only in table_ranges:
            condition = f"time_ns BETWEEN {time_range.first_ns} AND {time_range.last_ns}"
            scans.setdefault((resolution, backlog_only), []).append(condition)
        selects = []
        for (resolution, backlog_only), conditions in scans.items():
            is_raw = resolution == "raw"
            table = schema.table(resolution, type)
            rows = ""
            if backlog_only:
                count = self.backlog[type].readings if is_raw else self.backlog[type].minutes
                if not count:
                    continue
                rows = f" AND source.rowid > {self._last_row(table) - count}"
            selects.append(
                f"SELECT {raw if is_raw else piece}, {RESOLUTIONS.index(resolution)} AS resolution "
                f"FROM {table} AS source JOIN wanted ON series = id WHERE ({' OR '.join(conditions)}){rows}"
            )
        return selects

    def _last_row(self, table: str) -> int:
        count = int(self.reader.fetch(f"SELECT count(*) AS count FROM {table}")["count"][0])
        # See `last_row` in hub.storage.duckdb.tables.
        last = self.reader.fetch(f"SELECT max(rowid) AS last FROM {table} WHERE rowid >= ?", count - 1)["last"]
        return int(last[0])


def _union(selects: Iterable[str]) -> str:
    """Return a relation of all rows. DuckDB casts integers to floats where both occur."""
    return " UNION ALL ".join(selects)


def read_sources(reader: SnapshotReader) -> QuerySources:
    """Read the contents of this reader's snapshot."""
    rows = reader.fetch(schema.READ_SOURCES)
    names = ("type", "readings", "minutes")
    return QuerySources(
        reader,
        StoreCursor(str(rows["journal"][0]), int(rows["position"][0])),
        TierStarts(int(rows["raw_from_ns"][0]), int(rows["minute_from_ns"][0])),
        {
            str(type): RollupBacklog(int(readings), int(minutes))
            for type, readings, minutes in zip(*(rows[name] for name in names), strict=True)
        },
    )
