"""The writer's thread, with the only connection that writes or checkpoints.

SQLite releases the interpreter's lock for each step of a statement, and a thread that requests it from a busy event
loop waits up to a switch interval. So a commit has as few statements as possible: one, when there are only entries.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apsw
import structlog

from hub.journal.lock import Lock, lock_path
from hub.journal.salvage import open_file
from hub.journal.schema import (
    BUSY_TIMEOUT_MS,
    MAX_WAL_BYTES,
    PAGE_BYTES,
    Contents,
    limit_pages,
    opening_failed,
    wal_path,
)
from hub.journal.state import Statement
from hub.model.journal import JournalError, JournalFailed, JournalFull, settle
from integrity.open_file import OpenFile
from integrity.recovery import LogRecovery

CHECKPOINT_BYTES = 4 * 1024 * 1024
"""Size of the write-ahead log at which a checkpoint moves it to the database. A checkpoint takes 8 ms for 4 MiB, 13 ms
for 8 and 64 ms for 32, which delays the acknowledgements that wait meanwhile. Larger ones are rarer, but take no less
time in sum."""

CHECKPOINT_WAIT_MS = 50
"""A checkpoint of a log above MAX_WAL_BYTES waits this long for the readers; they take a few milliseconds each."""

RESERVE_BYTES = 16 * 1024 * 1024
"""Reserve beyond the journal's bound for what must be written before anything can be deleted: the marks of 150,000
devices."""

LOW_FREE_BYTES = 512 * 1024 * 1024
"""Free disk space below which the hub logs a warning: a minute of full load. Checked with each checkpoint."""

COMMIT_PAGES = 4
"""Pages that a commit writes besides its data: the header and the tree above the block's row."""

WATCH_S = 1.0
"""Interval at which the names of the open files are compared. What is acknowledged within it may be in a removed file,
and agents send it again."""

FILE_LOST = (
    "What the hub acknowledges would not be on the disk, so it stops. Restart it: it continues with what is there, "
    "reports what is lost, and agents send again what they still keep"
)

log = structlog.get_logger(__name__)


class LimitReached(JournalFull):
    """The journal has reached its own bound; the disk has room."""


class Transaction(NamedTuple):
    """Statements that are committed together. `done` is called on the event loop with the error, or None.

    `last_offset` is that of its last entry, 0 without entries.
    A transaction that `makes_room` has no entries and may exceed the journal's bound.
    """

    statements: Sequence[Statement]
    size_bytes: int
    done: Callable[[JournalError | None], None]
    makes_room: bool = False
    last_offset: int = 0


