"""The durable spool: group commits in its own thread, so that the event loop never waits for the disk.

Batches that arrive during a commit share the next one; there is no timer. The newest batches are also kept in memory,
so an uplink without backlog never reads the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError
from device_agent.spool.contract import ROW_BYTES, Entry, Gaps, Lost, StoredBatch
from device_agent.spool.file import SpoolFile
from device_agent.spool.layout import Standing
from device_agent.spool.memory import new_epoch
from wire.model import Metric

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
"""About three days of a computer's own sensors (40 metrics a second); a small part of any SD card."""

MAX_GROUP = 1000
"""Batches in one commit; with more, the first waits for the insertion of the last."""

TAIL_BYTES = 1024 * 1024
"""Bytes of the newest batches in memory: a full window of small ones."""

TRIM_DELAY_S = 1.0
"""An acknowledgement is written with the next commit, or after this time alone. Losing it costs nothing."""

Result = TypeVar("Result")


class _Append(NamedTuple):
    batch: EncodedBatch
    metrics: Sequence[Metric]
    seq: asyncio.Future[int]


class SqliteSpool:
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
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.moved_to: Path | None = None
        self.revision = 0
        self._device = device
        self._new_epoch = new_epoch
        self._standing = Standing("", device, 1, 1, 0, 0, (), Lost())
        self._gaps = Gaps()
        self._acked = 0
        self._metrics: dict[str, Metric] = {}
        self._pending: list[_Append] = []
        self._tail: dict[int, EncodedBatch] = {}
        self._tail_first = 1
        self._tail_bytes = 0
        self._closing = True
        self._trim_timer: asyncio.TimerHandle | None = None
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> SqliteSpool:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"spool {self.path.name}")
        try:
            self._file = await self._in_thread(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self.moved_to = self._file.moved_to
        self._metrics = {metric.name: metric for metric in await self._in_thread(self._file.metrics)}
        self._set_standing(self._file.standing)
        self._acked = self._standing.acked
        self._tail_first = self._standing.next_seq
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
    def epoch(self) -> str:
        return self._standing.epoch

    @property
    def next_seq(self) -> int:
        return self._standing.next_seq

    @property
    def hello_seq(self) -> int:
        return self._standing.claim or self._standing.next_seq

    @property
    def acked(self) -> int:
        return self._acked

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return self._metrics

    @property
    def waiting(self) -> int:
        return self.next_seq - 1 - self._acked - self._gaps.count(self._acked)

    @property
    def size_bytes(self) -> int:
        return self._standing.size_bytes

    @property
    def lost(self) -> Lost:
        return self._standing.lost

    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        if self._closing:
            raise SpoolError("the spool is closed")
        seq: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append(_Append(batch, metrics, seq))
        self._wanted.set()
        return await seq

    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        after = max(after, self._acked)
        if after + 1 >= self._tail_first:
            return self._read_tail(after, max_batches=max_batches, max_bytes=max_bytes)
        return await self._in_thread(lambda: self._file.read(after, max_batches=max_batches, max_bytes=max_bytes))

    async def wait(self, after: int) -> None:
        while self.next_seq - 1 <= after:
            await self._changed.wait()

    async def wait_room(self, size_bytes: int) -> None:
        while self.waiting and self.size_bytes + size_bytes + ROW_BYTES > self.max_bytes:
            await self._changed.wait()

    def trim(self, acked: int) -> None:
        acked = min(acked, self.next_seq - 1)
        if acked > self._acked:
            self._acked = acked
            self._drop_tail(acked)
            self._trim_soon()
            self._wake()

    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        def work() -> Standing:
            self._file.replace(seq, parts, reason)
            return self._file.standing

        self._set_standing(await self._in_thread(work))
        self._drop_tail(self.next_seq - 1)  # the numbers have moved
        self._wake()

    async def confirm(self) -> None:
        def work() -> Standing:
            self._file.confirm()
            return self._file.standing

        if self._standing.claim:
            self._set_standing(await self._in_thread(work))

    async def begin_epoch(self) -> None:
        acked = self._acked

        def work() -> Standing:
            self._file.begin_epoch(acked)
            return self._file.standing

        # A later commit must not trim the new epoch by a number of the old one.
        self._acked = 0
        try:
            self._set_standing(await self._in_thread(work))
        except SpoolError:
            self._acked = acked
            raise
        self._tail.clear()
        self._tail_bytes = 0
        self._tail_first = self.next_seq
        self._wake()

    def _open(self) -> SpoolFile:
        return SpoolFile(self.path, device=self._device, max_bytes=self.max_bytes, new_epoch=self._new_epoch)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        # One thread: calls and their results keep their order.
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _write(self) -> None:
        """Commit pending batches until the spool is closed and nothing is left to write."""
        try:
            while self._pending or not self._closing or self._acked != self._standing.acked:
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
        acked = self._acked
        if not group and acked == self._standing.acked:
            return
        batches = [append.batch for append in group]
        metrics = {metric.name: metric for append in group for metric in append.metrics}

        def work() -> tuple[int, Standing]:
            first = self._file.append(batches, list(metrics.values()), acked)
            return first, self._file.standing

        first, standing = await self._in_thread(work)
        self._set_standing(standing)
        self._metrics.update(metrics)
        self.revision += len(metrics)
        for seq, append in enumerate(group, first):
            self._tail[seq] = append.batch
            self._tail_bytes += append.batch.size
            if not append.seq.done():
                append.seq.set_result(seq)
        while self._tail_bytes > TAIL_BYTES:
            self._drop_tail(self._tail_first)
        self._wake()

    def _set_standing(self, standing: Standing) -> None:
        if standing.gaps != self._standing.gaps:
            self._gaps = Gaps(standing.gaps)
        self._standing = standing

    def _read_tail(self, after: int, *, max_batches: int, max_bytes: int) -> list[Entry]:
        entries: list[Entry] = []
        seq = after + 1
        while seq < self.next_seq and len(entries) < max_batches:
            gap = self._gaps.at(seq) if self._gaps else None
            if gap is not None:
                entries.append(gap)
                seq = gap.to + 1
                continue
            batch = self._tail[seq]
            max_bytes -= batch.size
            if max_bytes < 0 and entries:
                break
            entries.append(StoredBatch(seq, batch))
            seq += 1
        return entries

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

    def _wake(self) -> None:
        # Current waiters continue and check again; later waiters check before they wait.
        self._changed.set()
        self._changed.clear()
