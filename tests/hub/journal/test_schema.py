"""Opening the file."""

from __future__ import annotations

import errno
import zlib
from pathlib import Path

import apsw
import pytest

from hub.journal import schema
from hub.journal.block import encode_block, encode_marks
from hub.journal.rows import (
    INSERT_QUARANTINE,
    WRITE_CONSUMERS,
    WRITE_MARKS,
    WRITE_QUARANTINE_TOTALS,
    checked,
    checked_rows,
    mark_rows,
    write_fact,
)
from hub.journal.schema import NO_CONTENTS, connect_reader, connect_writer
from hub.model.batch import Mark
from hub.model.journal import JournalError, QuarantinedEntry
from tests.hub.journal.entries import EPOCH, make_entries, sealed_block


def open_once(path: Path) -> schema.Contents:
    connection, found = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_a_new_file_is_an_empty_journal(path: Path) -> None:
    """It has an id, which stays, and nothing else; only its owner can read it."""
    found = open_once(path)
    assert found == NO_CONTENTS._replace(id=found.id, is_new=True, facts={"id": found.id})
    assert len(found.id) == 16
    assert open_once(path) == found._replace(is_new=False)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """Its content stays, and the error says what to do."""
    path.write_bytes(b"somebody's letter " * 100)
    with pytest.raises(JournalError, match=r"is damaged, or is no journal.*move it and"):
        open_once(path)
    assert path.read_bytes() == b"somebody's letter " * 100


