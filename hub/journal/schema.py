"""The journal's file: its tables, its statements, how it is opened, and what it contains."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from hub.journal.block import decode_marks
from hub.model.batch import Mark
from hub.model.journal import JournalError, QuarantinedEntry

FILE_NAME = "journal.db"
"""Name of the file in the data directory."""

PAGE_BYTES = 8192
"""Bytes of a page. Against SQLite's 4096 it takes a third off the cost of a large commit (1 MB: 3.6 → 2.4 ms of CPU);
16384 saves little more, and doubles what a commit of one entry writes (three pages)."""

BUSY_TIMEOUT_MS = 5_000
"""A commit waits this long for another program that holds the file's lock, such as an SQLite shell."""

MAX_WAL_BYTES = 64 * 1024 * 1024
"""Size of the write-ahead log after a checkpoint. It grows beyond only while a reader holds it."""

RECLAIM_BYTES = 64 * 1024 * 1024
"""A file with more free bytes than this, and fewer bytes than this in use, is rewritten when it is opened. Within a
second it returns the space that an outage of the store had made it grow to."""

APPLICATION_ID = 0x54484A4C
"""Marks the file as a journal ("THJL")."""

SCHEMA_VERSION = 2

KNOWN_BLOCKS = 256
"""Number of the oldest blocks that are known at a time; more are read from the file when those are deleted. It also
bounds the blocks of one trim."""

_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE block (
  first_offset INTEGER PRIMARY KEY,
  count INTEGER NOT NULL,
  end_bytes INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  marks BLOB NOT NULL,
  entries BLOB NOT NULL
) STRICT;

CREATE TABLE mark (
  device TEXT PRIMARY KEY,
  epoch TEXT NOT NULL,
  seq INTEGER NOT NULL,
  batches INTEGER NOT NULL,
  readings INTEGER NOT NULL,
  duplicates INTEGER NOT NULL,
  quarantined INTEGER NOT NULL,
  lost INTEGER NOT NULL,
  moved INTEGER NOT NULL,
  earlier TEXT NOT NULL,
  offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE consumer (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
  offset INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  epoch TEXT NOT NULL,
  seq INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  format TEXT NOT NULL,
  payload BLOB NOT NULL
) STRICT;
CREATE INDEX quarantine_of_device ON quarantine (device, offset);

CREATE TABLE quarantine_total (code TEXT PRIMARY KEY, total INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

INSERT_BLOCK = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)"
DELETE_BLOCKS = "DELETE FROM block WHERE first_offset < ?"
HIGHEST_SERIES = "highest_series"
CHECKPOINT_OFFSET = "folded_offset"
QUARANTINE_DROPPED = "quarantine_dropped"
WRITE_FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?)"
# One statement for any number of rows: after each statement a busy event loop may keep the thread waiting.
WRITE_MARKS = f"""
INSERT OR REPLACE INTO mark
SELECT {", ".join(f"value ->> {column}" for column in range(len(Mark._fields)))}, ?2 FROM json_each(?1)"""
WRITE_CONSUMERS = "INSERT OR REPLACE INTO consumer SELECT key, value FROM json_each(?)"
DELETE_CONSUMERS = "DELETE FROM consumer WHERE name IN (SELECT value FROM json_each(?))"
INSERT_QUARANTINE = "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
DELETE_QUARANTINE = "DELETE FROM quarantine WHERE offset < ?"
REMOVE_FROM_QUARANTINE = "DELETE FROM quarantine WHERE offset IN (SELECT value FROM json_each(?))"
UPDATE_QUARANTINE = "UPDATE quarantine SET code = ?2, message = ?3 WHERE offset = ?1"
WRITE_QUARANTINE_TOTALS = "INSERT OR REPLACE INTO quarantine_total SELECT key, value FROM json_each(?)"

_decode_earlier = msgspec.json.Decoder(tuple[tuple[str, int], ...]).decode

