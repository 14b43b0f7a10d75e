"""The times of a column are what each of them is on its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.reading import Reading
from formats.time_column import TimeColumn
from formats.times import TimeReader, TimeRefused
from tests.formats.reading_of import NOW_NS, read

BERLIN = ZoneInfo("Europe/Berlin")
MOMENTS = st.datetimes(datetime(1991, 1, 1), datetime(2026, 11, 1)) | st.sampled_from(
    [datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30), datetime(2024, 10, 27, 1, 59, 59)]
)
FORMS = (
    lambda moment: moment.isoformat(" ", "seconds"),
    lambda moment: moment.isoformat(),
    lambda moment: f"{moment.isoformat()}Z",
    lambda moment: f"{moment.isoformat(timespec='milliseconds')}+02:00",
    lambda moment: f"{moment.isoformat(timespec='microseconds')}789-00:30",
    lambda moment: str(int(moment.replace(tzinfo=UTC).timestamp())),
    lambda moment: str(int(moment.replace(tzinfo=UTC).timestamp() * 1_000)),
    lambda moment: str(int(moment.replace(tzinfo=UTC).timestamp()) * 10**9),
    lambda moment: moment.strftime("%d.%m.%Y %H:%M"),
    lambda moment: moment.strftime("%Y%m%d"),
)
OTHERS = st.sampled_from(["", "2024-02-30T00:00:00Z", "2024-01-01T24:00:00", "2024-01-01", "1969-12-31T00:00:00Z", "x"])
COLUMNS = st.sampled_from(FORMS).flatmap(lambda form: st.lists(MOMENTS.map(form), min_size=1, max_size=6)) | st.lists(
    st.builds(lambda form, moment: form(moment), st.sampled_from(FORMS), MOMENTS) | OTHERS, min_size=1
)


def one_by_one(times: TimeReader, texts: list[str]) -> list[int] | None:
    """Return the times that are read on their own, None if one is refused."""
    try:
        return [times.read(text, NOW_NS, "d", ("a",)).time_ns for text in texts]
    except TimeRefused:
        return None


@given(COLUMNS, COLUMNS, st.sampled_from(["auto", "iso8601", "s", "ns"]), st.sampled_from([UTC, BERLIN]))
@settings(deadline=None, max_examples=500)
def test_a_column_is_read_as_its_times_are(before: list[str], texts: list[str], form: str, zone: ZoneInfo) -> None:
    """If it is read at all; it leaves the counters and the order of the next times as they would be."""
    alone, together = TimeReader(form, zone, "order"), TimeReader(form, zone, "order")
    column = TimeColumn(together, zone, "d", ("a",))
    for part in (before, texts):
        expected = one_by_one(alone, part)
        found = column.read([text.encode() for text in part], NOW_NS)
        if found is None:
            assert one_by_one(together, part) == expected
        else:
            assert found == expected
        if expected is None:
            return
        assert (alone.local, alone.ambiguous, alone.odd) == (together.local, together.ambiguous, together.odd)
    assert one_by_one(alone, ["2024-10-27 02:30:00"]) == one_by_one(together, ["2024-10-27 02:30:00"])


@pytest.mark.parametrize("zone", ["", "Europe/Berlin"])
def test_a_table_with_local_times_has_blocks(zone: str) -> None:
    """Except for the lines of an hour that is not clear: those are read one by one."""
    start = datetime(2024, 10, 26, 12)
    lines = [f"{(start + timedelta(minutes=minute)).isoformat(' ')},{minute}.5\n" for minute in range(3_000)]
    content = "time,x\n" + "".join(lines)
    bytewise = read(content, zone=zone, piece=1, window=100)
    reading = Reading(bytewise.reading.rules, ZoneInfo(zone) if zone else UTC, window=100)
    results = [reading.feed(content[start : start + 5_000].encode(), NOW_NS) for start in range(0, len(content), 5_000)]
    results.append(reading.finish(NOW_NS))
    assert [row.time_ns for result in results for row in result.all_rows] == bytewise.times
    assert sum(bool(result.blocks) for result in results) > 10
    assert [refusal for result in results for refusal in result.refusals] == bytewise.refusals == []
    assert reading.notes == bytewise.reading.notes
