"""Verification of the journal's file: its structure, the checksum of every block, and the order of the offsets."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import apsw

from hub.journal.block import BlockDamaged, decode_block, decode_marks
from hub.journal.schema import APPLICATION_ID, SCHEMA_VERSION
from integrity.database import ReportBytes, Snapshot
from integrity.finding import Finding
from wire.text import plural

_ENDS = "SELECT coalesce(min(first_offset), 1), coalesce(max(first_offset + count - 1), 0) FROM block"
_BLOCKS = "SELECT first_offset, count, checksum, marks, entries FROM block ORDER BY first_offset"

LOST_ENTRIES = (
    "the store has these readings already if its position is behind them; otherwise they are lost unless the agent or "
    "a backup still has them"
)
RESTORE = "stop the hub, and restore a backup with `hub restore`; the agents then send again what they still have"
UNREADABLE = "acknowledged readings that are not in the store yet cannot be read, and the hub does not start"


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
    except (apsw.Error, UnicodeDecodeError, TypeError, ValueError) as error:
        return [Finding(name, False, f"the file cannot be read: {error}", UNREADABLE, RESTORE)], None
    what = f"{plural(len(problems), 'block')} with the offsets {facts.first_offset} to {facts.last_offset}"
    return findings or [Finding(name, True, what)], facts


def read_facts(connection: apsw.Connection) -> JournalFacts:
    """Return the facts of a journal."""
    ((id,),) = connection.execute("SELECT value FROM fact WHERE name = 'id'").fetchall()
    first, last = connection.execute(_ENDS).get
    cursors = {str(name): int(offset) for name, offset in connection.execute("SELECT name, offset FROM consumer")}
    return JournalFacts(str(id), first, last, cursors)


def _verify_blocks(connection: apsw.Connection, report: ReportBytes) -> Iterator[str | None]:
    """Yield the problem of each block, None for an intact one."""
    expected = None
    for first, count, checksum, marks, entries in connection.execute(_BLOCKS):
        problem = None
        if zlib.crc32(entries) != checksum:
            problem = f"the checksum of the entries {first} to {first + count - 1} is wrong"
        elif expected not in (None, first):
            problem = f"the entries {expected} to {first - 1} are missing"
        else:
            try:
                decode_marks(marks)
                if len(decode_block(entries, first)) != count:
                    problem = f"the block from offset {first} on has another number of entries than recorded"
            except BlockDamaged as error:
                problem = f"the block from offset {first} on: {error}"
        expected = first + count
        report(len(entries) + len(marks))
        yield problem
