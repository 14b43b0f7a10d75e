"""The embedded journal: hub.model.journal over one SQLite file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from hub.journal import schema
from hub.journal.committer import Committer
from hub.journal.ledger import Ledger
from hub.journal.reader import Reader
from hub.journal.schema import Found, Lock, wal_path
from hub.journal.tail import Tail
from hub.journal.writer import Transaction, Writer, free_bytes
from hub.model.batch import Entry, Mark
from hub.model.journal import ConsumerState, Held, JournalError, JournalFailed, JournalTrimmed, Verdict
from wire.limits import MAX_SEQ


class _Open(NamedTuple):
    """What an open journal consists of; `exits` closes it in the right order, whatever goes wrong on the way."""

    writer: Writer
    committer: Committer
    reader: Reader
    exits: AsyncExitStack


class SqliteJournal:
    """Implements hub.model.journal.Journal; an async context manager, on one event loop.

    `path` is the database file, in a directory that exists. The kept tail is the newest `keep_bytes`, not older than
    `keep_seconds`; beyond it, what all consumers have dealt with is deleted. The database grows to `max_bytes` at most
    (and a write-ahead log of some 16 MB beside it): then append raises JournalFull, which names the consumer that is
    behind. `clock` gives nanoseconds since 1970, `vfs` names an SQLite VFS other than the system's.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_bytes: int,
        keep_seconds: float,
        max_bytes: int,
        clock: Callable[[], int] = time.time_ns,
        vfs: str | None = None,
    ) -> None:
        """Raises ValueError when the tail to keep is larger than half of what the journal may be."""
        if keep_bytes > max_bytes // 2:
            raise ValueError(f"keep_bytes ({keep_bytes}) must be at most half of max_bytes ({max_bytes})")
        self._path = path
        self._keep_bytes = keep_bytes
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        self._clock = clock
        self._vfs = vfs
        self._open: _Open | None = None
        self._found = Found.nothing()
        self._ledger = Ledger(self._found, keep_bytes=keep_bytes, keep_seconds=keep_seconds)
        self._tail = Tail(1)
        self._highest_series = 0
        self._series_to_tell = 0
        self._telling = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Opens the file. Raises JournalError, with what to do."""
        async with AsyncExitStack() as exits:
            exits.callback(Lock(self._path).release)
            writer = Writer(self._path, vfs=self._vfs, max_bytes=self._max_bytes, failed=self._fail)
            exits.push_async_callback(writer.close)
            self._found = await writer.open()
            self._ledger = Ledger(self._found, keep_bytes=self._keep_bytes, keep_seconds=self._keep_seconds)
            self._tail = Tail(self._found.last_offset + 1)
            reader = Reader(self._path, vfs=self._vfs)
            exits.push_async_callback(reader.close)
            committer = Committer(self._ledger, self._tail, reader, writer.submit, clock=self._clock)
            exits.push_async_callback(committer.close)
            self._highest_series = self._found.highest_series
            self._open = _Open(writer, committer, reader, exits.pop_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops taking entries, commits those that wait and the cursors, and closes the file."""
        if self._open is not None:
            exits, self._open = self._open.exits, None
            await exits.aclose()

    @property
    def id(self) -> str:
        """A random id of this journal's life."""
        return self._found.id

    @property
    def first_offset(self) -> int:
        """The oldest entry's offset; last_offset + 1 when there is none."""
        return self._ledger.retention.first_offset

    @property
    def last_offset(self) -> int:
        """The newest durable entry's offset, 0 before the first."""
        return self._ledger.last_offset

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, with the write-ahead log. Two calls of the system, no statement."""
        size = 0
        for path in (self._path, wal_path(self._path)):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    @property
    def free_bytes(self) -> int:
        """Free space on the disk that holds the journal."""
        return free_bytes(self._path)

    def marks(self) -> dict[str, Mark]:
        """Each device's durable mark when the journal was opened."""
        return dict(self._found.marks)

    async def append(self, entries: Sequence[Entry], marks: Sequence[Mark], verdicts: Sequence[Verdict] = ()) -> int:
        """Entries, marks and verdicts in one transaction, durable when this returns; see the contract.

        A caller that is cancelled does not know whether they are stored. Raises JournalFull, JournalFailed, and
        JournalError for what cannot be written or when the journal is closed.
        """
        return await self._opened().committer.append(entries, marks, verdicts)

    async def read(self, after: int, *, max_entries: int = 1000, max_bytes: int = 1 << 20) -> list[Entry]:
        """The entries after offset `after`, in order, at least one if there is any, within the bounds.

        Raises JournalTrimmed, and JournalError when the file cannot be read.
        """
        reader = self._opened().reader
        if after >= self.last_offset:
            return []
        if after + 1 < self.first_offset:
            raise JournalTrimmed(self.first_offset)
        if after + 1 >= self._tail.first_offset:
            return self._tail.read(after, max_entries=max_entries, max_bytes=max_bytes)
        entries = await reader.entries(after, self.last_offset, max_entries=max_entries, max_bytes=max_bytes)
        if entries and entries[0].offset == after + 1:
            return entries
        if after + 1 < self.first_offset:  # by now
            raise JournalTrimmed(self.first_offset)
        raise JournalError(f"the journal is damaged: the entry after offset {after} is missing")

    async def wait(self, after: int) -> None:
        """Returns when there is an entry after this offset. Raises JournalError when the journal is closed."""
        while self.last_offset <= after:
            await self._opened().committer.grown.wait()

    @property
    def highest_series(self) -> int:
        """The highest series id that the journal was told of, in any run."""
        return self._highest_series

    async def tell_series(self, highest: int) -> None:
        """Series up to this id are given out; durable when this returns. Those who wait meanwhile share a commit.

        Raises JournalFull, JournalFailed, and JournalError when the journal is closed.
        """
        self._series_to_tell = max(self._series_to_tell, highest)
        async with self._telling:
            if self._highest_series >= highest:
                return
            told = self._series_to_tell
            durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            statement = (schema.WRITE_FACT, (schema.HIGHEST_SERIES, told))
            self._opened().writer.submit(Transaction([statement], 0, partial(_settle, durable)))
            await durable
            self._highest_series = told

    def consumer(self, name: str) -> ConsumerState:
        """The consumer's cursor; a new consumer begins before the oldest entry. From now on trimming waits for it."""
        committer = self._opened().committer
        state = self._ledger.cursors.consumer(name, committer.first_offset - 1)
        committer.write_cursors_soon()
        return state

    def advance(self, name: str, offset: int) -> None:
        """Puts the cursor of a known consumer there; backwards, too, for a consumer that lost what it had."""
        self._ledger.cursors.advance(name, offset)
        self._opened().committer.write_cursors_soon()

    def forget(self, name: str) -> None:
        """Trimming waits for this consumer no longer. Nothing happens when there is none of this name."""
        self._ledger.cursors.forget(name)
        self._opened().committer.write_cursors_soon()

    def consumers(self) -> list[ConsumerState]:
        """Every known consumer."""
        return self._ledger.cursors.states()

    async def quarantined(
        self,
        device: str | None = None,
        *,
        code: str | None = None,
        limit: int = 100,
        max_bytes: int = 1 << 30,
        before: int = MAX_SEQ,
    ) -> list[Entry]:
        """Entries in quarantine below offset `before`, the newest first, within the bounds, at least one if there is
        any; of one device, or of all, and of one reason's code, or of all.

        The bounds of the quarantine are hub.journal.quarantine's; trimming leaves it alone. Raises JournalError.
        """
        reader = self._opened().reader
        return await reader.quarantined(device, code, limit=limit, max_bytes=max_bytes, before=before)

    async def quarantined_at(self, offsets: Sequence[int]) -> list[Entry]:
        """Those of these entries that are in quarantine, the oldest first. Raises JournalError."""
        return await self._opened().reader.quarantined_at(offsets)

    @property
    def held(self) -> Mapping[int, Held]:
        """All that is in quarantine, by offset, the oldest first; it changes with each commit."""
        return self._ledger.quarantine.kept

    def quarantine_totals(self) -> dict[str, int]:
        """How many entries were ever put in quarantine, by code."""
        return dict(self._ledger.quarantine.totals)

    @property
    def quarantine_dropped(self) -> int:
        """How many of them had to leave, because the quarantine is bounded."""
        return self._ledger.quarantine.dropped

    def _opened(self) -> _Open:
        if self._open is None:
            raise JournalError("the journal is closed")
        return self._open

    def _fail(self, failure: JournalFailed) -> None:
        if self._open is not None:
            self._open.committer.fail(failure)


def _settle(durable: asyncio.Future[None], error: JournalError | None) -> None:
    if durable.done():
        return
    if error is None:
        durable.set_result(None)
    else:
        durable.set_exception(error)
