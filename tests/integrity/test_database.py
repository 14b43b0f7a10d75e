"""Snapshots of a real database that another connection writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from integrity.database import DatabaseSnapshot, SnapshotError

ROWS = 2_000
SELECT = "SELECT count(*), sum(length(content)) FROM item"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database in WAL mode."""
    return tmp_path / "some.db"


@pytest.fixture
def writer(path: Path) -> Iterator[apsw.Connection]:
    """Return the connection of its owner."""
    connection = apsw.Connection(os.fspath(path))
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, content BLOB NOT NULL)")
    add_rows(connection)
    yield connection
    connection.close()


def add_rows(connection: apsw.Connection) -> None:
    with connection:
        connection.executemany("INSERT INTO item (content) VALUES (?)", ((bytes(500),) for _ in range(ROWS)))


def contents(path: Path) -> tuple[object, ...] | None:
    """Return what a new connection reads."""
    connection = apsw.Connection(os.fspath(path))
    try:
        return connection.execute(SELECT).fetchone()
    finally:
        connection.close()


def test_a_copy_has_exactly_the_snapshot_while_another_connection_writes(
    path: Path, writer: apsw.Connection, tmp_path: Path
) -> None:
    """Commits between the steps of the copy are not in it, and do not make it begin again."""
    copied = 0

    def report(copied_bytes: int) -> None:
        nonlocal copied
        copied += copied_bytes
        add_rows(writer)

    with DatabaseSnapshot(path) as snapshot:
        add_rows(writer)
        snapshot.copy(tmp_path / "copy.db", report)
        size_bytes = snapshot.size_bytes
    assert contents(tmp_path / "copy.db") == (ROWS, 500 * ROWS)
    assert copied == size_bytes == (tmp_path / "copy.db").stat().st_size
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert writer.execute(SELECT).get[0] > 2 * ROWS


def test_a_snapshot_has_what_only_the_log_contains(path: Path, writer: apsw.Connection, tmp_path: Path) -> None:
    """A database whose owner was killed is read with its log, and its files stay as they are."""
    for name in ("some.db", "some.db-wal"):
        (tmp_path / "killed").mkdir(exist_ok=True)
        (tmp_path / "killed" / name).write_bytes((tmp_path / name).read_bytes())
    before = {file.name: file.read_bytes() for file in (tmp_path / "killed").iterdir()}
    with DatabaseSnapshot(tmp_path / "killed" / "some.db") as snapshot:
        assert snapshot.connection.execute(SELECT).fetchone() == (ROWS, 500 * ROWS)
        assert snapshot.structure_problems() == []
    assert before["some.db-wal"]
    assert {name: (tmp_path / "killed" / name).read_bytes() for name in before} == before


def test_a_static_database_gets_no_files_beside_it(path: Path, writer: apsw.Connection, tmp_path: Path) -> None:
    """A copy can be read in a folder that is read only; one with a log is read with it."""
    folder = tmp_path / "a ? copy"
    folder.mkdir()
    copied = folder / "some.db"
    with DatabaseSnapshot(path) as snapshot:
        snapshot.copy(copied, lambda copied_bytes: None)
    with DatabaseSnapshot(copied, is_static=True) as snapshot:
        assert snapshot.connection.execute(SELECT).fetchone() == (ROWS, 500 * ROWS)
    assert list(folder.iterdir()) == [copied]
    for name in ("some.db", "some.db-wal"):
        (folder / name).write_bytes((tmp_path / name).read_bytes())
    with DatabaseSnapshot(copied, is_static=True) as snapshot:
        assert snapshot.connection.execute(SELECT).fetchone() == (ROWS, 500 * ROWS)


def test_a_damaged_structure_is_described(path: Path, writer: apsw.Connection) -> None:
    """SQLite's own check finds a page of zeros."""
    writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    writer.close()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(bytes(4096))
    with DatabaseSnapshot(path) as snapshot:
        assert snapshot.structure_problems()


@pytest.mark.parametrize(("content", "is_damage"), [(None, False), (b"no database" * 1000, True)])
def test_a_file_that_is_missing_or_no_database(path: Path, content: bytes | None, is_damage: bool) -> None:
    """The error states whether the bytes are the reason."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        DatabaseSnapshot(path)
    assert caught.value.is_damage is is_damage
