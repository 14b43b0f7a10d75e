"""Tests of the leaky buckets: levels are bounded, and so is the number of sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.leaky_bucket import LeakyBuckets

LEAK_PER_S, CAPACITY = 0.5, 10.0
steps = st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-20, 20), st.floats(0, 30)), max_size=60)


def test_a_level_rises_and_leaks() -> None:
    """Each source has its own."""
    buckets = LeakyBuckets(leak_per_s=LEAK_PER_S, capacity=CAPACITY, max_sources=2)
    assert buckets.add("a", 3.0, 100.0) == 3.0
    assert buckets.add("a", 1.0, 102.0) == pytest.approx(3.0)
    assert buckets.level("a", 104.0) == pytest.approx(2.0)
    assert buckets.add("a", -1.0, 104.0) == pytest.approx(1.0)
    assert buckets.level("b", 104.0) == 0.0


@given(steps)
def test_levels_and_sources_are_bounded(amounts: list[tuple[str, float, float]]) -> None:
    """Whatever is added, a level is within the capacity, and 0 after the time that the capacity takes to leak."""
    buckets = LeakyBuckets(leak_per_s=LEAK_PER_S, capacity=CAPACITY, max_sources=3)
    now_s = 0.0
    for source, amount, pause_s in amounts:
        now_s += pause_s
        assert 0.0 <= buckets.add(source, amount, now_s) <= CAPACITY
        assert len(buckets) <= 3
        assert buckets.level(source, now_s + CAPACITY / LEAK_PER_S) == pytest.approx(0.0)


def test_the_source_that_was_silent_for_longest_is_removed() -> None:
    """A source that adds 0 counts as active."""
    buckets = LeakyBuckets(leak_per_s=LEAK_PER_S, capacity=CAPACITY, max_sources=2)
    for source, amount in (("a", 5.0), ("b", 5.0), ("a", 0.0), ("c", 5.0)):
        buckets.add(source, amount, 0.0)
    assert [buckets.level(source, 0.0) for source in ("a", "b", "c")] == [5.0, 0.0, 5.0]
