"""The journal's file: its tables, its statements, how it is opened, and what it contains."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from hub.ingest.partial_batch import VALIDATION_CODES, count_readings, read_loosely
from hub.journal.block import BlockDamaged, BlockRow, marks_after
from hub.journal.rows import (
    CHECKED_TABLES,
    MARK_COLUMNS,
    WRITE_MARKS,
    DamagedRow,
    checked_rows,
    keep_row,
    mark_of,
    read_rows,
    set_aside,
    write_fact,
)
from hub.journal.stored_blocks import READ_BLOCKS, OldBlock, read_old_blocks
from hub.model.batch import Mark
from hub.model.journal import JournalError, LostRange, QuarantinedEntry
from integrity.checksum import row_checksum
from integrity.header import WRONG_BIT, has_wrong_bit
from integrity.recovery import beside

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

SCHEMA_VERSION = 4

UNCHECKED_VERSION = 2
"""The version before the small tables had checksums. Such a file gets them when it is opened."""

BATCHES_VERSION = 3
"""The version before marks counted the readings in quarantine, which are counted when such a file is opened, and what
sources refuse."""

READABLE_VERSIONS = (UNCHECKED_VERSION, BATCHES_VERSION, SCHEMA_VERSION)
"""The versions that this one opens."""

CHECKED_BYTES = 512 * 1024 * 1024
"""A file up to this size gets SQLite's own check when it is opened: a second at most. In a larger one, damage is found
when a page is read."""

UNUSED_OFFSETS = 1 << 24
"""Offsets that are left out after a loss of unknown size. Offsets must not be used again: dashboards and sinks may have
seen more than is known. It is what 100,000 entries/s use in the minutes between two records of the newest offset."""

NEXT_STEP_IN_THE_MIDDLE = (
    "hub flow counts the readings that the store lacks as damaged. Check the disk, and restore a backup if they matter"
)
"""For entries between others: the agents have newer ones acknowledged, and do not send these again."""

MAX_NAMED = 5
"""Damaged rows that a report names."""

_MARK = """\
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
  offset INTEGER NOT NULL,
  damaged INTEGER NOT NULL,
  repaired INTEGER NOT NULL,
  quarantined_readings INTEGER NOT NULL,
  source_refused INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;"""

_SCHEMA = f"""
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE block (
  first_offset INTEGER PRIMARY KEY,
  count INTEGER NOT NULL,
  end_bytes INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  marks BLOB NOT NULL,
  entries BLOB NOT NULL
) STRICT;

{_MARK}

