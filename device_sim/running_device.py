"""A running simulated device: an agent with a spool in memory whose source is a model; its counters and latencies."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, wraps
from random import Random
from typing import Any, TypeVar

from agent_client.tls import ClientTls
from device_agent import Agent, AgentError, AgentOptions, MemorySpool
from device_agent.operator_commands.handler import CommandHandler, declare, setting_handler, with_values
from device_sim.fleet import SimulatedDevice
from device_sim.past import LOSS_REASON, PastRow, SimulatedPast
from device_sim.profiles import PROFILES
from device_sim.report import Distribution, RunSettings
from wire.command import CommandDeclaration
from wire.model import Value

PAST_BATCH_ROWS = 500
"""Rows of the past in one batch: the largest profile makes about 40 kB of them."""
LONGEST_US = 3_600_000_000
"""An hour. A longer wait counts as an hour."""
DIGITS = 3
"""Significant digits: 0.1 % of the value."""


class SimulatorError(Exception):
    """The simulation cannot run; the message says what to do."""


class Latencies:
    """Histogram of durations, of constant size and constant relative error; in seconds, out milliseconds."""

    def __init__(self) -> None:
        try:
            histogram: Any = importlib.import_module("hdrh.histogram")
        except ImportError as error:
            raise SimulatorError(
                "measuring latencies needs hdrhistogram; install it with: pip install hdrhistogram"
            ) from error
        self._histogram = histogram.HdrHistogram(1, LONGEST_US, DIGITS)

    def record(self, duration_s: float) -> None:
        """Add a duration; the shortest is a microsecond."""
        self._histogram.record_value(min(max(1, round(duration_s * 1e6)), LONGEST_US))

    def percentile_ms(self, percentile: float) -> float:
        """Return the duration that this share (in percent) does not exceed; 0 without durations."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000

    def distribution(self) -> Distribution:
        """Return the distribution of all durations so far; all 0 without durations."""
        return Distribution(
            count=self._histogram.total_count,
            mean=round(self._histogram.get_mean_value() / 1000, 3),
            p50=self.percentile_ms(50),
            p90=self.percentile_ms(90),
            p95=self.percentile_ms(95),
            p99=self.percentile_ms(99),
            p999=self.percentile_ms(99.9),
            max=self._histogram.get_max_value() / 1000,
        )


_Result = TypeVar("_Result")


@dataclass
class FleetTotals:
    """Readings of the whole fleet, counted as they are sent and acknowledged, so that a snapshot is cheap."""

    sent: int = 0
    acked: int = 0
    ack_latencies: Latencies = field(default_factory=Latencies)


@cache
def _declarations(profile: str) -> Mapping[str, CommandDeclaration]:
    """Return the commands of a profile, declared once for a fleet: a declaration takes 100 µs."""
    model = PROFILES[profile](Random(0))
    return {
        name: declare(
            getattr(model, name),
            name,
            description=command.description,
            confirm=command.confirm,
            limits=command.limits,
        )
        for name, command in model.COMMANDS.items()
    }


@cache
def _setting_declarations(profile: str) -> Mapping[str, CommandDeclaration]:
    """Return the settings of a profile by the names of the methods that set them, declared once for a fleet."""
    model = PROFILES[profile](Random(0))
    return {
        f"set_{name}": setting_handler(getattr(model, f"set_{name}"), name, limits, time_limit_s=1).declaration
        for name, limits in model.SETTINGS.items()
    }


def _in_event_loop(method: Callable[..., _Result]) -> Callable[..., Awaitable[_Result]]:
    """Return the method of a model as an asynchronous one: a model is used by one thread."""

    @wraps(method)
    async def call(*values: object, **parameters: object) -> _Result:
        return method(*values, **parameters)

    return call


