"""From checked values to batches in the spool, at once or collected for a short time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from device_agent.batch import (
    ENVELOPE_BYTES,
    EncodedBatch,
    ReadingColumns,
    columns_of_rows,
    encode_row,
    encode_within,
)
from device_agent.catalogue import MetricCatalogue
from device_agent.errors import ReadingError, SpoolError, SpoolFailed
from device_agent.refusals import encode_report
from device_agent.spool import ROW_BYTES, Count, Spool
from wire import limits
from wire.codec import Format
from wire.device import DeviceEvent, Refused
from wire.errors import Code
from wire.model import Value
from wire.text import plural

MAX_BATCH_ROWS = 10_000
"""Rows of one batch; more rows become several. With one packed metric this is more than half of the largest frame."""

MAX_COLLECTED_ROWS = 1000
"""Rows held in memory. At this number they are written at once, and adding another waits for the disk."""

FLUSH_MS = 200
"""Time for which a row is held: short enough for a live chart, and at most five fsyncs a second."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class SpoolWriter:
    """Encoder of batches, which it appends to the spool together with definitions that the spool lacks.

    `max_batch_bytes` is the largest frame; larger batches become several. `when_full` is awaited with a size before a
    batch that would push others out of the spool; without it they are lost.
    """

    spool: Spool
    catalogue: MetricCatalogue
    encoding: Format
    when_full: Callable[[int], Awaitable[None]] | None = None
    sent: Count = Count()  # noqa: RUF009 - immutable
    max_batch_bytes: int = limits.MAX_BATCH_BYTES
    _stored_revision: int = -1

    async def put_row(self, time_ns: int, row: Mapping[str, Value], *, historical: bool) -> int:
        """Store a batch of one row, or several where it is large; return the last number.

        Raises ReadingError and SpoolError.
        """
        batch = encode_row(time_ns, row, historical=historical, format=self.encoding)
        if batch.size + ENVELOPE_BYTES > self.max_batch_bytes:
            return await self.put_columns(columns_of_rows([(time_ns, row)], historical=historical))
        return await self._put(batch)

    async def put_columns(self, columns: ReadingColumns) -> int:
        """Store one batch, or as many as the bounds require; return the last number.

        Raises ReadingError and SpoolError.
        """
        batches = encode_within(
            columns, self.catalogue.metrics, self.encoding, max_bytes=self.max_batch_bytes, max_rows=MAX_BATCH_ROWS
        )
        if sum(batch.readings for batch in batches) < columns.readings:
            raise ReadingError(
                Code.TOO_LARGE, "", f"a value is larger than a frame, which has {self.max_batch_bytes} bytes"
            )
        if len(batches) == 1:
            return await self._put(batches[0])
        # At the same time, so that they share a commit.
        return max(await asyncio.gather(*map(self._put, batches)))

    async def put_report(self, report: Refused | DeviceEvent) -> int:
        """Store a report of what a source refused, or an event; return its number. Raises SpoolError."""
        return await self._put(encode_report(report, self.encoding))

    async def _put(self, batch: EncodedBatch) -> int:
        spool, catalogue = self.spool, self.catalogue
        if self.when_full is not None and spool.size_bytes + batch.size + ROW_BYTES > spool.max_bytes:
            await self.when_full(batch.size)
        revision = catalogue.revision
        if revision == self._stored_revision:
            seq = await spool.append(batch)
        else:
            stored = spool.metrics
            fresh = [metric for metric in catalogue.metrics.values() if stored.get(metric.name) != metric]
            seq = await spool.append(batch, fresh)
            self._stored_revision = revision
        self.sent = self.sent.plus(1, batch.readings)
        return seq


class Batching(NamedTuple):
    """Bounds of a batch: the time for which its first row is held, and its rows."""

    max_delay_ms: int = FLUSH_MS
    max_rows: int = MAX_COLLECTED_ROWS


class CollectedRow(NamedTuple):
    """Checked values of one time."""

    time_ns: int
    values: dict[str, Value]
    historical: bool


@dataclass(slots=True, eq=False)
class Collector:
    """Rows that wait for `run` to write them to the spool. Only `run` writes: a cancelled caller loses nothing."""

    writer: SpoolWriter
    batching: Batching = Batching()  # noqa: RUF009 - immutable
    _rows: list[CollectedRow] = field(default_factory=list)
    _added: int = 0
    _written: int = 0
    _error: SpoolError | None = None
    _waiting: asyncio.Event = field(default_factory=asyncio.Event)
    _urgent: asyncio.Event = field(default_factory=asyncio.Event)
    _attempted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_empty(self) -> bool:
        """True if every added row is in the spool."""
        return self._written == self._added

    async def add(self, row: CollectedRow) -> None:
        """Add a row; wait only while a batch is full. Raises SpoolError when it cannot be written."""
        while len(self._rows) >= self.batching.max_rows:
            await self.flush()
        self._rows.append(row)
        self._added += 1
        self._waiting.set()
        if len(self._rows) == self.batching.max_rows:
            self._urgent.set()

    async def flush(self) -> None:
        """Wait until all rows added so far are in the spool. Raises SpoolError."""
        target = self._added
        while self._written < target:
            if isinstance(self._error, SpoolFailed):
                raise self._error
            self._urgent.set()
            await self._attempted.wait()
            if self._error is not None and self._written < target:
                raise self._error

    async def run(self) -> None:
        """Write rows when the first of them has waited, when they are many, or on `flush`. Raises SpoolFailed."""
        while True:
            await self._waiting.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.batching.max_delay_ms / 1000):
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
                    _log.error("%s; up to %d rows are held in memory", error, self.batching.max_rows)
            self._attempted.set()
            self._attempted.clear()
            if isinstance(self._error, SpoolFailed):
                raise self._error

    async def _write(self) -> None:
        rows, self._rows = self._rows, []
        written = 0
        try:
            for historical, group in groupby(rows, key=lambda row: row.historical):
                part = [(row.time_ns, row.values) for row in group]
                try:
                    await self.writer.put_columns(columns_of_rows(part, historical=historical))
                except ReadingError as error:
                    # Only when the hub's bound is below that of a string: rows were checked when they were added.
                    _log.error("%s rejected: %s", plural(len(part), "row"), error)
                written += len(part)
        finally:
            self._rows[:0] = rows[written:]
            self._written += written
