"""Queries of an InfluxDB server. The server reduces the history to the requested points and answers InfluxQL with JSON.

Two properties of InfluxQL shape this module. The minimum or maximum of an interval has the time of the interval's
begin; only top and bottom have their own times. And top does not exist for strings and booleans: the times of their
first and last readings are queried as the smallest and largest time since the first reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from http import HTTPStatus

import numpy as np

from hub.model.batch import Series
from hub.model.store import HistoryQuery, NewestReading, SeriesHistory, StoreError, StoreUnavailable
from hub.storage.influxdb import reduction
from hub.storage.influxdb.client import AnswerTooLarge, InfluxdbClient, error_text
from hub.storage.influxdb.influxql import (
    EVER,
    MeasurementRows,
    SeriesGroup,
    Statement,
    StatementError,
    decode_answers,
    group_series,
    split_statement,
)
from hub.storage.influxdb.line_protocol import MAX_TIME_NS
from hub.storage.influxdb.reduction import join_rows
from hub.storage.influxdb.series_naming import SeriesNaming
from hub.storage.query import (
    NUMBERS,
    Ends,
    HistoryPart,
    Intervals,
    Points,
    TimeRange,
    check_answer_size,
    check_query,
    clip_range,
    divide,
    has_ends,
    history_parts,
    in_query_order,
    interleave,
    interval_width,
    series_history,
)
from wire.model import MetricType

MAX_QUERY_ANSWER_BYTES = 64_000_000
"""Maximum bytes of one answer. Numbers stay far below; long strings are requested again in smaller parts."""

MAX_ROWS = 200_000
"""Maximum rows that the statements of one request may return: 6 MB, half a second of the server's time and 30 ms of the
hub's time."""

MAX_STATEMENTS = 500
"""Maximum statements of one request: some 100 kB of text."""

REQUESTS = 4
"""Requests of one query in flight."""

LIGHT_ROWS = MAX_ROWS // MAX_STATEMENTS
"""Rows that the newest reading of a series counts for: it is one row, but the server has to look for it in every file.
"""

StatementRows = list[dict[int, list[MeasurementRows]]]
"""The answers to statements, each by series id."""


class QueryRunner:
    """Runs statements on one server, in few requests of a bounded size."""

    def __init__(self, client: InfluxdbClient) -> None:
        self._client = client

    async def run(self, statements: Sequence[Statement], *, rows: int) -> StatementRows:
        """Return the answers to all statements. Each returns about `rows` rows for each of its series.

        The rows of several fields of a group are separate ones, as those of several measurements.
        """
        by_field = [of_field for statement in statements for of_field in statement.of_each_field()]
        answers = iter(await self._run(by_field, rows))
        return [
            _join_fields({field.field: next(answers) for field in statement.group.fields})
            if len(statement.group.fields) > 1
            else next(answers)
            for statement in statements
        ]

    async def _run(self, statements: Sequence[Statement], rows: int) -> StatementRows:
        requests: list[list[Statement]] = []
        free_rows = 0
        for statement in statements:
            weight = rows * len(statement.group.series)
            if not requests or weight > free_rows or len(requests[-1]) >= MAX_STATEMENTS:
                requests.append([])
                free_rows = MAX_ROWS
            requests[-1].append(statement)
            free_rows -= weight
        slots = asyncio.Semaphore(REQUESTS)

        async def run(request: Sequence[Statement]) -> StatementRows:
            async with slots:
                return await self._run_request(request)

        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(run(request)) for request in requests]
        except BaseExceptionGroup as errors:
            # The error that ended the others.
            raise errors.exceptions[0] from None
        return [answer for task in running for answer in task.result()]

    async def _run_request(self, statements: Sequence[Statement]) -> StatementRows:
        """Run statements in one request, or in parts if the answer is too large."""
        target = self._client.target
        parameters = [("db", target.database), ("rp", target.retention_policy), ("epoch", "ns")]
        text = ";".join(statement.text() for statement in statements)
        try:
            response = await self._client.request(
                "POST",
                "/query",
                params=[(name, value) for name, value in parameters if value],
                form=[("q", text)],
                max_bytes=MAX_QUERY_ANSWER_BYTES,
            )
        except AnswerTooLarge:
            if len(statements) > 1:
                middle = len(statements) // 2
                return [*await self._run_request(statements[:middle]), *await self._run_request(statements[middle:])]
            halves = split_statement(statements[0])
            if len(halves) == 1:
                raise
            return [
                {id: rows for half in halves for part in await self._run_request([half]) for id, rows in part.items()}
            ]
        if response.status != HTTPStatus.OK:
            raise StoreUnavailable(
                f"InfluxDB at {target.url} does not answer queries of {target.bucket}: "
                f"{error_text(response.status, response.body)}. Check that the credentials may read it"
            )
        try:
            return decode_answers(statements, response.body)
        except StatementError as error:
            # A server says this of the first of several statements as well if that one fails.
            if str(error) == "not executed" and len(statements) > 1:
                return [answer for item in statements for answer in await self._run_request([item])]
            raise self._error(str(error)) from error

    def _error(self, message: str) -> StoreError:
        """Return the error for a statement without an answer."""
        target = self._client.target
        if "not found" in message:
            return StoreUnavailable(
                f"InfluxDB at {target.url} has no {target.bucket} to read ({message}): create it with `hub store "
                "setup`, or correct store.bucket"
            )
        if "max-select" in message:
            return StoreError(f"InfluxDB at {target.url} has a limit in its settings: {message}. Request less at once")
        return StoreUnavailable(f"InfluxDB at {target.url} cannot answer now: {message}")


