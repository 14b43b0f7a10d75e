"""Opening the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from hub.journal import schema
from hub.journal.schema import NO_CONTENTS, Lock, connect_reader, connect_writer
from hub.model.journal import JournalError
from tests.hub.journal.entries import make_entries

ROOT = Path(__file__).resolve().parents[3]

HOLD = """
import sys
from pathlib import Path
from hub.journal.schema import Lock
Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


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
    assert found == NO_CONTENTS._replace(id=found.id)
    assert len(found.id) == 16
    assert open_once(path) == found
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


@pytest.mark.parametrize(("step", "which"), [(1, "a newer"), (-1, "an older")])
def test_another_versions_journal_is_not_touched(path: Path, step: int, which: str) -> None:
    """A file of a later version says so instead of being misread."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.pragma("user_version", schema.SCHEMA_VERSION + step)
    connection.close()
    with pytest.raises(JournalError, match=f"{which} version"):
        open_once(path)


@pytest.mark.parametrize("statement", ["UPDATE block SET marks = x'c1'", "DELETE FROM fact", "DROP TABLE mark"])
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
    connection.execute(schema.WRITE_CONSUMERS, ('{"store": 1}',))
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
        Lock(tmp_path / "nowhere" / "journal.db")
    with pytest.raises(JournalError, match="nowhere"):
        open_once(tmp_path / "nowhere" / "journal.db")


def test_only_one_process_opens_a_journal(path: Path) -> None:
    """The second one fails; after the first process has ended in any way, the next succeeds."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalError, match="in use by another process"):
            Lock(path)
        holder.kill()
    Lock(path).release()


def test_a_reader_cannot_write(path: Path) -> None:
    """Only one connection ever changes the file."""
    open_once(path)
    reader = connect_reader(path, vfs=None)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute(schema.WRITE_FACT, ("id", "x"))
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
