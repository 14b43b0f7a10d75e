"""The readings of a source that runs for the time of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from device_agent.sources import SensorReading, Source
from device_agent.sources.lines import InputCounts
from formats.record import RefusedInput
from tests.conditions import until
from tests.tasks import running_task


class Collected:
    """Readings of a source, its refusals, and the errors that its health had."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.readings: list[SensorReading] = []
        self.refused: list[RefusedInput] = []
        self.errors: list[str | None] = []
        source.health.on_refused = self.refused.extend
        source.health.on_change = lambda health: self.errors.append(health.error)

    @property
    def counts(self) -> InputCounts:
        """The counts of the input."""
        assert self.source.health.input is not None
        return self.source.health.input.counts

    @property
    def values(self) -> list[dict[str, object]]:
        """The values of each reading."""
        return [dict(reading.values) for reading in self.readings]

    async def until_values(self, *expected: Mapping[str, object]) -> None:
        """Return when these are the values; the deadline of the test shows others."""
        await until(lambda: self.values == list(expected))

    async def until_error(self, text: str) -> str:
        """Return the error of the source when it contains the text."""
        await until(lambda: text in (self.source.health.error or ""))
        return self.source.health.error or ""


@asynccontextmanager
async def collected(source: Source) -> AsyncIterator[Collected]:
    """Read the source during the block."""
    found = Collected(source)

    async def read() -> None:
        async with aclosing(source.readings()) as readings:
            async for reading in readings:
                found.readings.append(reading)

    async with running_task(read()):
        yield found
    await asyncio.sleep(0)
