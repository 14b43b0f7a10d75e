"""The run of a fleet: connect, read by the schedule, drain, report."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence

import psutil
from rich.console import Console

from agent_client.signals import stopped_by_signals
from agent_client.tls import ClientTls
from device_agent import ConnectionState, Count
from device_sim.display import Snapshot, show_progress
from device_sim.fleet import Schedule, SimulatedDevice
from device_sim.hub_counts import CountsByDevice, HubCountsError, read_hub_counts, settled_hub_counts
from device_sim.past import make_past
from device_sim.report import Amounts, DeviceCounts, Generator, HubCounts, Report, RunSettings
from device_sim.running_device import FleetTotals, Latencies, RunningDevice
from wire.text import plural

CONNECTS_PER_S = 500
"""Connections per second without a ramp: a hub accepts about 1,000 per second on one core."""
CONNECT_SECONDS = 15.0
"""Longest wait for all devices to connect before the readings start."""
DRAIN_SECONDS = 10.0
"""Longest wait for the last acknowledgements; the report counts the rest as waiting."""
CLOSE_AT_ONCE = 200
"""Agents that are closed together: each waits for its closing handshake."""
ROWS_IN_A_ROW = 100
"""Readings without a pause when the generator is late: the agents need time to send them."""
LATE_SECONDS = 20.0
"""Time from the start to the late reading of each past: late enough to be noticed by an open page."""
SHOWN_PROBLEMS = 10
STOPPING = f"Stopping: waiting for acknowledgements, at most {DRAIN_SECONDS:.0f} s (stop again not to wait)."


class Simulation:
    """The running fleet, an async context manager; leaving it closes every agent."""

    def __init__(
        self, settings: RunSettings, fleet: Sequence[SimulatedDevice], *, token: str, tls: ClientTls | None = None
    ) -> None:
        self.settings = settings
        self._totals = FleetTotals()
        self._lags = Latencies()
        self.devices = [RunningDevice(device, settings, token=token, tls=tls, totals=self._totals) for device in fleet]
        self._schedule = Schedule(settings.devices, settings.rate_hz, settings.ramp_up_s, settings.duration_s)
        self._process = psutil.Process()
        self._cpu_began_s = time.process_time()
        self._began_s = self._started_s = time.monotonic()
        self._started_ns = time.time_ns()
        self._last = (self._began_s, 0, 0)
        self._elapsed_s = 0.0

    async def __aenter__(self) -> Simulation:
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.unfreeze()
        for i in range(0, len(self.devices), CLOSE_AT_ONCE):
            await asyncio.gather(*(device.close() for device in self.devices[i : i + CLOSE_AT_ONCE]))

    async def run(
        self, stop: asyncio.Event, *, on_stop: Callable[[], None], without_past: Collection[str] = ()
    ) -> None:
        """Connect, read until the end of the schedule or `stop`, and drain until all is sent or `stop` is set again.

        The devices `without_past` get one first. `on_stop` is called before the drain when it was `stop`.
        """
        await _until(self._run(without_past), stop)
        if stop.is_set():
            stop.clear()
            on_stop()
        await _until(self._drain(), stop)
        self._elapsed_s = time.monotonic() - self._started_s

    def snapshot(self) -> Snapshot:
        """Return the state; rates are for the time since the last snapshot."""
        now_s, totals = time.monotonic(), self._totals
        then_s, sent, acked = self._last
        self._last = (now_s, totals.sent, totals.acked)
        passed_s = max(now_s - then_s, 1e-9)
        lost = sum(device.agent.spool.lost.readings for device in self.devices)
        return Snapshot(
            elapsed_s=now_s - self._began_s,
            duration_s=self.settings.duration_s,
            devices=len(self.devices),
            connected=sum(device.agent.state is ConnectionState.ONLINE for device in self.devices),
            sent=totals.sent,
            acked=totals.acked,
            waiting=max(0, totals.sent - totals.acked - lost),
            lost=lost,
            problem=next((device.agent.problem for device in self.devices if device.agent.problem), ""),
            sent_per_s=(totals.sent - sent) / passed_s,
            acked_per_s=(totals.acked - acked) / passed_s,
            p50_ms=self._totals.ack_latencies.percentile_ms(50),
            p99_ms=self._totals.ack_latencies.percentile_ms(99),
            lag_p99_ms=self._lags.percentile_ms(99),
        )

    def report(self, hub: HubCounts | None, problems: Sequence[str]) -> Report:
        """Return the report, after `run`."""
        counts = [device.agent.counts for device in self.devices]
        connected = sum(count.connections > 0 for count in counts)
        sent = _total(count.sent for count in counts)
        acked = _total(count.acknowledged for count in counts)
        lost = _total(count.lost for count in counts)
        waiting = sum(count.waiting for count in counts)
        own = [device.problem for device in self.devices if device.problem is not None]
        if len(own) > SHOWN_PROBLEMS:
            own = [*own[:SHOWN_PROBLEMS], f"and {plural(len(own) - SHOWN_PROBLEMS, 'more device')} had problems"]
        return Report(
            started_ns=self._started_ns,
            elapsed_s=round(self._elapsed_s, 3),
            settings=self.settings,
            devices=DeviceCounts(
                connected=connected,
                failed=len(counts) - connected,
                reconnects=sum(max(0, count.connections - 1) for count in counts),
            ),
            batches=Amounts(sent.batches, acked.batches, waiting, lost.batches),
            readings=Amounts(
                sent.readings, acked.readings, max(0, sent.readings - acked.readings - lost.readings), lost.readings
            ),
            rejected_batches=sum(count.rejected.batches for count in counts),
            rejected_readings=sum(count.rejected.readings for count in counts),
            hub=hub,
            ack_ms=self._totals.ack_latencies.distribution(),
            lag_ms=self._lags.distribution(),
            acked_per_s=round(acked.readings / self._elapsed_s, 1) if self._elapsed_s else 0.0,
            generator=Generator(
                cpu=round((time.process_time() - self._cpu_began_s) / (time.monotonic() - self._began_s), 4),
                rss_bytes=self._process.memory_info().rss,
            ),
            problems=[*own, *problems, *self._unconnected()],
        )

    def _unconnected(self) -> list[str]:
        """Return why devices never connected, the most frequent reason first."""
        reasons = Counter(device.agent.problem for device in self.devices if not device.agent.counts.connections)
        return [
            f"{plural(count, 'device', 'devices')} never connected: {reason}"
            for reason, count in reasons.most_common(SHOWN_PROBLEMS)
            if reason
        ]

    async def _run(self, without_past: Collection[str]) -> None:
        running = [device for device in self.devices if device.simulated.id in without_past]
        end_ns = time.time_ns()
        for device in running:
            past = make_past(device.simulated.id, device.simulated.model, end_ns=end_ns, length_s=self.settings.past_s)
            await device.write_past(past)
            await asyncio.sleep(0)  # lets the agent send it
        async with asyncio.TaskGroup() as tasks:
            sending_late = tasks.create_task(self._send_late(running, LATE_SECONDS))
            if not self.settings.ramp_up_s:
                await self._join_at_once()
            self._started_s, self._started_ns = time.monotonic(), time.time_ns()
            if self.settings.ramp_up_s:
                tasks.create_task(self._join())
            await self._read()
            sending_late.cancel()

    async def _send_late(self, running: Sequence[RunningDevice], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for device in running:
            await device.send_late()

    async def _join(self) -> None:
        """Connect each device at its time of the ramp."""
        for i, device in enumerate(self.devices):
            await asyncio.sleep(max(0.0, self._started_s + self._schedule.joins_s(i) - time.monotonic()))
            await device.open()

    async def _join_at_once(self) -> None:
        """Connect all devices and wait: the run measures readings, not connections."""
        deadline_s = time.monotonic() + CONNECT_SECONDS + len(self.devices) / CONNECTS_PER_S
        for i, device in enumerate(self.devices):
            await asyncio.sleep(max(0.0, self._began_s + i / CONNECTS_PER_S - time.monotonic()))
            await device.open()
        await asyncio.gather(*(device.connected(deadline_s) for device in self.devices))
        # The agents live to the end; a garbage collection over thousands of them would delay readings.
        gc.collect()
        gc.freeze()

    async def _read(self) -> None:
        """Make every reading when it is due, or as soon as possible after that; none is left out."""
        in_a_row = 0
        for due_s, index, _ in self._schedule.in_order():
            wait_s = self._started_s + due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                in_a_row = 0
            elif in_a_row >= ROWS_IN_A_ROW:
                await asyncio.sleep(0)
                in_a_row = 0
            in_a_row += 1
            await self.devices[index].read(self._started_ns + round(due_s * 1e9), self._started_s + due_s)
            self._lags.record(time.monotonic() - self._started_s - due_s)
        if self.settings.duration_s is not None:
            await asyncio.sleep(max(0.0, self._started_s + self.settings.duration_s - time.monotonic()))

    async def _drain(self) -> None:
        now_s = time.monotonic()
        await self._send_late(self.devices, 0)
        for device in self.devices:
            await device.flush(now_s)
        await asyncio.gather(*(device.drain(DRAIN_SECONDS) for device in self.devices))


async def simulate(
    settings: RunSettings,
    token: str,
    fleet: Sequence[SimulatedDevice],
    console: Console,
    *,
    tls: ClientTls | None = None,
) -> Report:
    """Run a fleet to its end or to SIGINT or SIGTERM (twice: do not wait for acknowledgements); return the report."""
    names = {device.id for device in fleet}
    problems: list[str] = []
    before: CountsByDevice | None = None
    without_past: Collection[str] = ()
    try:
        before = await read_hub_counts(settings.hub, token, names, tls)
    except HubCountsError as error:
        problems.append(str(error))
    else:
        # Readings that the hub has are never followed by an invented past: it is written once.
        if settings.past_s:
            without_past = names - {name for name, counts in before.items() if counts.accepted}
    stop = asyncio.Event()
    async with Simulation(settings, fleet, token=token, tls=tls) as simulation:
        with stopped_by_signals(stop.set):
            showing = asyncio.create_task(show_progress(console, simulation.snapshot))
            try:
                await simulation.run(stop, on_stop=lambda: console.print(STOPPING), without_past=without_past)
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
            hub: HubCounts | None = None
            if before is not None:
                acked = sum(device.agent.counts.acknowledged.readings for device in simulation.devices)
                try:
                    hub = await settled_hub_counts(settings.hub, token, before, names, acked, tls)
                except HubCountsError as error:
                    problems.append(str(error))
        return simulation.report(hub, problems)


async def _until(work: Coroutine[None, None, None], stop: asyncio.Event) -> None:
    """Run the coroutine until it ends or `stop` is set; raise its exception."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        working.cancel()
        _, outcome = await asyncio.gather(stopping, working, return_exceptions=True)
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome


def _total(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total = total.plus(*count)
    return total
