"""From a source to an agent: names, report by exception, batches, and the restart of a source that fails."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from math import inf
from typing import Protocol

import msgspec

from device_agent.agent import Agent
from device_agent.errors import ReadingError, SpoolError, SpoolFailed
from device_agent.reporting import ExceptionFilter, ReportRule, TimedRow, matching_rule
from device_agent.source_state import SourceEvent
from device_agent.sources import RepeatedWarning, SensorReading, Source
from device_agent.sources.restarts import RESTARTED
from device_agent.spool_writer import FLUSH_MS, MAX_COLLECTED_ROWS, Batching
from formats.record import MAX_RAW_BYTES, RefusalCode, RefusedInput, shown
from wire.backoff import full_jitter
from wire.errors import Code
from wire.model import Value

FIRST_RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 30.0
"""Bounds of the delay before a source that failed starts again: of the first one, and of every one."""

QUIET_READINGS = 100
"""Accepted readings in a row after which a rejected one is logged again."""

_log = logging.getLogger(__name__)


class Deliver(Protocol):
    """`Agent.send` or `Agent.collect`."""

    def __call__(
        self, values: Mapping[str, Value], time_ns: int | None = None, *, historical: bool = False
    ) -> Awaitable[object]:
        """Store a row of values."""


_REFUSAL_CODES: dict[Code, RefusalCode] = {
    Code.TOO_MANY: "limit",
    Code.NOT_FINITE: "number",
    Code.OUT_OF_RANGE: "number",
    Code.BAD_MESSAGE: "metric",
    Code.EMPTY: "format",
    Code.TOO_LARGE: "size",
}
"""Codes of readings that the agent rejects, as codes of refusals. Any other is a value of another type."""


async def deliver_readings(source: Source, agent: Agent, deliver: Deliver, *, restart: bool = False) -> int:
    """Deliver readings until the source ends; return how many were not stored. `SourceDelivery` has the details."""
    return await SourceDelivery(source, agent, deliver).run(restart=restart)


class SourceDelivery:
    """The delivery of one source's readings to an agent.

    `prefix` is put before the names of the metrics. `rules` decide what is reported, and bound the batches of metrics
    whose rules have such bounds; others are delivered by `deliver`.
    """

    def __init__(
        self, source: Source, agent: Agent, deliver: Deliver, *, prefix: str = "", rules: Sequence[ReportRule] = ()
    ) -> None:
        self.source = source
        self._agent = agent
        self._deliver = deliver
        self._prefix = prefix
        self._rules = rules
        self.filter = ExceptionFilter(source.health.name, rules)
        self.readings = 0
        """Values that were stored in the spool."""
        self.refused = 0
        """Lines and values that the source or the agent refused."""
        self.last_ns = 0
        """Time of the last arrival from the source; 0 before the first."""
        self._batchings: dict[str, Batching | None] = {}
        self._historical = False
        self._due_changed = asyncio.Event()
        self._rejected = RepeatedWarning(_log, "reading rejected", quiet=QUIET_READINGS)
        self._not_stored = RepeatedWarning(_log, "reading not stored")

    @property
    def failed(self) -> int:
        """The number of readings that were not stored."""
        return self._rejected.total + self._not_stored.total

    async def run(self, *, restart: bool = False) -> int:
        """Deliver readings until the source ends; return how many were not stored.

        The agent reports whether the source works. With `restart`, a source that fails starts again. Readings that are
        held back by a rule are delivered at the end.

        A reading that the agent rejects, or that finds the disk full, is logged and left out: the sensor continues.
        Raises SpoolFailed and what stopped the uplink.
        """
        source, agent = self.source, self._agent
        source.health.on_change = lambda health: agent.report_source(health.name, health.error)
        agent.report_source(source.health.name, source.health.error)
        if source.health.input is not None:
            source.health.input.known_type = lambda device, metric: agent.metric_type(self._prefix + metric)
        source.health.on_refused = self._refuse
        source.health.on_event = self._report_event
        timer = asyncio.create_task(self._report_due()) if self._rules else None
        try:
            async with aclosing(_restarted(source) if restart else source.readings()) as readings:
                async for reading in readings:
                    await self._take(reading)
        finally:
            if timer is not None:
                timer.cancel()
                await asyncio.gather(timer, return_exceptions=True)
            for row in self.filter.finish(time.monotonic()):
                await self._store(row)
        return self.failed

    def _refuse(self, refusals: Sequence[RefusedInput]) -> None:
        self.refused += len(refusals)
        self._agent.refuse(self.source.health.name, refusals)

    def _report_event(self, event: SourceEvent) -> None:
        name = self.source.health.name
        self._agent.report_event(event.kind, event.detail, source=name, time_ns=event.time_ns)
        if event.kind == RESTARTED:
            self._agent.report_restart(name, f"the board has restarted: {event.detail}")

    async def _take(self, reading: SensorReading) -> None:
        self.last_ns = time.time_ns()
        if self._prefix:
            reading = _prefixed(reading, self._prefix)
        for metric in reading.metrics:
            # The type of an earlier run stays, and a value of another type is rejected below.
            with suppress(ReadingError):
                self._agent.declare((metric,))
        self._historical = reading.historical
        if not self._rules:
            await self._store_values(reading.values, reading.time_ns, None)
            return
        due_s = self.filter.due_s
        time_ns = self.last_ns if reading.time_ns is None else reading.time_ns
        rows = self.filter.add(reading.values, time_ns, time.monotonic())
        if self.filter.due_s < due_s:
            self._due_changed.set()
        for row in rows:
            await self._store(row)

    async def _report_due(self) -> None:
        """Deliver the values that are held back for long enough, until cancelled."""
        while True:
            delay_s = self.filter.due_s - time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if delay_s == inf else max(0.0, delay_s)):
                    await self._due_changed.wait()
            self._due_changed.clear()
            for row in self.filter.due(time.monotonic()):
                await self._store(row)

    async def _store(self, row: TimedRow) -> None:
        """Deliver a row, in parts if rules bound the batches of its metrics differently."""
        parts: dict[Batching | None, dict[str, Value]] = {}
        for name, value in row.values.items():
            parts.setdefault(self._batching_of(name), {})[name] = value
        for batching, values in parts.items():
            await self._store_values(values, row.time_ns, batching)

    def _batching_of(self, metric: str) -> Batching | None:
        if metric in self._batchings:
            return self._batchings[metric]
        rule = matching_rule(self._rules, source=self.source.health.name, metric=metric)
        found = None
        if rule is not None and not rule.max_delay_ms is rule.max_rows is None:
            delay_ms = FLUSH_MS if rule.max_delay_ms is None else rule.max_delay_ms
            found = Batching(delay_ms, rule.max_rows or MAX_COLLECTED_ROWS)
        if self._agent.metric_type(metric) is not None:
            # Only metrics of the device are kept, which are bounded.
            self._batchings[metric] = found
        return found

    async def _store_values(self, values: Mapping[str, Value], time_ns: int | None, batching: Batching | None) -> None:
        deliver = self._deliver if batching is None else partial(self._agent.collect, batching=batching)
        try:
            refused = await _delivered(deliver, values, time_ns, historical=self._historical)
        except SpoolFailed:
            raise
        except SpoolError as error:
            self._not_stored.record_failure(error)
            return
        self.readings += len(values) - len(refused)
        if refused:
            self._rejected.record_failure(refused[0].reason, times=len(refused))
            self.source.health.on_refused(refused)
        else:
            self._rejected.record_success()
            self._not_stored.record_success()


async def _delivered(
    deliver: Deliver, values: Mapping[str, Value], time_ns: int | None, *, historical: bool
) -> list[RefusedInput]:
    """Deliver a row; if the agent rejects it, deliver its values one by one. Return what it rejects."""
    try:
        await deliver(values, time_ns, historical=historical)
    except ReadingError as error:
        if len(values) < 2:
            return [_rejected(values, error)]
        refused: list[RefusedInput] = []
        for name, value in values.items():
            try:
                await deliver({name: value}, time_ns, historical=historical)
            except ReadingError as of_value:
                if value is not None:
                    refused.append(_rejected({name: value}, of_value))
        return refused
    return []


def _rejected(values: Mapping[str, Value], error: ReadingError) -> RefusedInput:
    name, value = next(iter(values.items()), ("", None))
    raw = repr(dict(values)).encode(errors="backslashreplace")[:MAX_RAW_BYTES]
    return RefusedInput(0, raw, _REFUSAL_CODES.get(error.code, "type"), str(error), name, shown(value))


def _prefixed(reading: SensorReading, prefix: str) -> SensorReading:
    metrics = tuple(msgspec.structs.replace(metric, name=prefix + metric.name) for metric in reading.metrics)
    values = {prefix + name: value for name, value in reading.values.items()}
    return reading._replace(values=values, metrics=metrics)


async def _restarted(source: Source) -> AsyncGenerator[SensorReading, None]:
    """Yield the readings of a source without end: start it again after it failed or ended."""
    attempt = 0
    while True:
        problem = "it ended by itself"
        try:
            async with aclosing(source.readings()) as readings:
                async for reading in readings:
                    attempt = 0
                    source.health.recover("source")
                    yield reading
        except Exception as error:  # noqa: BLE001
            # What can happen is a source's to handle, so this is a defect: of the source, of a driver, or of the
            # user's function. The hub shows it, and the other sources and the delivery of the spool continue.
            _log.exception("source failed")
            problem = str(error) or type(error).__name__
        source.health.fail("source", f"stopped: {problem}")
        await asyncio.sleep(
            full_jitter(attempt, first=FIRST_RESTART_SECONDS, maximum=MAX_RESTART_SECONDS, random=random.random)
        )
        attempt += 1
