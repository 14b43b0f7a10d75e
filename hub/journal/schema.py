"""The journal's file: its tables, how it is opened, and what it held."""

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

from hub.journal.block import BlockDamaged, decode_marks
from hub.journal.retention import KNOWN_BLOCKS, OldBlock
from hub.model.batch import Mark
from hub.model.journal import Held, JournalError

PAGE_BYTES = 8192
"""Bytes of a page. Against SQLite's 4096 it takes a third off the cost of a large commit (1 MB: 3.6 → 2.4 ms of CPU);
16384 saves little more, and doubles what a commit of one entry writes (three pages)."""

BUSY_TIMEOUT_MS = 5_000
"""How long a commit waits for a foreign program that holds the file's lock, such as somebody's SQLite shell."""

MAX_WAL_BYTES = 64 * 1024 * 1024
"""What is left of the write-ahead log after a checkpoint; it grows beyond only while a reader holds it."""

RECLAIM_BYTES = 64 * 1024 * 1024
"""A file that has more free pages than this, and less than this in use, is rewritten at opening: it gives back, within
a second, what an outage of the store had made it grow to."""

APPLICATION_ID = 0x54484A4C
"""Marks the file as a journal ("THJL")."""

SCHEMA_VERSION = 2

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
WRITE_FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?)"
# One statement for any number of rows: after each statement a busy event loop may keep the thread waiting.
WRITE_MARKS = f"""
INSERT OR REPLACE INTO mark
SELECT {", ".join(f"value ->> {column}" for column in range(len(Mark._fields)))}, ?2 FROM json_each(?1)"""
WRITE_CONSUMERS = "INSERT OR REPLACE INTO consumer SELECT key, value FROM json_each(?)"
DELETE_CONSUMERS = "DELETE FROM consumer WHERE name IN (SELECT value FROM json_each(?))"
INSERT_QUARANTINE = "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
DELETE_QUARANTINE = "DELETE FROM quarantine WHERE offset < ?"
SETTLE_QUARANTINE = "DELETE FROM quarantine WHERE offset IN (SELECT value FROM json_each(?))"
RENAME_QUARANTINE = "UPDATE quarantine SET code = ?2, message = ?3 WHERE offset = ?1"
WRITE_QUARANTINE_TOTALS = "INSERT OR REPLACE INTO quarantine_total SELECT key, value FROM json_each(?)"

_decode_earlier = msgspec.json.Decoder(tuple[tuple[str, int], ...]).decode

_READ_OLD_MARKS = f"SELECT {', '.join(Mark._fields)}, offset FROM mark"
_READ_NEW_MARKS = "SELECT first_offset + count - 1, marks FROM block WHERE first_offset > ? ORDER BY first_offset"
_READ_NEWEST = "SELECT first_offset + count - 1, end_bytes FROM block ORDER BY first_offset DESC LIMIT 1"
_READ_HELD = "SELECT offset, device, code, received_ns, length(payload) FROM quarantine ORDER BY offset"
_READ_OLD_BLOCKS = """
SELECT first_offset + count - 1, end_bytes, received_ns FROM block
WHERE first_offset > ? ORDER BY first_offset LIMIT ?"""
_READ_OLDEST = (
    "SELECT first_offset, end_bytes - length(marks) - length(entries) FROM block ORDER BY first_offset LIMIT 1"
)


class Found(NamedTuple):
    """What the file held when it was opened.

    `oldest` are its first blocks. `marks` are each device's newest; `unfolded` those of them that only the blocks after
    `folded_offset` have. `quarantine` is what is in it, in order.
    """

    id: str
    first_offset: int
    last_offset: int
    begin_bytes: int
    end_bytes: int
    oldest: list[OldBlock]
    marks: dict[str, Mark]
    unfolded: list[Mark]
    folded_offset: int
    cursors: dict[str, int]
    quarantine: list[Held]
    quarantine_totals: dict[str, int]
    quarantine_dropped: int
    highest_series: int

    @classmethod
    def nothing(cls) -> Found:
        """What a journal holds before it is open."""
        return cls("", 1, 0, 0, 0, [], {}, [], 0, {}, [], {}, 0, 0)


