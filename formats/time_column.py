"""The times of many records at once, for blocks. A time in ISO 8601 costs 0.2 µs so, and 2 µs on its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from formats.times import AHEAD_NS, EARLIEST_NS, TimeReader, TimeRefused
from wire.limits import MAX_TIME_NS
from wire.timestamp import NS_PER_S, NS_PER_UNIT

MAX_KNOWN = 100_000
"""Minutes and seconds with their fractions that are remembered: 20 MB. When it is full, all are dropped."""

_MINUTE_BYTES = len("2026-01-31T12:00")
_MINUTE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")
_SECOND = re.compile(rb":([0-5][0-9])(?:[.,]([0-9]{1,9}))?(?:(Z)|([+-])([01][0-9]):([0-5][0-9]))?")
_OFFSET = re.compile(rb"(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_BY_DIGITS = {9: "s", 10: "s", 11: "s", 12: "ms", 13: "ms", 15: "us", 16: "us", 17: "us", 18: "ns", 19: "ns"}
"""Units of counts by their length. 14 digits can be a date, and belong to two units."""


class TimeColumn:
    """Reader of the times of one device. A time is what `times` reads, whose zone this is; `fields` are those of its
    records."""

    def __init__(self, times: TimeReader, zone: tzinfo, device: str, fields: Sequence[str]) -> None:
        self._times = times
        self._zone = zone
        self._series = device, tuple(fields)
        self._minutes: dict[bytes, tuple[int | None, int | None]] = {}
        self._seconds: dict[bytes, tuple[int | None, int | None]] = {}

    def read(self, texts: Sequence[bytes], now_ns: int) -> list[int] | None:
        """Return the times in nanoseconds; None if one of them has to be read on its own."""
        form = self._times.time_format
        is_local = False
        if form in ("auto", "iso8601") and texts[0][4:5] == b"-":
            is_local = not _OFFSET.search(texts[0])
            found = self._iso_8601(texts, is_local=is_local)
        elif form == "auto" or form in NS_PER_UNIT:
            found = _counts(texts, form)
        else:
            found = None
        if found is None or min(found) < EARLIEST_NS or max(found) > min(now_ns + AHEAD_NS, MAX_TIME_NS):
            return None
        if is_local and not self._follow(texts, now_ns):
            return None
        return found

    def _iso_8601(self, texts: Sequence[bytes], *, is_local: bool) -> list[int] | None:
        """Return the times of texts that all have an offset, or all have none."""
        minutes, seconds = self._minutes, self._seconds
        if len(minutes) + len(seconds) > MAX_KNOWN:
            minutes.clear()
            seconds.clear()
        found = []
        for text in texts:
            minute, second = text[:_MINUTE_BYTES], text[_MINUTE_BYTES:]
            known_minute = minutes.get(minute)
            if known_minute is None:
                known_minute = minutes[minute] = self._minute(minute)
            known_second = seconds.get(second)
            if known_second is None:
                known_second = seconds[second] = _second(second)
            minute_ns = known_minute[is_local]
            second_ns = known_second[is_local]
            if minute_ns is None or second_ns is None:
                return None
            found.append(minute_ns + second_ns)
        return found

    def _minute(self, text: bytes) -> tuple[int | None, int | None]:
        """Return the time of a minute in UTC and in the zone; None for no time, and for one that is not clear."""
        if not _MINUTE.fullmatch(text):
            return None, None
        try:
            moment = datetime.fromisoformat(text.decode())
        except ValueError:
            return None, None
        first = moment.replace(tzinfo=self._zone)
        before, after = first.utcoffset(), first.replace(fold=1).utcoffset()
        utc_ns = _since_1970(moment.replace(tzinfo=UTC))
        return utc_ns, _since_1970(first) if before == after else None

    def _follow(self, texts: Sequence[bytes], now_ns: int) -> bool:
        """Read the last two different times on their own, for the order of what follows; count all local times."""
        times = self._times
        before = times.local
        last = texts[-1]
        other = next((text for text in reversed(texts) if text != last), last)
        try:
            for text in (other, last):
                times.read(text.decode(), now_ns, *self._series)
        except TimeRefused:
            return False
        times.local = before + len(texts)
        return True


def _second(text: bytes) -> tuple[int | None, int | None]:
    """Return the nanoseconds that a text behind a minute adds, if it has an offset, and if it has none."""
    found = _SECOND.fullmatch(text)
    if found is None:
        return None, None
    value_ns = int(found[1]) * NS_PER_S + int((found[2] or b"").ljust(9, b"0"))
    if found[3]:
        return value_ns, None
    if found[4]:
        offset_ns = (int(found[5]) * 60 + int(found[6])) * 60 * NS_PER_S
        return (value_ns + offset_ns if found[4] == b"-" else value_ns - offset_ns), None
    return None, value_ns


def _since_1970(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * NS_PER_S


def _counts(texts: Sequence[bytes], form: str) -> list[int] | None:
    """Return counts since 1970 of one length; None for anything else."""
    length = len(texts[0])
    unit = _UNIT_BY_DIGITS.get(length) if form == "auto" else form
    joined = b"".join(texts)
    if unit is None or not joined.isdigit() or len(joined) != length * len(texts):
        return None
    if any(len(text) != length for text in texts):
        return None
    factor = NS_PER_UNIT[unit]
    return [count * factor for count in map(int, texts)]
