"""/api/v1/history: stored readings in one answer; /api/v1/export: every reading of any stretch of time, as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Literal, get_args

from fastapi import Depends, FastAPI, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from hub.http import schemas
from hub.http.caller import Reader
from hub.http.history_json import history_json
from hub.http.media import MEDIA_TYPES, choose_format
from hub.http.problem import ProblemCode, Refusal, problems
from hub.http.question import DEFAULT_SPAN_NS, Clock, Question
from hub.http.stream import Stream, encode
from hub.http.table import Layout, Table
from hub.http.writers import WRITERS
from hub.model import store as stores
from hub.model.batch import Series
from wire import limits

MAX_SERIES = 2_000
"""Series of one history: with 4,000 points each it is 8 million readings, as much as a browser can hold."""

MAX_EXPORT_SERIES = 100_000
"""Series of one export; their names, which are held while it lasts, come to some 20 MB."""

DEFAULT_POINTS = 1_000

NO_STORE = {"Cache-Control": "no-store"}
RETRY = {"Retry-After": "5"}

HistoryFormat = Literal["json", "csv", "arrow"]
ExportFormat = Literal["csv", "line", "arrow"]

FORMAT = "Without it, what the Accept header asks for, else {}."


def install(api: FastAPI, store: stores.Store, *, series: Callable[[], Iterable[Series]], clock: Clock) -> None:
    """Adds the two to the application."""

    @api.get(
        "/api/v1/history",
        response_model=schemas.History,
        responses={**problems(406, 503), 200: {"content": _content(HistoryFormat)}},
    )
    async def history(
        _: Reader,
        question: Annotated[Question, Depends()],
        points: Annotated[
            int,
            Query(
                ge=0,
                le=limits.MAX_HISTORY_POINTS,
                description=f"At most so many points a series, {stores.MIN_POINTS} or more; 0: every reading.",
            ),
        ] = DEFAULT_POINTS,
        aggregate: Annotated[
            stores.Aggregate,
            Query(
                description="What becomes of the readings of an interval: `minmax` keeps the lowest and the highest at "
                "their own times; the others give one value at its begin."
            ),
        ] = "minmax",
        format: Annotated[HistoryFormat | None, Query(description=FORMAT.format("json"))] = None,
    ) -> Response:
        """Stored readings, reduced to the number of points asked for. The last hour without `from`."""
        answer_format = choose_format(format, question.accept, _offered(HistoryFormat))
        selected = question.select(series(), clock(), default_span_ns=DEFAULT_SPAN_NS)
        _check_number(selected.series, MAX_SERIES, "name fewer devices or metrics, or take /api/v1/export")
        _check_points(points, aggregate)
        query = stores.HistoryQuery(*selected, points or None, aggregate)
        try:
            answer = await store.query(query)
        except stores.StoreError as error:
            raise _refusal(error) from None
        if answer_format == "json":
            return await _json(history_json(answer, aggregate))
        layout = Layout(selected.series, zone=question.zone, aggregate=aggregate)

        async def tables() -> AsyncGenerator[Table, None]:
            yield await run_in_threadpool(layout.in_order_of_time, answer.series)

        return await _stream(tables(), layout, answer_format, file="history")

    @api.get(
        "/api/v1/export",
        response_class=Response,
        responses={**problems(406, 503), 200: {"content": _content(ExportFormat)}},
    )
    async def export(
        _: Reader,
        question: Annotated[Question, Depends()],
        format: Annotated[ExportFormat | None, Query(description=FORMAT.format("csv"))] = None,
    ) -> Response:
        """Every stored reading, however many: one series after the other, each in order of time. From the first
        reading without `from`. A broken connection means that not all of it came."""
        answer_format = choose_format(format, question.accept, _offered(ExportFormat))
        selected = question.select(series(), clock(), default_span_ns=None)
        _check_number(selected.series, MAX_EXPORT_SERIES, "name fewer devices or metrics")
        layout = Layout(selected.series, zone=question.zone)

        async def tables() -> AsyncGenerator[Table, None]:
            pieces = store.scan(*selected)
            try:
                async for piece in pieces:
                    yield layout.table(piece)
            finally:
                await pieces.aclose()

        return await _stream(tables(), layout, answer_format, file="export")


async def _stream(tables: AsyncGenerator[Table, None], layout: Layout, format: str, *, file: str) -> Response:
    """The tables in a format, once the store has begun to answer."""

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            async for part in encode(tables, writer):
                yield part
        finally:
            await tables.aclose()

    try:
        writer = WRITERS[format](layout)
        begun = parts()
        first = await anext(begun, b"")
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    except stores.StoreError as error:
        raise _refusal(error) from None
    media_type = MEDIA_TYPES[format]
    name = f"{file}.{format}"
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{name}"'}
    return Stream(first, begun, media_type=media_type, headers=headers)


async def _json(parts: Iterator[bytes]) -> Response:
    first, second = await run_in_threadpool(next, parts), await run_in_threadpool(next, parts, b"")
    if not second:
        return Response(first, media_type=MEDIA_TYPES["json"], headers=NO_STORE)

    async def rest() -> AsyncGenerator[bytes, None]:
        part = second
        while part:
            yield part
            part = await run_in_threadpool(next, parts, b"")

    return Stream(first, rest(), media_type=MEDIA_TYPES["json"], headers=NO_STORE)


def _check_number(series: list[Series], most: int, remedy: str) -> None:
    if len(series) > most:
        detail = f"{len(series)} series match, at most {most} are answered at once: {remedy}"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code=ProblemCode.TOO_MANY_SERIES)


def _check_points(points: int, aggregate: stores.Aggregate) -> None:
    if 0 < points < stores.MIN_POINTS:
        detail = f"points: {stores.MIN_POINTS} or more (a lowest and a highest), or 0 for every reading"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    if points == 0 and aggregate != "minmax":
        detail = f"aggregate: {aggregate} needs a number of points, one for each interval"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)


def _refusal(error: stores.StoreError) -> Refusal:
    if isinstance(error, stores.StoreUnavailable):
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), RETRY, code=ProblemCode.STORE_UNAVAILABLE)
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), code=ProblemCode.STORE_REFUSED)


def _offered(formats: Any) -> dict[str, str]:
    return {format: MEDIA_TYPES[format] for format in get_args(formats)}


def _content(formats: Any) -> dict[str, Any]:
    """The media types of these formats, for the description; the shape of JSON is told by the model."""
    return {media_type: {} for media_type in _offered(formats).values()}
