"""Times as they are written become nanoseconds, and nothing of them is lost."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.instant import NS_PER_S, UNITS_NS, parse_time
from wire.limits import MAX_TIME_NS

NOW_NS = 1_700_000_000_123_456_789
times_ns = st.integers(0, MAX_TIME_NS)


@given(times_ns)
def test_nanoseconds_are_themselves(time_ns: int) -> None:
    """Digits are nanoseconds since 1970."""
    assert parse_time(str(time_ns), NOW_NS) == time_ns


@given(times_ns, st.integers(-14 * 60, 14 * 60))
def test_rfc_3339_keeps_nine_digits_in_every_zone(time_ns: int, offset_minutes: int) -> None:
    """The same moment, whatever offset it is written with."""
    seconds, fraction = divmod(time_ns, NS_PER_S)
    zone = timezone(timedelta(minutes=offset_minutes))
    text = datetime.fromtimestamp(seconds, zone).isoformat().replace("+00:00", "Z")
    split = len("2026-01-31T12:00:00")
    assert parse_time(f"{text[:split]}.{fraction:09d}{text[split:]}", NOW_NS) == time_ns


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(sorted(UNITS_NS))), min_size=1, max_size=4))
def test_what_is_relative_to_now_adds_up(steps: list[tuple[int, str]]) -> None:
    """Steps of all units, in any order; `now` may stand before them."""
    text = "".join(f"{number}{unit}" for number, unit in steps)
    expected = NOW_NS - sum(number * UNITS_NS[unit] for number, unit in steps)
    assert parse_time(f"now-{text}", NOW_NS) == parse_time(f"-{text}", NOW_NS) == expected


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("now", NOW_NS),
        ("now+1h", NOW_NS + 3_600 * NS_PER_S),
        ("-1h30m", NOW_NS - 5_400 * NS_PER_S),
        ("-250ms", NOW_NS - 250_000_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500_000_000),
        ("1970-01-01 00:01+00:00", 60 * NS_PER_S),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("2262-04-11T23:47:16.854775807Z", MAX_TIME_NS),
    ],
)
def test_known_times(text: str, time_ns: int) -> None:
    """By hand."""
    assert parse_time(text, NOW_NS) == time_ns


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no time"),
        ("-", "is no time"),
        ("yesterday", "write nanoseconds since 1970"),
        ("-6", "-6 is not between 1970 and 2262"),
        ("-6y", "is no time"),
        ("-1h 30m", "is no time"),
        ("now 1h", "in a URL a \\+ is written %2B"),
        ("2026-01-31T12:00:00 01:00", "in a URL a \\+ is written %2B"),
        ("2026-01-31", "2026-01-31 has no time zone: write for example 2026-01-31T00:00:00Z"),
        ("2026-01-31T12:00:00.5", "write for example 2026-01-31T12:00:00Z"),
        ("2026-02-30T12:00:00Z", "is no time"),
        ("2026-01-31T24:30:00Z", "is no time"),
        ("2026-01-31T12:00:00.1234567891Z", "finer than nanoseconds"),
        ("1969-12-31T23:59:59.999999999Z", "not between 1970 and 2262"),
        ("2262-04-11T23:47:16.854775808Z", "not between 1970 and 2262"),
        ("٢٠٢٦-01-31T12:00:00Z", "is no time"),
        ("-9999999999w", "not between 1970 and 2262"),
        ("5" * 5_000, "is no time"),
    ],
)
def test_what_is_no_time_is_told(text: str, says: str) -> None:
    """In a sentence, which is short whatever came."""
    with pytest.raises(ValueError, match=says) as error:
        parse_time(text, NOW_NS)
    assert len(str(error.value)) < 200