_READ_OLD_MARKS = f"SELECT {', '.join(Mark._fields)}, offset FROM mark"
_READ_NEW_MARKS = "SELECT first_offset + count - 1, marks FROM block WHERE first_offset > ? ORDER BY first_offset"
_READ_NEWEST = "SELECT first_offset + count - 1, end_bytes FROM block ORDER BY first_offset DESC LIMIT 1"
_READ_QUARANTINE = "SELECT offset, device, code, received_ns, length(payload) FROM quarantine ORDER BY offset"
_READ_OLD_BLOCKS = """
SELECT first_offset + count - 1, end_bytes, received_ns FROM block
WHERE first_offset > ? ORDER BY first_offset LIMIT ?"""
_READ_OLDEST = (
    "SELECT first_offset, end_bytes - length(marks) - length(entries) FROM block ORDER BY first_offset LIMIT 1"
)


class OldBlock(NamedTuple):
    """Position of a block. `end_bytes` is the journal's size up to the block's end, since the journal began."""

    last_offset: int
    end_bytes: int
    received_ns: int


class Contents(NamedTuple):
    """Contents of the file at opening.

    `oldest` are its first blocks. `marks` are the newest of each device; `marks_after_checkpoint` are those of them
    that only the blocks after `checkpoint_offset` contain. `quarantine` lists the quarantined entries in order.
    """

    id: str
    first_offset: int
    last_offset: int
    begin_bytes: int
    end_bytes: int
    oldest: list[OldBlock]
    marks: dict[str, Mark]
    marks_after_checkpoint: list[Mark]
    checkpoint_offset: int
    cursors: dict[str, int]
    quarantine: list[QuarantinedEntry]
    quarantine_totals: dict[str, int]
    quarantine_dropped: int
    highest_series: int


NO_CONTENTS = Contents("", 1, 0, 0, 0, [], {}, [], 0, {}, [], {}, 0, 0)
"""Contents of a journal that is not open."""


class Lock:
    """Lock on a file beside the journal, so that one process has the journal open at a time.

    It is a file of its own, because closing any descriptor of the database would drop SQLite's locks on the database.
    """

    def __init__(self, path: Path) -> None:
        """Acquire the lock. Raises JournalError when another process has it."""
        beside = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{beside} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise JournalError(f"{path} is in use by another process. Is a hub running already?") from error

    def release(self) -> None:
        """Release the lock. The lock's file stays."""
        os.close(self._descriptor)


def connect_writer(path: Path, *, vfs: str | None, max_bytes: int) -> tuple[apsw.Connection, Contents]:
    """Open the one connection that writes, and return it with the file's contents. A missing file is created.

    Raises JournalError, whose message says what to do.
    """
    with _opening(path):
        # Only its owner may read what devices sent.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(os.fspath(path), vfs=vfs)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            _prepare(connection, path)
            limit_pages(connection, max_bytes)
            return connection, _load(connection)
        except BaseException:
            connection.close()
            raise


