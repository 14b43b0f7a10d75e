"""Opening of a journal that may be damaged: what is readable continues in a new file, and the damaged one is kept.

SQLite reads a damaged file as far as its pages are intact. So each table is read from both ends, and blocks are
searched by their offsets around damaged pages.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from hub.journal.block import BlockDamaged, BlockRow
from hub.journal.rows import CHECKED_TABLES, DamagedRow, checked, read_rows, write_fact
from hub.journal.schema import HUB, INSERT_BLOCK, Contents, JournalDamaged, connect_writer
from hub.journal.stored_blocks import UNREADABLE, next_intact, read_blocks
from integrity.descriptors import sync_directory
from integrity.recovery import LogRecovery, aside, beside, recover_log
from wire.text import plural

SUFFIXES = ("", "-wal", "-shm")
"""The files of a database: itself, its write-ahead log, and the index of the log."""

MAX_OFFSET = 1 << 62


class OpenedFile(NamedTuple):
    """An open journal file, its contents, and the repair of its write-ahead log, if there was one."""

    connection: apsw.Connection
    contents: Contents
    recovery: LogRecovery | None


def open_file(
    path: Path, *, vfs: str | None, max_bytes: int, known_id: str | None, hub: str, may_salvage: bool
) -> OpenedFile:
    """Open the file, after its write-ahead log was repaired where necessary.

    A new file belongs to the hub with the id `hub`. With `may_salvage` a damaged file is replaced by a new one
    with everything that is readable. Raises JournalError, apsw.Error and OSError.
    """
    if vfs is None:
        _keep_orphaned_log(path)
    recovery = recover_log(path) if vfs is None else None
    try:
        connection, contents = connect_writer(path, vfs=vfs, max_bytes=max_bytes, known_id=known_id, hub=hub)
    except JournalDamaged as damage:
        if not may_salvage or vfs is not None:
            raise
        incident = _replace(path, max_bytes, known_id, hub, damage)
        connection, contents = connect_writer(path, vfs=vfs, max_bytes=max_bytes, known_id=known_id)
        contents = contents._replace(incidents=[incident, *contents.incidents])
    return OpenedFile(connection, contents, recovery)


def _keep_orphaned_log(path: Path) -> None:
    """Keep the write-ahead log of a file that was removed or emptied: SQLite would delete it."""
    log = beside(path, "-wal")
    if log.exists() and log.stat().st_size and not (path.exists() and path.stat().st_size):
        log.rename(aside(log))


def _replace(path: Path, max_bytes: int, known_id: str | None, hub: str, damage: JournalDamaged) -> str:
    """Write what is readable to a new file, and put it in the place of the damaged one. Return what happened.

    The damaged file keeps its place until the new one is complete.
    """
    new = path.with_name(f"{path.name}.salvaged")
    for suffix in SUFFIXES:
        beside(new, suffix).unlink(missing_ok=True)
    connection, _ = connect_writer(new, vfs=None, max_bytes=max_bytes)
    try:
        copied = _copy(path, connection, known_id, hub)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
    kept = aside(path)
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            os.link(beside(path, suffix), beside(kept, suffix))
    sync_directory(path.parent)
    # The log of the damaged file must not be read into the new one.
    for suffix in SUFFIXES[1:]:
        beside(path, suffix).unlink(missing_ok=True)
    new.replace(path)
    sync_directory(path.parent)
    cause = str(damage.__cause__ or damage)
    return (
        f"{path.name} was damaged ({cause}): {copied} in a new file, and the damaged file is kept as {kept.name}. "
        "Check the disk, and delete the kept file when you do not need it any more"
    )


@dataclass(slots=True)
class _Copied:
    """Counts of a salvage: blocks and other rows, damaged rows by table, and tables with pages that cannot be read."""

    blocks: int = 0
    rows: int = 0
    damaged: Counter[str] = field(default_factory=Counter)
    unreadable: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        """Return what continues and what is lost, for people."""
        lost = [
            plural(count, f"damaged row of {table}", f"damaged rows of {table}")
            for table, count in self.damaged.items()
        ]
        lost += [f"rows on unreadable pages of {table}" for table in sorted(self.unreadable)]
        without = f", without {', '.join(lost)}," if lost else ""
        return f"{self.blocks} readable blocks continue{without}"


def _copy(path: Path, target: apsw.Connection, known_id: str | None, hub: str) -> _Copied:
    """Copy what is readable in the file at this path."""
    try:
        source = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error:
        return _Copied(unreadable={*CHECKED_TABLES})
    copied = _Copied()
    try:
        source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with target:
            # Without a readable row it is another journal, with another id: no cursor and no offset is valid in it.
            new_id = target.execute("SELECT value FROM fact WHERE name = 'id'").get
            for table in CHECKED_TABLES:
                for row in _readable(source, table, copied):
                    values = ", ".join("?" * (len(row) + 1))
                    target.execute(f"INSERT OR REPLACE INTO {table} VALUES ({values})", checked(row))
                    copied.rows += 1
            # A range that is not readable is found again as a hole between the blocks.
            with suppress(apsw.Error, UnicodeDecodeError):
                for row in source.execute("SELECT * FROM lost"):
                    target.execute("INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?, ?)", row)
            for block in _readable_blocks(source):
                target.execute(INSERT_BLOCK, block)
                copied.blocks += 1
            if target.execute("SELECT value FROM fact WHERE name = 'id'").get == new_id:
                target.execute(*write_fact(HUB, hub))
                if (copied.rows or copied.blocks) and known_id:
                    target.execute(*write_fact("id", known_id))
    finally:
        source.close()
    return copied


def _readable(source: apsw.Connection, table: str, copied: _Copied) -> Iterator[tuple[Any, ...]]:
    """Yield the intact rows of a table, from both ends up to a page that cannot be read. Count the damaged ones."""
    for order in ("ASC", "DESC"):
        try:
            for row in read_rows(source, table, order=order):
                if isinstance(row, DamagedRow):
                    copied.damaged[table] += 1
                else:
                    yield row
        except apsw.Error:
            copied.unreadable.add(table)
        else:
            return


def _readable_blocks(source: apsw.Connection) -> Iterator[BlockRow]:
    """Yield the intact blocks, also those behind pages that cannot be read."""
    offset = 1
    while True:
        try:
            for block in read_blocks(source, offset):
                try:
                    entries = block.open_entries()
                except BlockDamaged:
                    continue
                if block.first_offset >= offset:
                    yield block
                    offset = entries[-1].offset + 1
            return
        except UNREADABLE:
            found = next_intact(source, offset, MAX_OFFSET)
            if found is None:
                return
            offset = found
        except apsw.Error:
            return
