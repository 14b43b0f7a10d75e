"""The fleet, and the schedule of its readings."""

from __future__ import annotations

import re
from itertools import count, islice, pairwise, takewhile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sim.fleet import Schedule, make_fleet
from wire.model import DeviceId

START_S = 1_800_000_000.0


def test_a_device_does_not_depend_on_the_size_of_its_fleet() -> None:
    """pump-002 is the same among ten devices as among a hundred."""
    small, large = make_fleet(10, seed=1), make_fleet(100, seed=1)
    for one, other in zip(small, large, strict=False):
        assert (one.id, one.tags) == (other.id, other.tags)
        assert dict(one.model.at(START_S)) == dict(other.model.at(START_S))


@given(count=st.integers(0, 300), prefix=st.sampled_from(["", "run-7"]))
def test_ids_are_unique_and_allowed(count: int, prefix: str) -> None:
    """Every device has an id of its own that the protocol takes, with the prefix where there is one."""
    fleet = make_fleet(count, seed=1, prefix=prefix)
    ids = [device.id for device in fleet]
    assert len(set(ids)) == count
    for each in ids:
        msgspec.convert(each, DeviceId)
        assert each.startswith(prefix)


def test_profiles_take_turns() -> None:
    """All profiles when none is asked for, else those asked for, numbered within each."""
    assert [d.id for d in make_fleet(6, seed=1)] == [
        "weather-001", "pump-001", "vehicle-001", "freezer-001", "machine-001", "weather-002",
    ]  # fmt: skip
    assert [d.id for d in make_fleet(3, seed=1, profiles=["pump", "freezer"])] == [
        "pump-001",
        "freezer-001",
        "pump-002",
    ]


def test_an_unknown_profile_is_named() -> None:
    """The error says which profile there is not, and which there are."""
    with pytest.raises(ValueError, match=re.escape("'boiler'; use one of weather, pump")):
        make_fleet(1, seed=1, profiles=["boiler"])


schedules = st.builds(
    Schedule,
    devices=st.integers(1, 30),
    rate_hz=st.floats(0.1, 50),
    ramp_up_s=st.sampled_from([0.0, 0.5, 3.0]),
    duration_s=st.floats(0.01, 5),
)


@given(schedules)
def test_everything_due_comes_once_and_in_order(schedule: Schedule) -> None:
    """The stream holds exactly each device's readings before the end, the earliest first."""
    stream = list(schedule.in_order())
    assert all(before[0] <= after[0] for before, after in pairwise(stream))
    end_s = schedule.duration_s or 0
    for device in range(schedule.devices):
        due = takewhile(lambda due_s: due_s < end_s, (schedule.due_s(device, row) for row in count()))
        assert [(due_s, row) for due_s, whose, row in stream if whose == device] == [
            (due_s, row) for row, due_s in enumerate(due)
        ]


@given(schedules, st.integers(0, 10**9))
def test_times_do_not_drift(schedule: Schedule, row: int) -> None:
    """After a thousand million readings the next one is due where the first one says."""
    first_s = schedule.due_s(0, 0)
    assert abs(schedule.due_s(0, row) - first_s - row / schedule.rate_hz) <= 1e-9 * max(1.0, row / schedule.rate_hz)


@given(schedules)
def test_devices_join_in_turn_within_the_ramp(schedule: Schedule) -> None:
    """Nobody reads before it joins, and the last one joins before the ramp is over."""
    joins = [schedule.joins_s(device) for device in range(schedule.devices)]
    assert joins == sorted(joins)
    assert joins[0] == 0
    assert joins[-1] <= schedule.ramp_up_s
    assert all(schedule.due_s(device, 0) >= join_s for device, join_s in enumerate(joins))


def test_a_fleet_does_not_tick_in_step() -> None:
    """Within one period the devices' readings are evenly spread."""
    due = [due_s for due_s, _, _ in Schedule(devices=4, rate_hz=2.0, duration_s=0.5).in_order()]
    assert due == [0.0, 0.125, 0.25, 0.375]


def test_without_a_duration_it_continues() -> None:
    """A schedule without an end always has a next reading."""
    assert len(list(islice(Schedule(devices=3, rate_hz=10.0).in_order(), 1000))) == 1000
