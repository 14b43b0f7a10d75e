"""The whole reading of some bytes, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from formats.reading import Reading
from formats.record import RefusedInput, Row
from formats.rules import rules_of
from wire.timestamp import NS_PER_S

CASES = Path(__file__).parent / "cases"
NOW_NS = 1_795_879_800 * NS_PER_S
"""2026-11-28T15:30:00Z."""


class Content(NamedTuple):
    """Everything that a reading returned."""

    rows: list[Row]
    refusals: list[RefusedInput]
    reading: Reading

    def column(self, metric: str, device: str | None = None) -> list[object]:
        """Return the values of a metric in their order."""
        return [
            row.values[metric] for row in self.rows if metric in row.values and (device is None or row.device == device)
        ]

    @property
    def values(self) -> list[dict[str, Any]]:
        """The values of each row."""
        return [row.values for row in self.rows]

    @property
    def times(self) -> list[int | None]:
        """The times of the rows in nanoseconds."""
        return [row.time_ns for row in self.rows]

    @property
    def codes(self) -> list[tuple[int, str]]:
        """The line and the code of each refusal."""
        return [(refusal.line, refusal.code) for refusal in self.refusals]


def read(data: bytes | str, *, window: int = 2000, piece: int = 0, default_device: str = "", **rules: Any) -> Content:
    """Return the content of some bytes, which are fed in pieces of a size; 0: all at once."""
    raw = data.encode() if isinstance(data, str) else data
    found = rules_of(rules)
    reading = Reading(found, ZoneInfo(found.zone) if found.zone else UTC, window=window, device=default_device)
    return content_of(reading, raw, piece)


def content_of(reading: Reading, raw: bytes, piece: int = 0) -> Content:
    """Return what a reading makes of some bytes, which are fed in pieces of a size; 0: all at once."""
    rows: list[Row] = []
    refusals: list[RefusedInput] = []
    for start in range(0, len(raw), piece or len(raw) or 1):
        result = reading.feed(raw[start : start + (piece or len(raw))], NOW_NS)
        rows += result.all_rows
        refusals += result.refusals
    last = reading.finish(NOW_NS)
    return Content(rows + last.all_rows, refusals + last.refusals, reading)


def read_messages(payloads: Iterable[bytes], *, default_device: str = "", **rules: Any) -> Content:
    """Return the content of messages, each of which is a frame by itself."""
    found = rules_of(rules)
    reading = Reading(found, ZoneInfo(found.zone) if found.zone else UTC, window=1, device=default_device)
    results = [reading.message(payload, NOW_NS) for payload in payloads]
    results.append(reading.finish(NOW_NS))
    return Content(
        [row for result in results for row in result.all_rows],
        [refusal for result in results for refusal in result.refusals],
        reading,
    )


def read_case(name: str, **rules: Any) -> Content:
    """Return the content of a file in `cases`."""
    return read((CASES / name).read_bytes(), **rules)


def at(text: str) -> int:
    """Return the nanoseconds of a time such as 2026-11-28T15:00:00Z."""
    return int(datetime.fromisoformat(text).timestamp()) * NS_PER_S