def _join_fields(by_field: Mapping[str, dict[int, list[MeasurementRows]]]) -> dict[int, list[MeasurementRows]]:
    """Return the rows of all fields of a group by series, with the field in the name of their measurement."""
    joined: dict[int, list[MeasurementRows]] = {}
    for field, answer in by_field.items():
        for id, rows in answer.items():
            joined.setdefault(id, []).extend(part._replace(measurement=f"{part.measurement} {field}") for part in rows)
    return joined


PAGE_READINGS = 16_384
"""Readings of one page: 5 ms of the hub's time each, which delays nothing else for longer."""


class HistoryReader:
    """Reads history from one server. `naming` locates the series."""

    def __init__(self, client: InfluxdbClient, naming: SeriesNaming) -> None:
        self._runner = QueryRunner(client)
        self._naming = naming

    async def query(self, query: HistoryQuery) -> list[SeriesHistory]:
        """Return the history of each requested series, as Store.query of hub.model.store defines it."""
        check_query(query)
        time_range = clip_range(query.start_ns, query.end_ns, newest_ns=MAX_TIME_NS)
        found: Mapping[Series, SeriesHistory] = {}
        parts = [part for item in query.series for part in history_parts(item, query.aggregate)]
        if not time_range.is_empty:
            if query.points is None:
                found = await self._read_all(parts, time_range)
            elif query.aggregate == "minmax":
                found = await self._read_reduced(parts, time_range, query.points)
            else:
                found = await self._read_aggregate(query, parts, time_range, query.points)
        return in_query_order(query, found)

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        """Yield every reading, one series after the other in time order, in pieces."""
        time_range = clip_range(start_ns, end_ns, newest_ns=MAX_TIME_NS)
        for part in [part for item in series for part in history_parts(item)]:
            async for points in self._pages(part, time_range):
                yield series_history(part.series, *points, "raw")

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """Return the newest reading of each series that has one, by series id."""
        groups = group_series((part for item in series for part in history_parts(item)), self._naming)
        newest = [Statement("last(#)", group, EVER, group.type) for group in groups]
        found: dict[int, NewestReading] = {}
        for answer in await self._runner.run(newest, rows=LIGHT_ROWS):
            for id, rows in answer.items():
                points = join_rows(rows)
                time_ns = int(points.times_ns[-1])
                if id not in found or time_ns > found[id].time_ns:
                    found[id] = NewestReading(time_ns, points.values[-1:].tolist()[0])
        return found

    async def _read_all(self, parts: Sequence[HistoryPart], time_range: TimeRange) -> dict[Series, SeriesHistory]:
        """Return every reading of each series."""
        found: dict[Series, SeriesHistory] = {}
        count = text_bytes = 0
        for part in parts:
            item = part.series
            pages: list[Points] = []
            async for page in self._pages(part, time_range):
                pages.append(page)
                count += len(page.times_ns)
                if item.type == "string":
                    text_bytes += sum(len(text.encode()) for text in page.values.tolist())
                check_answer_size(readings=count, text_bytes=text_bytes)
            if pages:
                found[item] = series_history(item, *Points(*map(np.concatenate, zip(*pages, strict=True))), "raw")
        return found

    async def _pages(self, part: HistoryPart, time_range: TimeRange) -> AsyncGenerator[Points, None]:
        """Yield every reading of one series in time order. A page begins where the previous page ended."""
        (group,) = group_series([part], self._naming)
        limit = PAGE_READINGS
        while time_range.first_ns <= time_range.last_ns:
            statement = Statement("#", group, time_range, group.type, limit=limit)
            try:
                (answer,) = await self._runner.run([statement], rows=limit)
            except AnswerTooLarge:
                if limit == 1:
                    raise
                limit //= 2
                continue
            rows = answer.get(part.series.id)
            if rows is None:
                return
            points = join_rows(rows)
            # Readings after the end of a full page of one measurement are not known yet.
            ends = [int(page.times_ns[-1]) for page in rows if len(page.times_ns) >= limit]
            if not ends:
                yield points
                return
            known = int(np.searchsorted(points.times_ns, min(ends)))
            if known == 0:
                # Readings of one time fill the page.
                limit *= 2
                continue
            yield Points(*(column[:known] for column in points))
            time_range = TimeRange(min(ends), time_range.last_ns)

    async def _read_reduced(
        self, parts: Sequence[HistoryPart], time_range: TimeRange, points: int
    ) -> dict[Series, SeriesHistory]:
        """Return at most `points` points of each series, the extremes of each interval among them."""
        groups = group_series(parts, self._naming)
        raw = [Statement("#", group, time_range, group.type, limit=points + 1) for group in groups]
        found: dict[Series, SeriesHistory] = {}
        many: dict[Series, tuple[SeriesGroup, Points]] = {}
        for group, answer in zip(groups, await self._runner.run(raw, rows=points + 1), strict=True):
            by_id = {item.id: item for item in group.series}
            for id, rows in answer.items():
                first_points = join_rows(rows)
                if len(first_points.times_ns) <= points:
                    found[by_id[id]] = series_history(by_id[id], *first_points, "raw")
                else:
                    many[by_id[id]] = group._replace(series=(by_id[id],)), first_points
        if many:
            found |= await self._reduce(many, time_range, points)
        return found

    async def _reduce(
        self, many: Mapping[Series, tuple[SeriesGroup, Points]], time_range: TimeRange, points: int
    ) -> dict[Series, SeriesHistory]:
        """Reduce series that have more readings than points. Each comes with its first readings."""
        newest = [Statement("last(#)", group, time_range, group.type) for group, _ in many.values()]
        oldest = [Statement("first(#)", group, EVER, group.type) for group, _ in many.values()]
        latest = [Statement("last(#)", group, EVER, group.type) for group, _ in many.values()]
        spans = await self._runner.run([*newest, *oldest, *latest], rows=1)
        statements: list[Statement] = []
        plans: list[tuple[Series, SeriesGroup, Ends, Intervals]] = []
        for index, (series, (group, begin)) in enumerate(many.items()):
            last, ever_first, ever_last = (join_rows(spans[index + kind * len(many)][series.id]) for kind in range(3))
            ends = Ends(Points(*(column[:1] for column in begin)), Points(*(column[-1:] for column in last)))
            span = TimeRange(
                max(time_range.first_ns, int(ever_first.times_ns[0])),
                min(time_range.last_ns, int(ever_last.times_ns[-1])),
            )
            intervals = divide(span, group.type, points)
            plans.append((series, group, ends, intervals))
            statements += _selections(group, time_range, intervals)
        answers = iter(await self._runner.run(statements, rows=points))
        found: dict[Series, SeriesHistory] = {}
        for series, group, ends, intervals in plans:
            selected = [next(answers).get(series.id, []) for _ in _selections(group, time_range, intervals)]
            if group.type in NUMBERS:
                low = reduction.interval_minima(selected[0], intervals)
                high = reduction.interval_maxima(selected[1], intervals)
                reduced = interleave(low, high, ends if has_ends(group.type, points) else None)
            else:
                reduced = interleave(*reduction.interval_ends(*selected, intervals=intervals))
            found[series] = series_history(series, *reduced, "reduced")
        return found

    async def _read_aggregate(
        self, query: HistoryQuery, parts: Sequence[HistoryPart], time_range: TimeRange, points: int
    ) -> dict[Series, SeriesHistory]:
        """Return one value for each interval that has readings."""
        aggregate = query.aggregate
        groups = group_series(parts, self._naming)
        intervals = Intervals(query.start_ns, interval_width(query, points))
        function = {"avg": "mean(#)", "count": "count(#)"}.get(aggregate, f"{aggregate}(#)")
        types: dict[str, MetricType] = {"avg": "float", "count": "integer"}
        statements = [
            Statement(function, group, time_range, types.get(aggregate, group.type), intervals) for group in groups
        ]
        counts = [
            Statement("count(#)", group, time_range, "integer", intervals) for group in groups if aggregate == "avg"
        ]
        answers = await self._runner.run([*statements, *counts], rows=points)
        found: dict[Series, SeriesHistory] = {}
        for index, group in enumerate(groups):
            for item in group.series:
                rows = answers[index].get(item.id)
                if rows is None:
                    continue
                if len(rows) > 1 and aggregate in ("first", "last"):
                    # The series was in several measurements.
                    selections = _end_selections(group._replace(series=(item,)), time_range, intervals)
                    selected = [answer.get(item.id, []) for answer in await self._runner.run(selections, rows=points)]
                    ends = reduction.interval_ends(*selected, intervals=intervals)
                    reduced = ends.first if aggregate == "first" else ends.last
                else:
                    weights = answers[index + len(groups)][item.id] if aggregate == "avg" else ()
                    reduced = reduction.combine_measurements(rows, aggregate, weights)
                begins = query.start_ns + (reduced.times_ns - query.start_ns) // intervals.width_ns * intervals.width_ns
                found[item] = series_history(item, begins, reduced.values, "reduced")
        return found


def _selections(group: SeriesGroup, time_range: TimeRange, intervals: Intervals) -> list[Statement]:
    """Return the statements from which a reduced series is made."""
    if group.type in NUMBERS:
        return [
            Statement(f"{function}(#, 1)", group, time_range, group.type, intervals) for function in ("bottom", "top")
        ]
    return _end_selections(group, time_range, intervals)


def _end_selections(group: SeriesGroup, time_range: TimeRange, intervals: Intervals) -> list[Statement]:
    """Return statements for the first reading, for the first and last value of each interval, and for their times."""
    return [
        Statement("first(#)", group, time_range, group.type),
        *(Statement(f"{function}(#)", group, time_range, group.type, intervals) for function in ("first", "last")),
        *(
            Statement(f"{function}(#, 1)", group, time_range, "integer", intervals, moments=True)
            for function in ("bottom", "top")
        ),
    ]
