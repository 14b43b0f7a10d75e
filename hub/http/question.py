"""What a history or an export is asked for: which series, from when to when, in which format and time zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import Query, Request

from hub.http.problem import Refusal
from hub.http.table import UTC
from hub.live.selection import matches, selection
from hub.model.batch import Series
from wire.limits import MAX_TIME_NS
from wire.timestamp import DURATION_NS, parse_query_time

DEFAULT_SPAN_NS = DURATION_NS["h"]

DEVICE_SELECTORS = "Device ids; `*` stands for any run of characters."
METRIC_SELECTORS = "Metric names, likewise; all without it."
TIME = "nanoseconds since 1970, RFC 3339, or relative to now: `-6h`, `now-1d`"

MAX_ZONE = 64
"""Characters of a time zone's name; the longest there is has 32."""

Devices = Annotated[list[str], Query(description=DEVICE_SELECTORS)]
Metrics = Annotated[list[str] | None, Query(description=METRIC_SELECTORS)]


class Selected(NamedTuple):
    """Series in order of devices and metrics, and a stretch of time: `end_ns` is not included."""

    series: list[Series]
    start_ns: int
    end_ns: int


class Question:
    """The series and the stretch of time, as parameters of an operation."""

    def __init__(
        self,
        request: Request,
        device: Devices,
        metric: Metrics = None,
        start: Annotated[str | None, Query(alias="from", description=f"First time: {TIME}.")] = None,
        end: Annotated[str | None, Query(alias="to", description=f"End, not included: {TIME}. Now without it.")] = None,
        tz: Annotated[
            str, Query(max_length=MAX_ZONE, description="IANA time zone that CSV and Arrow show times in.")
        ] = UTC,
    ) -> None:
        self.devices = device
        self.metrics = metric or ["*"]
        self.zone = _zone(tz)
        self.accept = request.headers.get("accept")
        self._start = start
        self._end = end

    def select(self, series: Iterable[Series], now_ns: int, *, default_span_ns: int | None) -> Selected:
        """What is asked for, of these series. Without `from` it begins `default_span_ns` before the end, or with the
        first reading (None). Raises Refusal for wrong times."""
        # Readings of this very nanosecond are among them.
        end_ns = min(now_ns + 1, MAX_TIME_NS) if self._end is None else _time("to", self._end, now_ns)
        if self._start is not None:
            start_ns = _time("from", self._start, now_ns)
        else:
            start_ns = 0 if default_span_ns is None else max(0, end_ns - default_span_ns)
        if start_ns >= end_ns:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "from has to be before to")
        chosen = filter(matches(selection(self.devices, self.metrics)), series)
        return Selected(sorted(chosen, key=lambda one: (one.device, one.metric)), start_ns, end_ns)


Clock = Callable[[], int]


def _time(name: str, text: str, now_ns: int) -> int:
    try:
        return parse_query_time(text, now_ns)
    except ValueError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {error}") from None


def _zone(name: str) -> str:
    if name == UTC:
        return name  # also where a system has no files of zones
    try:
        # A name is looked up as a file, so there are many ways in which it can be none.
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):
        detail = f"tz: there is no time zone {name!r}; write one like Europe/Berlin, or UTC"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from None
