"""The journal: one queue of entries, one commit at a time, one file.

`submit` and `append` queue entries. Whenever the disk is free, one transaction takes everything that waits; it is
written by the writer's thread and ends with an fsync. Then the listener learns what is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, NoReturn, Self

import structlog

from hub.journal.block import ENTRY_BYTES, size_of
from hub.journal.commit_queue import CommitGroup, CommitQueue, notify
from hub.journal.lock import Lock
from hub.journal.losses import REPAIRED, Losses
from hub.journal.ownership import Ownership
from hub.journal.reader import EntriesUnreadable, FileReader, OldBlockLoader, QuarantineReader
from hub.journal.recent_entries import RecentEntries
from hub.journal.schema import NO_CONTENTS, wal_path
from hub.journal.series_ids import SeriesIds
from hub.journal.state import Commit, JournalState
from hub.journal.writer import JournalWriter, LimitReached, Transaction, free_bytes, watch_files
from hub.model.batch import Entry, Mark
from hub.model.journal import (
    CommitListener,
    ConsumerCursor,
    DurabilityCallback,
    EntriesLost,
    EntrySource,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalTrimmed,
    QuarantineDecision,
)

COMMIT_INTERVAL_S = 0.004
"""Shortest time between the starts of two commits of submitted entries. A commit with its acknowledgements costs 0.4 ms
of the hub's core whatever its size. At 26,000 single batches/s the interval lowers the use of the core from 83 % to
74 %, and the 99th percentile of acknowledgements from 30 to 20 ms. A single batch is committed at once."""

CURSOR_DELAY_S = 1.0
"""A cursor is written this long after it moved, or with a commit. After a crash its consumer repeats a little."""

log = structlog.get_logger(__name__)


class _Open(NamedTuple):
    """Parts of an open journal. `exits` closes them in the right order, whatever fails on the way."""

    writer: JournalWriter
    reader: FileReader
    ownership: Ownership
    exits: AsyncExitStack


class Journal:
    """Durable, ordered log of accepted batches in one SQLite file. Acknowledgements depend on it.

    Entries have the offsets 1, 2, 3, … without holes, the same in every run. An async context manager on one event
    loop. At most MAX_PENDING_BYTES of submitted entries wait for the disk; beyond it `room` holds their readers back.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_bytes: int,
        keep_seconds: float,
        max_bytes: int,
        resend_seconds: float = 0.0,
        clock: Callable[[], int] = time.time_ns,
        vfs: str | None = None,
        known_id: str | None = None,
        hub: str = "",
    ) -> None:
        """Describe a journal at `path`, a database file in an existing directory; `__aenter__` opens it.

        Entries that all consumers have processed are deleted, except the newest `keep_bytes` that are not older than
        `keep_seconds`, and those that were processed in the last `resend_seconds`, as far as they fit into half of
        `max_bytes`. If there is no room for new entries, the latter are deleted first. The database grows to
        `max_bytes` at most, plus a write-ahead log of about 16 MB; then appends raise JournalFull, which names the
        consumer that is behind. `clock` returns nanoseconds since 1970, `vfs` names an SQLite VFS other than the
        system's. `known_id` is the id that the journal had last, for a file in which it is damaged; `hub` is the id of
        the hub to which a new file belongs. Raises ValueError when the bytes to keep exceed half of `max_bytes`.
        """
        if keep_bytes > max_bytes // 2:
            raise ValueError(f"keep_bytes ({keep_bytes}) must be at most half of max_bytes ({max_bytes})")
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._vfs = vfs
        self._known_id = known_id
        self._hub = hub
        self._open: _Open | None = None
        self._contents = NO_CONTENTS
        self._new_state = partial(
            JournalState,
            keep_bytes=keep_bytes,
            keep_seconds=keep_seconds,
            resend_seconds=resend_seconds,
            resend_bytes=max_bytes // 2,
        )
        self._state = self._new_state(NO_CONTENTS)
        self._recent = RecentEntries(1)
        self.quarantine = QuarantineReader(self._state.quarantine, self._reader)
        self._old_blocks = OldBlockLoader(self._state.retention, self._reader)
        self.series_ids = SeriesIds(0, self._writer)
        self.losses = Losses(self._state, None, clock=clock)
        self._listener: CommitListener | None = None
        self._queue = CommitQueue()
        self._under_way: Commit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_s = 0.0
        self._failure: JournalFailed | None = None
        self._failed = asyncio.Event()
        self._needs_room = False
        self._closing = False
        self._after_commit: list[Callable[[], None]] = []
        self._idle = asyncio.Event()
        self._grown = asyncio.Event()
        self._cursor_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Open the file. Raises JournalError, whose message says what to do."""
        self._failure = None
        self._failed.clear()
        async with AsyncExitStack() as exits:
            lock = Lock(self._path)
            exits.callback(lock.release)
            recorded = lock.recorded()
            writer = JournalWriter(
                self._path,
                vfs=self._vfs,
                max_bytes=self._max_bytes,
                failed=self._fail,
                lock=lock,
                known_id=self._known_id or (recorded.id if recorded is not None else None),
                hub=self._hub,
            )
            exits.push_async_callback(writer.close)
            self._contents = await writer.open()
            self._state = self._new_state(self._contents)
            self._recent = RecentEntries(self._contents.last_offset + 1)
            self.quarantine = QuarantineReader(self._state.quarantine, self._reader)
            self._old_blocks = OldBlockLoader(self._state.retention, self._reader)
            reader = FileReader(self._path, vfs=self._vfs, failed=self._fail)
            exits.push_async_callback(reader.close)
            exits.push_async_callback(self._finish)
            self.series_ids = SeriesIds(self._contents.highest_series, self._writer)
            self.losses = Losses(self._state, writer, clock=self._clock)
            if writer.recovery is not None:
                self.losses.report(str(writer.recovery), kind=REPAIRED)
            for incident in self._contents.incidents:
                self.losses.report(incident)
            self._closing = False
            self._began_s = -COMMIT_INTERVAL_S
            self._queue = CommitQueue()
            self._idle.set()
            ownership = Ownership(self._contents, recorded, lock, writer)
            self._open = _Open(writer, reader, ownership, exits.pop_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what waits and the cursors, and close the file. Later calls raise JournalError."""
        if self._open is not None:
            await self._open.exits.aclose()
            self._open = None

    @property
    def id(self) -> str:
        """Return the random id of this journal's life: offsets of another journal mean nothing here."""
        return self._contents.id

    @property
    def ownership(self) -> Ownership:
        """Return whose journal the open file is."""
        return self._opened().ownership

    @property
    def first_offset(self) -> int:
        """Return the oldest entry's offset; last_offset + 1 when there is none."""
        return self._state.retention.first_offset

    @property
    def last_offset(self) -> int:
        """Return the newest durable entry's offset, 0 before the first."""
        return self._state.last_offset

    @property
    def size_bytes(self) -> int:
        """Return the bytes on disk, with the write-ahead log."""
        size = 0
        for path in (self._path, wal_path(self._path)):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    @property
    def free_bytes(self) -> int:
        """Return the free space on the disk that holds the journal."""
        return free_bytes(self._path)

    async def watch(self) -> NoReturn:
        """Wait until the journal cannot continue, and raise JournalFailed: its disk failed, one of its threads, or a
        file was removed, replaced or cut.
        """
        problem = await watch_files(self._path, self._failed)
        if problem is not None:
            self._fail(JournalFailed(problem))
        raise self._failure or JournalFailed("the journal failed")

    def marks(self) -> dict[str, Mark]:
        """Return each device's durable mark as it was when the journal was opened."""
        return dict(self._contents.marks)

    def facts(self) -> Mapping[str, int | str]:
        """Return the facts as they were when the journal was opened."""
        return self._contents.facts

    def listen(self, listener: CommitListener) -> None:
        """Report every commit to this listener."""
        self._listener = listener

    # The queue

    def submit(self, source: EntrySource, entry: Entry, decision: QuarantineDecision | None = None) -> None:
        """Queue an entry: it becomes durable with its source's mark, or the source is rolled back.

        `decision` is about an entry in quarantine and becomes durable in the same transaction.
        """
        if not self._queue.entries:
            self._idle.clear()
            self._schedule()
        self._queue.submit(source, entry, decision)

    def touch(self, source: EntrySource) -> None:
        """Make the source's mark durable, without an entry, with the next commit."""
        self._idle.clear()
        self._schedule()
        self._queue.touch(source)

    def submit_fact(self, name: str, text: str) -> None:
        """Write a fact with the entries that were submitted in this turn of the event loop, or not at all."""
        self._queue.facts.append((name, text))

    async def append(
        self, entries: Sequence[Entry], marks: Sequence[Mark], decisions: Sequence[QuarantineDecision] = ()
    ) -> int:
        """Write entries, marks and decisions in one transaction; return the last offset when they are durable.

        Concurrent calls share a commit. A caller that is cancelled does not know whether its entries are stored. Raises
        JournalFull or JournalFailed, and JournalError for entries that cannot be written or when the journal is closed;
        then nothing of the call is stored.
        """
        self._opened()
        if self._failure is not None:
            raise JournalFailed(str(self._failure))
        if not entries and not marks and not decisions:
            return self._state.last_offset
        durable = self._queue.append(entries, marks, decisions)
        self._idle.clear()
        if self._under_way is None:
            self._commit_waiting()
        return await durable

    def when_durable(self, callback: DurabilityCallback) -> None:
        """Call back when everything submitted up to the end of this turn of the event loop is durable, or is not."""
        self._queue.callbacks.append(callback)
        self._schedule()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back when the next commit has ended, whether it succeeded or failed."""
        self._after_commit.append(callback)

    @property
    def pending(self) -> bool:
        """Return whether submitted entries wait for the next commit."""
        return bool(self._queue.entries)

    @property
    def congested(self) -> bool:
        """Return whether more than MAX_PENDING_BYTES wait: readers have to wait for `room`."""
        return not self._queue.room.is_set()

    async def room(self) -> None:
        """Wait until at most MAX_PENDING_BYTES of submitted entries wait for the disk."""
        await self._queue.room.wait()

    async def drain(self) -> None:
        """Wait until everything submitted is durable (or refused) and reported."""
        await self._idle.wait()

    # Reading

    async def read(self, after: int, *, max_entries: int = 1000, max_bytes: int = 1 << 20) -> list[Entry]:
        """Return the entries after offset `after`, in order, within the bounds, at least one if there is any.

        Entries that are still in memory have their decoded batch. Raises JournalTrimmed, EntriesLost for entries that
        cannot be read any more, and JournalError when the file cannot be read now.
        """
        reader = self._reader()
        if after >= self.last_offset:
            return []
        self.losses.check(after + 1)
        if after + 1 >= self._recent.first_offset:
            return self._recent.read(after, max_entries=max_entries, max_bytes=max_bytes)
        try:
            return await reader.entries(after, self.last_offset, max_entries=max_entries, max_bytes=max_bytes)
        except EntriesUnreadable as damage:
            # Deleted meanwhile, or found by another reader.
            self.losses.check(after + 1)
            trim = self._under_way.trim if self._under_way is not None else None
            if trim is not None and trim.first_offset > after + 1:
                raise JournalTrimmed(trim.first_offset) from None
            # Entries that are still in memory are not lost.
            up_to = max(after + 1, self._recent.first_offset - 1)
            raise EntriesLost(self.losses.declare(damage, up_to=up_to)) from damage

    async def continue_after(self, offset: int, reason: str) -> None:
        """Leave out the offsets up to this one: the newest entries are lost. Durable when this returns.

        Call it before entries are submitted. Raises JournalError.
        """
        await self.losses.continue_after(offset, reason)
        self._recent = RecentEntries(offset + 1)

    async def offset_since(self, since_ns: int) -> int:
        """Return the offset after which are all kept entries that arrived, or were acknowledged by all consumers, since
        then.

        Acknowledgements of an earlier run are not known: then only the times of arrival count. Raises JournalError.
        """
        reader = self._reader()
        then_s = asyncio.get_running_loop().time() - (self._clock() - since_ns) / 1e9
        acknowledged = self._state.tail.passed_at(then_s)
        arrived = await reader.offset_since(since_ns, self.first_offset, self.last_offset)
        return max(self.first_offset - 1, arrived if acknowledged is None else min(arrived, acknowledged))

    async def wait(self, after: int) -> None:
        """Wait until there is an entry after this offset. Raises JournalError when the journal is closed."""
        while self.last_offset <= after:
            self._opened()
            await self._grown.wait()

    # Consumers

    def consumer(self, name: str) -> ConsumerCursor:
        """Return the consumer's cursor. A new one begins before the oldest entry; from now on trimming waits for it."""
        self._opened()
        trim = self._under_way.trim if self._under_way is not None else None
        oldest = trim.first_offset if trim is not None else self.first_offset
        cursor = self._state.cursors.consumer(name, oldest - 1)
        self._write_cursors_soon()
        return cursor

    def advance(self, name: str, offset: int) -> None:
        """Set the cursor of a known consumer, also backwards for a consumer that lost data. On disk soon, or at close.

        Raises ValueError for a consumer whose cursor was never requested.
        """
        self._opened()
        self._state.cursors.advance(name, offset)
        self._write_cursors_soon()

    def remove_consumer(self, name: str) -> None:
        """Remove a consumer, so that trimming does not wait for it. Nothing happens when it is unknown."""
        self._opened()
        self._state.cursors.remove(name)
        self._write_cursors_soon()

    def consumers(self) -> list[ConsumerCursor]:
        """Return the cursor of every known consumer."""
        return self._state.cursors.states()

    # The commit

    def _schedule(self) -> None:
        """Begin a commit with the next turn of the event loop, or when the interval has passed."""
        if self._under_way is None and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                max(0.0, self._began_s + COMMIT_INTERVAL_S - loop.time()), self._commit_waiting
            )

    def _commit_waiting(self) -> None:
        """Commit everything submitted and the appended calls that fit."""
        self._cancel_timer()
        while self._under_way is None:
            group = self._queue.next_group()
            if group.is_empty:
                notify(group.callbacks, None)
                self._settle_idle()
                return
            self._began_s = asyncio.get_running_loop().time()
            self._begin(group)

    def _begin(self, group: CommitGroup) -> None:
        """Hand one transaction to the writer's thread."""
        if self._failure is not None or self._open is None:
            self._refuse(group, self._failure or JournalError("the journal is closed"))
            self._release(0)
            return
        entries, size_bytes = group.entries, size_of(group.entries)
        try:
            commit = self._state.prepare(
                entries,
                group.marks,
                group.decisions,
                group.facts,
                size_bytes=size_bytes,
                now_ns=self._clock(),
                now_s=self._began_s,
            )
        except (TypeError, ValueError, OverflowError) as error:
            self._refuse(group, JournalError(f"the entries cannot be written: {error}"))
            self._release(0)
            return
        self._cancel_cursor_timer()
        if not commit.statements:
            # Only decisions about entries that are not in quarantine any more.
            group.succeed(self._state.last_offset)
            return
        self._under_way = commit
        self._open.writer.submit(
            Transaction(
                commit.statements,
                size_bytes,
                partial(self._ended, commit, group),
                last_offset=self._state.last_offset + len(entries) if entries else 0,
            )
        )

    def _begin_housekeeping(self) -> None:
        """Write cursors, marks and deletions without entries: that is what makes room."""
        if self._open is None or self._failure is not None:
            return
        now_s = asyncio.get_running_loop().time()
        commit = self._state.prepare([], [], size_bytes=0, now_ns=self._clock(), now_s=now_s)
        self._cancel_cursor_timer()
        if commit.statements:
            self._under_way = commit
            ended = partial(self._housekeeping_ended, commit)
            self._open.writer.submit(Transaction(commit.statements, 0, ended, makes_room=True))

    def _housekeeping_ended(self, commit: Commit, error: JournalError | None) -> None:
        self._under_way = None
        if error is None:
            self._state.confirm(commit)
            self._recent.drop(self._state.cursors.passed(0))
            if commit.piece is not None and (self._needs_room or self._queue.is_empty):
                # The deletions that make room wait for the marks of their blocks: write all of them. Entries that wait
                # otherwise come first; their commit writes the next piece.
                self._begin_housekeeping()
            self._old_blocks.load(self._state.last_offset)
        else:
            self._state.put_back(commit)
        self._continue()

    def _ended(self, commit: Commit, group: CommitGroup, error: JournalError | None) -> None:
        """Report the outcome of a commit: all of it is durable, or nothing."""
        self._under_way = None
        if error is not None:
            self._state.put_back(commit)
            if isinstance(error, JournalFull):
                # The entries kept out what came with them: cursors and deletions, which make room.
                self._needs_room = True
                self._state.tail.release()
                self._begin_housekeeping()
            if isinstance(error, LimitReached):
                error = JournalFull(f"{error}{self._state.reason_for_size()}")
            self._refuse(group, error)
        else:
            self._state.confirm(commit)
            submitted = commit.entries if not group.calls else commit.entries[: group.submitted]
            self._recent.extend(commit.entries, commit.size_bytes - ENTRY_BYTES * len(commit.entries))
            self._recent.drop(self._state.cursors.passed(0))
            self._needs_room = False
            self._report(commit.entries, submitted, group.source_marks)
            group.succeed(self._state.last_offset)
            if commit.entries:
                self._wake_readers()
            self._old_blocks.load(self._state.last_offset)
        self._release(group.submitted_bytes)
        self._continue()

    def _report(self, entries: list[Entry], submitted: list[Entry], marks: dict[EntrySource, Mark]) -> None:
        """Report durable entries to the listener. A defect there must not stop the commits of all devices."""
        if self._listener is None:
            return
        try:
            self._listener.committed(entries, submitted, marks)
        except Exception:  # a defect, see above
            log.exception("listener of the journal failed", first=entries[0].offset if entries else None)

    def _refuse(self, group: CommitGroup, error: JournalError) -> None:
        """Report that nothing of the group is stored. What its sources submitted since is discarded with it."""
        group.fail(error)
        if group.source_marks:
            sources, callbacks = self._queue.discard()
            if self._listener is not None:
                self._listener.commit_failed(sources.union(group.source_marks), error)
            notify(callbacks, error)

    def _release(self, size_bytes: int) -> None:
        """Resume the readers of connections, and make room for more."""
        resting, self._after_commit = self._after_commit, []
        for resume in resting:
            resume()
        self._queue.release(size_bytes)

    def _continue(self) -> None:
        """Begin the next commit where something waits. Appended calls wait for nothing but the disk."""
        if self._under_way is not None:
            return
        if self._queue.calls:
            self._commit_waiting()
        elif not self._queue.is_empty or self._queue.callbacks:
            self._schedule()
        self._settle_idle()
        self._write_cursors_soon()

    def _settle_idle(self) -> None:
        if self._under_way is None and self._queue.is_empty:
            self._idle.set()

    def _wake_readers(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _write_cursors_soon(self) -> None:
        """Write changed cursors with the next commit, or with one of their own after CURSOR_DELAY_S."""
        waits = self._cursor_timer is not None or self._under_way is not None
        if not waits and self._state.cursors.changed and not self._closing and self._failure is None:
            self._cursor_timer = asyncio.get_running_loop().call_later(CURSOR_DELAY_S, self._write_cursors)

    def _write_cursors(self) -> None:
        self._cursor_timer = None
        if self._under_way is None and not self._closing:
            self._begin_housekeeping()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_cursor_timer(self) -> None:
        if self._cursor_timer is not None:
            self._cursor_timer.cancel()
            self._cursor_timer = None

    async def _finish(self) -> None:
        """Commit what waits and the cursors, before the writer is closed."""
        self._closing = True
        self._cancel_timer()
        if self._under_way is None:
            self._commit_waiting()
        await self._until_idle()
        if self._state.cursors.changed:
            self._begin_housekeeping()
            await self._until_idle()
        self._cancel_cursor_timer()
        await self._old_blocks.finish()
        self._release(0)
        self._wake_readers()

    async def _until_idle(self) -> None:
        while self._under_way is not None or not self._queue.is_empty:
            self._idle.clear()
            await self._idle.wait()

    def _opened(self) -> _Open:
        if self._open is None or self._closing:
            raise JournalError("the journal is closed")
        return self._open

    def _reader(self) -> FileReader:
        return self._opened().reader

    def _writer(self) -> JournalWriter:
        return self._opened().writer

    def _fail(self, failure: JournalFailed) -> None:
        self._failure = self._failure or failure
        self._failed.set()
