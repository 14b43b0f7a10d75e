"""Gathers rows into batches for a short time: fewer fsyncs and smaller frames for a fast sensor."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

from device_agent.batch import columns_of_rows
from device_agent.errors import ReadingError, SpoolError, SpoolFailed
from device_agent.intake import Intake
from wire.model import Value

MAX_COLLECTED_ROWS = 1000
"""What is held in memory: with so many it is written at once, and whoever adds another waits for the disk."""

FLUSH_MS = 200
"""How long a row is held: fast enough for a live chart, and five fsyncs a second at most."""

_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """Checked values of one time."""

    time_ns: int
    values: dict[str, Value]
    historical: bool


class Collector:
    """Rows wait here until `run` has put them into the spool. Only `run` writes: a cancelled caller loses nothing."""

    def __init__(self, intake: Intake, *, flush_ms: int = FLUSH_MS) -> None:
        self._intake = intake
        self._flush_s = flush_ms / 1000
        self._rows: list[Row] = []
        self._added = 0
        self._written = 0
        self._error: SpoolError | None = None
        self._waiting = asyncio.Event()
        self._urgent = asyncio.Event()
        self._attempted = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether every row that was added is in the spool."""
        return self._written == self._added

    async def add(self, row: Row) -> None:
        """Takes a row; waits only when MAX_COLLECTED_ROWS are held. Raises SpoolError when those cannot be written."""
        while len(self._rows) >= MAX_COLLECTED_ROWS:
            await self.flush()
        self._rows.append(row)
        self._added += 1
        self._waiting.set()

    async def flush(self) -> None:
        """Returns when all that was added before is in the spool. Raises SpoolError."""
        target = self._added
        while self._written < target:
            if isinstance(self._error, SpoolFailed):
                raise self._error
            self._urgent.set()
            await self._attempted.wait()
            if self._error is not None and self._written < target:
                raise self._error

    async def run(self) -> None:
        """Writes what was added, `flush_ms` after the first row of it or when it is urgent. Raises SpoolFailed."""
        while True:
            await self._waiting.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._flush_s):
                    await self._urgent.wait()
            self._urgent.clear()
            self._waiting.clear()
            before = self._error
            try:
                await self._write()
                self._error = None
            except SpoolError as error:
                self._error = error
                self._waiting.set()  # those rows are still here
                if before is None:
                    _log.error("%s; up to %d rows are held in memory", error, MAX_COLLECTED_ROWS)
            self._attempted.set()
            self._attempted.clear()
            if isinstance(self._error, SpoolFailed):
                raise self._error

    async def _write(self) -> None:
        rows, self._rows = self._rows, []
        written = 0
        try:
            for historical, group in groupby(rows, key=_is_historical):
                part = [(row.time_ns, row.values) for row in group]
                try:
                    await self._intake.put_columns(columns_of_rows(part, historical=historical))
                except ReadingError as error:
                    # Only when the hub's bound is below that of a string: the rows were checked when they were added.
                    _log.error("%d rows are not taken: %s", len(part), error)
                written += len(part)
        finally:
            self._rows[:0] = rows[written:]
            self._written += written


def _is_historical(row: Row) -> bool:
    return row.historical