class Lock:
    """The right to open the journal, which one process has at a time: a lock on a file beside it.

    On a file of its own, because closing any descriptor of the database would drop SQLite's locks on that.
    """

    def __init__(self, path: Path) -> None:
        """Raises JournalError."""
        beside = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"{beside} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise JournalError(f"{path} is in use by another process: is a hub running already?") from error

    def release(self) -> None:
        """The file stays; only the lock goes, as it does when the process ends in whatever way."""
        os.close(self._descriptor)


def connect_writer(path: Path, *, vfs: str | None, max_bytes: int) -> tuple[apsw.Connection, Found]:
    """The one connection that writes, and what the file held; the file is made when it is not there.

    Raises JournalError, with what to do.
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
    """The database may not grow beyond this any more; SQLite never makes it less than it has."""
    connection.pragma("max_page_count", max(1, max_bytes // PAGE_BYTES))


def connect_reader(path: Path, *, vfs: str | None) -> apsw.Connection:
    """A connection that can only read. Raises apsw.Error."""
    connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def wal_path(path: Path) -> Path:
    """Where SQLite keeps the write-ahead log of this file."""
    return path.with_name(path.name + "-wal")


def read_old_blocks(connection: apsw.Connection, after: int) -> list[OldBlock]:
    """The oldest blocks that begin after this offset, KNOWN_BLOCKS at most."""
    return [OldBlock(*row) for row in connection.execute(_READ_OLD_BLOCKS, (after, KNOWN_BLOCKS))]


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"{path} cannot be opened: {error.strerror}") from error
    except (apsw.NotADBError, apsw.CorruptError, BlockDamaged, KeyError) as error:
        raise JournalError(
            f"{path} is damaged, or is no journal ({error}): restore it from a copy, or move it away together with "
            f"{path.name}-wal; then the hub begins a new journal, and devices send again what was not acknowledged"
        ) from error
    except apsw.FullError as error:
        raise JournalError(f"{path} cannot be opened: there is no room on the disk") from error
    except apsw.Error as error:
        raise JournalError(f"{path} cannot be opened: {error}") from error


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.pragma("page_size", PAGE_BYTES)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise JournalError(f"{path} cannot be opened: its file system has no shared memory; use a local disk")
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
        raise JournalError(f"{path} is a database of another program: choose another data directory, or move it away")
    version = connection.pragma("user_version")
    if version != SCHEMA_VERSION:
        other = "a newer" if version > SCHEMA_VERSION else "an older"
        raise JournalError(
            f"{path} was written by {other} version of the hub: install that version again, or move the data directory "
            "away so that a new one begins"
        )
    page_count, free_count = connection.pragma("page_count"), connection.pragma("freelist_count")
    if free_count * PAGE_BYTES > RECLAIM_BYTES > (page_count - free_count) * PAGE_BYTES:
        # Without room for the copy the file stays as it is: its free pages are used again all the same.
        with suppress(apsw.FullError):
            connection.execute("VACUUM")


def _load(connection: apsw.Connection) -> Found:
    execute = connection.execute
    facts = dict(execute("SELECT name, value FROM fact"))
    last_offset, end_bytes = execute(_READ_NEWEST).get or (0, 0)
    first_offset, begin_bytes = execute(_READ_OLDEST).get or (1, 0)
    folded_offset = facts.get("folded_offset", 0)
    marks: dict[str, Mark] = {}
    marked_at: dict[str, int] = {}
    for *columns, earlier, offset in execute(_READ_OLD_MARKS):
        mark = Mark(*columns)._replace(earlier=_decode_earlier(earlier))
        marks[mark.device], marked_at[mark.device] = mark, offset
    unfolded: dict[str, Mark] = {}
    for offset, data in execute(_READ_NEW_MARKS, (folded_offset,)):
        for mark in decode_marks(data):
            if offset > marked_at.get(mark.device, 0):
                unfolded[mark.device] = mark
    return Found(
        id=facts["id"],
        first_offset=first_offset,
        last_offset=last_offset,
        begin_bytes=begin_bytes,
        end_bytes=end_bytes,
        oldest=read_old_blocks(connection, 0),
        marks=marks | unfolded,
        unfolded=list(unfolded.values()),
        folded_offset=folded_offset,
        cursors=dict(execute("SELECT name, offset FROM consumer")),
        quarantine=[Held(*row) for row in execute(_READ_HELD)],
        quarantine_totals=dict(execute("SELECT code, total FROM quarantine_total")),
        quarantine_dropped=facts.get("quarantine_dropped", 0),
        highest_series=facts.get(HIGHEST_SERIES, 0),
    )
