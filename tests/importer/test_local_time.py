"""Local times of a table, and the two nights of a year in which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from importer.local_time import LocalTimes
from importer.mapping import Ambiguous
from importer.records import MappingError

BERLIN = ZoneInfo("Europe/Berlin")
PATTERN = "%d.%m.%Y %H:%M"
PUT_BACK_NS = 1_729_987_200 * 10**9  # 2024-10-27 00:00 UTC: in Berlin 02:00, summer time, for the first time
HALF_HOUR_NS = 1_800 * 10**9


def test_the_order_of_the_file_resolves_an_hour_that_occurs_twice() -> None:
    """02:00 to 02:59 is summer time first; once the times go back or stay equal, it is winter time."""
    times = LocalTimes(PATTERN, BERLIN, "order")
    night = ["02:00", "02:30", "02:00", "02:30", "03:00"]
    found = [times.time_ns(f"27.10.2024 {time}", "a") for time in night]
    assert found == [PUT_BACK_NS + number * HALF_HOUR_NS for number in range(5)]
    assert times.ambiguous == 4


def test_each_series_has_its_own_order() -> None:
    """A series that begins later in the file begins in summer time again, and so does the next year."""
    times = LocalTimes(PATTERN, BERLIN, "order")
    for series in ("a", "b"):
        assert times.time_ns("27.10.2024 02:30", series) == PUT_BACK_NS + HALF_HOUR_NS
        assert times.time_ns("27.10.2024 02:30", series) == PUT_BACK_NS + 3 * HALF_HOUR_NS
    year_later = datetime(2025, 10, 26, 0, 0, tzinfo=UTC).timestamp()
    assert times.time_ns("26.10.2025 02:00", "a") == year_later * 10**9


@pytest.mark.parametrize(("decided", "hours"), [("earlier", 0), ("later", 1)])
def test_the_mapping_can_choose_one_of_the_two_hours(decided: Ambiguous, hours: int) -> None:
    """This serves files without an order of time."""
    times = LocalTimes(PATTERN, BERLIN, decided)
    for _ in range(2):
        assert times.time_ns("27.10.2024 02:00", "a") == PUT_BACK_NS + 2 * hours * HALF_HOUR_NS


def test_an_ambiguous_time_can_be_rejected() -> None:
    """The sentence names the option that resolves it."""
    with pytest.raises(ValueError, match="--ambiguous"):
        LocalTimes(PATTERN, BERLIN, "refuse").time_ns("27.10.2024 02:00", "a")


def test_a_time_in_the_missing_hour_is_rejected() -> None:
    """No clock ever showed it: the zone is wrong, or the file."""
    with pytest.raises(ValueError, match="put forward"):
        LocalTimes(PATTERN, BERLIN, "order").time_ns("31.03.2024 02:30", "a")


@pytest.mark.parametrize(("time_format", "text"), [("iso", " 2026-01-31T12:00:00 "), ("s", "1769860800")])
def test_spaces_around_a_time_are_ignored_and_only_local_times_count(time_format: str, text: str) -> None:
    """A count since 1970 is never a local time."""
    times = LocalTimes(time_format, None, "order")
    assert times.time_ns(text, "a") == 1_769_860_800 * 10**9
    assert times.local == (time_format == "iso")


def test_an_empty_time_is_rejected() -> None:
    """The sentence says that there is none."""
    with pytest.raises(ValueError, match="no time"):
        LocalTimes("iso", None, "order").time_ns(" ", "a")


def test_an_unknown_format_is_rejected_once() -> None:
    """The mapping is wrong, not each of its records."""
    with pytest.raises(MappingError, match="--time-format"):
        LocalTimes("yearly", None, "order")
