"""Comparison of entries with a server: the ranges that are read, and the readings that are sent again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.model.store import MissingReadings
from hub.storage.influxdb.comparison import MIN_GAP_NS, only_missing, split_times, storable_times
from tests.hub.storage.readings import SERIES, batch, entries

times = st.lists(st.integers(0, 50) | st.integers(0, 100).map(lambda hours: hours * 2 * MIN_GAP_NS), max_size=40)


@given(st.lists(times, max_size=4), st.integers(1, 5))
def test_the_ranges_contain_every_time_and_no_large_gap(columns: list[list[int]], most: int) -> None:
    """They are few, in order, and apart; the gaps between them are the largest."""
    given = sorted({time for column in columns for time in column})
    ranges = split_times([np.array(column, np.int64) for column in columns], max_ranges=most)
    assert len(ranges) <= most
    assert all(any(start <= time < end for start, end in ranges) for time in given)
    assert all(start in given and end - 1 in given for start, end in ranges)
    between = [after[0] - before[1] + 1 for before, after in pairwise(ranges)]
    assert all(gap > MIN_GAP_NS for gap in between)
    inside = [
        later - earlier
        for earlier, later in pairwise(given)
        if any(start <= earlier and later < end for start, end in ranges)
    ]
    if len(ranges) == most and between:
        assert max(inside, default=0) <= min(between)
    elif most > 1:
        assert max(inside, default=0) <= MIN_GAP_NS or len(ranges) == most


def test_readings_that_a_server_cannot_hold_are_not_compared() -> None:
    """Infinities, the last nanosecond, and missing values; each time counts once."""
    floats, text = SERIES["float"], SERIES["string"]
    given = [
        batch([5, 3, 2**63 - 1], {floats: [1.0, float("inf"), 2.0], text: ["a", None, "b"]}),
        batch([5, 1], {floats: [None, 7.5], text: ["c", "d"]}, packed=False),
    ]
    found = storable_times(entries(given))
    assert {series.id: column.tolist() for series, column in found.items()} == {floats.id: [1, 5], text.id: [1, 5]}


def test_only_missing_readings_are_sent_again() -> None:
    """Entries without any are left out; the others keep their identity and their times."""
    floats, text = SERIES["float"], SERIES["string"]
    given = entries([batch([1, 2], {floats: [1.0, 2.0], text: ["a", "b"]}), batch([3], {floats: [3.0]})])
    (chosen,) = only_missing(given, [MissingReadings(floats, np.array([2]))])
    assert (chosen.offset, chosen.device) == (1, "device")
    assert chosen.batch is not None
    assert [int(time) for time in chosen.batch.times] == [1, 2]
    assert [(series.id, values) for series, values in chosen.batch.columns] == [(floats.id, [None, 2.0])]
