"""An agent with one source as a program: its log, its status line, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

import msgspec
import structlog
from rich.console import Console
from rich.live import Live
from rich.text import Text

from device_agent.agent import Agent
from device_agent.errors import ReadingError, SpoolError, SpoolFailed
from device_agent.refusals import REPORT_SECONDS
from device_agent.sources import RepeatedWarning, SensorReading, Source
from device_agent.sources.lines import InputCounts
from device_agent.status_file import StatusFile, read_agent_status
from formats.record import MAX_RAW_BYTES, RefusalCode, RefusedInput, shown
from wire.backoff import full_jitter
from wire.errors import Code
from wire.model import Value
from wire.text import escape_log_event, plural

FIRST_RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 30.0
"""Bounds of the delay before a source that failed starts again: of the first one, and of every one."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

QUIET_READINGS = 100
"""Accepted readings in a row after which a rejected one is logged again."""


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

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def set_up_log(level: str) -> logging.StreamHandler[TextIO]:
    """Log to stderr, as console lines on a terminal and as JSON elsewhere; return the only handler.

    structlog formats what the library logs through standard logging. NO_COLOR is respected.
    """
    console = sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(InputCounts.__struct_fields__),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                escape_log_event,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("websockets.client", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler


def run_until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run the coroutine in a new event loop; return None if a signal stopped it. A second signal stops its cleanup."""

    async def main() -> Result | None:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(main())


async def run_source(
    agent: Agent, source: Source, deliver: Deliver, *, spool: Path, is_finite: bool, log: logging.Handler
) -> int:
    """Deliver readings until the source ends; if it is finite, wait until all are acknowledged.

    The status of the agent is in a file beside its spool meanwhile. Returns how many readings were rejected. Raises
    AgentError, and what a finite source raises. Any other source starts again after it failed.
    """

    async def work() -> int:
        rejected = await deliver_readings(source, agent, deliver, restart=not is_finite)
        if is_finite:
            await agent.drain()
        return rejected

    before = read_agent_status(spool)
    if before is not None and before.input is not None:
        # A run that ends in order removes its status.
        _log.warning(
            "the last run was killed: what its source refused in the %.0f s before is not reported", REPORT_SECONDS
        )
    async with agent:
        counts = None if source.health.input is None else source.health.input.counts
        status = asyncio.create_task(StatusFile(spool, agent, counts).keep())
        working = asyncio.create_task(work())
        stopped = asyncio.create_task(agent.wait_stopped())
        try:
            with _status_line(agent, log):
                await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else stopped.result()
        finally:
            for task in (working, stopped, status):
                task.cancel()
            await asyncio.gather(working, stopped, status, return_exceptions=True)
            if counts is not None:
                _log.info("input ended", extra=msgspec.structs.asdict(counts))


async def deliver_readings(source: Source, agent: Agent, deliver: Deliver, *, restart: bool = False) -> int:
    """Deliver readings until the source ends; return how many were not stored.

    The agent reports whether the source works. With `restart`, a source that fails starts again.

    A reading that the agent rejects, or that finds the disk full, is logged and left out: the sensor continues. Raises
    SpoolFailed and what stopped the uplink.
    """
    rejected = RepeatedWarning(_log, "reading rejected", quiet=QUIET_READINGS)
    not_stored = RepeatedWarning(_log, "reading not stored")
    source.health.on_change = lambda health: agent.report_source(health.name, health.error)
    agent.report_source(source.health.name, source.health.error)
    if source.health.input is not None:
        source.health.input.known_type = lambda device, metric: agent.metric_type(metric)
    source.health.on_refused = lambda refusals: agent.refuse(source.health.name, refusals)
    async with aclosing(_restarted(source) if restart else source.readings()) as readings:
        async for reading in readings:
            try:
                refused = await _deliver(agent, deliver, reading)
            except SpoolFailed:
                raise
            except SpoolError as error:
                not_stored.record_failure(error)
                continue
            if refused:
                rejected.record_failure(refused[0].reason, times=len(refused))
                source.health.on_refused(refused)
            else:
                rejected.record_success()
                not_stored.record_success()
    return rejected.total + not_stored.total


async def _deliver(agent: Agent, deliver: Deliver, reading: SensorReading) -> list[RefusedInput]:
    """Deliver a reading; if the agent rejects it, deliver its values one by one. Return what it rejects."""
    refused: list[RefusedInput] = []
    for metric in reading.metrics:
        # The type of an earlier run stays, and a value of another type is rejected below.
        with suppress(ReadingError):
            agent.declare((metric,))
    try:
        await deliver(reading.values, reading.time_ns, historical=reading.historical)
    except ReadingError as error:
        if len(reading.values) < 2:
            return [_rejected(reading.values, error)]
        for metric_name, value in reading.values.items():
            try:
                await deliver({metric_name: value}, reading.time_ns, historical=reading.historical)
            except ReadingError as of_value:
                if value is not None:
                    refused.append(_rejected({metric_name: value}, of_value))
    return refused


def _rejected(values: Mapping[str, Value], error: ReadingError) -> RefusedInput:
    name, value = next(iter(values.items()), ("", None))
    raw = repr(dict(values)).encode(errors="backslashreplace")[:MAX_RAW_BYTES]
    return RefusedInput(0, raw, _REFUSAL_CODES.get(error.code, "type"), str(error), name, shown(value))


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
        except Exception as error:  # noqa: BLE001 - a defect of a source must not end the delivery of the spool
            _log.exception("source failed")
            problem = str(error) or type(error).__name__
        source.health.fail("source", f"stopped: {problem}")
        await asyncio.sleep(
            full_jitter(attempt, first=FIRST_RESTART_SECONDS, maximum=MAX_RESTART_SECONDS, random=random.random)
        )
        attempt += 1


@contextmanager
def _status_line(agent: Agent, log: logging.Handler) -> Iterator[None]:
    """Show a line at the bottom of a terminal, with log lines above it; show nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal or not isinstance(log, logging.StreamHandler):
        yield
        return
    with Live(get_renderable=lambda: _status(agent), console=console, refresh_per_second=2, transient=True):
        before = log.setStream(sys.stderr)  # rich replaced it, and writes above the line
        try:
            yield
        finally:
            log.setStream(before or sys.stderr)


def _status(agent: Agent) -> Text:
    counts = agent.counts
    parts = [
        agent.device,
        agent.state.value,
        f"{plural(counts.acknowledged.readings, 'reading')} acknowledged",
        plural(counts.waiting, "batch waits", "batches wait"),
    ]
    if counts.rejected.batches:
        parts.append(f"{counts.rejected.batches:,} rejected")
    elif counts.rejected.readings:
        parts.append(f"{plural(counts.rejected.readings, 'reading')} rejected")
    if counts.lost.batches:
        parts.append(f"{counts.lost.batches:,} lost")
    return Text(" · ".join(parts), style="dim", no_wrap=True, overflow="ellipsis")
