"""The past of a simulated device, and that it is written once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from rich.console import Console

from device_sim import simulation
from device_sim.fleet import make_fleet
from device_sim.past import LATE_AGE_S, LOSS_REASON, LOSS_S, OUTAGE_S, SimulatedPast, make_past, parse_length
from device_sim.report import Report
from tests.device_sim.peer import FleetPeer
from tests.device_sim.settings import some_settings

END_NS = 1_770_000_000_000_000_000
DAY_S = 86_400.0


def past_of(index: int = 0, *, length_s: float = DAY_S, end_ns: int = END_NS) -> SimulatedPast:
    device = make_fleet(index + 1, seed=1)[index]
    return make_past(device.id, device.model, end_ns=end_ns, length_s=length_s)


def test_the_past_is_the_same_for_the_same_device_and_time() -> None:
    """Two runs make equal rows; another device has its outage at another time."""
    assert past_of() == past_of()
    assert [row[0] for row in past_of().rows] != [row[0] for row in past_of(1).rows]


@pytest.mark.parametrize("length_s", [DAY_S, 7 * DAY_S])
def test_the_past_is_bounded_and_in_order(length_s: float) -> None:
    """At most 3,100 rows reach back over the whole length, with one outage and a loss at the end."""
    past = past_of(length_s=length_s)
    times = [time_ns for time_ns, _ in past.rows]
    assert times == sorted(set(times))
    assert 1000 < len(times) <= 3100
    assert 0.98 * length_s < (END_NS - times[0]) / 1e9 <= length_s
    assert LOSS_S[0] <= (END_NS - times[-1]) / 1e9 <= LOSS_S[1] + 2
    (outage_s,) = [(after - before) / 1e9 for before, after in pairwise(times) if after - before > 1e9 * OUTAGE_S / 2]
    assert OUTAGE_S <= outage_s < OUTAGE_S + length_s / 400


def test_one_reading_is_late() -> None:
    """The late reading lies between two others, near the end."""
    past = past_of()
    assert past.late is not None
    late_ns, values = past.late
    assert values.keys() == past.rows[0][1].keys()
    assert 0 <= LATE_AGE_S - (END_NS - late_ns) / 1e9 < 2
    assert past.rows[0][0] < late_ns < past.rows[-1][0]
    assert late_ns not in {time_ns for time_ns, _ in past.rows}


def test_values_continue_with_the_run() -> None:
    """The model that made the past makes the next reading without a jump."""
    device = make_fleet(1, seed=1, profiles=["weather"])[0]
    past = make_past(device.id, device.model, end_ns=END_NS, length_s=DAY_S)
    before, after = past.rows[-1][1], device.model.at(END_NS / 1e9)
    for metric, most in (("temperature", 1.5), ("pressure", 1.5), ("battery", 0.2)):
        earlier, later = before[metric], after[metric]
        assert isinstance(earlier, float)
        assert isinstance(later, float)
        assert abs(earlier - later) < most


@pytest.mark.parametrize(("text", "seconds"), [("24h", DAY_S), ("90m", 5400), ("7d", 7 * DAY_S), ("30s", 30)])
def test_a_length_has_a_unit(text: str, seconds: float) -> None:
    """A number and s, m, h or d."""
    assert parse_length(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "0h", "8d", "-1h", "day"])
def test_another_length_is_rejected(text: str) -> None:
    """A length without a unit, of nothing, or above the bound is an error that shows a valid one."""
    with pytest.raises(ValueError, match="use for example 24h"):
        parse_length(text)


async def run(peer: FleetPeer, **changes: object) -> Report:
    settings = some_settings(peer.url, **{"devices": 2, "past_s": 3600.0, **changes})
    fleet = make_fleet(2, seed=1, profiles=["pump", "vehicle"])
    return await simulation.simulate(settings, "secret", fleet, Console(quiet=True))


async def test_devices_new_to_the_hub_get_a_past_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """History, a declared gap and a late reading arrive through the device protocol; a second run adds none of them."""
    monkeypatch.setattr(simulation, "LATE_SECONDS", 0.2)
    async with FleetPeer() as peer:
        report = await run(peer)
        assert report.ok
        historical, live = peer.times("pump-001", historical=True), peer.times("pump-001")
        assert 1000 < len(historical) < 1200
        assert [gap.reason for gap in peer.gaps("pump-001")] == [LOSS_REASON]
        assert historical == sorted(historical)
        # The late reading may arrive before, between or after the others.
        assert sum(time_ns < report.started_ns - 100 * 10**9 for time_ns in live) == 1
        assert (await run(peer, prefix="")).ok
        assert peer.times("pump-001", historical=True) == historical
        assert len(peer.gaps("pump-001")) == 1


async def test_a_run_without_the_option_writes_no_past() -> None:
    """The default is the present only."""
    async with FleetPeer() as peer:
        await run(peer, past_s=0.0)
        assert peer.times("pump-001", historical=True) == []
