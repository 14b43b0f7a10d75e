"""History out of an InfluxDB server: the server reduces it to the points asked for, and answers in InfluxQL's JSON.

Two things there are not as they seem. A minimum or maximum of an interval comes at the interval's begin; only top and
bottom come at their own times. And of strings and booleans there is no top: the times of their first and last readings
are asked for as the least and greatest time since the first reading of all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal

import numpy as np

from hub.model.batch import Series
from hub.model.store import (
    Aggregate,
    HistoryQuery,
    NewestReading,
    SeriesHistory,
)
from hub.storage.influxdb.asking import LIGHT_ROWS, Questions
from hub.storage.influxdb.influxql import EVER, Group, Intervals, Range, Statement, groups_of
from hub.storage.influxdb.naming import Naming
from hub.storage.influxdb.reducing import Ends, Points, combined, ends_of, highest, joined, lowest, woven
from hub.storage.influxdb.rows import DTYPES, Rows
from hub.storage.influxdb.server import AnswerTooLarge, Server
from hub.storage.question import MAX_READINGS, MAX_TEXT_BYTES, MIN_POINTS_WITH_ENDS, check, too_long, too_many
from wire.model import MetricType

PAGE_READINGS = 16_384
"""Of a page of raw readings: 5 ms of the hub's time each, so that whoever shares it waits no longer."""


