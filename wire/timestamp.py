"""Times as people and programs write them, converted to nanoseconds since 1970 UTC.

The HTTP API, imported files and MQTT messages share this parser; each names the formats that it accepts. Pure: the
current time is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

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

MIN_SECONDS = 100_000_000
"""A number below this is not guessed to be a time: it would be before 1973."""

MAX_SHOWN = 40
"""Characters of an invalid time that an error repeats. Every valid time is shorter."""

FRACTION_DIGITS = 9

EXAMPLE = "2026-01-31T12:00:00Z"

ParseTime: TypeAlias = Callable[[object], int]
"""Return nanoseconds since 1970. Raises ValueError with a sentence for the sender."""

Localize: TypeAlias = Callable[[datetime], datetime]
"""Give a time without an offset its time zone. Raises ValueError when that is not possible."""

_UNIT_BY_SIZE = ((10**11, "s"), (10**14, "ms"), (10**17, "us"), (10**30, "ns"))
"""A count below the bound has this unit. Between the years 1973 and 5138 the ranges do not overlap."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
_COUNT = re.compile(r"\d{1,19}(\.\d{1,18})?")
_MAX_INT_DIGITS = 19
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


def assume_utc(local: datetime) -> datetime:
    """Return the time as a time in UTC."""
    return local.replace(tzinfo=UTC)


def time_parser(format: str = "auto", localize: Localize = assume_utc) -> ParseTime:
    """Return the parser for one format: auto, iso8601, s, ms, us, ns, or a pattern of strptime.

    `auto` accepts ISO 8601 and counts since 1970, whose unit follows from their size. `localize` handles times without
    an offset. Raises ValueError for an unknown format.
    """
    if format == "auto":
        return lambda value: _check_range(_parse_any(value, localize), value)
    if format == "iso8601":
        return lambda value: _check_range(_parse_iso_8601(value, localize), value)
    if format in NS_PER_UNIT:
        ns_per_unit = NS_PER_UNIT[format]
        return lambda value: _check_range(int(_parse_count(value) * ns_per_unit), value)
    if "%" in format:
        return lambda value: _check_range(_parse_pattern(value, format, localize), value)
    raise ValueError(
        f"{format!r} is not a time format: use auto, iso8601, s, ms, us, ns, or a pattern such as '%d.%m.%Y %H:%M'"
    )


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


def looks_like_time(value: object) -> bool:
    """Return whether a number can be a count since 1970, or a text a date."""
    if isinstance(value, str):
        return len(value) >= len("20240101") and value[:4].isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= MIN_SECONDS


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


def _parse_any(value: object, localize: Localize) -> int:
    if isinstance(value, str) and not _COUNT.fullmatch(value):
        return _parse_iso_8601(value, localize)
    count = _parse_count(value)
    unit = next((unit for bound, unit in _UNIT_BY_SIZE if count < bound), "ns")
    return int(count * NS_PER_UNIT[unit])


def _parse_count(value: object) -> int | Decimal:
    """Return the exact count: a float of seconds cannot hold nanoseconds, its digits can."""
    if type(value) is int:
        return value
    if isinstance(value, float | str):
        text = str(value)
        if len(text) <= _MAX_INT_DIGITS and text.isdecimal():
            return int(text)
        try:
            count = Decimal(text)
            # Check before any conversion to an integer: a number such as 1e999999999 would fill the memory.
            if count.is_finite() and -1 <= count <= MAX_TIME_NS:
                return count
        except InvalidOperation:
            pass
    raise ValueError(f"{_shown(value)} is not a count since 1970")


def _parse_iso_8601(value: object, localize: Localize) -> int:
    try:
        if not isinstance(value, str):
            raise ValueError
        parsed = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"{_shown(value)} is not a time in ISO 8601") from None
    finer = _BEYOND_MICROSECONDS.search(value)
    return _since_1970(parsed, localize) + (int(finer[1].ljust(3, "0")) if finer else 0)


def _parse_pattern(value: object, pattern: str, localize: Localize) -> int:
    try:
        parsed = datetime.strptime(str(value), pattern)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not a time in the format {pattern!r}") from None
    return _since_1970(parsed, localize)


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
    return _since_1970(parsed, assume_utc) + (int(finer[1].ljust(3, "0")) if finer else 0)


def _since_1970(parsed: datetime, localize: Localize) -> int:
    if parsed.tzinfo is None:
        parsed = localize(parsed)
    try:
        since = parsed - _EPOCH
    except OverflowError:
        raise ValueError(f"{parsed} is not between 1970 and 2262") from None
    return (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1_000


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
