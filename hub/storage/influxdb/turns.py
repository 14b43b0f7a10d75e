"""Who is at the server: many readers, or the one writer. Pure asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A lock that readers share and the writer has alone, in order of their coming: neither keeps the other out.

    InfluxDB has no snapshots. A history that is true for one cursor is read while nothing is written.
    """

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._readers = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """No writer inside the block."""
        async with self._door:
            self._readers += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else inside the block."""
        async with self._door:
            await self._empty.wait()
            yield