class RunningDevice:
    """One device of a running fleet. `problem` is the reason if it stopped."""

    def __init__(
        self,
        device: SimulatedDevice,
        settings: RunSettings,
        *,
        token: str,
        totals: FleetTotals,
        tls: ClientTls | None = None,
    ) -> None:
        self.simulated = device
        self.problem: str | None = None
        self._spool = MemorySpool()
        self.agent = Agent(
            settings.hub,
            device=device.id,
            token=token,
            spool=self._spool,
            metrics=device.model.METRICS,
            tags=device.tags,
            # The fleet is drained as a whole before it is closed.
            drain_seconds=0,
            on_ack=self._acknowledged,
            options=AgentOptions(tls=tls),
        )
        for name, declaration in _declarations(device.tags["type"]).items():
            call = _in_event_loop(getattr(device.model, name))
            self.agent.add_command(CommandHandler(declaration, call))
        for method, declaration in _setting_declarations(device.tags["type"]).items():
            setter = with_values(_in_event_loop(getattr(device.model, method)))
            self.agent.add_setting(CommandHandler(declaration, setter))
        self._batch_rows = settings.batch_rows
        self._totals = totals
        self._opened = False
        self._welcomed = asyncio.Event()
        self._rows: list[tuple[int, Mapping[str, Value]]] = []
        self._in_flight: deque[tuple[int, float, int]] = deque()
        self._acked_seq = 0
        self._late: PastRow | None = None

    async def open(self) -> None:
        """Start the agent, if it is not started; it connects in the background."""
        if not self._opened:
            self._opened = True
            await self.agent.__aenter__()

    async def connected(self, deadline_s: float) -> None:
        """Wait for the first welcome of the device, until the deadline (monotonic)."""
        # After the deadline the agent continues to connect, and the report shows the result.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                await self._welcomed.wait()

    async def close(self) -> None:
        """Stop the agent; its counts remain."""
        if self._opened:
            self._opened = False
            with self._noting_problem():
                await self.agent.__aexit__(None)

    async def read(self, time_ns: int, due_s: float) -> None:
        """Read each metric once; send a full batch. `due_s` is on the monotonic clock."""
        if self.problem is not None:
            return
        await self.open()
        self._rows.append((time_ns, self.simulated.model.at(time_ns / 1e9)))
        if len(self._rows) >= self._batch_rows:
            await self.flush(due_s)

    async def flush(self, due_s: float) -> None:
        """Send the readings of an incomplete batch, which was due at `due_s`."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        with self._noting_problem():
            # A single row has a shorter path through the agent.
            if len(rows) == 1:
                seq = await self.agent.send(rows[0][1], rows[0][0])
            else:
                seq = await self.agent.send_rows(rows)
            readings = sum(len(values) for _, values in rows)
            self._totals.sent += readings
            self._in_flight.append((seq, due_s, readings))

    async def write_past(self, past: SimulatedPast) -> None:
        """Send the past as history, and a gap for the readings between it and now. The late reading is kept."""
        await self.open()
        self._late = past.late
        with self._noting_problem():
            for first in range(0, len(past.rows), PAST_BATCH_ROWS):
                await self.agent.send_rows(past.rows[first : first + PAST_BATCH_ROWS], historical=True)
            self._spool.lose(1, LOSS_REASON)

    async def send_late(self) -> None:
        """Send the late reading of the past, once."""
        late, self._late = self._late, None
        if late is not None and self.problem is None:
            with self._noting_problem():
                await self.agent.send(late[1], late[0])

    async def drain(self, seconds: float) -> None:
        """Wait until everything is acknowledged, at most this long; the agent's counts show the rest."""
        if self._opened and self.problem is None:
            with self._noting_problem(), suppress(TimeoutError):
                await self.agent.drain(seconds)

    def _acknowledged(self, seq: int) -> None:
        # Also called after each welcome, possibly with the same number.
        self._welcomed.set()
        now_s = time.monotonic()
        if seq < self._acked_seq:
            # A new epoch: the batches in flight were numbered from 1 on.
            self._in_flight = deque((old - self._acked_seq, due_s, n) for old, due_s, n in self._in_flight)
        self._acked_seq = seq
        while self._in_flight and self._in_flight[0][0] <= seq:
            _, due_s, readings = self._in_flight.popleft()
            self._totals.ack_latencies.record(now_s - due_s)
            self._totals.acked += readings

    @contextmanager
    def _noting_problem(self) -> Iterator[None]:
        """End the block at an AgentError and record the first one as the problem."""
        try:
            yield
        except AgentError as error:
            self.problem = self.problem or f"{self.simulated.id}: {error}"
