"""A check of a port or another source: it is read as by its command, and nothing is stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Protocol

from agent_client.trial import InputUnreadable
from device_agent.source_state import SourceHealth
from device_agent.sources import Source
from device_agent.sources.lines import ForeignInput, LineInput
from device_agent.sources.ports import Port, PortSettings
from device_agent.sources.ports.baud import LIKELY_RATES, RateTrial, seven_bits
from device_agent.sources.ports.opening import PortFinder, open_port
from device_agent.sources.serial import SerialSource, reason_of
from formats.reading import Reading, Result
from formats.report import Trial

SETTLE_SECONDS = 0.1
"""Time after a change of the rate in which bytes of the earlier one arrive: a USB adapter holds them for 16 ms."""

SILENT_RATES = 2
"""Rates without a single byte after which a device is silent: at a wrong rate, too, something arrives."""

ABSENT = ("no connection", "not listening", "not running")
"""Beginnings of the errors of a source that has nothing to read."""


class LiveSource(Source, Protocol):
    """Source whose first lines can wait for others."""

    def finish(self) -> None:
        """Read the lines that wait for others, at the end of a check."""


@contextmanager
def quiet_log() -> Iterator[None]:
    """Log nothing about sources meanwhile: the report of a check says the same."""
    log = logging.getLogger("device_agent")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


class PortTrial:
    """Report of what arrives at a port. A format that is detected again begins another report."""

    def __init__(self, input: ForeignInput) -> None:
        self.trial = Trial(input.new_reading(window=1))
        self._reading: Reading | None = None
        input.observe = self._observe

    def _observe(self, reading: Reading | None, result: Result) -> None:
        if reading is not None and reading is not self._reading:
            before, self.trial = self.trial, Trial(reading)
            if self._reading is None:
                # What was refused before the first format was known.
                self.trial.add(Result([], before.refusals))
            self._reading = reading
        self.trial.add(result)


async def try_port(input: ForeignInput, settings: PortSettings, *, seconds: float) -> Trial:
    """Read a port for some seconds, or until this is cancelled. Raises InputUnreadable if it cannot be opened."""
    source = SerialSource(settings, input)
    trial = await try_source(input, source, settings.port, seconds=seconds)
    if source.line_problem and not input.counts.readings:
        raise InputUnreadable(f"{settings.port}: {source.line_problem}")
    return trial


async def try_source(input: ForeignInput, source: LiveSource, name: str, *, seconds: float) -> Trial:
    """Read a source for some seconds, or until this is cancelled. Raises InputUnreadable if it cannot be opened."""
    report = PortTrial(input)
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def record(health: SourceHealth) -> None:
        if health.error is not None and health.error.startswith(ABSENT) and not failed.done():
            failed.set_result(health.error)

    source.health.on_change = record

    async def read() -> None:
        async with aclosing(source.readings()) as readings:
            async for _ in readings:
                pass

    reading = asyncio.create_task(read())
    with suppress(asyncio.CancelledError):
        await asyncio.wait((reading, failed), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    source.finish()
    if failed.done() and not input.counts.lines:
        raise InputUnreadable(f"{name}: {failed.result()}")
    return report.trial


async def find_baud(
    settings: PortSettings,
    new_input: Callable[[], ForeignInput],
    *,
    seconds: float,
    rates: Sequence[int] = LIKELY_RATES,
    report: Callable[[RateTrial], None] = lambda trial: None,
) -> list[RateTrial]:
    """Read a port at one rate after the other, until one reads; return what was found at each.

    A rate is read for `seconds` at most, and shorter where the bytes decide. It ends after SILENT_RATES without a byte.
    The port is opened once, so that its board restarts once at most. Raises InputUnreadable if it cannot be opened.
    """
    trials: list[RateTrial] = []
    try:
        port = await open_port(PortFinder(settings.port).find(), settings)
    except (OSError, ValueError) as error:
        raise InputUnreadable(f"{settings.port}: {reason_of(error)}") from None
    try:
        for baud in rates:
            trials.append(await _try_rate(port, baud, new_input(), seconds))
            report(trials[-1])
            heard = sum(trial.evidence.total for trial in trials)
            if trials[-1].reads or (not heard and len(trials) == SILENT_RATES):
                break
    except OSError as error:
        raise InputUnreadable(f"{settings.port}: {reason_of(error)}") from None
    finally:
        port.close()
    return trials


async def _try_rate(port: Port, baud: int, input: ForeignInput, seconds: float) -> RateTrial:
    trial = RateTrial(baud)
    try:
        await port.set_baud(baud)
    except (OSError, ValueError) as error:
        return trial._replace(problem=reason_of(error))
    # Bytes of the earlier rate may still be on their way.
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                await port.read()
    errors_before = _framing_errors(port)
    lines = LineInput(input)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not trial.is_decided:
                data = await port.read()
                evidence = trial.evidence.added(data)._replace(framing_errors=_framing_errors(port) - errors_before)
                lines.feed(seven_bits(data) if evidence.frame else data, time.time_ns())
                counts = input.counts
                format = counts.format if counts.readings else ""
                trial = trial._replace(evidence=evidence, lines=counts.lines - counts.skipped, format=format)
    return trial


def _framing_errors(port: Port) -> int:
    errors = port.line_errors()
    return errors.framing if errors else 0
