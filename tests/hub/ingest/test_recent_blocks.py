"""Recognition of blocks that a client sends again: what is remembered, and within which bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.recent_blocks import RecentBlocks


def test_only_the_same_value_of_the_same_series_and_time_is_known() -> None:
    """In lists and in arrays, also where several blocks have the time."""
    recent = RecentBlocks()
    recent.add("pump", [5, 7], {"x": [1.0, 2.0]})
    recent.add("pump", [5], {"y": [9.0]})
    recent.add("pump", np.array([10, 20, 30, 40]), {"x": np.array([1.0, 2.0, 3.0, 4.0])})
    assert recent.unknown("pump", 5, {"x": 1.0, "y": 9.0}) == {}
    assert recent.unknown("pump", 5, {"x": 1.0, "y": 8.0, "z": 1.0}) == {"y": 8.0, "z": 1.0}
    assert recent.unknown("pump", 6, {"x": 1.0}) == {"x": 1.0}
    assert recent.unknown("pump", 30, {"x": 3.0}) == {}
    assert recent.unknown("pump", 30, {"x": 4.0}) == {"x": 4.0}
    assert recent.unknown("valve", 5, {"x": 1.0}) == {"x": 1.0}
    assert recent.may_have("pump", 8, 10)
    assert not recent.may_have("pump", 8, 9)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=40))
def test_the_memory_is_bounded(added: list[tuple[str, int]]) -> None:
    """The newest blocks stay, as many as both bounds allow."""
    recent = RecentBlocks(max_blocks=5, max_readings=20)
    for start, (device, rows) in enumerate(added):
        recent.add(device, [start * 100 + row for row in range(rows)], {"x": [1.0] * rows})
        assert len(recent) <= 5
    assert sum(rows for _, rows in added[len(added) - len(recent) :]) <= 20
    for start, (device, rows) in enumerate(added):
        is_kept = start >= len(added) - len(recent)
        assert recent.may_have(device, start * 100, start * 100 + rows - 1) is is_kept
