"""The registry's file: made once, guarded, and honest about what is wrong with it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from hub.registry.database import data_version, hub_id, open_database, transaction
from hub.registry.errors import RegistryError
from wire.errors import Code

OPEN = """
import sys
from pathlib import Path
from hub.registry.database import hub_id, open_database
print(hub_id(open_database(Path(sys.argv[1]))))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def test_the_hub_id_is_made_once(path: Path, tmp_path: Path) -> None:
    """The id is random and outlives the process."""
    first = open_database(path)
    id = hub_id(first)
    first.close()
    assert hub_id(open_database(path)) == id
    assert hub_id(open_database(tmp_path / "other.db")) != id


def test_commits_are_on_disk_before_they_return(path: Path) -> None:
    """WAL with synchronous=FULL: every commit is an fsync (SQLite's documentation of PRAGMA synchronous)."""
    connection = open_database(path)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2


def test_only_the_owner_can_read_the_file(path: Path) -> None:
    """Nobody else on the machine learns who has keys."""
    connection = open_database(path)
    with transaction(connection):
        connection.execute("INSERT INTO facts VALUES ('a', 'b')")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_processes_that_open_a_new_file_at_once_agree(path: Path) -> None:
    """Whoever comes first makes the file; the others wait and find the same hub."""
    running = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = [process.communicate() for process in running]
    assert {process.returncode for process in running} == {0}, answers
    assert len({stdout for stdout, _ in answers}) == 1


def test_a_transaction_that_raises_has_not_happened(path: Path) -> None:
    """All or nothing."""
    connection = open_database(path)
    with pytest.raises(RegistryError), transaction(connection):
        connection.execute("INSERT INTO facts VALUES ('a', 'b'), ('a', 'b')")
    with pytest.raises(ZeroDivisionError), transaction(connection):
        connection.execute("INSERT INTO facts VALUES ('a', ?)", (1 / 0,))
    assert connection.execute("SELECT count(*) FROM facts WHERE name = 'a'").get == 0
    assert not connection.in_transaction


def test_a_lock_held_by_another_is_told(path: Path) -> None:
    """Whoever waited in vain gets BUSY, which can be tried again."""
    holder, waiter = open_database(path), open_database(path)
    waiter.set_busy_timeout(0)
    with transaction(holder), pytest.raises(RegistryError) as caught, transaction(waiter):
        pass
    assert caught.value.code is Code.BUSY


def test_a_full_file_is_told_and_can_be_used_on(path: Path) -> None:
    """STORAGE_FULL undoes the transaction; reading goes on."""
    connection = open_database(path, max_bytes=128 * 1024)
    with pytest.raises(RegistryError) as caught, transaction(connection):
        connection.execute("INSERT INTO facts VALUES ('big', ?)", ("x" * 200_000,))
    assert caught.value.code is Code.STORAGE_FULL
    assert hub_id(connection)
    with transaction(connection):
        connection.execute("INSERT INTO facts VALUES ('small', 'x')")


def test_the_data_version_tells_of_others_commits_only(path: Path) -> None:
    """Our own commits do not make us read everything again; another connection's do."""
    ours, other = open_database(path), open_database(path)
    before = data_version(ours)
    with transaction(ours):
        ours.execute("INSERT INTO facts VALUES ('a', '1')")
    assert data_version(ours) == before
    with transaction(other):
        other.execute("INSERT INTO facts VALUES ('b', '1')")
    assert data_version(ours) != before


def test_another_program_s_file_is_left_alone(path: Path) -> None:
    """A SQLite file that is not a registry is refused and not written to."""
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    with pytest.raises(RegistryError, match="is not a registry"):
        open_database(path)
    assert apsw.Connection(str(path)).execute("SELECT name FROM sqlite_schema").get == "theirs"


def test_a_file_of_a_newer_program_is_refused(path: Path) -> None:
    """An older program does not write into a format that it does not know."""
    newer = open_database(path)
    newer.pragma("user_version", 99)
    newer.close()
    with pytest.raises(RegistryError, match="format 99"):
        open_database(path)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough for a header" * 20, b"\0" * 4096])
def test_a_damaged_file_is_told(path: Path, content: bytes) -> None:
    """Damage is STORAGE_FAILED with a sentence, never a traceback of SQLite."""
    path.write_bytes(content)
    with pytest.raises(RegistryError) as caught:
        open_database(path)
    assert caught.value.code is Code.STORAGE_FAILED


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(RegistryError, match=r"nowhere/registry\.db cannot be opened"):
        open_database(tmp_path / "nowhere" / "registry.db")
