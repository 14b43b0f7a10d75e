"""Queries and scans of the tables.

A query returns raw readings where they are few, and otherwise reduces them so that every minimum and maximum stays. A
scan returns every reading of many series and holds a bounded part of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hub.model.batch import Series
from hub.model.store import SCAN_READINGS, Aggregate, History, HistoryQuery, SeriesHistory
from hub.storage.duckdb import schema
from hub.storage.duckdb.columns import slices_by_series
from hub.storage.duckdb.database import SnapshotReader
from hub.storage.duckdb.query_plan import QuerySources, plan_tables, read_sources, resolution_for
from hub.storage.duckdb.schema import Resolution
from hub.storage.duckdb.summary import Span
from hub.storage.query import (
    MAX_READINGS,
    NUMBERS,
    Array,
    Ends,
    HistoryPart,
    Intervals,
    Points,
    SeriesResolution,
    TimeRange,
    by_types,
    check_answer_size,
    check_query,
    clip_range,
    divide,
    has_ends,
    history_parts,
    in_query_order,
    interleave,
    interval_count,
    interval_width,
    series_history,
)
from wire.limits import MAX_TIME_NS
from wire.model import MetricType

HistoryById = dict[int, SeriesHistory]
"""Answers by series id. Series without a reading in the range are left out."""

# The number of the interval of a reading. A reading outside of all intervals belongs to the nearest one.
INTERVAL_NUMBER = "greatest(0, least(intervals - 1, (time_ns - from_ns) // width_ns))"

ENDS = (
    "min(time_ns) AS first_ns, arg_min(value, time_ns) AS first_value, "
    "max(time_ns) AS last_ns, arg_max(value, time_ns) AS last_value"
)
PEAKS = (
    "min(value) AS low_value, arg_min(time_ns, value) AS low_ns, "
    "max(value) AS high_value, arg_max(time_ns, value) AS high_ns"
)


def read_history(
    reader: SnapshotReader, query: HistoryQuery, spans: Mapping[int, Span], *, max_readings: int = MAX_READINGS
) -> History:
    """Answer a query from the reader's snapshot.

    Raises ValueError for fewer points than MIN_POINTS, and StoreError for more than `max_readings` raw readings or for
    an aggregate that does not apply to the type of a series.

    `spans` may be older or newer than the snapshot: it only decides where the intervals lie and which way is tried
    first.
    """
    check_query(query)
    time_range = clip_range(query.start_ns, query.end_ns)
    sources = read_sources(reader)
    found: dict[Series, SeriesHistory] = {}
    if not time_range.is_empty:
        parts = (part for item in query.series for part in history_parts(item, query.aggregate))
        for types, wanted in by_types(parts).items():
            type_query = _TypeQuery(sources, types, time_range, wanted)
            if query.points is None:
                if types == ("string",):
                    check_answer_size(text_bytes=type_query.text_bytes())
                of_types = type_query.raw(wanted, max_readings + 1)
            elif query.aggregate == "minmax":
                of_types = type_query.reduced(query.points, spans)
            else:
                of_types = type_query.aggregated(query, query.points)
            found |= {history.series: history for history in of_types.values()}
        if query.points is None:
            readings = sum(len(history.times_ns) for history in found.values())
            check_answer_size(readings=readings, max_readings=max_readings)
    return History(sources.cursor, in_query_order(query, found))


AGGREGATES: dict[Aggregate, tuple[str, str]] = {
    "avg": ("avg(value)", "sum(sum) / sum(readings)"),
    "min": ("min(value)", "min(low)"),
    "max": ("max(value)", "max(high)"),
    "first": ("arg_min(value, time_ns)", "arg_min(first, first_ns)"),
    "last": ("arg_max(value, time_ns)", "arg_max(last, last_ns)"),
    "count": ("count(*)", "sum(readings)::BIGINT"),
}
"""The SQL of each aggregate of readings, and of pieces of a rollup."""


class _TypeQuery(NamedTuple):
    """The part of a query for the series of one type, or of numbers of several types, which become floats.

    Series without a reading in the range are not in the answers.
    """

    sources: QuerySources
    types: tuple[MetricType, ...]
    time_range: TimeRange
    wanted: Mapping[int, Series]

    @property
    def type(self) -> MetricType:
        """Return the type of the values of the answers."""
        return self.types[0]

    def reduced(self, points: int, spans: Mapping[int, Span]) -> HistoryById:
        """Return at most `points` points of each series, the extremes of each interval among them."""
        if self.time_range.first_ns < self.sources.tier_starts.raw_from_ns:
            spans = self._spans_from_rollups()
            return self._reduce({id: self._divide(span, points) for id, span in spans.items()}, points)
        # The scan is the main cost, so each series is read once: unreduced if few readings are expected.
        found: HistoryById = {}
        likely_few = {id: series for id, series in self.wanted.items() if self._expected(spans.get(id)) <= points}
        many = self.wanted.keys() - likely_few.keys()
        if likely_few:
            limit = points * len(likely_few)
            unreduced = self.raw(likely_few, limit + 1)
            if sum(len(history.times_ns) for history in unreduced.values()) <= limit:
                found = {id: history for id, history in unreduced.items() if len(history.times_ns) <= points}
                many |= unreduced.keys() - found.keys()
            else:
                many |= likely_few.keys()
        return found | self._reduce({id: self._divide(spans.get(id), points) for id in many}, points)

    def aggregated(self, query: HistoryQuery, points: int) -> HistoryById:
        """Return one value for each of `points` equal intervals that has readings.

        A bucket of a rollup counts to the interval in which it begins. The bucket in which the range begins counts to
        the first interval.
        """
        width_ns = interval_width(query, points)
        resolution = resolution_for(width_ns, query.start_ns)
        table_ranges = plan_tables(self.time_range, resolution, self.sources.tier_starts)
        result, piece_result = AGGREGATES[query.aggregate]
        if [table_range.table for table_range in table_ranges] == ["raw"]:
            relation = self.sources.readings(self.types, table_ranges)
        else:
            result, relation = piece_result, self.sources.pieces(self.types, table_ranges)
        self.sources.reader.select_series(self.wanted)
        # A range that begins before 1970 may exceed 63 bits of nanoseconds.
        time_ns = "time_ns" if query.start_ns >= 0 else "time_ns::HUGEINT"
        columns = self.sources.reader.fetch(
            f"SELECT series, greatest(0, ({time_ns} - ?) // ?)::INTEGER AS number, {result} AS result, "
            f"max(resolution) AS resolution FROM ({relation}) GROUP BY series, number "
            f"{'HAVING NOT isnan(result)' if query.aggregate == 'avg' else ''} ORDER BY series, number",
            *(query.start_ns, width_ns),
        )
        times_ns = query.start_ns + columns["number"].astype(np.int64) * width_ns
        return {
            id: series_history(
                self.wanted[id], times_ns[rows], columns["result"][rows], _resolution_name(columns["resolution"][rows])
            )
            for id, rows in slices_by_series(columns["series"])
        }

    def raw(self, wanted: Mapping[int, Series], limit: int | None = None) -> HistoryById:
        """Return every reading of these series; with a limit, any `limit` of them."""
        self.sources.reader.select_series(wanted)
        columns = self.sources.reader.fetch(
            f"SELECT * FROM (SELECT series, time_ns, value FROM ({schema.readings(self.types)}) "
            f"JOIN wanted ON series = id WHERE time_ns BETWEEN ? AND ? {'' if limit is None else f'LIMIT {limit}'}) "
            "ORDER BY series, time_ns",
            *self.time_range,
        )
        return {
            id: series_history(wanted[id], columns["time_ns"][rows], columns["value"][rows], "raw")
            for id, rows in slices_by_series(columns["series"])
        }

    def text_bytes(self) -> int:
        """Return the length of all strings in the range."""
        self.sources.reader.select_series(self.wanted)
        columns = self.sources.reader.fetch(
            f"SELECT coalesce(sum(strlen(value)), 0)::BIGINT AS bytes FROM {schema.table('raw', self.type)} "
            "JOIN wanted ON series = id WHERE time_ns BETWEEN ? AND ?",
            *self.time_range,
        )
        return int(columns["bytes"][0])

    def _spans_from_rollups(self) -> dict[int, Span]:
        """Return the ends of each series, for a range that begins before the raw readings."""
        self.sources.reader.select_series(self.wanted)
        relation = self.sources.pieces(self.types, plan_tables(self.time_range, "hour", self.sources.tier_starts))
        ends = self.sources.reader.fetch(
            f"SELECT series, min(first_ns) AS oldest, max(last_ns) AS newest FROM ({relation}) GROUP BY series"
        )
        rows = zip(*(column.tolist() for column in ends.values()), strict=True)
        return {id: Span(0, oldest_ns, newest_ns) for id, oldest_ns, newest_ns in rows}

    def _reduce(self, divided: Mapping[int, Intervals], points: int) -> HistoryById:
        """Return reduced series. A series with at most `points` readings, all of them raw, is returned unreduced."""
        by_resolution: dict[Resolution, dict[int, Intervals]] = {}
        for id, intervals in divided.items():
            by_resolution.setdefault(resolution_for(intervals.width_ns, None), {})[id] = intervals
        reduced: HistoryById = {}
        small: dict[int, Series] = {}
        for resolution, intervals_by_id in by_resolution.items():
            columns = self._fetch_intervals(intervals_by_id, points, resolution)
            for id, rows in slices_by_series(columns["series"]):
                made_of = _resolution_name(columns["resolution"][rows])
                if made_of == "reduced" and columns["readings"][rows].sum() <= points:
                    small[id] = self.wanted[id]
                else:
                    of_series = _points(columns, rows, ends=has_ends(self.type, points))
                    reduced[id] = series_history(self.wanted[id], *of_series, made_of)
        return reduced | (self.raw(small) if small else {})

    def _fetch_intervals(
        self, intervals_by_id: Mapping[int, Intervals], points: int, resolution: Resolution
    ) -> dict[str, Array]:
        """Return the ends and, of numbers, the extremes of each interval of these series."""
        ids = sorted(intervals_by_id)
        starts, widths = zip(*(intervals_by_id[id] for id in ids), strict=True)
        self.sources.reader.select_series(ids, from_ns=np.array(starts, np.int64), width_ns=np.array(widths, np.int64))
        number = INTERVAL_NUMBER.replace("intervals", str(interval_count(self.type, points)))
        table_ranges = plan_tables(self.time_range, resolution, self.sources.tier_starts)
        return self.sources.reader.fetch(
            f"SELECT series, {number} AS number, count(*) AS readings, "
            f"max(resolution) AS resolution, {ENDS}{f', {PEAKS}' if self.type in NUMBERS else ''} "
            f"FROM ({self.sources.readings(self.types, table_ranges)}) JOIN wanted ON series = id "
            "WHERE time_ns BETWEEN ? AND ? GROUP BY series, number ORDER BY series, number",
            *self.time_range,
        )

    def _expected(self, span: Span | None) -> float:
        """Return the expected number of readings in the range if the readings are evenly spaced."""
        if span is None:
            return 0
        common_ns = min(self.time_range.last_ns, span.newest_ns) - max(self.time_range.first_ns, span.oldest_ns) + 1
        return span.readings * max(0, common_ns) / (span.newest_ns - span.oldest_ns + 1)

    def _divide(self, span: Span | None, points: int) -> Intervals:
        """Return the intervals of a series. They divide the part of the range that has data."""
        first_ns, last_ns = self.time_range
        if span is not None and span.newest_ns >= first_ns and span.oldest_ns <= last_ns:
            first_ns, last_ns = max(first_ns, span.oldest_ns), min(last_ns, span.newest_ns)
        from_ns, width_ns = divide(TimeRange(first_ns, last_ns), self.type, points)
        # All of time in one interval would be one nanosecond too long; the rest belongs to that interval anyway.
        return Intervals(from_ns, min(width_ns, MAX_TIME_NS))


def _points(columns: Mapping[str, Array], rows: slice, *, ends: bool) -> Points:
    """Return the points of one series' intervals in time order."""
    early, late = ("low", "high") if "low_ns" in columns else ("first", "last")

    def points(name: str, rows: slice) -> Points:
        return Points(columns[f"{name}_ns"][rows], columns[f"{name}_value"][rows])

    first, last = slice(rows.start, rows.start + 1), slice(rows.stop - 1, rows.stop)
    around = Ends(points("first", first), points("last", last)) if ends else None
    return interleave(points(early, rows), points(late, rows), around)


