from __future__ import annotations

import asyncio
import io
import os
import signal

import pytest
from rich.console import Console

from device_sim import hub_counts, simulation
from device_sim.fleet import make_fleet
from device_sim.report import Amounts, HubCounts, Report, RunSettings
from device_sim.simulation import simulate
from tests.device_sim.peer import FleetPeer
from tests.device_sim.settings import some_settings


class Terminal(io.StringIO):
    """Output of the progress; `stopping` is set when the run stops."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = asyncio.Event()

    def write(self, text: str) -> int:
        if "Stopping" in text:
            self.stopping.set()
        return super().write(text)


async def run(settings: RunSettings, terminal: Terminal | None = None) -> Report:
    """The report of such a fleet."""
    fleet = make_fleet(settings.devices, seed=settings.seed, profiles=settings.profiles, prefix=settings.prefix)
    return await simulate(settings, "secret", fleet, Console(file=terminal or Terminal()))


def balanced(amounts: Amounts) -> bool:
    return amounts.sent == amounts.acked + amounts.waiting + amounts.lost


async def test_a_fleet_delivers_everything_that_was_due() -> None:
    """Every reading of the schedule is sent once, acknowledged, stored, and in both sides' books."""
    async with FleetPeer() as peer:
        report = await run(some_settings(peer.url))
    assert report.ok
    assert report.devices.connected == 5
    assert report.batches == Amounts(sent=25, acked=25, waiting=0, lost=0)
    readings = 3 * 5 * 6 + 2 * 5 * 8  # three pumps with six metrics, two vehicles with eight
    assert report.readings == Amounts(sent=readings, acked=readings, waiting=0, lost=0)
    assert report.hub == HubCounts(readings, readings, 0, 0, 0, 0)
    assert report.ack_ms.count == report.lag_ms.count == 25
    assert 0 < report.ack_ms.p50 <= report.ack_ms.max
    hellos = {hello.device: hello for hello in peer.hellos}
    assert set(hellos) == {"pump-001", "vehicle-001", "pump-002", "vehicle-002", "pump-003"}
    assert hellos["pump-001"].tags["type"] == "pump"
    assert "vibration" in peer.metrics


async def test_readings_have_the_times_at_which_they_were_due() -> None:
    """Times are a tenth of a second apart to the nanosecond, however late the generator was."""
    async with FleetPeer() as peer:
        report = await run(some_settings(peer.url))
    assert peer.times("pump-001") == [report.started_ns + i * 100_000_000 for i in range(5)]
    assert peer.times("pump-003")[0] == report.started_ns + 80_000_000


async def test_batches_hold_several_rows_and_the_rest_is_sent_at_the_end() -> None:
    """With three rows a batch five readings are two batches, none is left behind."""
    async with FleetPeer() as peer:
        report = await run(some_settings(peer.url, batch_rows=3))
    assert report.batches == Amounts(sent=10, acked=10, waiting=0, lost=0)
    assert report.readings.acked == 3 * 5 * 6 + 2 * 5 * 8
    assert report.ok


async def test_devices_join_one_after_the_other() -> None:
    """With a ramp the later devices have made fewer readings at the end."""
    async with FleetPeer() as peer:
        report = await run(some_settings(peer.url, ramp_up_s=0.4))
    assert report.ok
    made = [len(peer.times(name)) for name in ("pump-001", "vehicle-001", "pump-002", "vehicle-002", "pump-003")]
    assert made[0] == 5
    assert made == sorted(made, reverse=True)
    assert made[-1] < 3


async def test_a_connection_that_breaks_loses_nothing() -> None:
    """The agent comes back and sends what was not acknowledged; the report counts the reconnect."""
    async with FleetPeer(closes_after=3) as peer:
        report = await run(some_settings(peer.url, devices=1))
    assert report.devices.reconnects == 1
    assert report.batches == Amounts(sent=5, acked=5, waiting=0, lost=0)
    assert report.ok


async def test_unacknowledged_readings_are_reported_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that says nothing makes a report that is not ok, and the books still balance."""
    monkeypatch.setattr(simulation, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(hub_counts, "SETTLE_SECONDS", 0.0)
    async with FleetPeer() as peer:
        peer.hold()
        report = await run(some_settings(peer.url))
    assert not report.ok
    assert report.batches == Amounts(sent=25, acked=0, waiting=25, lost=0)
    assert balanced(report.readings)
    assert report.ack_ms.count == 0


async def test_a_hub_that_is_not_there_fails_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody connected, nothing is acknowledged, and the counts could not be read: the report has all three."""
    monkeypatch.setattr(simulation, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(simulation, "CONNECT_SECONDS", 0.05)
    async with FleetPeer() as peer:
        pass
    report = await run(some_settings(peer.url))
    assert not report.ok
    assert report.devices.connected == 0
    assert report.devices.failed == 5
    assert report.batches.waiting == 25
    assert report.hub is None
    assert "could not be read" in report.problems[0]
    assert report.problems[-1].startswith("5 devices never connected: ")
    assert "Connection refused" in report.problems[-1]


async def test_a_store_that_lost_something_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged and not stored is the worst that can happen; the report says so."""
    monkeypatch.setattr(hub_counts, "SETTLE_SECONDS", 0.0)
    async with FleetPeer(loses=1) as peer:
        report = await run(some_settings(peer.url, devices=1))
    assert report.readings.acked == 30
    assert report.hub is not None
    assert report.hub.stored == 29
    assert not report.ok


async def test_a_run_without_the_books_is_not_proved() -> None:
    """A token that may not read the books makes a report that is not ok."""
    async with FleetPeer(shows_counts=False) as peer:
        report = await run(some_settings(peer.url))
    assert report.readings.acked == report.readings.sent > 0
    assert report.hub is None
    assert not report.ok


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_in_order(number: signal.Signals) -> None:
    """A run without an end stops reading, delivers what it has, and reports as usual."""
    async with FleetPeer() as peer:
        running = asyncio.create_task(run(some_settings(peer.url, duration_s=None, batch_rows=4)))
        await peer.until(lambda: len(peer.senders) >= 2)
        os.kill(os.getpid(), number)
        report = await running
    assert report.ok
    assert report.readings.sent == report.readings.acked > 0


async def test_a_second_signal_does_not_wait_for_acknowledgements(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C ends the run at once; the report counts the waiting readings."""
    monkeypatch.setattr(hub_counts, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(simulation, "DRAIN_SECONDS", 86_400)  # a run that waits for acknowledgements does not end
    terminal = Terminal()
    async with FleetPeer() as peer:
        peer.hold()
        running = asyncio.create_task(run(some_settings(peer.url, duration_s=None), terminal))
        await peer.until(lambda: len(peer.senders) == 5)
        os.kill(os.getpid(), signal.SIGINT)
        await terminal.stopping.wait()
        os.kill(os.getpid(), signal.SIGINT)
        report = await running
    assert report.batches.waiting == report.batches.sent > 0


async def test_two_fleets_of_one_name_are_reported_of() -> None:
    """A device that another agent pushed out stays out, and the report names it."""
    async with FleetPeer(supersedes=True) as peer:
        report = await run(some_settings(peer.url, devices=1))
    assert not report.ok
    assert "pump-001" in report.problems[0]
