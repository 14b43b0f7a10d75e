from __future__ import annotations

import time
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sim.fleet import make_fleet
from device_sim.report import Distribution
from device_sim.running_device import LONGEST_US, FleetTotals, Latencies, RunningDevice
from tests.device_sim.peer import FleetPeer
from tests.device_sim.settings import some_settings


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


async def test_a_command_shows_in_the_readings() -> None:
    """The hub sends a speed to a simulated vehicle, and gets it back as the values of a metric."""
    (vehicle,) = make_fleet(1, seed=1, profiles=["vehicle"])
    seconds = count(1_800_000_000)
    async with FleetPeer() as peer:
        device = RunningDevice(vehicle, some_settings(peer.url), token="secret", totals=FleetTotals())
        await device.open()
        await device.connected(time.monotonic() + 20)
        assert peer.commands["set_speed"].signature() == "set_speed speed=FLOAT km/h (0 to 110)"
        assert set(peer.commands) == {"set_speed", "start", "stop"}
        await peer.command(vehicle.id, "00112233445566aa", "set_speed", speed=40)
        await peer.until(lambda: ("succeeded", "") in peer.states_of("00112233445566aa"))
        assert [state.result for state in peer.command_states if state.state == "succeeded"] == [{"speed": 40.0}]
        for _ in range(120):
            await device.read(next(seconds) * 1_000_000_000, 0.0)
        await device.drain(20)
        assert peer.values("speed")[-1] == pytest.approx(40, abs=0.1)
        await device.close()


async def test_a_setting_shows_in_the_readings() -> None:
    """The peer desires another pressure, and the simulated pump holds it while it runs."""
    (pump,) = make_fleet(1, seed=1, profiles=["pump"], prefix="")
    seconds = count(int(time.time()))
    async with FleetPeer() as peer:
        device = RunningDevice(pump, some_settings(peer.url), token="t", totals=FleetTotals())
        await device.open()
        await peer.until(lambda: "target_pressure" in peer.settings)
        await peer.desire(pump.id, target_pressure=8)
        await peer.in_force(target_pressure=8.0)
        await peer.command(pump.id, "00112233445566aa", "start")
        await peer.until(lambda: peer.states_of("00112233445566aa")[-1:] == [("succeeded", "")])
        for _ in range(30):
            now_s = next(seconds)
            await device.read(now_s * 10**9, time.monotonic())
        await device.drain(20)
        await device.close()
    assert peer.values("pressure")[-1] == pytest.approx(8, abs=0.6)
