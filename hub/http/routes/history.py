"""Stored readings: a history in one answer, and an export of any range of time as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from hub.http.answers import DEVICE_SELECTORS, METRIC_SELECTORS, HistoryAnswer
from hub.http.problem import ProblemCode, Refusal
from hub.http.routing import NO_STORE, Operation
from hub.http.stream import StreamedFile, encode_tables, history_json
from hub.http.tables import UTC, WRITERS, Layout, Table
from hub.live.selection import matches, selection
from hub.model.batch import Series
from hub.model.identity import Action
from hub.model.store import MIN_POINTS, Aggregate, History, HistoryQuery, Store
from wire.limits import MAX_HISTORY_POINTS, MAX_TIME_NS
from wire.timestamp import DURATION_NS, parse_query_time

MAX_SERIES = 2_000
"""Series of one history: with 4,000 points each it is 8 million readings, as much as a browser can hold."""

MAX_EXPORT_SERIES = 100_000
"""Series of one export; their names, which stay in memory during it, come to about 20 MB."""

DEFAULT_SPAN_NS = DURATION_NS["h"]

DEFAULT_POINTS = 1_000

TIME = "nanoseconds since 1970, RFC 3339, or relative to now: `-6h`, `now-1d`"

MAX_ZONE = 64
"""Characters of a time zone's name; the longest existing one has 32."""

HistoryFormat = Literal["json", "csv", "arrow"]
ExportFormat = Literal["csv", "line", "arrow"]

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    # Line protocol has no media type of its own. InfluxDB uses this one.
    "line": "text/plain",
}

HISTORY_FORMATS = {name: MEDIA_TYPES[name] for name in get_args(HistoryFormat)}
EXPORT_FORMATS = {name: MEDIA_TYPES[name] for name in get_args(ExportFormat)}

FORMAT = "Without it, what the Accept header asks for, else {}."


class ReadingsQuery(Struct, frozen=True, kw_only=True):
    """The parameters that a history and an export have in common."""

    device: Annotated[list[str], Meta(description=DEVICE_SELECTORS)]
    metric: Annotated[list[str] | None, Meta(description=METRIC_SELECTORS)] = None
    start: Annotated[str | None, Meta(description=f"First time: {TIME}.")] = field(name="from", default=None)
    end: Annotated[
        str | None,
        Meta(description=f"End, not included: {TIME}. Without it now, and for an export the newest reading."),
    ] = field(name="to", default=None)
    tz: Annotated[str, Meta(max_length=MAX_ZONE, description="IANA time zone of the times in CSV and Arrow.")] = UTC
    raw: Annotated[
        bool,
        Meta(description="CSV: no apostrophe before texts that spreadsheets take for formulas (`=`, `+`, `-`, `@`)."),
    ] = False

    def select(self, series: Iterable[Series], now_ns: int, *, default_span_ns: int | None) -> SelectedReadings:
        """Return the selected ones of these series, and the range of time.

        Without `from`, the range begins `default_span_ns` before its end. With None, it is everything: it begins with
        the first reading, and ends behind the newest one, which can be in the future. Raises Refusal for wrong times.
        """
        chosen = [*filter(matches(selection(self.device, self.metric or ["*"])), series)]
        newest_ns = max((now_ns, *(known.last_time_ns for known in chosen if default_span_ns is None)))
        # A reading of this very nanosecond is included.
        end_ns = min(newest_ns + 1, MAX_TIME_NS) if self.end is None else _time("to", self.end, now_ns)
        if self.start is not None:
            start_ns = _time("from", self.start, now_ns)
        else:
            start_ns = 0 if default_span_ns is None else max(0, end_ns - default_span_ns)
        if start_ns >= end_ns:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "from has to be before to")
        return SelectedReadings(sorted(chosen, key=lambda known: (known.device, known.metric)), start_ns, end_ns)

    def zone(self) -> str:
        """Return the time zone. Raises Refusal if there is none of this name."""
        if self.tz == UTC:
            return UTC  # works on a system without time zone files
        try:
            # A name is looked up as a file, so a wrong one causes various errors.
            return ZoneInfo(self.tz).key
        except (KeyError, ValueError, OSError):
            detail = f"tz: there is no time zone {self.tz!r}; write one like Europe/Berlin, or UTC"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from None


class HistoryRequest(ReadingsQuery, frozen=True, kw_only=True):
    """The parameters of a history."""

    points: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_HISTORY_POINTS,
            description=f"At most so many points a series, {MIN_POINTS} or more; 0: every reading.",
        ),
    ] = DEFAULT_POINTS
    aggregate: Annotated[
        Aggregate,
        Meta(
            description="How the readings of an interval are reduced: `minmax` keeps the lowest and the highest at "
            "their own times; the others return one value at the start of the interval."
        ),
    ] = "minmax"
    format: Annotated[HistoryFormat | None, Meta(description=FORMAT.format("json"))] = None


