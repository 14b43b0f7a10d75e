"""The newest time of a series."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Series


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_a_series_remembers_the_newest_time_of_all(times: list[int]) -> None:
    """In any order; a run of moved readings begins at a time that was reached."""
    series = Series(1, "pump", "level", "float")
    for time_ns in times:
        series.reach(time_ns)
    assert series.last_time_ns == series.run_ns == max(times, default=-1)


def test_a_series_is_not_equal_to_another_of_the_same_name() -> None:
    """There is one object for each series, and dictionaries find it without comparing names."""
    assert Series(1, "pump", "level", "float") != Series(1, "pump", "level", "float")
