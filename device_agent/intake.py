"""From checked values to batches in the spool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from device_agent.batch import ENVELOPE_BYTES, Columns, EncodedBatch, columns_of_rows, encode_row, encode_within
from device_agent.catalogue import Catalogue
from device_agent.errors import ReadingError
from device_agent.spool import Spool
from device_agent.spool.contract import ROW_BYTES
from device_agent.uplink import Count
from wire import limits
from wire.codec import Format
from wire.errors import Code
from wire.model import Value

MAX_BATCH_ROWS = 10_000
"""Rows of one batch; more are several. With one packed metric it is more than half of the largest frame."""


class Intake:
    """Encodes batches, gives them to the spool together with definitions that it lacks, and counts them.

    `max_batch_bytes` is the largest frame; what is larger becomes several batches. `when_full` is awaited with a size
    before a batch that would push others out of the spool; without it they leave.
    """

    def __init__(
        self,
        spool: Spool,
        catalogue: Catalogue,
        format: Format,
        *,
        when_full: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self.sent = Count()
        self.max_batch_bytes = limits.MAX_BATCH_BYTES
        self._spool = spool
        self._catalogue = catalogue
        self._format = format
        self._when_full = when_full
        self._stored_revision = -1

    async def put_row(self, time_ns: int, row: Mapping[str, Value], *, historical: bool) -> int:
        """A batch of one row, or more where it is large; the last one's number. Raises ReadingError and SpoolError."""
        batch = encode_row(time_ns, row, historical=historical, format=self._format)
        if batch.size + ENVELOPE_BYTES > self.max_batch_bytes:
            return await self.put_columns(columns_of_rows([(time_ns, row)], historical=historical))
        return await self._put(batch)

    async def put_columns(self, columns: Columns) -> int:
        """One batch, or as many as the bounds ask for; the last one's number. Raises ReadingError and SpoolError."""
        batches = encode_within(
            columns,
            self._catalogue.metrics,
            self._format,
            max_bytes=self.max_batch_bytes,
            max_rows=MAX_BATCH_ROWS,
        )
        readings = sum(len(column) - column.count(None) for column in columns.values.values())
        if sum(batch.readings for batch in batches) < readings:
            raise ReadingError(Code.TOO_LARGE, "", f"a value of more than the {self.max_batch_bytes} bytes of a frame")
        if len(batches) == 1:
            return await self._put(batches[0])
        # At the same time, so that they share a commit.
        return max(await asyncio.gather(*map(self._put, batches)))

    async def _put(self, batch: EncodedBatch) -> int:
        spool, catalogue = self._spool, self._catalogue
        if self._when_full is not None and spool.size_bytes + batch.size + ROW_BYTES > spool.max_bytes:
            await self._when_full(batch.size)
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
