"""Verification of the journal's file: its structure, the checksum of every block, and the order of the offsets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from hub.journal.block import BlockDamaged, BlockRow
from hub.journal.rows import CHECKED_TABLES, DamagedRow, read_rows
from hub.journal.schema import APPLICATION_ID, READ_BLOCKS, SCHEMA_VERSION
from integrity.database import ReportBytes, Snapshot
from integrity.finding import Finding
from wire.text import plural

_ENDS = "SELECT coalesce(min(first_offset), 1), coalesce(max(first_offset + count - 1), 0) FROM block"
_LOST = "SELECT first_offset, last_offset FROM lost"

LOST_ENTRIES = (
    "the store has these readings already if its position is behind them; otherwise they are lost unless the agent or "
    "a backup still has them"
)
RESTORE = "stop the hub, and restore a backup with `hub restore`; the agents then send again what they still have"
UNREADABLE = "the hub continues with what is readable and declares the rest lost; agents send again what they have"
ROW_LOST = "the hub sets the row aside; a device or consumer returns to an earlier position, and repeats what follows"


class JournalFacts(NamedTuple):
    """Facts about a journal for the comparison with the other files. `cursors` are those of the consumers."""

    id: str
    first_offset: int
    last_offset: int
    cursors: dict[str, int]


def verify_snapshot(name: str, snapshot: Snapshot, report: ReportBytes) -> tuple[list[Finding], JournalFacts | None]:
    """Verify the journal of this snapshot, which may be that of a running hub."""
    connection = snapshot.connection
    try:
        if connection.pragma("application_id") != APPLICATION_ID:
            return [Finding(name, False, "the file is no journal", UNREADABLE, RESTORE)], None
        version = connection.pragma("user_version")
        if version != SCHEMA_VERSION:
            return [Finding(name, None, f"the file has format {version}, this version reads {SCHEMA_VERSION}")], None
        findings = [
            Finding(name, False, f"SQLite's own check: {problem}", UNREADABLE, RESTORE)
            for problem in snapshot.structure_problems()
        ]
        facts = read_facts(connection)
        problems = list(_verify_blocks(connection, report))
        findings += [Finding(name, False, problem, LOST_ENTRIES, RESTORE) for problem in problems if problem]
        findings += [
            Finding(name, False, f"the checksum of the row {row} is wrong", ROW_LOST, RESTORE)
            for table in CHECKED_TABLES
            for row in read_rows(connection, table)
            if isinstance(row, DamagedRow)
        ]
    except (apsw.Error, UnicodeDecodeError, TypeError, ValueError) as error:
        return [Finding(name, False, f"the file cannot be read: {error}", UNREADABLE, RESTORE)], None
    what = f"{plural(len(problems), 'block')} with the offsets {facts.first_offset:,} to {facts.last_offset:,}"
    return findings or [Finding(name, True, what)], facts


def read_facts(connection: apsw.Connection) -> JournalFacts:
    """Return the facts of a journal."""
    ((id,),) = connection.execute("SELECT value FROM fact WHERE name = 'id'").fetchall()
    first, last = connection.execute(_ENDS).get
    cursors = {str(name): int(offset) for name, offset in connection.execute("SELECT name, offset FROM consumer")}
    return JournalFacts(str(id), first, last, cursors)


def _verify_blocks(connection: apsw.Connection, report: ReportBytes) -> Iterator[str | None]:
    """Yield the problem of each block, None for an intact one."""
    lost: list[tuple[Any, ...]] = connection.execute(_LOST).fetchall()
    expected = None
    for row in connection.execute(f"{READ_BLOCKS} ORDER BY first_offset"):
        block = BlockRow.of(row)
        problem = None
        is_declared = any(begin <= (expected or 0) and block.first_offset - 1 <= end for begin, end in lost)
        try:
            block.open_entries()
        except BlockDamaged as error:
            problem = f"the block with the entries {block.first_offset} to {block.last_offset}: {error}"
        if problem is None and expected not in (None, block.first_offset) and not is_declared:
            problem = f"the entries {expected} to {block.first_offset - 1} are missing"
        expected = block.last_offset + 1
        report(len(block.entries) + len(block.marks))
        yield problem