def _resolution_name(resolutions: Array) -> SeriesResolution:
    """Return the coarsest of these resolutions (0 raw, 1 minutes, 2 hours)."""
    names: tuple[SeriesResolution, ...] = ("reduced", "minute", "hour")
    return names[int(resolutions.max())]


SCAN_BYTES = 128_000_000
"""Memory of the readings that one pass over the tables returns: 4 million numbers. A pass over 100 million readings
in order of arrival takes about 0.3 s; with half as much, the passes would cost more than the sorting."""

ROW_BYTES = 32
"""Memory of one reading while it is sorted, without the text of a string."""

TEXT_COPIES = 3
"""A string exists as DuckDB's text, as numpy's object and as the object of the sorted answer."""


class _SeriesSize(NamedTuple):
    """The bytes of a series' readings in the range, and of the largest one."""

    bytes: int
    largest_bytes: int


def scan_history(
    reader: SnapshotReader,
    series: Sequence[Series],
    time_range: TimeRange,
    *,
    max_bytes: int = SCAN_BYTES,
    piece_readings: int = SCAN_READINGS,
) -> Iterator[SeriesHistory]:
    """Yield every reading of the snapshot in pieces: one series after the other, in time order.

    Readings of one time come in order of arrival. Neighbouring series are read together while they fit into
    `max_bytes`. A series that does not fit alone is read in pages.
    """
    parts = [part for item in series for part in history_parts(item)]
    sizes = _sizes(reader, parts, time_range)
    group: list[HistoryPart] = []
    group_bytes = 0
    for part in parts:
        size = sizes.get(part.series)
        if size is None:
            continue
        if group and group_bytes + size.bytes > max_bytes:
            yield from _read_together(reader, group, time_range, piece_readings)
            group, group_bytes = [], 0
        if size.bytes > max_bytes:
            page_readings = max(1, max_bytes // size.largest_bytes)
            yield from _read_pages(reader, part, time_range, page_readings, piece_readings)
        else:
            group.append(part)
            group_bytes += size.bytes
    yield from _read_together(reader, group, time_range, piece_readings)


def _sizes(reader: SnapshotReader, parts: Sequence[HistoryPart], time_range: TimeRange) -> dict[Series, _SeriesSize]:
    sizes: dict[Series, _SeriesSize] = {}
    for types, wanted in by_types(parts).items():
        text = f"{TEXT_COPIES} * strlen(value)" if types == ("string",) else "0"
        reader.select_series(wanted)
        columns = reader.fetch(
            f"SELECT series, {ROW_BYTES} * count(*) + sum({text}) AS bytes, "
            f"{ROW_BYTES} + max({text}) AS largest FROM ({schema.readings(types)}) JOIN wanted ON series = id "
            "WHERE time_ns BETWEEN ? AND ? GROUP BY series",
            *time_range,
        )
        for id, *size in zip(*(columns[name].tolist() for name in columns), strict=True):
            sizes[wanted[id]] = _SeriesSize(*map(int, size))
    return sizes


def _read_together(
    reader: SnapshotReader, group: Sequence[HistoryPart], time_range: TimeRange, piece_readings: int
) -> Iterator[SeriesHistory]:
    """Yield all readings of several series."""
    found: dict[Series, tuple[Array, Array]] = {}
    for types, wanted in by_types(group).items():
        ids = sorted(wanted)
        reader.select_series(ids)
        # The bounds of the ids, beside the join, skip whole row groups where rows are sorted by series.
        columns = reader.fetch(
            f"SELECT series, time_ns, value FROM ({schema.readings(types)}) JOIN wanted ON series = id "
            "WHERE time_ns BETWEEN ? AND ? AND series BETWEEN ? AND ? ORDER BY series, time_ns, row",
            *(*time_range, ids[0], ids[-1]),
        )
        for id, rows in slices_by_series(columns["series"]):
            found[wanted[id]] = columns["time_ns"][rows], columns["value"][rows]
    for series, _ in group:
        yield from _split(series, *found.pop(series), piece_readings)


def _read_pages(
    reader: SnapshotReader, part: HistoryPart, time_range: TimeRange, page_readings: int, piece_readings: int
) -> Iterator[SeriesHistory]:
    """Yield all readings of one series. A page begins after the last reading of the previous page."""
    after_ns, after_row = time_range.first_ns, -1
    while True:
        columns = reader.fetch(
            f"SELECT time_ns, value, row FROM ({schema.readings(part.types)}) WHERE series = ? "
            "AND time_ns BETWEEN ? AND ? AND (time_ns > ? OR row > ?) ORDER BY time_ns, row LIMIT ?",
            *(part.series.id, after_ns, time_range.last_ns, after_ns, after_row, page_readings),
        )
        yield from _split(part.series, columns["time_ns"], columns["value"], piece_readings)
        if len(columns["row"]) < page_readings:
            return
        after_ns, after_row = int(columns["time_ns"][-1]), int(columns["row"][-1])


def _split(series: Series, times_ns: Array, values: Array, piece_readings: int) -> Iterator[SeriesHistory]:
    for start in range(0, len(times_ns), piece_readings):
        rows = slice(start, start + piece_readings)
        yield series_history(series, times_ns[rows], values[rows], "raw")