def test_another_programs_database_is_left_alone(path: Path) -> None:
    """An SQLite file without our mark is not taken for a journal."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE photos (name)")
    connection.close()
    with pytest.raises(JournalError, match="another program"):
        open_once(path)


@pytest.mark.parametrize("version", [schema.SCHEMA_VERSION + 3, 1])
def test_another_versions_journal_is_not_touched(path: Path, version: int) -> None:
    """A file of another format says so instead of being misread."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.pragma("user_version", version)
    connection.close()
    content = path.read_bytes()
    with pytest.raises(JournalError, match=rf"has format {version}, and this version of the hub reads 2 to 4"):
        open_once(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("bit", range(31))
@pytest.mark.parametrize("name", ["user_version", "application_id"])
def test_a_wrong_bit_in_the_header_is_damage(path: Path, name: str, bit: int) -> None:
    """It is neither another version nor another program, because the tables are ours: the journal is salvaged."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.pragma(name, connection.pragma(name) ^ 1 << bit)
    connection.close()
    with pytest.raises(schema.JournalDamaged, match="a number in the header of the file is wrong"):
        open_once(path)


@pytest.mark.parametrize("statement", ["DELETE FROM fact", "DROP TABLE mark"])
def test_the_error_for_damage_says_what_to_do(path: Path, statement: str) -> None:
    """A journal that cannot be read is an error that names the file and the way on."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    row = (1, 1, 1, 0, 0, b"\x90", b"")
    connection.execute(schema.INSERT_BLOCK, row)
    connection.execute(statement)
    connection.close()
    with pytest.raises(JournalError, match=str(path)):
        open_once(path)


def test_the_error_for_a_truncated_file_says_what_to_do(path: Path) -> None:
    """A file whose pages were overwritten is damaged, not empty."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.execute(WRITE_CONSUMERS, (checked_rows([("store", 1)]),))
    connection.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"\xff" * (size - 200))
    with pytest.raises(JournalError, match="is damaged"):
        open_once(path)


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    """The error names the path; nothing is made up."""
    with pytest.raises(JournalError, match="nowhere"):
        open_once(tmp_path / "nowhere" / "journal.db")


def test_a_reader_cannot_write(path: Path) -> None:
    """Only one connection ever changes the file."""
    open_once(path)
    reader = connect_reader(path, vfs=None)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute(*write_fact("id", "x"))
    reader.close()


def test_the_space_of_an_outage_is_released(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is nearly all free pages shrinks at opening; one that is in use stays as it is."""
    monkeypatch.setattr(schema, "RECLAIM_BYTES", 1 << 20)
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    (entry,) = make_entries(1, size_bytes=4 << 20)
    for first in (1, 2):
        connection.execute(schema.INSERT_BLOCK, (first, 1, first << 22, 0, 0, b"\x90", entry.payload))
    connection.close()
    open_once(path)
    assert path.stat().st_size > 8 << 20
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.execute(schema.DELETE_BLOCKS, (3,))
    connection.close()
    assert path.stat().st_size > 8 << 20
    open_once(path)
    assert path.stat().st_size < 1 << 20


VERSION_2 = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE block (first_offset INTEGER PRIMARY KEY, count INTEGER NOT NULL, end_bytes INTEGER NOT NULL,
  received_ns INTEGER NOT NULL, checksum INTEGER NOT NULL, marks BLOB NOT NULL, entries BLOB NOT NULL) STRICT;
CREATE TABLE mark (device TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, batches INTEGER NOT NULL,
  readings INTEGER NOT NULL, duplicates INTEGER NOT NULL, quarantined INTEGER NOT NULL, lost INTEGER NOT NULL,
  moved INTEGER NOT NULL, earlier TEXT NOT NULL, offset INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE consumer (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (offset INTEGER PRIMARY KEY, device TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
  received_ns INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL, format TEXT NOT NULL,
  payload BLOB NOT NULL) STRICT;
CREATE INDEX quarantine_of_device ON quarantine (device, offset);
CREATE TABLE quarantine_total (code TEXT PRIMARY KEY, total INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO fact VALUES ('id', '00112233445566aa'), ('highest_series', 7);
INSERT INTO mark VALUES ('boiler', 'e', 9, 8, 70, 1, 1, 0, 0, '[["d",4]]', 1);
INSERT INTO consumer VALUES ('store', 1);
INSERT INTO quarantine VALUES (1, 'boiler', 'e', 3, 5, 'code', 'message', 'json', x'00ff');
INSERT INTO quarantine_total VALUES ('code', 3);
"""


def test_a_journal_of_version_2_gets_checksums(path: Path) -> None:
    """Everything in it stays, its blocks have no seal, and a row that is damaged afterwards is found."""
    connection = apsw.Connection(str(path))
    connection.execute(VERSION_2)
    connection.pragma("application_id", schema.APPLICATION_ID)
    connection.pragma("user_version", 2)
    data = encode_block(make_entries(1))
    marks = encode_marks([Mark("pump", "e", 1)])
    connection.execute(schema.INSERT_BLOCK, (1, 1, len(data) + len(marks), 0, zlib.crc32(data), marks, data))
    connection.close()
    found = open_once(path)
    assert (found.id, found.highest_series, found.last_offset, found.incidents) == ("00112233445566aa", 7, 1, [])
    assert found.marks == {
        "boiler": Mark("boiler", "e", 9, 8, 70, 1, 1, 0, 0, (("d", 4),)),
        "pump": Mark("pump", "e", 1),
    }
    assert found.cursors == {"store": 1}
    assert found.quarantine == [QuarantinedEntry(1, "boiler", "code", 5, 2)]
    assert found.quarantine_totals == {"code": 3}
    assert open_once(path) == found


def test_a_journal_of_version_3_counts_the_readings_in_quarantine(path: Path) -> None:
    """Its marks stay, with the readings that were never accepted. A damaged row is found and not made valid."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    definition = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'mark'").get
    connection.execute(schema.INSERT_BLOCK, sealed_block(2))
    connection.execute("DROP TABLE mark")
    counts = "  quarantined_readings INTEGER NOT NULL,\n  source_refused INTEGER NOT NULL,\n"
    assert counts in definition
    connection.execute(definition.replace(counts, ""))
    for seq, checksum in ((7, None), (8, 1)):
        cells = (f"pump-{seq}", "e", seq, 1, 2, 3, 4, 5, 6, "[]", 1, 7, 8)
        connection.execute(f"INSERT INTO mark VALUES ({', '.join('?' * 14)})", (*cells, checksum or checked(cells)[-1]))
    for offset, code in ((1, "unknown_metric"), (2, "store_refused")):
        payload = b'{"type":"data","seq":3,"time":[1,2],"values":{"level":[1.5,2.5]}}'
        row = checked((offset, "pump-7", "e", 3, 5, code, "message", "json", payload))
        connection.execute(INSERT_QUARANTINE, row)
    connection.pragma("user_version", 3)
    connection.close()
    found = open_once(path)
    assert found.marks == {"pump-7": Mark("pump-7", "e", 7, 1, 2, 3, 4, 5, 6, (), 7, 8, 2)}
    assert found.incidents == ["damaged rows were found: mark 'pump-8'"]
    assert open_once(path) == found._replace(incidents=[])
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'mark'").get == definition


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE mark SET seq = seq + 1", "mark 'boiler'"),
        ("UPDATE consumer SET offset = 0", "consumer 'store'"),
        ("UPDATE quarantine SET payload = x'01'", "quarantine 1"),
        ("UPDATE quarantine_total SET total = 9", "quarantine_total 'code'"),
        ("UPDATE fact SET value = 8 WHERE name = 'highest_series'", "fact 'highest_series'"),
        ("UPDATE mark SET epoch = CAST(x'ff' AS TEXT)", "mark 'boiler'"),
    ],
)
def test_a_damaged_row_is_set_aside_and_reported(path: Path, statement: str, place: str) -> None:
    """It is never used, its bytes are kept, and the next opening finds nothing."""
    mark = Mark("boiler", "e", 9)
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.execute(schema.INSERT_BLOCK, sealed_block(1))
    connection.execute(WRITE_MARKS, (mark_rows([mark], 1),))
    connection.execute(WRITE_CONSUMERS, (checked_rows([("store", 1)]),))
    connection.execute(WRITE_QUARANTINE_TOTALS, (checked_rows([("code", 3)]),))
    connection.execute(INSERT_QUARANTINE, checked((1, "boiler", "e", 3, 5, "code", "message", "json", b"\0")))
    connection.execute(*write_fact("highest_series", 7))
    connection.execute(*write_fact(schema.CHECKPOINT_OFFSET, 1))
    connection.execute(statement)
    connection.close()
    found = open_once(path)
    assert found.incidents == [f"damaged rows were found: {place}"]
    again = open_once(path)
    assert again == found._replace(incidents=[])
    everything = (found.marks, found.cursors, found.quarantine_totals, found.highest_series, len(found.quarantine))
    assert sum(map(bool, everything)) == 4
    connection = connect_reader(path, vfs=None)
    assert connection.execute("SELECT place FROM damaged").get == place
    connection.close()


def open_with(path: Path, statement: str) -> schema.Contents:
    """Return the contents of a journal of three blocks with marks, after this statement damaged it."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    for first in (1, 3, 5):
        connection.execute(
            schema.INSERT_BLOCK, sealed_block(first, marks=[Mark("a", EPOCH, first + 1, batches=first + 1)])
        )
    connection.execute(statement)
    connection.close()
    return open_once(path)


def test_the_newest_block_never_happened_if_its_entries_are_damaged(path: Path) -> None:
    """Its device returns to the position before it, its offsets are lost, and they are not used again."""
    found = open_with(path, "UPDATE block SET entries = x'00' WHERE first_offset = 5")
    assert (found.last_offset, found.marks["a"].seq) == (6, 4)
    assert [(lost.first_offset, lost.last_offset) for lost in found.lost] == [(5, 6)]
    assert "entries 5 to 6 of the journal are lost" in found.incidents[0]
    assert open_once(path) == found._replace(incidents=[])


def test_offsets_are_left_out_if_the_newest_block_is_damaged_as_a_whole(path: Path) -> None:
    """Nobody knows how many entries it had."""
    found = open_with(path, "UPDATE block SET entries = x'00', marks = x'c100' WHERE first_offset = 5")
    assert (found.last_offset, found.marks["a"].seq) == (4 + schema.UNUSED_OFFSETS, 4)
    assert open_once(path) == found._replace(incidents=[])


@pytest.mark.parametrize("first", [3, 5])
def test_damaged_marks_are_made_from_the_entries(path: Path, first: int) -> None:
    """The entries of the block are intact, so its device has the same position."""
    found = open_with(path, f"UPDATE block SET marks = x'c100' WHERE first_offset = {first}")
    assert (found.last_offset, found.marks["a"].seq, found.marks["a"].batches) == (6, 6, 6)
    assert f"the block of entry {first}" in found.incidents[0]


def test_missing_blocks_are_declared_at_the_opening(path: Path) -> None:
    """A hole between two blocks is reported once, with its range; one that is declared already is not."""
    open_once(path)
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    for first in (1, 3, 7):
        connection.execute(schema.INSERT_BLOCK, sealed_block(first))
    connection.close()
    found = open_once(path)
    assert [range[:2] for range in found.lost] == [(5, 6)]
    (incident,) = found.incidents
    assert incident.startswith("entries 5 to 6 of the journal are lost")
    again = open_once(path)
    assert again.incidents == []
    assert again.lost == found.lost


def test_an_opening_on_a_full_disk_names_the_next_step(path: Path) -> None:
    """It is not damage: nothing is salvaged, and nothing is lost."""
    error = schema.opening_failed(path, OSError(errno.ENOSPC, "No space left on device"))
    assert not isinstance(error, schema.JournalDamaged)
    assert "Free some space, and start the hub again" in str(error)
