"""Times of a table, local times included.

A local time can be ambiguous: when clocks are put back, one hour occurs twice. The mapping's `ambiguous` decides which
of the two is meant. When clocks are put forward, one hour does not occur; times in it are rejected.
"""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta, tzinfo

from importer.mapping import Ambiguous
from importer.records import MappingError
from wire.timestamp import time_parser

_ONE_NIGHT = timedelta(hours=12)
"""Two ambiguous times further apart than this belong to different nights."""


class LocalTimes:
    """Parser for the times of one table, in the order of its records.

    `local` counts the times without an offset, `ambiguous` those of them that occur twice.
    """

    def __init__(self, time_format: str, zone: tzinfo | None, ambiguous: Ambiguous) -> None:
        """Raises MappingError for an unknown format."""
        self.ambiguous = 0
        self.local = 0
        self._zone = zone or UTC
        self._decide = ambiguous
        self._series: Hashable = None
        self._latest: dict[Hashable, tuple[datetime, int]] = {}
        try:
            self._parse = time_parser("iso8601" if time_format == "iso" else time_format, self._localize)
        except ValueError as error:
            raise MappingError(f"--time-format: {error}") from None

    def time_ns(self, text: str, series: Hashable) -> int:
        """Return nanoseconds since 1970. The times of one `series` are in order. Raises ValueError with a sentence."""
        text = text.strip()
        if not text:
            raise ValueError("the record has no time (a count since 1970, or as --time-format describes it)")
        self._series = series
        return self._parse(text)

    def _localize(self, local: datetime) -> datetime:
        self.local += 1
        zone = self._zone
        first, second = local.replace(tzinfo=zone), local.replace(tzinfo=zone, fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        if before == after or before is None or after is None:
            return first
        if before < after:
            raise ValueError(f"{local} does not exist in {zone}: clocks were put forward over it")
        self.ambiguous += 1
        match self._decide:
            case "earlier":
                return first
            case "later":
                return second
            case "refuse":
                raise ValueError(f"{local} occurs twice in {zone}: clocks were put back; set --ambiguous")
        latest, fold = self._latest.get(self._series, (datetime.min, 0))
        if latest == datetime.min or abs(local - latest) > _ONE_NIGHT:
            fold = 0
        elif local <= latest:
            fold = 1
        self._latest[self._series] = local, fold
        return second if fold else first
