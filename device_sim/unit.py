"""A simulated device that runs: an agent with an in-memory spool whose source is a model."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping

from device_agent import Agent, AgentError, MemorySpool
from device_sim.fleet import SimulatedDevice
from device_sim.latency import Latencies
from device_sim.past import LOSS_REASON, Past, Row
from wire.model import Value

PAST_BATCH_ROWS = 500
"""Rows of the past in one batch: the largest profile makes about 40 kB of them."""


class Totals:
    """What the whole fleet did so far, in readings; counted as it happens, so that looking costs nothing."""

    __slots__ = ("acked", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.acked = 0


class Unit:
    """One device of a running fleet. `problem` says why it stopped, when it did."""

    __slots__ = (
        "_acked_seq", "_batch_rows", "_late", "_latencies", "_opened", "_rows", "_spool", "_totals", "_under_way",
        "_welcomed", "agent", "device", "problem",
    )  # fmt: skip

    def __init__(
        self, device: SimulatedDevice, *, hub: str, token: str, batch_rows: int, totals: Totals, latencies: Latencies
    ) -> None:
        self.device = device
        self.problem: str | None = None
        self._spool = MemorySpool()
        self.agent = Agent(
            hub,
            device=device.id,
            token=token,
            spool=self._spool,
            metrics=device.profile.metrics,
            tags=device.tags,
            # The fleet is drained as a whole before it is closed.
            drain_seconds=0,
            on_ack=self._acknowledged,
        )
        self._batch_rows = batch_rows
        self._totals = totals
        self._latencies = latencies
        self._opened = False
        self._welcomed = asyncio.Event()
        self._rows: list[tuple[int, Mapping[str, Value]]] = []
        self._under_way: deque[tuple[int, float, int]] = deque()
        self._acked_seq = 0
        self._late: Row | None = None

    async def open(self) -> None:
        """Starts the agent, which connects by itself; once."""
        if not self._opened:
            self._opened = True
            await self.agent.__aenter__()

    async def connected(self, deadline_s: float) -> None:
        """Returns when a hub has welcomed the device for the first time, or at the deadline (monotonic)."""
        try:
            async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                await self._welcomed.wait()
        except TimeoutError:
            return  # it goes on trying, and the report says whether it came to anything

    async def close(self) -> None:
        """Stops the agent; its counts remain."""
        if self._opened:
            self._opened = False
            try:
                await self.agent.__aexit__(None)
            except AgentError as error:
                self._fail(error)

    async def read(self, time_ns: int, due_s: float) -> None:
        """Makes one reading of each metric; sends when a batch is full. `due_s` is on the monotonic clock."""
        if self.problem is not None:
            return
        await self.open()
        self._rows.append((time_ns, self.device.model.at(time_ns / 1e9)))
        if len(self._rows) >= self._batch_rows:
            await self.flush(due_s)

    async def flush(self, due_s: float) -> None:
        """Sends what was read; the batch was due when its last reading was."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        try:
            # One row has a shorter way through the agent than rows.
            if len(rows) == 1:
                seq = await self.agent.send(rows[0][1], rows[0][0])
            else:
                seq = await self.agent.send_rows(rows)
        except AgentError as error:
            self._fail(error)
            return
        readings = sum(len(values) for _, values in rows)
        self._totals.sent += readings
        self._under_way.append((seq, due_s, readings))

    async def write_past(self, past: Past) -> None:
        """Send the past as history, and a gap for the readings between it and now. The late reading is kept."""
        await self.open()
        self._late = past.late
        try:
            for first in range(0, len(past.rows), PAST_BATCH_ROWS):
                await self.agent.send_rows(past.rows[first : first + PAST_BATCH_ROWS], historical=True)
        except AgentError as error:
            self._fail(error)
            return
        self._spool.lose(1, LOSS_REASON)

    async def send_late(self) -> None:
        """Send the late reading of the past, once."""
        late, self._late = self._late, None
        if late is None or self.problem is not None:
            return
        try:
            await self.agent.send(late[1], late[0])
        except AgentError as error:
            self._fail(error)

    async def drain(self, seconds: float) -> None:
        """Waits until everything is acknowledged, at most so long; what is not stays in the agent's counts."""
        if not self._opened or self.problem is not None:
            return
        try:
            await self.agent.drain(seconds)
        except TimeoutError:
            pass
        except AgentError as error:
            self._fail(error)

    def _acknowledged(self, seq: int) -> None:
        # Also said after each welcome, when it may be nothing new.
        self._welcomed.set()
        now_s = time.monotonic()
        if seq < self._acked_seq:
            # A new epoch: what is under way was numbered from 1 on.
            self._under_way = deque((old - self._acked_seq, due_s, n) for old, due_s, n in self._under_way)
        self._acked_seq = seq
        under_way = self._under_way
        while under_way and under_way[0][0] <= seq:
            _, due_s, readings = under_way.popleft()
            self._latencies.record(now_s - due_s)
            self._totals.acked += readings

    def _fail(self, error: AgentError) -> None:
        self.problem = self.problem or f"{self.device.id}: {error}"
