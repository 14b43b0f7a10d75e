"""The durable spool: group commits in its own thread, so that the event loop never waits for the disk.

Batches that arrive during a commit share the next one; there is no timer. The newest batches are also kept in memory,
so an uplink without backlog never reads the file.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError
from device_agent.spool.contract import Entry, Spool, StoredCommand, new_epoch, read_entries
from device_agent.spool.layout import Standing
from device_agent.spool.opening import open_spool
from wire.model import Metric

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
"""About three days of a computer's own sensors (40 metrics a second); a small part of any SD card."""

MAX_GROUP = 1000
"""Batches in one commit; with more, the first waits for the insertion of the last."""

TAIL_BYTES = 1024 * 1024
"""Bytes of the newest batches in memory: a full window of small ones."""

TRIM_DELAY_S = 1.0
"""An acknowledgement is written with the next commit, or after this time alone. Losing it costs nothing."""

KEPT_SECONDS = 600.0
"""Time for which acknowledged batches are kept for a hub that loses them: until its last commits are copied or lost for
other reasons. The file bounds their size."""

KEPT_STEP_S = 10.0
"""Precision of that time. It bounds the notes of what was acknowledged when."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class _Append(NamedTuple):
    batch: EncodedBatch
    metrics: Sequence[Metric]
    seq: asyncio.Future[int]


class SqliteSpool(Spool):
    """Implementation of `Spool` in one file. Entering it raises SpoolError if the file cannot be opened.

    A spool of another `device` is rejected. `moved_to` is the new path of a damaged file, None if the file was intact.
    """

    durable = True

    def __init__(
        self,
        path: str | Path,
        *,
        device: str,
        max_bytes: int = DEFAULT_MAX_BYTES,
        new_epoch: Callable[[], str] = new_epoch,
    ) -> None:
        super().__init__(max_bytes=max_bytes, new_epoch=new_epoch)
        self.path = Path(path)
        self.moved_to: Path | None = None
        self._device = device
        self._claim = 1
        self._trimmed = 0  # up to this number, batches are removed from the file
        self._pending: list[_Append] = []
        self._tail: dict[int, EncodedBatch] = {}
        self._tail_first = 1
        self._tail_bytes = 0
        self._closing = True
        self._trim_timer: asyncio.TimerHandle | None = None
        self._acked_at: deque[tuple[float, int]] = deque()
        self._wanted = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"spool {self.path.name}")
        try:
            self._file, self.moved_to = await self._in_thread(
                lambda: open_spool(self.path, device=self._device, max_bytes=self.max_bytes, new_epoch=self._new_epoch)
            )
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self.metrics = {metric.name: metric for metric in await self._in_thread(self._file.metrics)}
        self._set_standing(self._file.standing)
        self.acked = self._trimmed
        if self.acked:
            self._note_acked(self.acked)
        self._tail_first = self.next_seq
        self._closing = False
        self._writer = asyncio.create_task(self._write(), name=f"spool {self.path.name}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Write all appended batches and acknowledgements, and close the file."""
        self._closing = True
        self._wanted.set()
        if self._trim_timer is not None:
            self._trim_timer.cancel()
        try:
            await self._writer
        finally:
            await self._in_thread(self._file.close)
            self._thread.shutdown(wait=False)

    @property
    def hello_seq(self) -> int:
        return self._claim or self.next_seq

    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        if self._closing:
            raise SpoolError("the spool is closed")
        seq: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append(_Append(batch, metrics, seq))
        self._wanted.set()
        return await seq

    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        if after + 1 >= self._tail_first:
            return read_entries(
                after + 1,
                self.next_seq,
                self._gaps,
                self._tail.__getitem__,
                max_batches=max_batches,
                max_bytes=max_bytes,
            )
        return await self._change_file(lambda: self._file.read(after, max_batches=max_batches, max_bytes=max_bytes))

    def trim(self, acked: int) -> None:
        acked = min(acked, self.next_seq - 1)
        if acked > self.acked:
            self.acked = acked
            self._note_acked(acked)
            self._drop_tail(acked)
            self._trim_soon()
            self._wake()

    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        await self._change_file(lambda: self._file.replace(seq, parts, reason))
        self._drop_tail(self.next_seq - 1)  # the numbers have moved
        self._wake()

    async def confirm(self) -> None:
        if self._claim:
            await self._change_file(self._file.confirm)

    async def begin_epoch(self, loss: str) -> None:
        # A later commit must not trim the new epoch by a number of the old one.
        self._acked_at.clear()
        acked, self.acked = self.acked, 0
        try:
            await self._change_file(lambda: self._file.begin_epoch(acked, loss))
        except SpoolError:
            self.acked = acked
            raise
        self._tail.clear()
        self._tail_bytes = 0
        self._tail_first = self.next_seq
        self._wake()

    async def read_commands(self) -> list[StoredCommand]:
        return await self._in_thread(self._file.read_commands)

    async def write_commands(self, written: Sequence[StoredCommand], deleted: Sequence[str]) -> None:
        await self._in_thread(lambda: self._file.write_commands(written, deleted))

    async def read_settings(self) -> bytes | None:
        return await self._in_thread(self._file.read_settings)

    async def write_settings(self, content: bytes) -> None:
        await self._in_thread(lambda: self._file.write_settings(content))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        # One thread: calls and their results keep their order.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _change_file(self, change: Callable[[], Result]) -> Result:
        """Run a change of the file in its thread, and apply the numbers and gaps that follow from it."""

        def work() -> tuple[Result, Standing]:
            return change(), self._file.standing

        result, standing = await self._in_thread(work)
        self._set_standing(standing)
        return result

    async def _write(self) -> None:
        """Commit pending batches until the spool is closed and nothing is left to write."""
        try:
            while self._pending or not self._closing or self.acked != self._trimmed:
                await self._wanted.wait()
                self._wanted.clear()
                group, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]
                if self._pending or self._closing:
                    self._wanted.set()
                try:
                    await self._commit(group)
                except SpoolError as error:
                    for append in group:
                        if not append.seq.done():
                            append.seq.set_exception(error)
                    if self._closing and not group:
                        return  # only an acknowledgement is lost; the next welcome repeats it
                    self._trim_soon()
        finally:
            self._closing = True
            for append in self._pending:
                append.seq.cancel()

    async def _commit(self, group: Sequence[_Append]) -> None:
        acked = self.acked
        if not group and acked == self._trimmed:
            return
        batches = [append.batch for append in group]
        metrics = {metric.name: metric for append in group for metric in append.metrics}
        forget = self._expired()
        first = await self._change_file(lambda: self._file.append(batches, list(metrics.values()), acked, forget))
        self.metrics.update(metrics)
        self.revision += len(metrics)
        for seq, append in enumerate(group, first):
            self._tail[seq] = append.batch
            self._tail_bytes += append.batch.size
            if not append.seq.done():
                append.seq.set_result(seq)
        while self._tail_bytes > TAIL_BYTES:
            self._drop_tail(self._tail_first)
        if self._trim_timer is not None and self.acked == self._trimmed:
            # Nothing is left for a commit of its own: with readings all the time, one of six commits is saved.
            self._trim_timer.cancel()
            self._trim_timer = None
        self._wake()

    def _note_acked(self, acked: int) -> None:
        """Note when a number was acknowledged, at most once in KEPT_STEP_S."""
        now = time.monotonic()
        if not self._acked_at or now >= self._acked_at[-1][0] + KEPT_STEP_S:
            self._acked_at.append((now, acked))
        else:
            self._acked_at[-1] = self._acked_at[-1][0], acked

    def _expired(self) -> int:
        """Return the number up to which batches were acknowledged more than KEPT_SECONDS ago."""
        expired = 0
        while self._acked_at and self._acked_at[0][0] <= time.monotonic() - KEPT_SECONDS:
            expired = self._acked_at.popleft()[1]
        return expired

    def _set_standing(self, standing: Standing) -> None:
        self.epoch, self.next_seq, self._claim = standing.epoch, standing.next_seq, standing.claim
        self._trimmed, self.size_bytes = standing.acked, standing.size_bytes
        self._gaps, self.lost = standing.gaps, standing.lost
        for text in self._file.take_incidents():
            _log.error("%s", text)

    def _drop_tail(self, last: int) -> None:
        while self._tail_first <= last:
            batch = self._tail.pop(self._tail_first, None)
            self._tail_bytes -= 0 if batch is None else batch.size
            self._tail_first += 1

    def _trim_soon(self) -> None:
        if self._trim_timer is None and not self._closing:
            self._trim_timer = asyncio.get_running_loop().call_later(TRIM_DELAY_S, self._trim_now)

    def _trim_now(self) -> None:
        self._trim_timer = None
        self._wanted.set()
