"""A spool in memory, lost with its process: for simulated fleets, and for devices without a disk."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError
from device_agent.spool.contract import OVERFLOW_REASON, ROW_BYTES, Entry, Gaps, Lost, StoredBatch
from wire.model import Metric

DEFAULT_MAX_BYTES = 4 * 1024 * 1024
"""An hour of ten small readings a second. It is small because thousands of agents may share one process."""


def new_epoch() -> str:
    """Return 64 random bits in hexadecimal."""
    return secrets.token_hex(8)


class MemorySpool:
    """Implementation of `Spool` without a disk. Only `wait` and `wait_room` ever wait."""

    durable = False

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, new_epoch: Callable[[], str] = new_epoch) -> None:
        self.max_bytes = max_bytes
        self._new_epoch = new_epoch
        self.epoch = new_epoch()
        self.next_seq = 1
        self.acked = 0
        self.size_bytes = 0
        self.lost = Lost()
        self.revision = 0
        self._metrics: dict[str, Metric] = {}
        self._batches: dict[int, EncodedBatch] = {}
        self._gaps = Gaps()
        self._oldest = 1
        self._changed = asyncio.Event()
        self._open = False

    async def __aenter__(self) -> MemorySpool:
        self._open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._open = False

    @property
    def hello_seq(self) -> int:
        return self.next_seq  # memory cannot be restored from a copy

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return self._metrics

    @property
    def waiting(self) -> int:
        return len(self._batches)

    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        if not self._open:
            raise SpoolError("the spool is closed")
        for metric in metrics:
            self._metrics[metric.name] = metric
            self.revision += 1
        seq = self.next_seq
        self.next_seq += 1
        self._batches[seq] = batch
        self.size_bytes += batch.size + ROW_BYTES
        if self.size_bytes > self.max_bytes:
            self._overflow()
        self._wake()
        return seq

    def lose(self, batches: int, reason: str) -> None:
        """Declare the next numbers lost, for a source that knows that it lost readings."""
        self._gaps.add(self.next_seq, self.next_seq + batches - 1, reason)
        self.next_seq += batches
        self._wake()

    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        entries: list[Entry] = []
        seq = max(after, self.acked) + 1
        while seq < self.next_seq and len(entries) < max_batches:
            batch = self._batches.get(seq)
            if batch is not None:
                max_bytes -= batch.size
                if max_bytes < 0 and entries:
                    break
                entries.append(StoredBatch(seq, batch))
                seq += 1
            else:
                gap = self._gaps.at(seq)
                assert gap is not None, f"number {seq} is neither a batch nor lost"
                entries.append(gap)
                seq = gap.to + 1
        return entries

    async def wait(self, after: int) -> None:
        while self.next_seq - 1 <= after:
            await self._changed.wait()

    async def wait_room(self, size_bytes: int) -> None:
        while self._batches and self.size_bytes + size_bytes + ROW_BYTES > self.max_bytes:
            await self._changed.wait()

    def trim(self, acked: int) -> None:
        for seq in range(self.acked + 1, min(acked, self.next_seq - 1) + 1):
            batch = self._batches.pop(seq, None)
            if batch is not None:
                self.size_bytes -= batch.size + ROW_BYTES
        self.acked = max(self.acked, min(acked, self.next_seq - 1))
        self._gaps.trim(self.acked)
        self._wake()

    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        if seq not in self._batches:
            return
        self.size_bytes += sum(part.size + ROW_BYTES for part in parts) - self._batches.pop(seq).size - ROW_BYTES
        by = len(parts) - 1
        if parts:
            self._gaps.shift(seq, by)
            self._batches = {number if number < seq else number + by: batch for number, batch in self._batches.items()}
            self._batches.update(enumerate(parts, seq))
            self.next_seq += by
        else:
            self._gaps.add(seq, seq, reason)
        self._wake()

    async def confirm(self) -> None:
        pass

    async def begin_epoch(self) -> None:
        by = -self.acked
        self._batches = {seq + by: batch for seq, batch in self._batches.items()}
        self._gaps.shift(0, by)
        self.next_seq += by
        self._oldest = 1
        self.acked = 0
        self.epoch = self._new_epoch()
        self._wake()

    def _overflow(self) -> None:
        dropped: list[int] = []
        batches, readings = self.lost
        # Finding the first key of the dictionary would visit all removed entries.
        seq = max(self._oldest, self.acked + 1)
        while self.size_bytes > self.max_bytes and seq < self.next_seq - 1:
            batch = self._batches.pop(seq, None)
            if batch is not None:
                self.size_bytes -= batch.size + ROW_BYTES
                dropped.append(seq)
                batches, readings = batches + 1, readings + batch.readings
            seq += 1
        self._oldest = seq
        self._gaps.add_each(dropped, OVERFLOW_REASON)
        self.lost = Lost(batches, readings)

    def _wake(self) -> None:
        # Current waiters continue and check again; later waiters check before they wait.
        self._changed.set()
        self._changed.clear()
