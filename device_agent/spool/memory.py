"""A spool in memory, lost with its process: for simulated fleets, and for devices without a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError
from device_agent.spool.contract import (
    NOT_KEPT_REASON,
    OVERFLOW_REASON,
    ROW_BYTES,
    Entry,
    Spool,
    StoredCommand,
    new_epoch,
    read_entries,
)
from wire.device import Gap
from wire.limits import MAX_REASON
from wire.model import Metric

DEFAULT_MAX_BYTES = 4 * 1024 * 1024
"""An hour of ten small readings a second. It is small because thousands of agents may share one process."""


class MemorySpool(Spool):
    """Implementation of `Spool` without a disk. Only `wait` and `wait_room` ever wait."""

    durable = False

    def __init__(self, *, max_bytes: int = DEFAULT_MAX_BYTES, new_epoch: Callable[[], str] = new_epoch) -> None:
        super().__init__(max_bytes=max_bytes, new_epoch=new_epoch)
        self.epoch = new_epoch()
        self._batches: dict[int, EncodedBatch] = {}
        self._oldest = 1
        self._commands: dict[str, StoredCommand] = {}
        self._settings: bytes | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._open = False

    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        if not self._open:
            raise SpoolError("the spool is closed")
        for metric in metrics:
            self.metrics[metric.name] = metric
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
        self._gaps = self._gaps.add(self.next_seq, self.next_seq + batches - 1, reason)
        self.next_seq += batches
        self._wake()

    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        if after < self.acked:
            return [Gap(after + 1, self.acked, NOT_KEPT_REASON)]
        return read_entries(
            after + 1,
            self.next_seq,
            self._gaps,
            self._batches.__getitem__,
            max_batches=max_batches,
            max_bytes=max_bytes,
        )

    def trim(self, acked: int) -> None:
        for seq in range(self.acked + 1, min(acked, self.next_seq - 1) + 1):
            batch = self._batches.pop(seq, None)
            if batch is not None:
                self.size_bytes -= batch.size + ROW_BYTES
        self.acked = max(self.acked, min(acked, self.next_seq - 1))
        self._gaps = self._gaps.trim(self.acked)
        self._wake()

    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        if seq not in self._batches:
            return
        self.size_bytes += sum(part.size + ROW_BYTES for part in parts) - self._batches.pop(seq).size - ROW_BYTES
        by = len(parts) - 1
        if parts:
            self._gaps = self._gaps.shift(seq, by)
            self._batches = {number if number < seq else number + by: batch for number, batch in self._batches.items()}
            self._batches.update(enumerate(parts, seq))
            self.next_seq += by
        else:
            self._gaps = self._gaps.add(seq, seq, reason)
        self._wake()

    async def confirm(self) -> None:
        pass  # memory cannot be restored from a copy

    async def begin_epoch(self, loss: str) -> None:
        by = 1 - self.acked
        self._batches = {seq + by: batch for seq, batch in self._batches.items()}
        self._gaps = self._gaps.shift(0, by).add(1, 1, loss[:MAX_REASON])
        self.next_seq += by
        self._oldest = 1
        self.acked = 0
        self.epoch = self._new_epoch()
        self._wake()

    async def read_commands(self) -> list[StoredCommand]:
        return list(self._commands.values())

    async def write_commands(self, written: Sequence[StoredCommand], deleted: Sequence[str]) -> None:
        self._commands.update((command.id, command) for command in written)
        for id in deleted:
            self._commands.pop(id, None)

    async def read_settings(self) -> bytes | None:
        return self._settings

    async def write_settings(self, content: bytes) -> None:
        self._settings = content

    def _overflow(self) -> None:
        dropped: list[int] = []
        # Finding the first key of the dictionary would visit all removed entries.
        seq = max(self._oldest, self.acked + 1)
        while self.size_bytes > self.max_bytes and seq < self.next_seq - 1:
            batch = self._batches.pop(seq, None)
            if batch is not None:
                self.size_bytes -= batch.size + ROW_BYTES
                dropped.append(seq)
                self.lost = self.lost.plus(1, batch.readings)
            seq += 1
        self._oldest = seq
        self._gaps = self._gaps.add_each(dropped, OVERFLOW_REASON)