def limit_pages(connection: apsw.Connection, max_bytes: int) -> None:
    """Bound the size of the database. SQLite never makes the bound smaller than the current size."""
    connection.pragma("max_page_count", max(1, max_bytes // PAGE_BYTES))


def connect_reader(path: Path, *, vfs: str | None) -> apsw.Connection:
    """Open a connection that can only read. Raises apsw.Error."""
    connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def wal_path(path: Path) -> Path:
    """Return the path of SQLite's write-ahead log of this file."""
    return path.with_name(path.name + "-wal")


def read_old_blocks(connection: apsw.Connection, after: int) -> list[OldBlock]:
    """Return the oldest blocks that begin after this offset, KNOWN_BLOCKS at most."""
    return [OldBlock(*row) for row in connection.execute(_READ_OLD_BLOCKS, (after, KNOWN_BLOCKS))]


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except JournalError:
        raise
    except Exception as error:
        raise opening_failed(path, error) from error


def opening_failed(path: Path, error: Exception) -> JournalError:
    """Return the error for a file that cannot be opened, with what to do."""
    match error:
        case apsw.FullError():
            return JournalError(f"{path} cannot be opened: there is no room on the disk")
        case OSError():
            return JournalError(f"{path} cannot be opened: {error.strerror}")
        case apsw.Error() if not isinstance(error, apsw.NotADBError | apsw.CorruptError):
            return JournalError(f"{path} cannot be opened: {error}")
    # Damaged pages can also be read as values of another type.
    return JournalError(
        f"{path} is damaged, or is no journal ({error}). Restore it from a copy, or move it and {path.name}-wal to "
        "another folder: then the hub begins a new journal, and devices send again what was not acknowledged"
    )


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.pragma("page_size", PAGE_BYTES)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise JournalError(f"{path} cannot be opened: its file system has no shared memory. Use a local disk")
    connection.pragma("synchronous", "full")
    connection.wal_autocheckpoint(0)  # checkpoints are made between commits, never within one
    connection.pragma("journal_size_limit", MAX_WAL_BYTES)
    if connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
        with connection:
            connection.execute(_SCHEMA)
            connection.execute(WRITE_FACT, ("id", secrets.token_hex(8)))
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA_VERSION)
    if connection.pragma("application_id") != APPLICATION_ID:
        raise JournalError(f"{path} is a database of another program. Choose another data directory, or move the file")
    version = connection.pragma("user_version")
    if version != SCHEMA_VERSION:
        other = "a newer" if version > SCHEMA_VERSION else "an older"
        raise JournalError(
            f"{path} was written by {other} version of the hub. Install that version again, or choose another data "
            "directory to begin a new journal"
        )
    page_count, free_count = connection.pragma("page_count"), connection.pragma("freelist_count")
    if free_count * PAGE_BYTES > RECLAIM_BYTES > (page_count - free_count) * PAGE_BYTES:
        # Without room for the copy the file stays as it is; its free pages are used again.
        with suppress(apsw.FullError):
            connection.execute("VACUUM")


def _load(connection: apsw.Connection) -> Contents:
    execute = connection.execute
    facts = dict(execute("SELECT name, value FROM fact"))
    last_offset, end_bytes = execute(_READ_NEWEST).get or (0, 0)
    first_offset, begin_bytes = execute(_READ_OLDEST).get or (1, 0)
    checkpoint_offset = facts.get(CHECKPOINT_OFFSET, 0)
    marks: dict[str, Mark] = {}
    marked_at: dict[str, int] = {}
    for *columns, earlier, offset in execute(_READ_OLD_MARKS):
        mark = Mark(*columns)._replace(earlier=_decode_earlier(earlier))
        marks[mark.device], marked_at[mark.device] = mark, offset
    newer: dict[str, Mark] = {}
    for offset, data in execute(_READ_NEW_MARKS, (checkpoint_offset,)):
        for mark in decode_marks(data):
            if offset > marked_at.get(mark.device, 0):
                newer[mark.device] = mark
    return Contents(
        id=facts["id"],
        first_offset=first_offset,
        last_offset=last_offset,
        begin_bytes=begin_bytes,
        end_bytes=end_bytes,
        oldest=read_old_blocks(connection, 0),
        marks=marks | newer,
        marks_after_checkpoint=list(newer.values()),
        checkpoint_offset=checkpoint_offset,
        cursors=dict(execute("SELECT name, offset FROM consumer")),
        quarantine=[QuarantinedEntry(*row) for row in execute(_READ_QUARANTINE)],
        quarantine_totals=dict(execute("SELECT code, total FROM quarantine_total")),
        quarantine_dropped=facts.get(QUARANTINE_DROPPED, 0),
        highest_series=facts.get(HIGHEST_SERIES, 0),
    )
