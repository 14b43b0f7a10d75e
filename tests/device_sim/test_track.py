from __future__ import annotations

import itertools
import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from device_sim.signals import EARTH_METRES_PER_DEGREE
from device_sim.track import Track

START_S = 1_800_000_000.0


@given(seed=st.integers(0, 2**32), step_s=st.floats(0.01, 900), radius_m=st.floats(100, 20_000))
def test_a_vehicle_stays_in_its_region(seed: int, step_s: float, radius_m: float) -> None:
    """However long the steps, it is within its radius, no faster than it can be, and heads between 0 and 360."""
    track = Track(Random(seed), latitude=53.5, longitude=10.0, radius_m=radius_m)
    for i in range(100):
        position = track.at(START_S + i * step_s, driving=i % 10 < 8)
        north_m = (position.latitude - 53.5) * EARTH_METRES_PER_DEGREE
        east_m = (position.longitude - 10.0) * EARTH_METRES_PER_DEGREE * math.cos(math.radians(53.5))
        assert math.hypot(north_m, east_m) <= radius_m + 1
        assert 0 <= position.speed_kmh <= Track.MAX_SPEED * 3.6
        assert 0 <= position.heading < 360


def test_the_odometer_agrees_with_the_positions() -> None:
    """The way between the positions, a tenth of a second apart, is the way that the odometer counts."""
    track = Track(Random(7), latitude=53.5, longitude=10.0, radius_m=9000)
    positions = [track.at(START_S + i / 10, driving=True) for i in range(6000)]
    way_m = sum(
        math.hypot(
            (after.latitude - before.latitude) * EARTH_METRES_PER_DEGREE,
            (after.longitude - before.longitude) * EARTH_METRES_PER_DEGREE * math.cos(math.radians(53.5)),
        )
        for before, after in itertools.pairwise(positions)
    )
    counted_m = positions[-1].odometer_m - positions[0].odometer_m
    assert counted_m > 2000
    assert abs(way_m - counted_m) < 0.02 * counted_m


def test_a_parked_vehicle_comes_to_rest() -> None:
    """Its speed goes down to nothing, and then its position stays."""
    track = Track(Random(7), latitude=53.5, longitude=10.0, radius_m=9000)
    for i in range(100):
        track.at(START_S + i, driving=True)
    stopped = [track.at(START_S + 100 + i, driving=False) for i in range(300)]
    assert stopped[0].speed_kmh > 10
    assert stopped[-1].speed_kmh == 0
    assert stopped[-1] == stopped[-2]


def test_the_same_seed_drives_the_same_way() -> None:
    """A way depends on the seed and the times only."""
    ways = [
        [Track(Random(seed), latitude=53.5, longitude=10.0, radius_m=9000).at(START_S, driving=True)]
        for seed in (1, 1, 2)
    ]
    assert ways[0] == ways[1] != ways[2]