class ExportRequest(ReadingsQuery, frozen=True, kw_only=True):
    """The parameters of an export."""

    format: Annotated[ExportFormat | None, Meta(description=FORMAT.format("csv"))] = None


class SelectedReadings(NamedTuple):
    """Series in order of devices and metrics, and a range of time: `end_ns` is not included."""

    series: list[Series]
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class HistoryRoutes:
    """The operations that read the store."""

    store: Store
    series: Callable[[], Iterable[Series]]
    now_ns: Callable[[], int]

    @Operation("GET", "/api/v1/history", may=Action.READ, errors=(406, 503), media_types=(*HISTORY_FORMATS.values(),))
    async def history(self, request: Request, query: HistoryRequest) -> HistoryAnswer | Response:
        """Return stored readings, reduced to the requested number of points. The last hour without `from`."""
        zone = query.zone()
        chosen = choose_format(query.format, request.headers.get("accept"), HISTORY_FORMATS)
        selected = query.select(self.series(), self.now_ns(), default_span_ns=DEFAULT_SPAN_NS)
        _check_number(selected.series, MAX_SERIES, "name fewer devices or metrics, or take /api/v1/export")
        _check_points(query.points, query.aggregate)
        history = await self.store.query(HistoryQuery(*selected, query.points or None, query.aggregate))
        if chosen == "json":
            return await _json(history, query.aggregate)
        layout = Layout(selected.series, zone=zone, aggregate=query.aggregate, raw=query.raw)

        async def tables() -> AsyncGenerator[Table, None]:
            yield await run_in_threadpool(layout.in_order_of_time, history.series)

        return await _stream(tables(), layout, chosen, file="history")

    @Operation("GET", "/api/v1/export", may=Action.READ, errors=(406, 503), media_types=(*EXPORT_FORMATS.values(),))
    async def export(self, request: Request, query: ExportRequest) -> Response:
        """Return every stored reading, however many: one series after the other, each in order of time. From the first
        reading without `from`. If the connection breaks, the answer is incomplete."""
        layout_zone = query.zone()
        chosen = choose_format(query.format, request.headers.get("accept"), EXPORT_FORMATS)
        selected = query.select(self.series(), self.now_ns(), default_span_ns=None)
        _check_number(selected.series, MAX_EXPORT_SERIES, "name fewer devices or metrics")
        layout = Layout(selected.series, zone=layout_zone, raw=query.raw)

        async def tables() -> AsyncGenerator[Table, None]:
            async with aclosing(self.store.scan(*selected)) as pieces:
                async for piece in pieces:
                    yield layout.table(piece)

        return await _stream(tables(), layout, chosen, file="export")


async def _stream(tables: AsyncGenerator[Table, None], layout: Layout, format_name: str, *, file: str) -> Response:
    """Return the tables in a format, after the store has begun to answer."""

    try:
        parts = encode_tables(tables, WRITERS[format_name](layout))
        first = await anext(parts, b"")
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{file}.{format_name}"'}
    return StreamedFile(first, parts, media_type=MEDIA_TYPES[format_name], headers=headers)


async def _json(history: History, aggregate: Aggregate) -> Response:
    parts = iterate_in_threadpool(history_json(history, aggregate))
    first, second = await anext(parts), await anext(parts, b"")
    if not second:
        return Response(first, media_type=MEDIA_TYPES["json"], headers=NO_STORE)

    async def rest() -> AsyncGenerator[bytes, None]:
        yield second
        async for part in parts:
            yield part

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


def choose_format(named: str | None, accept: str | None, offered: Mapping[str, str]) -> str:
    """Return the named format, else the best one that the Accept header takes, of those offered.

    `offered` maps formats to media types, the default first. Follows RFC 9110, section 12.5.1: the most precise of the
    ranges that match a media type counts. Raises Refusal if the header takes none.
    """
    if named is not None:
        return named
    if accept is None:
        return next(iter(offered))
    ranges = dict(map(_media_range, accept.split(",")))
    weights = {name: _weight(ranges, media_type) for name, media_type in offered.items()}
    best = max(weights, key=weights.__getitem__)
    if weights[best] <= 0:
        detail = f"there is {', '.join(offered.values())}: accept one of these, or name one with format="
        raise Refusal(HTTPStatus.NOT_ACCEPTABLE, detail)
    return best


def _media_range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def _weight(ranges: Mapping[str, float], media_type: str) -> float:
    precise_first = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((ranges[media_range] for media_range in precise_first if media_range in ranges), 0.0)


def _time(name: str, text: str, now_ns: int) -> int:
    try:
        return parse_query_time(text, now_ns)
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {error}") from None
