"""Times in tables, and the two nights of a year in which clocks are moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.mapping import Ambiguous
from importer.moment import Moments

BERLIN = ZoneInfo("Europe/Berlin")
PATTERN = "%d.%m.%Y %H:%M"
PUT_BACK_NS = 1_729_987_200 * 10**9  # 2024-10-27 00:00 UTC: in Berlin 02:00, summer time, for the first time
HALF_HOUR_NS = 1_800 * 10**9


def test_an_hour_that_comes_twice_is_told_apart_by_the_order_of_the_file() -> None:
    """02:00 to 02:59 is summer time at first; once the times go back, or stand, it is winter time."""
    moments = Moments(PATTERN, BERLIN, "order")
    night = ["02:00", "02:30", "02:00", "02:30", "03:00"]
    found = [moments.time_ns(f"27.10.2024 {time}", "a") for time in night]
    assert found == [PUT_BACK_NS + number * HALF_HOUR_NS for number in range(5)]
    assert moments.ambiguous == 4


def test_each_series_has_an_order_of_its_own() -> None:
    """One that is later in the file begins in summer time again, and so does the next year."""
    moments = Moments(PATTERN, BERLIN, "order")
    for series in ("a", "b"):
        assert moments.time_ns("27.10.2024 02:30", series) == PUT_BACK_NS + HALF_HOUR_NS
        assert moments.time_ns("27.10.2024 02:30", series) == PUT_BACK_NS + 3 * HALF_HOUR_NS
    year_later = datetime(2025, 10, 26, 0, 0, tzinfo=UTC).timestamp()
    assert moments.time_ns("26.10.2025 02:00", "a") == year_later * 10**9


@pytest.mark.parametrize(("decided", "hours"), [("earlier", 0), ("later", 1)])
def test_what_it_means_can_be_told(decided: Ambiguous, hours: int) -> None:
    """For files that are in no order."""
    moments = Moments(PATTERN, BERLIN, decided)
    for _ in range(2):
        assert moments.time_ns("27.10.2024 02:00", "a") == PUT_BACK_NS + 2 * hours * HALF_HOUR_NS


def test_it_can_be_refused() -> None:
    """With a sentence that says what to do."""
    with pytest.raises(ValueError, match="--ambiguous"):
        Moments(PATTERN, BERLIN, "refuse").time_ns("27.10.2024 02:00", "a")


def test_an_hour_that_was_left_out_is_refused() -> None:
    """No clock ever showed it: the zone is wrong, or the file."""
    with pytest.raises(ValueError, match="put forward"):
        Moments(PATTERN, BERLIN, "order").time_ns("31.03.2024 02:30", "a")


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2261, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.integers(0, 999),
    st.sampled_from(["T", " "]),
)
def test_a_time_with_an_offset_is_exact(local: datetime, minutes: int, nanoseconds: int, separator: str) -> None:
    """To the nanosecond, whatever the offset."""
    aware = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = aware.isoformat(separator, "microseconds")
    text = f"{text[:26]}{nanoseconds:03}{text[26:]}"
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    expected = since // timedelta(microseconds=1) * 1000 + nanoseconds
    assert Moments("iso", None, "order").time_ns(text, "a") == expected


@pytest.mark.parametrize(
    ("format", "text", "time_ns"),
    [
        ("s", "1700000000", 1_700_000_000_000_000_000),
        ("s", "1700000000.123456789", 1_700_000_000_123_456_789),
        ("ms", "1700000000123", 1_700_000_000_123_000_000),
        ("ns", "1700000000123456789", 1_700_000_000_123_456_789),
    ],
)
def test_counts_since_1970_lose_nothing(format: str, text: str, time_ns: int) -> None:
    """They are never floats on the way."""
    assert Moments(format, None, "order").time_ns(text, "a") == time_ns


@pytest.mark.parametrize("text", ["", "x", "inf", "NaN", "-1", "99999999999999999999"])
def test_what_is_no_count_is_refused(text: str) -> None:
    """With a sentence."""
    with pytest.raises(ValueError, match=r"count|1970"):
        Moments("s", None, "order").time_ns(text, "a")