class JournalWriter:
    """Thread that commits transactions in the order of their submission.

    An I/O error is final: nobody knows what the disk holds after it. `failed` is called with it on the event loop, and
    every later transaction gets the same error.
    """

    def __init__(
        self,
        path: Path,
        *,
        vfs: str | None,
        max_bytes: int,
        failed: Callable[[JournalFailed], None],
        lock: Lock,
        known_id: str | None = None,
        hub: str = "",
    ) -> None:
        """`lock` gets the offset of each commit; `known_id` and `hub` are those of hub.journal.salvage.open_file."""
        self._lock = lock
        self._path = path
        self._vfs = vfs
        self._max_bytes = max_bytes
        self._known_id = known_id
        self._hub = hub
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Transaction | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[Contents] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="journal")
        self._failure: JournalFailed | None = None
        self.keeps_log = False
        """True if the end leaves the write-ahead log as it is, because the file is not ours."""
        self.recovery: LogRecovery | None = None
        """Damage of the write-ahead log that was repaired at the opening."""
        self._log_bytes = 0
        self._checkpoint_at = CHECKPOINT_BYTES
        self._log_is_stuck = False
        self._space_was_low = False

    async def open(self) -> Contents:
        """Start the thread and open the file; return its contents. Raises JournalError."""
        self._thread.start()
        return await self._opened

    def submit(self, transaction: Transaction) -> None:
        """Queue the transaction."""
        self._queue.put(transaction)

    async def write(self, statement: Statement, *, makes_room: bool = False) -> None:
        """Commit this statement in a transaction of its own; durable when this returns. Raises JournalError."""
        durable: asyncio.Future[None] = self._loop.create_future()
        self.submit(Transaction([statement], 0, partial(settle, durable), makes_room))
        await durable

    async def close(self) -> None:
        """Commit what was submitted, move the write-ahead log into the database, and end the thread."""
        self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - the thread's edge: the hub learns that it has ended, and why
            failure = self._fail(error)
            self._loop.call_soon_threadsafe(settle, self._opened, failure)
            while (transaction := self._queue.get()) is not None:
                self._loop.call_soon_threadsafe(transaction.done, failure)
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)

    def _serve(self) -> None:
        """Open the file, and commit transactions until the journal is closed."""
        try:
            connection, found, self.recovery = open_file(
                self._path,
                vfs=self._vfs,
                max_bytes=self._max_bytes,
                known_id=self._known_id,
                hub=self._hub,
                may_salvage=self._lock.existed,
            )
        except Exception as error:  # noqa: BLE001 - the caller that opens the journal gets an answer
            answer = error if isinstance(error, JournalError) else opening_failed(self._path, error)
            self._loop.call_soon_threadsafe(settle, self._opened, answer)
            return
        self._loop.call_soon_threadsafe(settle, self._opened, found)
        while (transaction := self._queue.get()) is not None:
            error_or_none = self._failure or self._answer(connection, transaction)
            if transaction.last_offset and error_or_none is None:
                self._lock.record(found.id, transaction.last_offset)
            self._loop.call_soon_threadsafe(transaction.done, error_or_none)
            # After `done`, so that nobody waits for the checkpoint. On a full disk, an emptied log is room.
            is_full = isinstance(error_or_none, JournalFull) and self._log_bytes > 0
            if (self._log_bytes >= self._checkpoint_at or is_full) and self._failure is None:
                self._checkpoint(connection)
        # Closing the last connection checkpoints, which must not happen on a disk that failed.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, self._failure is not None or self.keeps_log)
        connection.close()

    def _answer(self, connection: apsw.Connection, transaction: Transaction) -> JournalError | None:
        try:
            return self._commit(connection, transaction)
        except BaseException as error:  # noqa: BLE001 - also a failed rollback: every transaction gets an answer
            return self._fail(error)

    def _commit(self, connection: apsw.Connection, transaction: Transaction) -> JournalError | None:
        try:
            if transaction.makes_room:
                limit_pages(connection, self._max_bytes + RESERVE_BYTES)
            if len(transaction.statements) == 1:
                connection.execute(*transaction.statements[0])  # a transaction of its own
            else:
                connection.execute("BEGIN IMMEDIATE")
                for sql, values in transaction.statements:
                    connection.execute(sql, values)
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread's edge: every transaction gets an answer
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return self._refusal(connection, transaction, error)
        finally:
            if transaction.makes_room:
                limit_pages(connection, self._max_bytes)
        self._log_bytes += transaction.size_bytes + COMMIT_PAGES * PAGE_BYTES
        return None

    def _refusal(self, connection: apsw.Connection, transaction: Transaction, error: Exception) -> JournalError:
        if isinstance(error, apsw.FullError):
            if self._is_at_limit(connection, transaction.size_bytes):
                return LimitReached(f"the journal has reached its bound of {self._max_bytes} bytes")
            return JournalFull("there is no room on the disk that holds the journal")
        if isinstance(error, apsw.IOError) and _no_room(connection, error):
            return JournalFull("there is no room on the disk that holds the journal")
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            return JournalFull("another program holds the lock of the journal's file")
        if isinstance(error, apsw.NoMemError):
            return JournalFull("there is no memory to commit to the journal")
        if isinstance(error, TypeError | ValueError | OverflowError):
            return JournalError(f"the entries cannot be written: {error}")
        return self._fail(error)

    def _is_at_limit(self, connection: apsw.Connection, size_bytes: int) -> bool:
        used_pages = connection.pragma("page_count") - connection.pragma("freelist_count")
        # A quarter more, for pages that are not filled.
        return bool(used_pages * PAGE_BYTES + size_bytes * 1.25 + 16 * PAGE_BYTES > self._max_bytes)

    def _checkpoint(self, connection: apsw.Connection) -> None:
        try:
            if wal_path(self._path).stat().st_size > MAX_WAL_BYTES:
                # Readers have kept the log from being reset: wait for a moment without a reader.
                connection.set_busy_timeout(CHECKPOINT_WAIT_MS)
                frames, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            else:
                frames, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._log_bytes = (frames - moved) * PAGE_BYTES
            self._log_is_stuck = False
        except (apsw.BusyError, apsw.FullError) as error:
            if not self._log_is_stuck:
                log.warning("write-ahead log of the journal cannot be emptied", error=str(error))
            self._log_is_stuck = True
        except Exception as error:  # noqa: BLE001 - the thread's edge
            if not (isinstance(error, apsw.IOError) and _no_room(connection, error)):
                self._fail(error)
        finally:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._checkpoint_at = self._log_bytes + CHECKPOINT_BYTES
        self._watch_space()

    def _watch_space(self) -> None:
        free = free_bytes(self._path)
        if free < LOW_FREE_BYTES and not self._space_was_low:
            log.warning("disk of the journal is almost full", free_bytes=free)
        self._space_was_low = free < LOW_FREE_BYTES

    def _fail(self, error: BaseException) -> JournalFailed:
        if self._failure is not None:
            return self._failure
        self._failure = JournalFailed(
            f"the disk that holds the journal failed ({error}). Check the disk and the system log, then restart the hub"
        )
        log.error("journal stopped, its disk failed", path=str(self._path), error=str(error))
        self._loop.call_soon_threadsafe(self._failed, self._failure)
        return self._failure


async def watch_files(path: Path, ended: asyncio.Event) -> str | None:
    """Compare the files of the open journal at this path with their names until one was removed, replaced or cut.

    Return what happened and what it means; None if `ended` is set before. The database never becomes smaller while it
    is open. A checkpoint empties the write-ahead log.
    """
    files = [OpenFile(path), *(OpenFile(other, min_bytes=0) for other in (wal_path(path), lock_path(path)))]
    while not ended.is_set():
        for problem in filter(None, (file.problem() for file in files)):
            return f"{problem}. {FILE_LOST}"
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_S):
                await ended.wait()
    return None


def free_bytes(path: Path) -> int:
    """Return the bytes that an ordinary user may still write to the disk that holds this file."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def _no_room(connection: apsw.Connection, error: apsw.IOError) -> bool:
    # After a failed fsync the contents of the disk are unknown, whatever the reason was.
    synced = getattr(error, "extendedresult", 0) in (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
    return not synced and connection.system_errno in (errno.ENOSPC, errno.EDQUOT)
