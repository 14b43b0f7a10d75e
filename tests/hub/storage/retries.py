"""Retry delays of a store writer under test."""

from __future__ import annotations

import asyncio


class Retries:
    """Jitter of a writer that does not pause and reports each wait for the store."""

    def __init__(self) -> None:
        self.asked = 0
        self._waiting = asyncio.Event()

    def __call__(self) -> float:
        self.asked += 1
        self._waiting.set()
        return 0.0

    async def again(self) -> None:
        """Return when the writer waits the next time."""
        self._waiting.clear()
        await self._waiting.wait()
