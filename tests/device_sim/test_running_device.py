from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.report import Distribution
from device_sim.running_device import LONGEST_US, Latencies


def test_nothing_recorded_is_all_zero() -> None:
    """A run without an acknowledgement has a distribution, too."""
    assert Latencies().distribution() == Distribution()
    assert Latencies().percentile_ms(99) == 0


@settings(max_examples=20)  # a histogram is half a megabyte to make
@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_values(durations_s: list[float]) -> None:
    """Within the histogram's resolution the figures are what sorting gives."""
    latencies = Latencies()
    for duration_s in durations_s:
        latencies.record(duration_s)
    found = latencies.distribution()
    ordered = sorted(max(1, round(d * 1e6)) / 1000 for d in durations_s)
    assert found.count == len(ordered)
    assert found.max == pytest.approx(ordered[-1], rel=0.002)
    assert found.p50 == pytest.approx(ordered[-(-len(ordered) // 2) - 1], rel=0.002)
    assert found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.p999 <= found.max


def test_waits_beyond_the_range_count_as_its_end() -> None:
    """An hour and a year are the same to a report."""
    latencies = Latencies()
    latencies.record(1e9)
    assert latencies.distribution().max == pytest.approx(LONGEST_US / 1000, rel=0.002)
