"""Times in every form, the order of ambiguous ones, and the uptime of devices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.rules import Ambiguous
from formats.times import TimeReader, TimeRefused, UptimeClock, parse_moment
from tests.formats.reading_of import NOW_NS, at
from wire.timestamp import NS_PER_S

BERLIN = ZoneInfo("Europe/Berlin")
MS = 1_000_000


def read(value: object, form: str = "auto") -> int:
    return TimeReader(form, UTC, "order").read(value, NOW_NS, "").time_ns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"),
        ("2026-01-31 12:00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31 12:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
        ("2026-01-31 12:00:00 +0100", "2026-01-31T11:00:00Z"),
        ("2026-01-31 12:00:00 UTC", "2026-01-31T12:00:00Z"),
        ("20260131T120000Z", "2026-01-31T12:00:00Z"),
        ("20260131120000", "2026-01-31T12:00:00Z"),
        ("20260131", "2026-01-31T00:00:00Z"),
        ("20260131T240000Z", "2026-02-01T00:00:00Z"),
        ("2026-01-31T24:00:00Z", "2026-02-01T00:00:00Z"),
        ("2026-12-31 24:00", "2027-01-01T00:00:00Z"),
        ("2026-W05-6T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-031T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("31.01.2026 12:00:00", "2026-01-31T12:00:00Z"),
        ("31.1.26 12:00", "2026-01-31T12:00:00Z"),
        ("2026/01/31 12:00:00", "2026-01-31T12:00:00Z"),
        ("31/01/2026 12:00:00", "2026-01-31T12:00:00Z"),
        ("01/31/2026 12:00:00 PM", "2026-01-31T12:00:00Z"),
        ("01/31/26 12:30:00 AM", "2026-01-31T00:30:00Z"),
        ("2026-01-31, 1:05 p.m.", "2026-01-31T13:05:00Z"),
        ("31-Jan-2026 12:00:00", "2026-01-31T12:00:00Z"),
        ("31 Jan 2026 12:00:00", "2026-01-31T12:00:00Z"),
        ("Sat, 31 Jan 2026 12:00:00 +0000", "2026-01-31T12:00:00Z"),
        ("January 31, 2026 12:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00Z"),
    ],
)
def test_forms_of_times_in_texts(text: str, expected: str) -> None:
    """Each form is the same moment, to the second."""
    assert read(text) // NS_PER_S * NS_PER_S == at(expected)


@pytest.mark.parametrize(
    "text", ["2026-01-31T12:00:00.123456789Z", "2026-01-31 12:00:00,123456789", "31.01.2026 12:00:00.123456789"]
)
def test_nanoseconds_are_exact(text: str) -> None:
    """Nine digits of a fraction are kept, with a point or a comma."""
    assert read(text) % NS_PER_S == 123_456_789


@pytest.mark.parametrize(
    ("count", "ns"),
    [
        (1_795_878_000, NS_PER_S),
        (1_795_878_000_000, MS),
        (1_795_878_000_000_000, 1_000),
        (1_795_878_000_000_000_000, 1),
        ("1795878000.000", NS_PER_S),
        ("1795878000000", MS),
        (1_795_878_000.0, NS_PER_S),
    ],
)
def test_a_count_has_the_unit_of_its_magnitude(count: object, ns: int) -> None:
    """Seconds, milliseconds, microseconds and nanoseconds since 1970 do not overlap between 1973 and 5138."""
    assert read(count) == at("2026-11-28T15:00:00Z")
    assert ns


@pytest.mark.parametrize(
    ("form", "count"), [("since_2000", 849_193_200), ("excel", 46_354.625), ("excel", "46354.625")]
)
def test_other_epochs_where_the_rules_say_so(form: str, count: object) -> None:
    """Seconds since 2000 and days of a spreadsheet are never guessed."""
    assert read(count, form) == at("2026-11-28T15:00:00Z")


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-02-30 12:00", "25:00", "31.13.2026 10:00", True, "", "1e999999999", -5, 10**30]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    """The reason is a sentence."""
    with pytest.raises(TimeRefused, match=" "):
        read(value)


def test_the_order_of_day_and_month_needs_evidence() -> None:
    """A number above 12 in another date decides it; without one the setting is asked for."""
    reader = TimeReader("auto", UTC, "order")
    with pytest.raises(TimeRefused) as refused:
        reader.read("03/04/2026 10:00", NOW_NS, "")
    assert "day_first" in refused.value.setting
    reader.learn(["03/04/2026 10:00", "03/14/2026 10:00"])
    assert reader.read("03/04/2026 10:00", NOW_NS, "").time_ns == at("2026-03-04T10:00:00Z")
    assert read("03/04/2026 10:00", "day_first") == at("2026-04-03T10:00:00Z")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("26-11-28 10:00", ["day_first", "year_first"]),
        ("26-01-01 00:00:00", ["day_first", "year_first"]),
        ("26/11/28", ["day_first", "year_first"]),
        ("01/02/03 10:00", ["day_first", "month_first", "year_first"]),
        ("01/02/2003 10:00", ["day_first", "month_first"]),
    ],
)
def test_a_date_in_two_orders_is_refused_with_their_settings(text: str, settings: list[str]) -> None:
    """Each setting reads it."""
    with pytest.raises(TimeRefused) as refused:
        read(text)
    assert refused.value.setting == " or ".join(f'time_format = "{setting}"' for setting in settings)
    assert len({read(text, setting) for setting in settings}) == len(settings)


@pytest.mark.parametrize(
    ("other", "text", "expected"),
    [
        ("99-12-31 10:00", "26-11-28 10:00", "2026-11-28T10:00:00Z"),
        ("26-11-32 10:00", "26-11-28 10:00", "2028-11-26T10:00:00Z"),
        ("26/13/26", "26/11/28 10:00", ""),
        ("01/13/26", "11/02/26 10:00", "2026-11-02T10:00:00Z"),
        ("26/11/2028", "11/10/2026 10:00", "2026-10-11T10:00:00Z"),
    ],
)
def test_one_order_has_to_fit_all_dates(other: str, text: str, expected: str) -> None:
    """A part above 31 is a year, one above 12 no month. A date that does not exist decides nothing."""
    reader = TimeReader("auto", UTC, "order")
    reader.learn([other, text])
    if expected:
        assert reader.read(text, NOW_NS, "").time_ns == at(expected)
    else:
        with pytest.raises(TimeRefused):
            reader.read(text, NOW_NS, "")


@pytest.mark.parametrize(
    ("count", "is_odd"), [(631_151_999, True), (631_152_000, False), (1_795_966_200, False), (1_795_966_201, True)]
)
def test_a_time_outside_of_1990_to_tomorrow_is_marked_and_kept(count: int, is_odd: bool) -> None:
    """It is not read in another unit."""
    assert TimeReader("auto", UTC, "order").read(count, NOW_NS, "") == (count * NS_PER_S, is_odd)


def local(texts: list[str], ambiguous: Ambiguous = "order") -> list[str]:
    reader = TimeReader("auto", BERLIN, ambiguous)
    found = []
    for text in texts:
        try:
            ns = reader.read(f"2025-10-26 {text}", NOW_NS, "").time_ns
            found.append(f"{(ns - at('2025-10-26T00:00:00Z')) // 60 // NS_PER_S:+d}")
        except TimeRefused as error:
            found.append(error.setting)
    return found


def test_the_doubled_hour_is_decided_by_the_order_of_the_records() -> None:
    """In a file with falling times the later hour is first; a third pass disproves the order."""
    assert local(["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]) == ["-30", "+0", "+30", "+60", "+90", "+120"]
    assert local(["04:00", "03:00", "02:30", "02:00", "02:30", "02:00", "01:30"]) == [
        "+180",
        "+120",
        "+90",
        "+60",
        "+30",
        "+0",
        "-30",
    ]
    assert local(["01:30", "02:30", "02:00", "02:30", "02:00"])[-1] == 'ambiguous = "earlier"'
    assert local(["02:30"], "earlier") == ["+30"]
    assert local(["02:30"], "later") == ["+90"]
    assert local(["02:30"], "refuse") == ["ambiguous"]


def test_a_local_time_that_does_not_exist_is_refused() -> None:
    """Clocks were put forward over it."""
    with pytest.raises(TimeRefused, match="does not exist"):
        TimeReader("auto", BERLIN, "order").read("2026-03-29 02:30", NOW_NS, "")


def test_an_uptime_is_mapped_through_the_arrival_of_the_first() -> None:
    """A smaller count is a restart, or a roll-over of 32 bits where the arrivals agree with it."""
    clock = UptimeClock(MS, rolls_over=True)
    assert clock.time_ns(1_000, NOW_NS) == NOW_NS
    assert clock.time_ns(3_000, NOW_NS + 5 * NS_PER_S) == NOW_NS + 2 * NS_PER_S
    assert clock.time_ns(500, NOW_NS + 60 * NS_PER_S) == NOW_NS + 60 * NS_PER_S
    assert clock.restarted
    late = UptimeClock(MS, rolls_over=True)
    late.time_ns(2**32 - 1_000, NOW_NS)
    assert late.time_ns(1_000, NOW_NS + 2 * NS_PER_S) == NOW_NS + 2 * NS_PER_S
    assert late.rolled_over
    assert not late.restarted


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """Nothing else is raised."""
    try:
        parse_moment(text)
        read(text)
    except TimeRefused:
        pass


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2261, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
    st.integers(0, 999),
    st.sampled_from(["T", " "]),
)
def test_an_iso_8601_time_is_exact(local: datetime, minutes: int, nanoseconds: int, separator: str) -> None:
    """Nothing is lost down to the nanosecond, whatever the offset."""
    aware = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = aware.isoformat(separator, "microseconds")
    text = f"{text[:26]}{nanoseconds:03}{text[26:]}"
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    expected = since // timedelta(microseconds=1) * 1000 + nanoseconds
    assert read(text, "iso8601") == expected


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
    """A count is never converted to a float."""
    assert read(text, format) == time_ns


@pytest.mark.parametrize("text", ["", "x", "inf", "NaN", "-1", "99999999999999999999"])
def test_an_invalid_count_is_rejected(text: str) -> None:
    """Overflow and non-numbers are rejected with a sentence."""
    with pytest.raises(ValueError, match=r"count|1970"):
        read(text, "s")


@pytest.mark.parametrize("value", ["1e999999999", "nan", "Infinity", 1e300, 2**63, -1, True, None, "soon", ""])
@pytest.mark.parametrize("format", ["auto", "iso8601", "s", "ms", "us", "ns", "%H:%M"])
def test_a_value_that_is_not_a_time_is_rejected_in_every_format(format: str, value: object) -> None:
    """The error is a ValueError whatever the type and size of the value."""
    with pytest.raises(ValueError, match=r"not a time|not a count|not between 1970"):
        read(value, format)
