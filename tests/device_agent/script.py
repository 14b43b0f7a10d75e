"""A source for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading


class Script:
    """A source that yields what it is given; with `stays` it then waits as a silent sensor does.

    Closing it takes some turns of the event loop.
    """

    def __init__(
        self, readings: Sequence[SensorReading], name: str = "script", *, stays: bool = False, closing_turns: int = 0
    ) -> None:
        self._readings = readings
        self._stays = stays
        self._closing_turns = closing_turns
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
            for _ in range(self._closing_turns):
                await asyncio.sleep(0)
            self.closed = True
