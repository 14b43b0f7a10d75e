"""Verification of the journal's file: its structure, the checksum of every row, and the order of the offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import apsw

from hub.journal.block import BlockDamaged, BlockRow
from hub.journal.lock import read_record
from hub.journal.rows import CHECKED_TABLES, DamagedRow, read_rows
from hub.journal.schema import (
    APPLICATION_ID,
    HUB,
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    UNCHECKED_VERSION,
    header_is_damaged,
)
from hub.journal.stored_blocks import READ_BLOCKS
from hub.model.journal import JournalPosition
from integrity.database import DatabaseSnapshot, ReportBytes
from integrity.finding import Finding
from integrity.header import WRONG_BIT
from wire.text import plural

_ENDS = "SELECT coalesce(min(first_offset), 1), coalesce(max(first_offset + count - 1), 0) FROM block"
_LOST = "SELECT first_offset, last_offset FROM lost ORDER BY first_offset"

_LOST_ENTRIES = (
    "readings that are not in the store yet are lost, unless their agents still keep them",
    "start or restart the hub: it declares what is lost and requests it from the agents. Or restore a backup",
)
_PROCESSED_ENTRIES = (
    "the store and every bridge have processed these entries before, so nothing of the history is lost",
    "check the disk; the finding ends when the journal deletes these entries",
)
_DAMAGED_FILE = (
    "readings that are not in the store yet may be lost, unless their agents still keep them",
    "start or restart the hub: it continues with every intact row and declares the rest. Or restore a backup",
)
_FOREIGN = ("the hub does not start with it", "move the file to another folder, or restore a backup with `hub restore`")


class JournalFacts(NamedTuple):
    """Facts about a journal for the comparison with the other files. `cursors` are those of the consumers.

    `recorded` is the position in the file of its lock, `hub` the id of the hub that it belongs to.
    """

    id: str
    first_offset: int
    last_offset: int
    cursors: dict[str, int]
    recorded: JournalPosition | None = None
    hub: str = ""


def verify_snapshot(
    name: str, snapshot: DatabaseSnapshot, report: ReportBytes
) -> tuple[list[Finding], JournalFacts | None]:
    """Verify the journal of this snapshot, which may be that of a running hub.

    What the hub has found and declared before is no finding.
    """
    connection = snapshot.connection
    try:
        if header_is_damaged(connection):
            return [Finding(name, False, WRONG_BIT, *_DAMAGED_FILE)], None
        if connection.pragma("application_id") != APPLICATION_ID:
            return [Finding(name, False, "the file is no journal", *_FOREIGN)], None
        version = connection.pragma("user_version")
        if version not in READABLE_VERSIONS:
            return [Finding(name, None, f"the file has format {version}, this version reads {SCHEMA_VERSION}")], None
        findings = [
            Finding(name, False, f"SQLite's own check: {problem}", *_DAMAGED_FILE)
            for problem in snapshot.structure_problems()
        ]
        declared = []
        if version != UNCHECKED_VERSION:
            findings += [
                Finding(name, False, f"the checksum of {row} is wrong", *_DAMAGED_FILE)
                for row in _damaged_rows(connection)
            ]
            declared = [(first, last) for first, last in connection.execute(_LOST)]
        facts = _read_facts(connection)._replace(recorded=read_record(snapshot.path))
        processed = min(facts.cursors.values(), default=0)
        problems = list(_verify_blocks(connection, declared, report))
        findings += [
            Finding(name, False, problem, *(_PROCESSED_ENTRIES if last_offset <= processed else _LOST_ENTRIES))
            for last_offset, problem in problems
            if problem
        ]
    except (apsw.Error, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        return [Finding(name, False, f"the file cannot be read: {error}", *_DAMAGED_FILE)], None
    what = f"{plural(len(problems), 'block')} with the offsets {facts.first_offset:,} to {facts.last_offset:,}"
    if declared:
        what += f"; {plural(len(declared), 'lost range is', 'lost ranges are')} declared"
    return findings or [Finding(name, True, what)], facts


def _damaged_rows(connection: apsw.Connection) -> Iterator[DamagedRow]:
    for table in CHECKED_TABLES:
        yield from (row for row in read_rows(connection, table) if isinstance(row, DamagedRow))


def _verify_blocks(
    connection: apsw.Connection, declared: Sequence[tuple[int, int]], report: ReportBytes
) -> Iterator[tuple[int, str | None]]:
    """Yield the last offset and the problem of each block; None for an intact one or one whose loss is declared."""

    def is_declared(first: int, last: int) -> bool:
        return any(begin <= first and last <= end for begin, end in declared)

    expected = None
    for row in connection.execute(f"{READ_BLOCKS} ORDER BY first_offset"):
        block, problem = BlockRow.of(row), None
        if expected is not None and expected < block.first_offset and not is_declared(expected, block.first_offset - 1):
            yield block.first_offset - 1, f"the entries {expected:,} to {block.first_offset - 1:,} are missing"
        try:
            block.open_marks()
            block.open_entries()
        except BlockDamaged as error:
            if not is_declared(block.first_offset, block.last_offset):
                problem = f"the block of the entries {block.first_offset:,} to {block.last_offset:,}: {error}"
        expected = block.last_offset + 1
        report(len(row[5]) + len(row[6]))
        yield block.last_offset, problem


def _read_facts(connection: apsw.Connection) -> JournalFacts:
    facts = dict(connection.execute("SELECT name, value FROM fact"))
    first, last = connection.execute(_ENDS).get
    cursors = {str(name): int(offset) for name, offset in connection.execute("SELECT name, offset FROM consumer")}
    return JournalFacts(str(facts["id"]), first, last, cursors, hub=str(facts.get(HUB, "")))
