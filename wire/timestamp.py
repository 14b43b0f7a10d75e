"""Times in queries of the HTTP API, converted to nanoseconds since 1970 UTC. Pure: the current time is an argument.

Times in foreign data are read by `formats`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from wire.limits import MAX_TIME_NS

NS_PER_S = 1_000_000_000

NS_PER_UNIT = {"s": NS_PER_S, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Units of a count since 1970."""

DURATION_NS = {
    "ms": 1_000_000,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3_600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
    "w": 7 * 86_400 * NS_PER_S,
}
"""Units of a duration. A day always has 24 hours and a week 7 days, also when the clocks change."""

MAX_SHOWN = 40
"""Characters of an invalid time that an error repeats. Every valid time is shorter."""

FRACTION_DIGITS = 9

EXAMPLE = "2026-01-31T12:00:00Z"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
_NANOSECONDS = re.compile(r"-?[0-9]{1,20}")
"""One digit more than the latest time has, so that the error can say that the time is out of range."""
_RELATIVE = re.compile(r"(?:now)?(?P<sign>[+-])(?P<steps>(?:[0-9]{1,10}(?:ms|[smhdw]))+)")
_STEP = re.compile(r"([0-9]+)(ms|[smhdw])")
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}"
    r"(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.(?P<fraction>\d+))?)?(?:[Zz]|[+-]\d{2}:\d{2})?)?",
    re.ASCII,
)
_LOST_PLUS = re.compile(r"\d{2} \d{2}:\d{2}$|^now \d")


def parse_query_time(text: str, now_ns: int) -> int:
    """Return the nanoseconds for a time in a query of the HTTP API.

    Accepts an integer of nanoseconds, an RFC 3339 time with up to nine digits of fraction, `now`, and times relative to
    it: `now-1d`, `-6h`, `-1h30m`. Raises ValueError with a sentence for the client.
    """
    if _NANOSECONDS.fullmatch(text):
        time_ns = int(text)
    elif text == "now":
        time_ns = now_ns
    elif relative := _RELATIVE.fullmatch(text):
        distance_ns = sum(int(number) * DURATION_NS[unit] for number, unit in _STEP.findall(relative["steps"]))
        time_ns = now_ns + (distance_ns if relative["sign"] == "+" else -distance_ns)
    else:
        time_ns = _parse_rfc_3339(text)
    return _check_range(time_ns, text)


def has_offset(text: str) -> bool:
    """Return whether a time in ISO 8601 contains its offset from UTC."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _check_range(time_ns: int, value: object) -> int:
    if not 0 <= time_ns <= MAX_TIME_NS:
        raise ValueError(f"{_shown(value)} is not between 1970 and 2262")
    return time_ns


def _parse_rfc_3339(text: str) -> int:
    match = _RFC_3339.fullmatch(text)
    if match is not None and len(match["fraction"] or "") > FRACTION_DIGITS:
        raise ValueError(
            f"{_shown(text)} is finer than nanoseconds: write at most {FRACTION_DIGITS} digits after the point"
        )
    try:
        if match is None:
            raise ValueError
        # The standard library accepts an upper-case Z only.
        parsed = datetime.fromisoformat(text.upper())
    except ValueError:
        if _LOST_PLUS.search(text):
            raise ValueError(f"{_shown(text)} is not a time: in a URL a + is written %2B") from None
        raise ValueError(
            f"{_shown(text)} is not a time: write nanoseconds since 1970, a time such as {EXAMPLE}, or -6h"
        ) from None
    if parsed.tzinfo is None:
        raise ValueError(f"{text} has no time zone: write for example {parsed.isoformat(timespec='seconds')}Z")
    finer = _BEYOND_MICROSECONDS.search(text)
    return _since_1970(parsed) + (int(finer[1].ljust(3, "0")) if finer else 0)


def _since_1970(parsed: datetime) -> int:
    try:
        since = parsed - _EPOCH
    except OverflowError:
        raise ValueError(f"{parsed} is not between 1970 and 2262") from None
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
