"""Times in payloads as nanoseconds since 1970: ISO 8601, patterns, counts since 1970 whose unit their size tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Literal

from wire.limits import MAX_TIME_NS

NS_PER = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}

TimeFormat = Literal["auto", "iso8601", "s", "ms", "us", "ns"]

LEAST_SECONDS = 100_000_000
"""A smaller count is taken for no time where nobody said that it is one: it would be of before 1973."""

_SIZES = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))
"""Counts below these are of that unit: between 1973 and 5138 they do not overlap."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
_COUNT = re.compile(r"\d{1,19}(\.\d{1,18})?")

ReadTime = Callable[[object], int]
"""Nanoseconds since 1970 of a time as it was sent. Raises ValueError with a sentence."""


def time_reader(format: str = "auto", zone: tzinfo = UTC) -> ReadTime:
    """What reads times of a format: "auto", "iso8601", "s", "ms", "us", "ns", or a pattern of strptime.

    `zone` is where the clocks stand whose times carry no offset. Raises ValueError for another format.
    """
    if format == "auto":
        return lambda value: _within(_any(value, zone), value)
    if format == "iso8601":
        return lambda value: _within(_iso(value, zone), value)
    if format in NS_PER:
        factor = NS_PER[format]
        return lambda value: _within(_counted(value, factor), value)
    if "%" in format:
        return lambda value: _within(_dated(value, format, zone), value)
    raise ValueError(
        f"{format!r} is no format of times: auto, iso8601, s, ms, us, ns, or a pattern such as '%d.%m.%Y %H:%M'"
    )


def looks_like_time(value: object) -> bool:
    """Whether a number can be a count since 1970, or a text a date."""
    if isinstance(value, str):
        return len(value) >= len("20240101") and value[:4].isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= LEAST_SECONDS


def has_offset(text: str) -> bool:
    """Whether a time in ISO 8601 says how far its clock is from UTC."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _within(time_ns: int, value: object) -> int:
    if not 0 <= time_ns <= MAX_TIME_NS:
        raise ValueError(f"the time {value!r} is not of 1970 to 2262")
    return time_ns


def _any(value: object, zone: tzinfo) -> int:
    if isinstance(value, str) and not _COUNT.fullmatch(value):
        return _iso(value, zone)
    count = _count(value)
    for bound, unit in _SIZES:
        if count < bound:
            return int(count * NS_PER[unit])
    return int(count)


def _counted(value: object, factor: int) -> int:
    return int(_count(value) * factor)


def _count(value: object) -> int | Decimal:
    """The count exactly as it was written: a float of seconds has no room for nanoseconds, its digits have."""
    if type(value) is int:
        return value
    if isinstance(value, float | str):
        try:
            count = Decimal(str(value))
            # Numbers as long as these would fill memory before they were refused.
            if count.is_finite() and -1 <= count <= MAX_TIME_NS:
                return count
        except InvalidOperation:
            pass
    raise ValueError(f"{_short(value)} is no count since 1970")


def _iso(value: object, zone: tzinfo) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is no time in ISO 8601")
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"{_short(value)} is no time in ISO 8601") from None
    finer = _BEYOND_MICROSECONDS.search(value)
    return _since(moment, zone) + (int(finer[1].ljust(3, "0")) if finer else 0)


def _dated(value: object, pattern: str, zone: tzinfo) -> int:
    try:
        moment = datetime.strptime(str(value), pattern)
    except (ValueError, OverflowError):
        raise ValueError(f"{_short(value)} is no time as {pattern!r} describes it") from None
    return _since(moment, zone)


def _since(moment: datetime, zone: tzinfo) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        since = moment - _EPOCH
    except OverflowError:
        raise ValueError(f"the time {moment} is not of 1970 to 2262") from None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