class Reading:
    """Asks one server for history; `naming` says where the series are."""

    def __init__(self, server: Server, naming: Naming) -> None:
        self._questions = Questions(server)
        self._naming = naming

    async def query(self, query: HistoryQuery) -> list[SeriesHistory]:
        """The history of each series asked for, as hub.model.store.Store.query gives it.

        Raises ValueError for less points than MIN_POINTS, StoreUnavailable, and StoreError where the readings are too
        many for one answer, or of a type that the aggregate is not for.
        """
        check(query)
        within = range_of(query.start_ns, query.end_ns)
        found: Mapping[int, SeriesHistory] = {}
        if within.first_ns <= within.last_ns:
            if query.points is None:
                found = await self._all(query.series, within)
            elif query.aggregate == "minmax":
                found = await self._some(query.series, within, query.points)
            else:
                found = await self._aggregate(query, within, query.points, query.aggregate)
        return [found.get(one.id) or nothing(one) for one in query.series]

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        """Every reading, one series after the other in order of time, in pieces. Raises as `query` does."""
        within = range_of(start_ns, end_ns)
        for one in series:
            async for points in self._pages(one, within):
                yield history(one, points, "raw")

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """The newest reading of each series that has one, by series id."""
        groups = groups_of(series, self._naming)
        newest = [Statement("last(#)", group, EVER, group.type) for group in groups]
        found: dict[int, NewestReading] = {}
        for answer in await self._questions.ask(newest, rows=LIGHT_ROWS):
            for id, rows in answer.items():
                points = joined(rows)
                found[id] = NewestReading(int(points.times_ns[-1]), points.values[-1:].tolist()[0])
        return found

    async def _all(self, series: Sequence[Series], within: Range) -> dict[int, SeriesHistory]:
        """Every reading of each series."""
        found: dict[int, SeriesHistory] = {}
        count = size_bytes = 0
        for one in series:
            pages: list[Points] = []
            async for page in self._pages(one, within):
                pages.append(page)
                count += len(page.times_ns)
                if count > MAX_READINGS:
                    raise too_many()
                if one.type == "string":
                    size_bytes += sum(len(text.encode()) for text in page.values.tolist())
                    if size_bytes > MAX_TEXT_BYTES:
                        raise too_long()
            if pages:
                found[one.id] = history(one, Points(*map(np.concatenate, zip(*pages, strict=True))), "raw")
        return found

    async def _pages(self, series: Series, within: Range) -> AsyncGenerator[Points, None]:
        """Every reading of one series in order of time; a page begins with the time at which the one before ended."""
        (group,) = groups_of([series], self._naming)
        limit = PAGE_READINGS
        while within.first_ns <= within.last_ns:
            statement = Statement("#", group, within, series.type, limit=limit)
            try:
                (answer,) = await self._questions.ask([statement], rows=limit)
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit //= 2
                continue
            rows = answer.get(series.id, [])
            # What is behind the end of a full page of one measurement is not known yet.
            ends = [int(part.times_ns[-1]) for part in rows if len(part.times_ns) >= limit]
            points = joined(rows) if rows else Points(np.empty(0, np.int64), np.empty(0))
            if not ends:
                if rows:
                    yield points
                return
            known = int(np.searchsorted(points.times_ns, min(ends)))
            if known == 0:
                # Readings of one time fill the page.
                limit *= 2
                continue
            yield Points(*(column[:known] for column in points))
            within = Range(min(ends), within.last_ns)

    async def _some(self, series: Sequence[Series], within: Range, points: int) -> dict[int, SeriesHistory]:
        """At most so many points of each series, the minimum and maximum of each interval among them."""
        groups = groups_of(series, self._naming)
        raw = [Statement("#", group, within, group.type, limit=points + 1) for group in groups]
        found: dict[int, SeriesHistory] = {}
        many: dict[int, tuple[Group, Points]] = {}
        for group, answer in zip(groups, await self._questions.ask(raw, rows=points + 1), strict=True):
            by_id = {one.id: one for one in group.series}
            for id, rows in answer.items():
                part = joined(rows)
                if len(part.times_ns) <= points:
                    found[id] = history(by_id[id], part, "raw")
                else:
                    many[id] = group._replace(series=(by_id[id],)), part
        if many:
            found |= await self._reduced(many, within, points)
        return found

    async def _reduced(
        self, many: Mapping[int, tuple[Group, Points]], within: Range, points: int
    ) -> dict[int, SeriesHistory]:
        """Series that have more readings than points, each with the first of them."""
        newest = [Statement("last(#)", group, within, group.type) for group, _ in many.values()]
        oldest = [Statement("first(#)", group, EVER, group.type) for group, _ in many.values()]
        latest = [Statement("last(#)", group, EVER, group.type) for group, _ in many.values()]
        spans = await self._questions.ask([*newest, *oldest, *latest], rows=1)
        statements: list[Statement] = []
        plans: list[tuple[int, Group, Ends, Intervals]] = []
        for place, (id, (group, begin)) in enumerate(many.items()):
            last, ever_first, ever_last = (joined(spans[place + turn * len(many)][id]) for turn in range(3))
            ends = Ends(Points(*(column[:1] for column in begin)), Points(*(column[-1:] for column in last)))
            span = Range(
                max(within.first_ns, int(ever_first.times_ns[0])), min(within.last_ns, int(ever_last.times_ns[-1]))
            )
            intervals = _intervals(group.type, span, points)
            plans.append((id, group, ends, intervals))
            statements += _selections(group, within, intervals)
        answers = iter(await self._questions.ask(statements, rows=points))
        found: dict[int, SeriesHistory] = {}
        for id, group, ends, intervals in plans:
            parts = [next(answers).get(id, []) for _ in _selections(group, within, intervals)]
            if group.type in ("float", "integer"):
                low, high = lowest(parts[0], intervals), highest(parts[1], intervals)
                reduced = woven(low, high, ends if points >= MIN_POINTS_WITH_ENDS else None)
            else:
                of_each = _ends(parts, intervals)
                reduced = woven(of_each.first, of_each.last)
            found[id] = history(group.series[0], reduced, "reduced")
        return found

    async def _aggregate(
        self, query: HistoryQuery, within: Range, points: int, aggregate: Aggregate
    ) -> dict[int, SeriesHistory]:
        """One value for each interval that has readings."""
        groups = groups_of(query.series, self._naming)
        intervals = Intervals(query.start_ns, -((query.start_ns - query.end_ns) // points))
        function = {"avg": "mean(#)", "count": "count(#)"}.get(aggregate, f"{aggregate}(#)")
        types: dict[str, MetricType] = {"avg": "float", "count": "integer"}
        statements = [
            Statement(function, group, within, types.get(aggregate, group.type), intervals) for group in groups
        ]
        counts = [Statement("count(#)", group, within, "integer", intervals) for group in groups if aggregate == "avg"]
        answers = await self._questions.ask([*statements, *counts], rows=points)
        found: dict[int, SeriesHistory] = {}
        for place, group in enumerate(groups):
            for one in group.series:
                rows = answers[place].get(one.id)
                if rows is None:
                    continue
                if len(rows) > 1 and aggregate in ("first", "last"):
                    reduced = await self._end(group._replace(series=(one,)), within, intervals, points, aggregate)
                else:
                    weights = answers[place + len(groups)][one.id] if aggregate == "avg" else ()
                    reduced = combined(rows, aggregate, weights)
                begins = query.start_ns + (reduced.times_ns - query.start_ns) // intervals.width_ns * intervals.width_ns
                found[one.id] = history(one, Points(begins, reduced.values), "reduced")
        return found

    async def _end(
        self, group: Group, within: Range, intervals: Intervals, points: int, aggregate: Aggregate
    ) -> Points:
        """The first or the last of each interval, of a series that was in several measurements."""
        selections = _end_selections(group, within, intervals)
        answers = await self._questions.ask(selections, rows=points)
        ends = _ends([answer.get(group.series[0].id, []) for answer in answers], intervals)
        return ends.first if aggregate == "first" else ends.last


def range_of(start_ns: int, end_ns: int) -> Range:
    """The part of [start, end) in which there can be readings; it may be empty: then the first is after the last."""
    return Range(max(start_ns, EVER.first_ns), min(end_ns - 1, EVER.last_ns))


def history(series: Series, points: Points, resolution: Literal["raw", "reduced"]) -> SeriesHistory:
    """Points as the contract has them: strings in a list, others in an array."""
    values = points.values.tolist() if points.values.dtype == object else points.values
    return SeriesHistory(series, points.times_ns, values, resolution)


def nothing(series: Series) -> SeriesHistory:
    """The answer for a series without readings."""
    return history(series, Points(np.empty(0, np.int64), np.empty(0, DTYPES[series.type])), "raw")


def _intervals(type: MetricType, span: Range, points: int) -> Intervals:
    """As many as there can be with two points each, and two more for the ends; they divide the part that has data."""
    ends = type in ("float", "integer") and points >= MIN_POINTS_WITH_ENDS
    number = (points - 2 if ends else points) // 2
    return Intervals(span.first_ns, (span.last_ns - span.first_ns) // number + 1)


def _selections(group: Group, within: Range, intervals: Intervals) -> list[Statement]:
    """What a reduced series is made of."""
    if group.type in ("float", "integer"):
        return [Statement(f"{function}(#, 1)", group, within, group.type, intervals) for function in ("bottom", "top")]
    return _end_selections(group, within, intervals)


def _end_selections(group: Group, within: Range, intervals: Intervals) -> list[Statement]:
    """The first reading; values of the first and last of each interval; and their times."""
    return [
        Statement("first(#)", group, within, group.type),
        *(Statement(f"{function}(#)", group, within, group.type, intervals) for function in ("first", "last")),
        *(
            Statement(f"{function}(#, 1)", group, within, "integer", intervals, moments=True)
            for function in ("bottom", "top")
        ),
    ]


def _ends(answers: Sequence[Sequence[Rows]], intervals: Intervals) -> Ends:
    """Out of the answers to `_end_selections`."""
    begin, first, last, first_moments, last_moments = answers
    return ends_of(begin, values=(first, last), moments=(first_moments, last_moments), intervals=intervals)
