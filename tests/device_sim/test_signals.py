"""Simulated signals, and the route of a vehicle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.signals import (
    EARTH_METRES_PER_DEGREE,
    Battery,
    Counter,
    Inertia,
    Level,
    States,
    VehicleRoute,
    Vibration,
    quantised,
)

START_S = 1_800_000_000.0
WAYS = {"a": {"b": 1.0}, "b": {"a": 1.0, "c": 2.0}, "c": {"a": 1.0}}

Signal = Callable[[float], object]


def level(random: Random) -> Signal:
    return Level(random, 10, low=-20, high=30, daily=15, spread=8, memory_s=60, noise=1).at


def vibration(random: Random) -> Signal:
    signal = Vibration(random, floor=1, wear_s=900)
    return lambda time_s: signal.at(time_s, 0.8)


def states(random: Random) -> Signal:
    return States(random, "a", {"a": 5, "b": 60, "c": 1}, WAYS).at


def counter(random: Random) -> Signal:
    signal = Counter(random)
    return lambda time_s: signal.at(time_s, 0.7)


def battery(random: Random) -> Signal:
    return Battery(random, days=1, solar=True).at


MAKERS = [level, vibration, states, counter, battery]


@st.composite
def rising_times(draw: st.DrawFn) -> list[float]:
    """Times as a schedule gives them: from milliseconds to more than an hour apart."""
    times, now_s = [], START_S
    for step_s in draw(st.lists(st.floats(0.0, 5000.0), min_size=2, max_size=60)):
        now_s += step_s
        times.append(now_s)
    return times


@pytest.mark.parametrize("make", MAKERS)
@given(seed=st.integers(0, 2**32), times=rising_times())
def test_the_same_seed_and_times_give_the_same_values(
    make: Callable[[Random], Signal], seed: int, times: list[float]
) -> None:
    """A signal knows no clock and no randomness but its own."""
    first, second = make(Random(seed)), make(Random(seed))
    assert [first(time_s) for time_s in times] == [second(time_s) for time_s in times]


@pytest.mark.parametrize("make", [level, battery])
def test_another_seed_makes_other_values(make: Callable[[Random], Signal]) -> None:
    """Two devices of one kind do not show the same curve."""
    assert [make(Random(1))(START_S + i) for i in range(9)] != [make(Random(2))(START_S + i) for i in range(9)]


@given(seed=st.integers(0, 2**32), times=rising_times(), shift=st.floats(-1e6, 1e6))
def test_a_level_stays_within_its_bounds(seed: int, times: list[float], shift: float) -> None:
    """Whatever is added to it, a sensor shows no more than it can measure."""
    signal = Level(Random(seed), 10, low=-20, high=30, daily=15, spread=8, memory_s=60, noise=1)
    assert all(-20 <= signal.at(time_s, shift) <= 30 for time_s in times)


def test_a_level_follows_the_day() -> None:
    """The afternoon is warmer than the night."""
    signal = Level(Random(1), 10, low=-20, high=30, daily=8)
    midnight_s = START_S - START_S % 86_400
    night, afternoon = signal.at(midnight_s + 3 * 3600), signal.at(midnight_s + 15 * 3600)
    assert (night, afternoon) == (2.0, 18.0)


@given(start=st.floats(-50, 50), target=st.floats(-50, 50), times=rising_times())
def test_inertia_draws_towards_its_target_and_never_beyond(start: float, target: float, times: list[float]) -> None:
    """The distance to the target never grows and never changes its side."""
    follower = Inertia(start, constant_s=30)
    distance = target - start
    for time_s in times:
        after = target - follower.at(time_s, target)
        assert abs(after) <= abs(distance) + 1e-9
        assert after * distance >= -1e-9
        distance = after


@given(seed=st.integers(0, 2**32), times=rising_times(), load=st.floats(0, 1))
def test_vibration_is_within_what_sensors_measure(seed: int, times: list[float], load: float) -> None:
    """Neither wear nor bursts leave the range of the sensor."""
    signal = Vibration(Random(seed), floor=12, wear_s=600)
    assert all(0 <= signal.at(time_s, load) <= Vibration.HIGH for time_s in times)


def test_a_bearing_wears_and_is_replaced() -> None:
    """The floor of the vibration rises with running time, and falls back when the bearing is new."""
    signal = Vibration(Random(3), floor=1.0, wear_s=3600)
    hourly = [min(signal.at(START_S + hour * 3600 + i, 1.0) for i in range(60)) for hour in range(8)]
    assert any(later > 1.5 * earlier for earlier, later in itertools.pairwise(hourly))
    assert any(later < 0.5 * earlier for earlier, later in itertools.pairwise(hourly))


@given(seed=st.integers(0, 2**32))
def test_states_go_only_where_the_table_allows(seed: int) -> None:
    """From one look to the next, closer together than the shortest stay, only listed transitions happen."""
    signal = States(Random(seed), "a", {"a": 3, "b": 2, "c": 1}, WAYS)
    seen = [signal.at(START_S + i * 0.9) for i in range(300)]
    changes = {(before, after) for before, after in itertools.pairwise(seen) if before != after}
    assert changes <= {(before, after) for before, ways in WAYS.items() for after in ways}
    assert seen[0] == "a"
    assert len(changes) > 1


@given(seed=st.integers(0, 2**32), times=rising_times(), rates=st.lists(st.floats(0, 50), min_size=60, max_size=60))
def test_a_counter_is_whole_and_never_falls(seed: int, times: list[float], rates: list[float]) -> None:
    """Counts are integers that only rise."""
    signal = Counter(Random(seed), start=5)
    counts = [signal.at(time_s, rate) for time_s, rate in zip(times, rates, strict=False)]
    assert counts == sorted(counts)
    assert all(type(count) is int and count >= 5 for count in counts)


def test_a_counter_loses_no_fractions() -> None:
    """Many small steps add up to the rate."""
    signal = Counter(Random(1))
    assert signal.at(START_S, 0.1) == 0
    assert 85 <= [signal.at(START_S + i, 0.1) for i in range(1000)][-1] <= 115


@given(seed=st.integers(0, 2**32), times=rising_times(), solar=st.booleans())
def test_a_battery_is_between_empty_and_full(seed: int, times: list[float], solar: bool) -> None:
    """Whatever the light and the drain, the charge is a percentage."""
    signal = Battery(Random(seed), days=0.2, solar=solar)
    assert all(0 <= signal.at(time_s) <= 100 for time_s in times)


@given(value=st.floats(-1e6, 1e6), resolution=st.sampled_from([1, 0.5, 0.1, 0.05, 0.01, 0.001, 100]))
def test_a_quantised_value_is_a_multiple_of_the_resolution(value: float, resolution: float) -> None:
    """It is the nearest one, written with few digits, and a float also for whole resolutions."""
    rounded = quantised(value, resolution)
    assert type(rounded) is float
    assert abs(rounded - value) <= resolution / 2 + 1e-6
    assert abs(rounded / resolution - round(rounded / resolution)) < 1e-5


START_S = 1_800_000_000.0


@given(seed=st.integers(0, 2**32), step_s=st.floats(0.01, 900), radius_m=st.floats(100, 20_000))
def test_a_vehicle_stays_in_its_region(seed: int, step_s: float, radius_m: float) -> None:
    """However long the steps, it is within its radius, no faster than it can be, and heads between 0 and 360."""
    track = VehicleRoute(Random(seed), latitude=53.5, longitude=10.0, radius_m=radius_m)
    for i in range(100):
        position = track.at(START_S + i * step_s, driving=i % 10 < 8)
        north_m = (position.latitude - 53.5) * EARTH_METRES_PER_DEGREE
        east_m = (position.longitude - 10.0) * EARTH_METRES_PER_DEGREE * math.cos(math.radians(53.5))
        assert math.hypot(north_m, east_m) <= radius_m + 1
        assert 0 <= position.speed_kmh <= VehicleRoute.MAX_SPEED * 3.6
        assert 0 <= position.heading < 360


def test_the_odometer_agrees_with_the_positions() -> None:
    """The way between the positions, a tenth of a second apart, is the way that the odometer counts."""
    track = VehicleRoute(Random(7), latitude=53.5, longitude=10.0, radius_m=9000)
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
    track = VehicleRoute(Random(7), latitude=53.5, longitude=10.0, radius_m=9000)
    for i in range(100):
        track.at(START_S + i, driving=True)
    stopped = [track.at(START_S + 100 + i, driving=False) for i in range(300)]
    assert stopped[0].speed_kmh > 10
    assert stopped[-1].speed_kmh == 0
    assert stopped[-1] == stopped[-2]


def test_the_same_seed_drives_the_same_way() -> None:
    """A way depends on the seed and the times only."""
    ways = [
        [VehicleRoute(Random(seed), latitude=53.5, longitude=10.0, radius_m=9000).at(START_S, driving=True)]
        for seed in (1, 1, 2)
    ]
    assert ways[0] == ways[1] != ways[2]
