"""Readings out of the tables: raw where they are few, else reduced so that every minimum and maximum stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hub.model.batch import Series
from hub.model.store import History, HistoryQuery, SeriesHistory
from hub.storage.duckdb import schema
from hub.storage.duckdb.aggregate import read_aggregate
from hub.storage.duckdb.answer import Found, Range, nothing, parts, plain, range_of, resolution_name
from hub.storage.duckdb.columns import Array
from hub.storage.duckdb.database import Reader
from hub.storage.duckdb.plan import Resolution, plan, resolution_for
from hub.storage.duckdb.sources import Sources, find_sources
from hub.storage.duckdb.summary import Span
from hub.storage.question import MAX_READINGS, MAX_TEXT_BYTES, MIN_POINTS_WITH_ENDS, check, too_long, too_many
from wire.limits import MAX_TIME_NS
from wire.model import MetricType, Value

# Interval `part` of a series; what lies outside of its intervals belongs to the nearest one.
PART = "greatest(0, least(intervals - 1, (time_ns - from_ns) // width_ns))"

ENDS = (
    "min(time_ns) AS first_ns, arg_min(value, time_ns) AS first_value, "
    "max(time_ns) AS last_ns, arg_max(value, time_ns) AS last_value"
)
PEAKS = (
    "min(value) AS low_value, arg_min(time_ns, value) AS low_ns, "
    "max(value) AS high_value, arg_max(time_ns, value) AS high_ns"
)


def read_history(
    reader: Reader, query: HistoryQuery, spans: Mapping[int, Span], *, max_readings: int = MAX_READINGS
) -> History:
    """Answers a query from the reader's snapshot.

    Raises ValueError for less points than MIN_POINTS, and StoreError for more than `max_readings` without points and
    for an aggregate that is not for the type of one of the series.

    `spans` is what is known of the series. It may be older or newer than the snapshot, since it only decides where the
    intervals lie and which way is tried first.
    """
    check(query)
    within = range_of(query.start_ns, query.end_ns)
    sources = find_sources(reader)
    found: Found = {}
    if within.first_ns <= within.last_ns:
        for type in schema.TYPES:
            wanted = {series.id: series for series in query.series if series.type == type}
            if wanted:
                reading = _Reading(sources, type, within)
                if query.points is None:
                    if type == "string" and reading.text_bytes(wanted) > MAX_TEXT_BYTES:
                        raise too_long()
                    found |= reading.all(wanted, max_readings + 1)
                elif query.aggregate != "minmax":
                    found |= read_aggregate(sources, type, wanted, query, within, query.points)
                else:
                    found |= reading.some(wanted, query.points, spans)
        if query.points is None and sum(len(part.times_ns) for part in found.values()) > max_readings:
            raise too_many(max_readings)
    return History(sources.cursor, [found.get(series.id) or nothing(series) for series in query.series])


class _Reading(NamedTuple):
    """One type's part of a query. Series without a reading in the range are not in the answers."""

    sources: Sources
    type: MetricType
    within: Range

    def some(self, wanted: Mapping[int, Series], points: int, spans: Mapping[int, Span]) -> Found:
        """At most so many points of each series."""
        if self.within.first_ns < self.sources.held.raw_from_ns:
            return self._without_raw(wanted, points)
        # The scan is the work, so each series' readings are found once: as they are where few are expected.
        few = {id: series for id, series in wanted.items() if self._expected(spans.get(id)) <= points}
        many = {id: series for id, series in wanted.items() if id not in few}
        found: Found = {}
        if few:
            limit = points * len(few)
            whole = self.all(few, limit + 1)
            if sum(len(part.times_ns) for part in whole.values()) <= limit:
                found = {id: part for id, part in whole.items() if len(part.times_ns) <= points}
                many |= {id: few[id] for id in whole if id not in found}
            else:
                many |= few
        placed: dict[Resolution, dict[int, tuple[int, int]]] = {}
        for id in many:
            start_ns, width_ns = self._intervals(spans.get(id), self._parts(points))
            placed.setdefault(resolution_for(width_ns, None), {})[id] = start_ns, width_ns
        for resolution, intervals in placed.items():
            reduced, small = self._reduced(many, points, intervals, resolution)
            found |= reduced
            if small:
                found |= self.all(small)
        return found

    def _without_raw(self, wanted: Mapping[int, Series], points: int) -> Found:
        """At most so many points of each series, where the range begins before the raw readings do."""
        ids = np.array(sorted(wanted), np.int32)
        self.sources.reader.offer("wanted", {"id": ids})
        relation = self.sources.pieces(self.type, plan(self.within, "hour", self.sources.held))
        ends = self.sources.reader.fetch(
            f"SELECT series, min(first_ns) AS oldest, max(last_ns) AS newest FROM ({relation}) GROUP BY series"
        )
        placed: dict[Resolution, dict[int, tuple[int, int]]] = {}
        for id, oldest_ns, newest_ns in zip(*(column.tolist() for column in ends.values()), strict=True):
            start_ns, width_ns = self._intervals(Span(0, oldest_ns, newest_ns), self._parts(points))
            placed.setdefault(resolution_for(width_ns, None), {})[id] = start_ns, width_ns
        found: Found = {}
        for resolution, intervals in placed.items():
            found |= self._reduced(wanted, points, intervals, resolution)[0]
        return found

    def text_bytes(self, wanted: Mapping[int, Series]) -> int:
        """The length of all strings."""
        self.sources.reader.offer("wanted", {"id": np.array(sorted(wanted), np.int32)})
        columns = self.sources.reader.fetch(
            f"SELECT coalesce(sum(strlen(value)), 0)::BIGINT AS bytes FROM {schema.raw(self.type)} "
            "JOIN wanted ON series = id WHERE time_ns BETWEEN ? AND ?",
            *self.within,
        )
        return int(columns["bytes"][0])

    def all(self, wanted: Mapping[int, Series], limit: int | None = None) -> Found:
        """Every reading; with a limit, any so many of them."""
        self.sources.reader.offer("wanted", {"id": np.array(sorted(wanted), np.int32)})
        columns = self.sources.reader.fetch(
            f"SELECT * FROM (SELECT series, time_ns, value FROM {schema.raw(self.type)} JOIN wanted ON series = id "
            f"WHERE time_ns BETWEEN ? AND ? {'' if limit is None else f'LIMIT {limit}'}) ORDER BY series, time_ns",
            *self.within,
        )
        times_ns, values = columns["time_ns"], columns["value"]
        return {
            id: SeriesHistory(wanted[id], times_ns[part], plain(self.type, values[part]), "raw")
            for id, part in parts(columns["series"])
        }

    def _reduced(
        self,
        wanted: Mapping[int, Series],
        points: int,
        intervals: Mapping[int, tuple[int, int]],
        resolution: Resolution,
    ) -> tuple[Found, dict[int, Series]]:
        """Reduced series, by where their intervals begin and how long they are; and those that have no more raw
        readings than points."""
        peaks = self.type in schema.NUMBERS
        planned = plan(self.within, resolution, self.sources.held)
        ids = sorted(intervals)
        starts, widths = zip(*(intervals[id] for id in ids), strict=True)
        self.sources.reader.offer(
            "wanted",
            {
                "id": np.array(ids, np.int32),
                "from_ns": np.array(starts, np.int64),
                "width_ns": np.array(widths, np.int64),
            },
        )
        columns = self.sources.reader.fetch(
            f"SELECT series, {PART.replace('intervals', str(self._parts(points)))} AS part, count(*) AS readings, "
            f"max(resolution) AS resolution, {ENDS}{f', {PEAKS}' if peaks else ''} "
            f"FROM ({self.sources.readings(self.type, planned)}) JOIN wanted ON series = id "
            "WHERE time_ns BETWEEN ? AND ? GROUP BY series, part ORDER BY series, part",
            *self.within,
        )
        found: Found = {}
        small = {}
        for id, part in parts(columns["series"]):
            made_of = resolution_name(columns["resolution"][part])
            if made_of == "reduced" and columns["readings"][part].sum() <= points:
                small[id] = wanted[id]
                continue
            found[id] = SeriesHistory(
                wanted[id], *self._points(columns, part, ends=peaks and points >= MIN_POINTS_WITH_ENDS), made_of
            )
        return found, small

    def _parts(self, points: int) -> int:
        """The number of intervals: each gives two points, and ends may need two more."""
        ends = self.type in schema.NUMBERS and points >= MIN_POINTS_WITH_ENDS
        return (points - 2 if ends else points) // 2

    def _points(self, columns: Mapping[str, Array], part: slice, *, ends: bool) -> tuple[Array, list[Value] | Array]:
        """The points of one series' intervals, in order of time."""
        names = ("low", "high") if "low_ns" in columns else ("first", "last")
        (early_ns, early), (late_ns, late) = (
            (columns[f"{name}_ns"][part], columns[f"{name}_value"][part]) for name in names
        )
        swapped = early_ns > late_ns
        times_ns = np.stack([np.where(swapped, late_ns, early_ns), np.where(swapped, early_ns, late_ns)], 1).ravel()
        values = np.stack([np.where(swapped, late, early), np.where(swapped, early, late)], 1).ravel()
        if ends:
            begin, end = part.start, part.stop - 1
            times_ns = np.concatenate([columns["first_ns"][[begin]], times_ns, columns["last_ns"][[end]]])
            values = np.concatenate([columns["first_value"][[begin]], values, columns["last_value"][[end]]])
        # One reading may be an interval's minimum and its maximum, and an end besides.
        new = np.ones(len(times_ns), np.bool_)
        new[1:] = (times_ns[1:] != times_ns[:-1]) | (values[1:] != values[:-1])
        return times_ns[new], plain(self.type, values[new])

    def _expected(self, span: Span | None) -> float:
        """About how many readings of a series are in the range, if they came evenly."""
        if span is None:
            return 0
        common_ns = min(self.within.last_ns, span.newest_ns) - max(self.within.first_ns, span.oldest_ns) + 1
        return span.readings * max(0, common_ns) / (span.newest_ns - span.oldest_ns + 1)

    def _intervals(self, span: Span | None, intervals: int) -> tuple[int, int]:
        """Where a series' intervals begin and how long they are: they divide the part of the range that has data."""
        first_ns, last_ns = self.within
        if span is not None and span.newest_ns >= first_ns and span.oldest_ns <= last_ns:
            first_ns, last_ns = max(first_ns, span.oldest_ns), min(last_ns, span.newest_ns)
        # All time in one interval would be one nanosecond too long; what it leaves over belongs to it all the same.
        return first_ns, min((last_ns - first_ns) // intervals + 1, MAX_TIME_NS)
