"""The thread that writes: the only connection that ever writes or checkpoints.

SQLite releases the interpreter's lock for each statement's step, and a thread that wants it back from a busy event loop
waits up to a switch interval. So a commit is as few statements as can be: one, when there are only entries.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw
import structlog

from hub.journal.ledger import Statement
from hub.journal.schema import BUSY_TIMEOUT_MS, MAX_WAL_BYTES, PAGE_BYTES, Found, connect_writer, limit_pages, wal_path
from hub.model.journal import JournalError, JournalFailed, JournalFull

CHECKPOINT_BYTES = 4 * 1024 * 1024
"""In the write-ahead log before a checkpoint moves them to the database. The time it takes (8 ms for 4 MiB, 13 ms for
8, 64 ms for 32) is added to the acknowledgements that wait meanwhile; larger ones are rarer, no shorter in sum."""

CHECKPOINT_WAIT_MS = 50
"""How long a log that outgrew MAX_WAL_BYTES waits for its readers; ours take a few milliseconds each."""

RESERVE_BYTES = 16 * 1024 * 1024
"""Beyond the journal's bound, for what has to be written before anything can be deleted: the marks of 150,000
devices."""

LOW_FREE_BYTES = 512 * 1024 * 1024
"""Free space on the disk below which the log warns, looked at with each checkpoint: a minute of full load."""

COMMIT_PAGES = 4
"""Pages that a commit writes besides its data: the header, and the way down to the block's row."""

log = structlog.get_logger(__name__)


class LimitReached(JournalFull):
    """The journal may not grow any more, though the disk has room."""


class Transaction(NamedTuple):
    """Statements that are committed together. `done` is called on the event loop, with the error if there was one.

    One that `makes_room` has no entries, and may go beyond the journal's bound.
    """

    statements: Sequence[Statement]
    size_bytes: int
    done: Callable[[JournalError | None], None]
    makes_room: bool = False


class Writer:
    """Commits transactions in the order of their submission, off the event loop that it is made on.

    An I/O error is final: `failed` is called with it on the event loop, and every later transaction gets it.
    """

    def __init__(self, path: Path, *, vfs: str | None, max_bytes: int, failed: Callable[[JournalFailed], None]) -> None:
        self._path = path
        self._vfs = vfs
        self._max_bytes = max_bytes
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Transaction | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[Found] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="journal")
        self._failure: JournalFailed | None = None
        self._log_bytes = 0
        self._checkpoint_at = CHECKPOINT_BYTES
        self._log_is_stuck = False
        self._space_was_low = False

    async def open(self) -> Found:
        """Starts the thread and opens the file; returns what it held. Raises JournalError."""
        self._thread.start()
        return await self._opened

    def submit(self, transaction: Transaction) -> None:
        """Has the transaction committed."""
        self._queue.put(transaction)

    async def close(self) -> None:
        """Commits what was submitted, moves the write-ahead log into the database, and ends the thread that `open`
        started."""
        self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            connection, found = connect_writer(self._path, vfs=self._vfs, max_bytes=self._max_bytes)
        except JournalError as error:
            self._loop.call_soon_threadsafe(_settle, self._opened, None, error)
        else:
            self._loop.call_soon_threadsafe(_settle, self._opened, found, None)
            while (transaction := self._queue.get()) is not None:
                error_or_none = self._failure or self._commit(connection, transaction)
                self._loop.call_soon_threadsafe(transaction.done, error_or_none)
                # Only now: nobody waits for what was just committed any more. Without room, an emptied log is room.
                is_full = isinstance(error_or_none, JournalFull) and self._log_bytes > 0
                if (self._log_bytes >= self._checkpoint_at or is_full) and self._failure is None:
                    self._checkpoint(connection)
            # Closing the last connection checkpoints: not onto a disk that failed.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, self._failure is not None)
            connection.close()
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)

    def _commit(self, connection: apsw.Connection, transaction: Transaction) -> JournalError | None:
        try:
            if transaction.makes_room:
                limit_pages(connection, self._max_bytes + RESERVE_BYTES)
            if len(transaction.statements) == 1:
                connection.execute(*transaction.statements[0])  # is a transaction of its own
            else:
                connection.execute("BEGIN IMMEDIATE")
                for sql, values in transaction.statements:
                    connection.execute(sql, values)
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread's edge: an append must not stay without an answer
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
        # With a quarter for what does not fill its last page.
        return bool(used_pages * PAGE_BYTES + size_bytes * 1.25 + 16 * PAGE_BYTES > self._max_bytes)

    def _checkpoint(self, connection: apsw.Connection) -> None:
        try:
            if wal_path(self._path).stat().st_size > MAX_WAL_BYTES:
                # A reader was always there when the log could have begun anew: wait for a moment without.
                connection.set_busy_timeout(CHECKPOINT_WAIT_MS)
                frames, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            else:
                frames, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._log_bytes = (frames - moved) * PAGE_BYTES
            self._log_is_stuck = False
        except (apsw.BusyError, apsw.FullError) as error:
            if not self._log_is_stuck:
                log.warning("the journal's write-ahead log cannot be emptied", error=str(error))
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
            log.warning("the disk that holds the journal is almost full", free_bytes=free)
        self._space_was_low = free < LOW_FREE_BYTES

    def _fail(self, error: Exception) -> JournalFailed:
        self._failure = JournalFailed(
            f"the disk that holds the journal failed ({error}): check it and the system's log, then restart the hub"
        )
        log.error("the journal takes nothing more: its disk failed", path=str(self._path), error=str(error))
        self._loop.call_soon_threadsafe(self._failed, self._failure)
        return self._failure


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write to the disk that holds this file."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def _no_room(connection: apsw.Connection, error: apsw.IOError) -> bool:
    # After a failed fsync it is not known what is on the disk, whatever the reason was.
    synced = getattr(error, "extendedresult", 0) in (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
    return not synced and connection.system_errno in (errno.ENOSPC, errno.EDQUOT)


def _settle(future: asyncio.Future[Found], found: Found | None, error: JournalError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    elif found is not None:
        future.set_result(found)