CREATE TABLE consumer (
  name TEXT PRIMARY KEY,
  offset INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
  offset INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  epoch TEXT NOT NULL,
  seq INTEGER NOT NULL,
  received_ns INTEGER NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  format TEXT NOT NULL,
  payload BLOB NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX quarantine_of_device ON quarantine (device, offset);

CREATE TABLE quarantine_total (
  code TEXT PRIMARY KEY,
  total INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_DAMAGE = """
CREATE TABLE lost (
  first_offset INTEGER PRIMARY KEY,
  last_offset INTEGER NOT NULL,
  found_ns INTEGER NOT NULL,
  reason TEXT NOT NULL,
  counted INTEGER NOT NULL
) STRICT;

CREATE TABLE damaged (
  number INTEGER NOT NULL,
  slot INTEGER PRIMARY KEY,
  found_ns INTEGER NOT NULL,
  place TEXT NOT NULL,
  content BLOB NOT NULL
) STRICT;
"""

_FROM_VERSION_2 = [
    "ALTER TABLE mark ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE mark ADD COLUMN repaired INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE mark ADD COLUMN quarantined_readings INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE mark ADD COLUMN source_refused INTEGER NOT NULL DEFAULT 0",
    *(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0" for table in CHECKED_TABLES),
    *(f"UPDATE {table} SET checksum = row_checksum({', '.join(columns)})" for table, columns in CHECKED_TABLES.items()),
    _DAMAGE,
]
INSERT_BLOCK = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)"
DELETE_BLOCKS = "DELETE FROM block WHERE first_offset < ?"
HUB = "hub"
HIGHEST_SERIES = "highest_series"
CHECKPOINT_OFFSET = "folded_offset"
QUARANTINE_DROPPED = "quarantine_dropped"
DELETE_CONSUMERS = "DELETE FROM consumer WHERE name IN (SELECT value FROM json_each(?))"
DELETE_QUARANTINE = "DELETE FROM quarantine WHERE offset < ?"
REMOVE_FROM_QUARANTINE = "DELETE FROM quarantine WHERE offset IN (SELECT value FROM json_each(?))"
UPDATE_QUARANTINE = (
    "UPDATE quarantine SET code = ?2, message = ?3, "
    "checksum = row_checksum(offset, device, epoch, seq, received_ns, ?2, ?3, format, payload) WHERE offset = ?1"
)
WRITE_LOST = "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?, ?)"
DELETE_LOST = "DELETE FROM lost WHERE last_offset < ?"
COUNT_LOST = "UPDATE lost SET counted = 1"
_READ_NEW_MARKS = """
SELECT first_offset, count, end_bytes, received_ns, checksum, marks, x'' FROM block
WHERE first_offset > ? ORDER BY first_offset"""
_READ_OLDEST = (
    "SELECT first_offset, end_bytes - length(marks) - length(entries) FROM block ORDER BY first_offset LIMIT 1"
)
_READ_RANGES = "SELECT first_offset, first_offset + count - 1 FROM block ORDER BY first_offset"
_READ_LOST = "SELECT first_offset, last_offset, found_ns, reason, counted FROM lost ORDER BY first_offset"


class Contents(NamedTuple):
    """Contents of the file at opening.

    `oldest` are its first blocks. `marks` are the newest of each device; `marks_after_checkpoint` are those of them
    that only the blocks after `checkpoint_offset` contain. `quarantine` lists the quarantined entries in order.
    `incidents` are sentences about damage that was found. `hub` is the id of the hub that the file belongs to, empty if
    it is unknown; `is_new` states that the opening has created the file. `facts` are all facts by name.
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
    lost: list[LostRange]
    incidents: list[str]
    hub: str = ""
    is_new: bool = False
    facts: Mapping[str, int | str] = {}


NO_CONTENTS = Contents("", 1, 0, 0, 0, [], {}, [], 0, {}, [], {}, 0, 0, [], [])
"""Contents of a journal that is not open."""


class JournalDamaged(JournalError):
    """The file of the journal is damaged, or is no journal."""


def connect_writer(
    path: Path, *, vfs: str | None, max_bytes: int, known_id: str | None = None, hub: str = ""
) -> tuple[apsw.Connection, Contents]:
    """Open the one connection that writes, and return it with the file's contents. A missing file is created.

    `known_id` is the id of the journal, for a file in which it is damaged; a new file belongs to `hub`. Raises
    JournalError, whose message says what to do; JournalDamaged if parts of the file may be readable.
    """
    with _opening(path):
        # Only its owner may read what devices sent.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(os.fspath(path), vfs=vfs)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.create_scalar_function("row_checksum", lambda *cells: row_checksum(cells), deterministic=True)
            is_new = _prepare(connection, path, hub)
            limit_pages(connection, max_bytes)
            return connection, _load(connection, known_id)._replace(is_new=is_new)
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
    return beside(path, "-wal")


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except JournalError:
        raise
    except Exception as error:
        # Also an error that is none of SQLite's: it can come from a value on a damaged page.
        raise opening_failed(path, error) from error


def opening_failed(path: Path, error: Exception) -> JournalError:
    """Return the error for a file that cannot be opened, with what to do."""
    match error:
        case apsw.FullError() | OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return JournalError(
                f"{path} cannot be opened: there is no room on the disk. Free some space, and start the hub again. "
                "Nothing is lost"
            )
        case OSError():
            return JournalError(f"{path} cannot be opened: {error.strerror}")
        case apsw.Error() if not isinstance(error, apsw.NotADBError | apsw.CorruptError | apsw.SQLError):
            return JournalError(f"{path} cannot be opened: {error}")
    # Damaged pages can also be read as values of another type.
    return JournalDamaged(
        f"{path} is damaged, or is no journal ({error}). Restore it from a copy, or move it and {path.name}-wal to "
        "another folder: then the hub begins a new journal, and devices send again what was not acknowledged"
    )


def _prepare(connection: apsw.Connection, path: Path, hub: str) -> bool:
    """Make the file ready for writing; return whether it is new."""
    connection.pragma("page_size", PAGE_BYTES)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise JournalError(f"{path} cannot be opened: its file system has no shared memory. Use a local disk")
    connection.pragma("synchronous", "full")
    connection.wal_autocheckpoint(0)  # checkpoints are made between commits, never within one
    connection.pragma("journal_size_limit", MAX_WAL_BYTES)
    is_new = not connection.execute("SELECT count(*) FROM sqlite_schema").get
    if is_new:
        with connection:
            connection.execute(_SCHEMA + _DAMAGE)
            connection.execute(*write_fact("id", secrets.token_hex(8)))
            if hub:
                connection.execute(*write_fact(HUB, hub))
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA_VERSION)
    _check_header(connection, path)
    if connection.pragma("page_count") * PAGE_BYTES <= CHECKED_BYTES:
        verdict = connection.pragma("quick_check", 1)
        if verdict != "ok":
            raise apsw.CorruptError(f"SQLite's own check failed: {' '.join(verdict.split())}")
    if connection.pragma("user_version") == UNCHECKED_VERSION:
        with connection:
            for statement in _FROM_VERSION_2:
                connection.execute(statement)
            connection.pragma("user_version", SCHEMA_VERSION)
    elif connection.pragma("user_version") == BATCHES_VERSION:
        with connection:
            _add_counts(connection)
            connection.pragma("user_version", SCHEMA_VERSION)
    page_count, free_count = connection.pragma("page_count"), connection.pragma("freelist_count")
    if free_count * PAGE_BYTES > RECLAIM_BYTES > (page_count - free_count) * PAGE_BYTES:
        # Without room for the copy the file stays as it is; its free pages are used again.
        with suppress(apsw.FullError):
            connection.execute("VACUUM")
    return is_new


def _add_counts(connection: apsw.Connection) -> None:
    """Add the columns to the table of version 3, with what is in quarantine now.

    A damaged row keeps a wrong checksum, and is set aside afterwards.
    """
    readings: Counter[str] = Counter()
    for row in read_rows(connection, "quarantine"):
        if not isinstance(row, DamagedRow) and row[5] in VALIDATION_CODES:
            readings[row[1]] += count_readings(read_loosely(row[8], row[7]))
    found = [row for row in read_rows(connection, "mark") if not isinstance(row, DamagedRow)]
    marks = [(*row[:-2], readings[row[0]], 0) for row in found]
    old = ", ".join([*MARK_COLUMNS[:-2], "checksum"])
    connection.execute("ALTER TABLE mark RENAME TO mark_3")
    connection.execute(_MARK)
    connection.execute(f"INSERT INTO mark ({old}, quarantined_readings, source_refused) SELECT {old}, 0, 0 FROM mark_3")
    connection.execute("DROP TABLE mark_3")
    connection.execute(WRITE_MARKS, (checked_rows(marks),))


def header_is_damaged(connection: apsw.Connection) -> bool:
    """Return whether a journal has a wrong bit in the numbers of its program or format."""
    return has_wrong_bit(connection, application_id=APPLICATION_ID, version=SCHEMA_VERSION, schema=_SCHEMA + _DAMAGE)


def _check_header(connection: apsw.Connection, path: Path) -> None:
    """Check the numbers of the program and the format. Raises JournalError, and CorruptError if one has a wrong bit."""
    if header_is_damaged(connection):
        raise apsw.CorruptError(WRONG_BIT)
    if connection.pragma("application_id") != APPLICATION_ID:
        raise JournalError(f"{path} is a database of another program. Choose another data directory, or move the file")
    version = connection.pragma("user_version")
    if version not in READABLE_VERSIONS:
        raise JournalError(
            f"{path} has format {version}, and this version of the hub reads {UNCHECKED_VERSION} to {SCHEMA_VERSION}; "
            "the file is unchanged. Install the version that wrote it, or choose another data directory to begin a new "
            "journal. If no other version wrote it, the header is damaged: restore a backup"
        )


def _load(connection: apsw.Connection, known_id: str | None) -> Contents:
    """Read and verify everything but the entries, which are verified when they are read. Set damaged rows aside."""
    damaged: list[DamagedRow] = []
    facts = dict(_intact(connection, "fact", damaged))
    cursors = dict(_intact(connection, "consumer", damaged))
    totals = dict(_intact(connection, "quarantine_total", damaged))
    quarantine = [
        QuarantinedEntry(row[0], row[1], row[5], row[4], len(row[8]))
        for row in _intact(connection, "quarantine", damaged)
    ]
    marks: dict[str, Mark] = {}
    marked_at: dict[str, int] = {}
    for row in _intact(connection, "mark", damaged):
        mark, offset = mark_of(row)
        marks[mark.device], marked_at[mark.device] = mark, offset
    lost = [LostRange._make([*row[:4], bool(row[4])]) for row in connection.execute(_READ_LOST)]
    incidents = [f"damaged rows were found: {', '.join(map(str, damaged[:MAX_NAMED]))}"] if damaged else []
    tail = _read_tail(connection, lost)
    incidents += map(str, tail.lost)
    missing = _find_missing(connection, [*lost, *tail.lost])
    incidents += [f"{range}. {NEXT_STEP_IN_THE_MIDDLE}" for range in missing]
    is_unknown = "id" not in facts
    if is_unknown:
        if known_id is None:
            raise apsw.CorruptError("its id is missing")
        facts["id"] = known_id
    if damaged or tail.lost or missing or is_unknown:
        with connection:
            connection.execute(*write_fact("id", facts["id"]))
            set_aside(connection, damaged)
            for block in tail.damaged:
                connection.execute(*keep_row(f"block {block.first_offset}", block))
                connection.execute("DELETE FROM block WHERE first_offset IS ?", (block.first_offset,))
            for range in [*tail.lost, *missing]:
                connection.execute(WRITE_LOST, range)
    first_offset, begin_bytes = connection.execute(_READ_OLDEST).get or (tail.last_offset + 1, 0)
    checkpoint_offset = facts.get(CHECKPOINT_OFFSET, 0)
    newer = _newer_marks(connection, checkpoint_offset, tail.marks_up_to, marks, marked_at, incidents)
    return Contents(
        id=facts["id"],
        first_offset=first_offset,
        last_offset=tail.last_offset,
        begin_bytes=begin_bytes,
        end_bytes=tail.end_bytes,
        oldest=read_old_blocks(connection, 0),
        marks=marks | newer,
        marks_after_checkpoint=list(newer.values()),
        checkpoint_offset=min(checkpoint_offset, tail.last_offset),
        cursors=cursors,
        quarantine=quarantine,
        quarantine_totals=totals,
        quarantine_dropped=facts.get(QUARANTINE_DROPPED, 0),
        highest_series=facts.get(HIGHEST_SERIES, 0),
        lost=sorted([*lost, *tail.lost, *missing]),
        incidents=incidents,
        hub=str(facts.get(HUB, "")),
        facts=facts,
    )


def _intact(connection: apsw.Connection, table: str, damaged: list[DamagedRow]) -> Iterator[tuple[Any, ...]]:
    """Yield the intact rows of a table; append the others to `damaged`."""
    for row in read_rows(connection, table):
        if isinstance(row, DamagedRow):
            damaged.append(row)
        else:
            yield row


def _find_missing(connection: apsw.Connection, lost: Sequence[LostRange]) -> list[LostRange]:
    """Return the offsets between blocks that no block has and no range declares, in a file of CHECKED_BYTES at most.

    A lost page, or the write-ahead log of another file, can leave such a hole. In a larger file it is found when it is
    read.
    """
    if connection.pragma("page_count") * PAGE_BYTES > CHECKED_BYTES:
        return []
    missing = []
    expected = None
    for first, last in connection.execute(_READ_RANGES):
        if expected is not None and expected < first:
            is_declared = any(range.first_offset <= expected and first - 1 <= range.last_offset for range in lost)
            if not is_declared:
                missing.append(LostRange(expected, first - 1, time.time_ns(), "they are missing in the file"))
        expected = last + 1
    return missing


class _Tail(NamedTuple):
    """The end of the file. `damaged` are newest blocks of which not even the offsets are known.

    Marks count up to the offset `marks_up_to`: a newest block without readable entries never happened for its devices,
    so that their agents send it again.
    """

    last_offset: int
    end_bytes: int
    marks_up_to: int
    damaged: list[BlockRow]
    lost: list[LostRange]


def _read_tail(connection: apsw.Connection, lost: Sequence[LostRange]) -> _Tail:
    """Read the newest blocks until one is intact."""
    damaged: list[BlockRow] = []
    found: list[LostRange] = []
    end = end_bytes = intact = 0
    with closing(connection.execute(f"{READ_BLOCKS} ORDER BY first_offset DESC")) as rows:
        block = next(map(BlockRow.of, rows), None)
        while block is not None and not intact:
            older = next(map(BlockRow.of, rows), None)
            follows = older.last_offset + 1 if older is not None else block.first_offset
            last = block.last_offset
            try:
                block.open_entries(first_offset=follows)
                intact = last
            except BlockDamaged as error:
                try:
                    block.open_marks()
                    found.append(LostRange(block.first_offset, last, time.time_ns(), str(error)))
                except BlockDamaged:
                    damaged.append(block)
                    last = 0
            if last and not end:
                end, end_bytes = last, block.end_bytes
            block = older
    end = max([end, *(range.last_offset for range in lost)])
    if damaged:
        found.append(LostRange(end + 1, end + UNUSED_OFFSETS, time.time_ns(), "the newest blocks are damaged"))
        end = found[-1].last_offset
    known = {range.first_offset for range in lost}
    return _Tail(end, end_bytes, intact, damaged, [range for range in found if range.first_offset not in known])


def _newer_marks(
    connection: apsw.Connection,
    after: int,
    up_to: int,
    marks: Mapping[str, Mark],
    marked_at: Mapping[str, int],
    incidents: list[str],
) -> dict[str, Mark]:
    """Return the marks that only the blocks after the checkpoint contain. Damaged ones are made from the entries."""
    newer: dict[str, Mark] = {}
    for row in connection.execute(_READ_NEW_MARKS, (after,)):
        block = BlockRow.of(row)
        offset = block.last_offset
        if offset > up_to:
            break
        try:
            found = block.open_marks()
        except BlockDamaged:
            entries = connection.execute(f"{READ_BLOCKS} WHERE first_offset = ?", (block.first_offset,)).get
            try:
                found = marks_after(
                    {**marks, **newer}, BlockRow.of(entries).open_entries(first_offset=block.first_offset)
                )
            except BlockDamaged:
                found = []
            incidents.append(f"the positions of devices in the block of entry {block.first_offset:,} are damaged")
        for mark in found:
            if offset > marked_at.get(mark.device, 0):
                newer[mark.device] = mark
    return newer
