"""Opening of damaged journals: what is readable continues in a new file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import apsw
import pytest

from hub.journal.journal import Journal
from hub.journal.schema import PAGE_BYTES
from hub.model.batch import Entry
from hub.model.journal import EntriesLost, JournalError, JournalPosition, JournalTrimmed
from tests.hub.journal.entries import content, make_entry, make_mark

ENTRIES = 300


def journal_of(path: Path, known_id: str | None = None) -> Journal:
    return Journal(path, keep_bytes=1 << 20, keep_seconds=1e9, max_bytes=1 << 30, known_id=known_id)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A journal of many small blocks."""
    path = tmp_path / "journal.db"
    async with journal_of(path) as journal:
        journal.consumer("store")
        for seq in range(1, ENTRIES + 1):
            await journal.append([make_entry(seq, payload=b"%d " % seq * 40, received_ns=1)], [make_mark(seq)])
    return path


async def read_all(journal: Journal) -> dict[int, Entry]:
    """Return every readable entry by its offset; every other offset must be reported as lost."""
    found: dict[int, Entry] = {}
    after = 0
    while after < journal.last_offset:
        try:
            entries = await journal.read(after)
        except JournalTrimmed as lost:
            assert isinstance(lost, EntriesLost) or not found
            after = lost.first - 1
            continue
        found.update((entry.offset, entry) for entry in entries)
        after = entries[-1].offset
    return found


def damage(path: Path, dice: random.Random, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "flip":
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    elif kind == "zeros":
        at = dice.randrange(len(content) // PAGE_BYTES) * PAGE_BYTES
        content[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)
    else:
        del content[dice.randrange(len(content)) :]
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["flip", "zeros", "cut"])
async def test_a_damaged_journal_returns_what_was_written_or_reports_it(path: Path, kind: str) -> None:
    """Whatever byte or page is damaged, the journal opens and accepts entries, no entry is wrong, and each that is not
    there is reported. A file that SQLite refuses without being damaged stays closed."""
    dice = random.Random(kind)
    intact = path.with_name("intact")
    shutil.copy(path, intact)
    for _ in range(40):
        for file in path.parent.glob("journal.db?*"):
            if file.name != "journal.db.lock":
                file.unlink()
        shutil.copy(intact, path)
        damage(path, dice, kind)
        journal = journal_of(path, known_id="0" * 16)
        try:
            await journal.__aenter__()
        except JournalError as error:
            assert "has format" in str(error) or "another program" in str(error)
            continue
        try:
            found = await read_all(journal)
            for offset, entry in found.items():
                assert offset > ENTRIES or content(entry) == content(expected(offset))
            is_whole = found.keys() == set(range(1, ENTRIES + 1)) and journal.last_offset == ENTRIES
            # An empty new journal has another id, by which the registry recognizes the loss.
            assert is_whole or journal.losses.incidents or journal.id != "0" * 16
            mark = journal.marks().get("a")
            assert mark is None or mark.seq <= ENTRIES
            last = await journal.append([make_entry(1)], [])
            assert last == journal.last_offset
            assert [entry.offset for entry in await journal.read(last - 1)] == [last]
        finally:
            await journal.close()


def expected(offset: int) -> Entry:
    entry = make_entry(offset, payload=b"%d " % offset * 40, received_ns=1)
    entry.offset = offset
    return entry


async def test_a_salvaged_journal_keeps_the_damaged_file(path: Path) -> None:
    """It keeps its id, its positions and every block that is not on the damaged page."""
    async with journal_of(path) as journal:
        id = journal.id
    before = bytearray(path.read_bytes())
    page = next(
        number
        for number in range(2, len(before) // PAGE_BYTES)
        if b"150 150 150" in before[number * PAGE_BYTES :][:PAGE_BYTES]
    )
    before[page * PAGE_BYTES : page * PAGE_BYTES + 8] = bytes(8)
    path.write_bytes(before)
    async with journal_of(path) as journal:
        assert journal.id == id
        assert journal.last_offset == ENTRIES
        assert journal.marks() == {"a": make_mark(ENTRIES)}
        found = await read_all(journal)
        assert 150 not in found
        assert len(found) > ENTRIES - 60
        (incident, lost) = journal.losses.incidents
        assert "readable blocks continue in a new file" in incident.text
        assert f"entries {journal.losses.ranges[0].first_offset} to" in lost.text
    assert before in [kept.read_bytes() for kept in path.parent.glob("journal.db.damaged-*")]


async def test_a_foreign_file_in_a_new_directory_is_left_alone(tmp_path: Path) -> None:
    """No journal was ever opened here, so the file is none that was damaged."""
    path = tmp_path / "journal.db"
    path.write_bytes(b"somebody's letter" * 1000)
    with pytest.raises(JournalError, match="is damaged, or is no journal"):
        async with journal_of(path):
            pass
    assert path.read_bytes() == b"somebody's letter" * 1000


async def test_a_cut_write_ahead_log_is_noticed(tmp_path: Path) -> None:
    """It looks like the end of a log that a power failure has torn, but more was acknowledged: the lock's file has the
    offset of each commit."""
    path = tmp_path / "journal.db"
    async with journal_of(path) as journal:
        for seq in range(1, 21):
            await journal.append([make_entry(seq)], [make_mark(seq)])
        for file in list(tmp_path.iterdir()):
            shutil.copy(file, tmp_path / f"killed-{file.name}")
    log = tmp_path / "killed-journal.db-wal"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    async with journal_of(tmp_path / "killed-journal.db") as journal:
        assert journal.ownership.recorded == JournalPosition(journal.id, 20)
        assert journal.last_offset < 15
    lock = tmp_path / "killed-journal.db.lock"
    lock.write_bytes(b"x" * lock.stat().st_size)
    async with journal_of(tmp_path / "killed-journal.db") as journal:
        assert journal.ownership.recorded is None


async def test_rows_that_a_salvage_cannot_read_are_reported(path: Path) -> None:
    """Cursors and positions of devices are not blocks, and their loss has consequences as well."""
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE consumer SET offset = offset + 1")
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'mark'").get
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(path.read_bytes())
    content[(root - 1) * PAGE_BYTES : root * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)
    async with journal_of(path) as journal:
        report = journal.losses.incidents[0].text
        assert "without 1 damaged row of consumer, rows on unreadable pages of mark, in a new file" in report
