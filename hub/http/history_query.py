"""The request for a history or an export: which series, which range of time, which time zone and which format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from hub.http.answers import DEVICE_SELECTORS, METRIC_SELECTORS
from hub.http.problem import Refusal
from hub.http.tables import UTC
from hub.live.selection import matches, selection
from hub.model.batch import Series
from hub.model.store import MIN_POINTS, Aggregate
from wire.limits import MAX_HISTORY_POINTS, MAX_TIME_NS
from wire.timestamp import DURATION_NS, parse_query_time

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

FORMAT = "Without it, what the Accept header asks for, else {}."


class ReadingsQuery(Struct, frozen=True, kw_only=True):
    """The parameters that a history and an export have in common."""

    device: Annotated[list[str], Meta(description=DEVICE_SELECTORS)]
    metric: Annotated[list[str] | None, Meta(description=METRIC_SELECTORS)] = None
    start: Annotated[str | None, Meta(description=f"First time: {TIME}.")] = field(name="from", default=None)
    end: Annotated[str | None, Meta(description=f"End, not included: {TIME}. Now without it.")] = field(
        name="to", default=None
    )
    tz: Annotated[str, Meta(max_length=MAX_ZONE, description="IANA time zone of the times in CSV and Arrow.")] = UTC

    def select(self, series: Iterable[Series], now_ns: int, *, default_span_ns: int | None) -> SelectedReadings:
        """Return the selected ones of these series, and the range of time.

        Without `from`, the range begins `default_span_ns` before its end, or with the first reading (None). Raises
        Refusal for wrong times.
        """
        # A reading of this very nanosecond is included.
        end_ns = min(now_ns + 1, MAX_TIME_NS) if self.end is None else _time("to", self.end, now_ns)
        if self.start is not None:
            start_ns = _time("from", self.start, now_ns)
        else:
            start_ns = 0 if default_span_ns is None else max(0, end_ns - default_span_ns)
        if start_ns >= end_ns:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "from has to be before to")
        chosen = filter(matches(selection(self.device, self.metric or ["*"])), series)
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


def media_types(formats: Iterable[str]) -> dict[str, str]:
    """Return the media type of each of these formats."""
    return {name: MEDIA_TYPES[name] for name in formats}


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
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0


def _time(name: str, text: str, now_ns: int) -> int:
    try:
        return parse_query_time(text, now_ns)
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {error}") from None
