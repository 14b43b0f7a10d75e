"""Record of the series ids that are assigned: with it, a registry that is restored from a copy assigns none again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.journal.rows import write_fact
from hub.journal.schema import HIGHEST_SERIES
from hub.journal.writer import JournalWriter


class SeriesIds:
    """Record of the `highest` series id, in any run, in the file of the journal."""

    def __init__(self, highest: int, writer: Callable[[], JournalWriter]) -> None:
        """Start with the recorded id. `writer` returns the open writer, and raises JournalError if there is none."""
        self.highest = self._wanted = highest
        self._writer = writer
        self._lock = asyncio.Lock()

    async def record(self, highest: int) -> None:
        """Record that ids up to `highest` are assigned; durable when this returns. Callers share a commit.

        Raises JournalFull, JournalFailed, and JournalError when the journal is closed.
        """
        self._wanted = max(self._wanted, highest)
        async with self._lock:
            if self.highest >= highest:
                return
            recorded = self._wanted
            await self._writer().write(write_fact(HIGHEST_SERIES, recorded))
            self.highest = recorded
