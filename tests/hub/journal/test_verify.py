"""Verification of the journal, on files that a real journal has written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hub.journal.journal import Journal
from hub.journal.verify import JournalFacts, verify_snapshot
from hub.model.journal import JournalPosition
from integrity.database import DatabaseSnapshot
from integrity.finding import Finding
from tests.hub.journal.entries import make_entries, make_mark

COMMITS, ENTRIES = 5, 10


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return the file of a closed journal with COMMITS blocks of ENTRIES entries."""
    file = tmp_path / "journal.db"
    async with Journal(file, keep_bytes=1 << 20, keep_seconds=3600, max_bytes=1 << 30) as journal:
        journal.consumer("store")
        for commit in range(COMMITS):
            first = 1 + commit * ENTRIES
            await journal.append(make_entries(ENTRIES, first_seq=first, size_bytes=100), [make_mark(first + ENTRIES)])
        journal.advance("store", 20)
    return file


def verified(path: Path) -> tuple[list[Finding], JournalFacts | None]:
    """Return what the verification finds."""
    with DatabaseSnapshot(path) as snapshot:
        return verify_snapshot("journal.db", snapshot, lambda size_bytes: None)


def change(path: Path, sql: str) -> None:
    """Change a row as a damaged page would, so that SQLite sees no damage."""
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


async def test_an_intact_journal(path: Path) -> None:
    """One finding has the range of offsets, and the facts are those of the journal."""
    findings, facts = verified(path)
    assert [(finding.intact, finding.what) for finding in findings] == [(True, "5 blocks with the offsets 1 to 50")]
    assert facts is not None
    assert facts[1:] == (1, 50, {"store": 20}, JournalPosition(facts.id, 50), "")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE block SET entries = CAST(entries || x'00' AS BLOB) WHERE first_offset = 21", "entries 21 to 30: "),
        ("UPDATE block SET checksum = checksum + 1 WHERE first_offset = 1", "entries 1 to 10: "),
        ("UPDATE block SET received_ns = received_ns + 1 WHERE first_offset = 41", "entries 41 to 50: "),
        ("DELETE FROM block WHERE first_offset = 31", "the entries 31 to 40 are missing"),
        ("UPDATE block SET marks = x'c1' WHERE first_offset = 41", "seal"),
        ("UPDATE consumer SET offset = offset + 1", "consumer 'store'"),
        ("UPDATE fact SET value = 'x' WHERE name = 'id'", "fact 'id'"),
    ],
)
async def test_each_damaged_block_is_found_with_its_offsets(path: Path, damage: str, what: str) -> None:
    """The finding names the entries, the consequence and the next step; the rest of the file is intact."""
    change(path, damage)
    (finding,), _ = verified(path)
    assert finding.intact is False
    assert what in finding.what
    assert finding.consequence
    is_processed = "entries 1 to 10: " in finding.what
    assert ("nothing of the history is lost" in finding.consequence) is is_processed
    assert ("restart the hub" in finding.next_step) is not is_processed


async def test_a_declared_loss_is_no_finding(path: Path) -> None:
    """The hub found it before, and a person was informed: the exit code must not stay at 1 until it is trimmed."""
    change(path, "DELETE FROM block WHERE first_offset = 31")
    change(path, "UPDATE block SET checksum = 0 WHERE first_offset = 21")
    change(path, "INSERT INTO lost VALUES (21, 40, 1, 'damaged', 0)")
    (finding,), _ = verified(path)
    assert finding.intact
    assert "1 lost range is declared" in finding.what


async def test_a_wrong_bit_in_the_header_is_damage(path: Path) -> None:
    """The hub replaces such a file by a new one with everything that it contains."""
    change(path, "PRAGMA user_version = 5")
    (finding,), facts = verified(path)
    assert (finding.intact, facts) == (False, None)
    assert "in the header" in finding.what


async def test_a_file_of_another_format_is_not_damaged(path: Path) -> None:
    """A newer version may have written it: it cannot be examined."""
    change(path, "PRAGMA user_version = 99")
    (finding,), facts = verified(path)
    assert (finding.intact, facts) == (None, None)
    change(path, "PRAGMA application_id = 7")
    (finding,), facts = verified(path)
    assert (finding.intact, facts) == (False, None)
