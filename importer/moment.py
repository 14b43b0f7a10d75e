"""Times as they stand in tables, in nanoseconds since 1970 UTC: ISO 8601, counts since 1970, patterns; local times too.

A local time is not always one moment. When clocks are put back an hour comes twice: what is meant then is decided by
the mapping's `ambiguous`. When they are put forward an hour is left out: times in it are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation

from importer.mapping import NS_PER, Ambiguous, Precision
from wire.limits import MAX_TIME_NS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
_PRECISIONS: dict[str, Precision] = {name: name for name in NS_PER}
_APART = timedelta(hours=12)
"""Two ambiguous times further apart than this are of two different nights."""


class Moments:
    """Reads the times of one table in the order of its records. `local` counts those that carried no offset,
    `ambiguous` those of them that came twice."""

    def __init__(self, time_format: str, zone: tzinfo | None, ambiguous: Ambiguous) -> None:
        self.ambiguous = 0
        self.local = 0
        self._zone = zone
        self._decide = ambiguous
        self._told: dict[Hashable, tuple[datetime, int]] = {}
        precision = _PRECISIONS.get(time_format)
        self._factor = NS_PER[precision] if precision else 0
        self._parse: Callable[[str], datetime] = (
            datetime.fromisoformat if time_format == "iso" else lambda text: datetime.strptime(text, time_format)
        )

    def time_ns(self, text: str, series: Hashable) -> int:
        """The moment. `series` is whose times are in order. Raises ValueError with a sentence."""
        text = text.strip()
        time_ns = self._counted(text) if self._factor else self._dated(text, series)
        if not 0 <= time_ns <= MAX_TIME_NS:
            raise ValueError(f"the time {text!r} is not of 1970 to 2262")
        return time_ns

    def _counted(self, text: str) -> int:
        try:
            return int(text) * self._factor if text.isdecimal() else int(Decimal(text) * self._factor)
        except (InvalidOperation, ValueError, OverflowError):
            raise ValueError(f"{text!r} is no count since 1970") from None

    def _dated(self, text: str, series: Hashable) -> int:
        try:
            moment = self._parse(text)
        except ValueError:
            raise ValueError(f"{text!r} is no time as --time-format describes it" if text else "no time") from None
        if moment.tzinfo is None:
            moment = self._placed(moment, text, series)
        since = moment - _EPOCH
        finer = _BEYOND_MICROSECONDS.search(text)
        return (
            (since.days * 86_400 + since.seconds) * 1_000_000_000
            + since.microseconds * 1_000
            + (int(finer[1].ljust(3, "0")) if finer else 0)
        )

    def _placed(self, local: datetime, text: str, series: Hashable) -> datetime:
        self.local += 1
        zone = self._zone or UTC
        first, second = local.replace(tzinfo=zone), local.replace(tzinfo=zone, fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        if before == after or before is None or after is None:
            return first
        if before < after:
            raise ValueError(f"there was no {text} in {zone}: clocks were put forward over it")
        self.ambiguous += 1
        match self._decide:
            case "earlier":
                return first
            case "later":
                return second
            case "refuse":
                raise ValueError(f"{text} came twice in {zone}: clocks were put back; --ambiguous says which is meant")
        latest, fold = self._told.get(series, (datetime.min, 0))
        if latest == datetime.min or abs(local - latest) > _APART:
            fold = 0
        elif local <= latest:
            fold = 1
        self._told[series] = local, fold
        return second if fold else first
