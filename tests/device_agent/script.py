"""A source for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading


class Script:
    """A source that yields what it is given; with `stays` it then waits as a silent sensor does."""

    def __init__(self, readings: Sequence[SensorReading], name: str = "script", *, stays: bool = False) -> None:
        self._readings = readings
        self._stays = stays
        self.closed = False
        self.health = SourceHealth(name)

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield the readings."""
        try:
            for reading in self._readings:
                yield reading
            if self._stays:
                await asyncio.Event().wait()
        finally:
            self.closed = True
