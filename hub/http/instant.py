"""Times as people and programs write them, to nanoseconds. Pure: what it is now is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from wire.limits import MAX_TIME_NS

NS_PER_S = 1_000_000_000

UNITS_NS = {
    "ms": 1_000_000,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3_600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
    "w": 7 * 86_400 * NS_PER_S,
}
"""A day is 24 hours and a week 7 of them, whatever a time zone does meanwhile."""

EXAMPLE = "2026-01-31T12:00:00Z"
MAX_SHOWN = 40
"""Characters of a wrong time that are repeated to whoever asked: any right one is shorter."""

FRACTION_DIGITS = 9

_NANOSECONDS = re.compile(r"-?[0-9]{1,20}")
"""A few more digits than the year 2262 has, which is then said to be too late."""
_RELATIVE = re.compile(r"(?:now)?(?P<sign>[+-])(?P<steps>(?:[0-9]{1,10}(?:ms|[smhdw]))+)")
_STEP = re.compile(r"([0-9]+)(ms|[smhdw])")
_RFC_3339 = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?P<time>\d{2}:\d{2}(?::\d{2}(?:\.(?P<fraction>\d+))?)?)(?P<zone>[Zz]|[+-]\d{2}:\d{2})?)?",
    re.ASCII,
)
_LOST_PLUS = re.compile(r"\d{2} \d{2}:\d{2}$|^now \d")


def parse_time(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970 UTC, from an integer of nanoseconds, an RFC 3339 time with up to nine digits of fraction,
    `now`, or what is relative to that: `now-1d`, `-6h`, `-1h30m`.

    Raises ValueError, whose text is a sentence for whoever asked.
    """
    if _NANOSECONDS.fullmatch(text):
        time_ns = int(text)
    elif text == "now":
        time_ns = now_ns
    elif relative := _RELATIVE.fullmatch(text):
        distance_ns = sum(int(number) * UNITS_NS[unit] for number, unit in _STEP.findall(relative["steps"]))
        time_ns = now_ns + (distance_ns if relative["sign"] == "+" else -distance_ns)
    else:
        time_ns = _parse_rfc_3339(text)
    if not 0 <= time_ns <= MAX_TIME_NS:
        raise ValueError(f"{text} is not between 1970 and 2262")
    return time_ns


def _parse_rfc_3339(text: str) -> int:
    match = _RFC_3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        clock = (match["time"] or "00:00:00").partition(".")[0]
        moment = datetime.fromisoformat(f"{match['date']}T{clock}{(match['zone'] or 'Z').upper()}")
    except ValueError:
        shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
        if _LOST_PLUS.search(text):
            raise ValueError(f"{shown!r} is no time: in a URL a + is written %2B") from None
        raise ValueError(f"{shown!r} is no time: write nanoseconds since 1970, {EXAMPLE}, or -6h") from None
    if match["zone"] is None:
        raise ValueError(f"{text} has no time zone: write for example {match['date']}T{clock}Z")
    fraction = match["fraction"] or ""
    if len(fraction) > FRACTION_DIGITS:
        raise ValueError(f"{text[:MAX_SHOWN]} is finer than nanoseconds: write at most nine digits after the point")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + int(fraction.ljust(FRACTION_DIGITS, "0"))
