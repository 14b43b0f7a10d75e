"""Stored readings: a history in one answer, and an export of any range of time as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from http import HTTPStatus
from typing import get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hub.http.answers import HistoryAnswer
from hub.http.history_query import (
    DEFAULT_SPAN_NS,
    MEDIA_TYPES,
    ExportFormat,
    ExportRequest,
    HistoryFormat,
    HistoryRequest,
    choose_format,
    media_types,
)
from hub.http.problem import ProblemCode, Refusal
from hub.http.routing import NO_STORE, operation
from hub.http.stream import StreamedFile, encode_tables, history_json
from hub.http.tables import WRITERS, Layout, Table
from hub.model.batch import Series
from hub.model.identity import Action
from hub.model.store import MIN_POINTS, Aggregate, History, HistoryQuery, Store, StoreError, StoreUnavailable

MAX_SERIES = 2_000
"""Series of one history: with 4,000 points each it is 8 million readings, as much as a browser can hold."""

MAX_EXPORT_SERIES = 100_000
"""Series of one export; their names, which stay in memory during it, come to about 20 MB."""

RETRY_AFTER = {"Retry-After": "5"}

HISTORY_FORMATS = media_types(get_args(HistoryFormat))
EXPORT_FORMATS = media_types(get_args(ExportFormat))


class HistoryRoutes:
    """The operations that read the store."""

    def __init__(self, store: Store, *, series: Callable[[], Iterable[Series]], now_ns: Callable[[], int]) -> None:
        self._store = store
        self._series = series
        self._now_ns = now_ns

    @operation("GET", "/api/v1/history", may=Action.READ, errors=(406, 503), media_types=(*HISTORY_FORMATS.values(),))
    async def history(self, request: Request, query: HistoryRequest) -> HistoryAnswer | Response:
        """Return stored readings, reduced to the requested number of points. The last hour without `from`."""
        zone = query.zone()
        chosen = choose_format(query.format, request.headers.get("accept"), HISTORY_FORMATS)
        selected = query.select(self._series(), self._now_ns(), default_span_ns=DEFAULT_SPAN_NS)
        _check_number(selected.series, MAX_SERIES, "name fewer devices or metrics, or take /api/v1/export")
        _check_points(query.points, query.aggregate)
        try:
            history = await self._store.query(HistoryQuery(*selected, query.points or None, query.aggregate))
        except StoreError as error:
            raise _refusal(error) from None
        if chosen == "json":
            return await _json(history, query.aggregate)
        layout = Layout(selected.series, zone=zone, aggregate=query.aggregate)

        async def tables() -> AsyncGenerator[Table, None]:
            yield await run_in_threadpool(layout.in_order_of_time, history.series)

        return await _stream(tables(), layout, chosen, file="history")

    @operation("GET", "/api/v1/export", may=Action.READ, errors=(406, 503), media_types=(*EXPORT_FORMATS.values(),))
    async def export(self, request: Request, query: ExportRequest) -> Response:
        """Return every stored reading, however many: one series after the other, each in order of time. From the first
        reading without `from`. If the connection breaks, the answer is incomplete."""
        layout_zone = query.zone()
        chosen = choose_format(query.format, request.headers.get("accept"), EXPORT_FORMATS)
        selected = query.select(self._series(), self._now_ns(), default_span_ns=None)
        _check_number(selected.series, MAX_EXPORT_SERIES, "name fewer devices or metrics")
        layout = Layout(selected.series, zone=layout_zone)

        async def tables() -> AsyncGenerator[Table, None]:
            pieces = self._store.scan(*selected)
            try:
                async for piece in pieces:
                    yield layout.table(piece)
            finally:
                await pieces.aclose()

        return await _stream(tables(), layout, chosen, file="export")


async def _stream(tables: AsyncGenerator[Table, None], layout: Layout, format: str, *, file: str) -> Response:
    """Return the tables in a format, after the store has begun to answer."""

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            async for part in encode_tables(tables, writer):
                yield part
        finally:
            await tables.aclose()

    try:
        writer = WRITERS[format](layout)
        begun = parts()
        first = await anext(begun, b"")
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    except StoreError as error:
        raise _refusal(error) from None
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{file}.{format}"'}
    return StreamedFile(first, begun, media_type=MEDIA_TYPES[format], headers=headers)


async def _json(history: History, aggregate: Aggregate) -> Response:
    parts = history_json(history, aggregate)
    first, second = await run_in_threadpool(next, parts), await run_in_threadpool(next, parts, b"")
    if not second:
        return Response(first, media_type=MEDIA_TYPES["json"], headers=NO_STORE)

    async def rest() -> AsyncGenerator[bytes, None]:
        part = second
        while part:
            yield part
            part = await run_in_threadpool(next, parts, b"")

    return StreamedFile(first, rest(), media_type=MEDIA_TYPES["json"], headers=NO_STORE)


def _check_number(series: list[Series], most: int, remedy: str) -> None:
    if len(series) > most:
        detail = f"{len(series)} series match, at most {most} are answered at once: {remedy}"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code=ProblemCode.TOO_MANY_SERIES)


def _check_points(points: int, aggregate: Aggregate) -> None:
    if 0 < points < MIN_POINTS:
        detail = f"points: {MIN_POINTS} or more (a lowest and a highest), or 0 for every reading"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    if points == 0 and aggregate != "minmax":
        detail = f"aggregate: {aggregate} needs a number of points, one for each interval"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def _refusal(error: StoreError) -> Refusal:
    if isinstance(error, StoreUnavailable):
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), RETRY_AFTER, code=ProblemCode.STORE_UNAVAILABLE)
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), code=ProblemCode.STORE_REFUSED)
