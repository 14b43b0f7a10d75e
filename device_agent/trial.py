"""A check of a port: it is read as by `device-agent serial`, and nothing is stored."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

from agent_client.trial import InputUnreadable
from device_agent.source_state import SourceHealth
from device_agent.sources.lines import ForeignInput
from device_agent.sources.ports import PortSettings
from device_agent.sources.serial import SerialSource
from formats.reading import Reading, Result
from formats.report import Trial


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
    report = PortTrial(input)
    source = SerialSource(settings, input)
    failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def record(health: SourceHealth) -> None:
        if health.error is not None and health.error.startswith("no connection") and not failed.done():
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
        raise InputUnreadable(f"{settings.port}: {failed.result()}")
    return report.trial
