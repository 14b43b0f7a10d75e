"""/api/v1/history: its question, and its answers as JSON and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from heapq import merge
from typing import Any

from hub.contract.store import History, SeriesHistory

MAX_SERIES = 2_000
"""Series of one answer: with 4,000 points each it is 8 million readings, as much as a browser can hold."""

NS_PER_S = 1_000_000_000
CSV_FLUSH_ROWS = 1_000

EXAMPLE = "2026-01-31T12:00:00Z"
MAX_SHOWN = 40
"""Characters of a wrong time that are repeated to whoever asked: any right one is shorter."""

_NANOSECONDS = re.compile(r"-?[0-9]{1,20}")
"""A few more digits than the year 2262 has, which is then said to be too late."""


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 UTC from an integer of nanoseconds or an RFC 3339 time. Raises ValueError, whose text is a
    sentence for whoever asked."""
    if _NANOSECONDS.fullmatch(text):
        time_ns = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
            raise ValueError(f"{shown!r} is no time: write nanoseconds since 1970, or {EXAMPLE}") from None
        if moment.tzinfo is None:
            raise ValueError(f"{text} has no time zone: write for example {moment.isoformat()}Z")
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        time_ns = (delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * 1_000
    if not 0 <= time_ns < 2**63:
        raise ValueError(f"{text} is not between 1970 and 2262")
    return time_ns


def format_time(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds: nothing of a time is lost."""
    seconds, rest = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def as_json(history: History) -> dict[str, Any]:
    """The answer as the API's History."""
    return {
        "offset": history.cursor.offset,
        "series": [
            {
                "device": part.series.device,
                "metric": part.series.metric,
                "type": part.series.type,
                "unit": part.series.unit,
                "resolution": part.resolution,
                "time_ns": part.times_ns.tolist(),
                "values": _plain(part.values),
            }
            for part in history.series
        ],
    }


def as_csv(history: History) -> Iterator[str]:
    """Rows of time, time_ns, device, metric, unit, value in order of time, in pieces of CSV_FLUSH_ROWS."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", "time_ns", "device", "metric", "unit", "value"])
    rows = merge(*(_rows(part) for part in history.series), key=lambda row: row[0])
    for count, (time_ns, part, value) in enumerate(rows, start=1):
        shown = str(value).lower() if isinstance(value, bool) else value
        series = part.series
        writer.writerow([format_time(time_ns), time_ns, series.device, series.metric, series.unit, shown])
        if count % CSV_FLUSH_ROWS == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _rows(part: SeriesHistory) -> Iterator[tuple[int, SeriesHistory, Any]]:
    for time_ns, value in zip(part.times_ns.tolist(), _plain(part.values), strict=True):
        yield time_ns, part, value


def _plain(values: Any) -> Sequence[Any]:
    """Values as Python objects, whether they came as an array or a list."""
    plain: Sequence[Any] = values if isinstance(values, list) else values.tolist()
    return plain
