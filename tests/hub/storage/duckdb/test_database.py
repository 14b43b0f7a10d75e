from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from hub.model.store import StoreUnavailable
from hub.storage.duckdb.database import Database, explain, size_bytes
from tests.hub.storage.duckdb.locked_file import locked_by_another_process


def opened(path: Path) -> Database:
    return Database(path, memory_limit="200MB", threads=1)


def test_a_new_file_appears_complete(tmp_path: Path) -> None:
    """A file that a crash left half made is created again."""
    path = tmp_path / "history.duckdb"
    path.with_name("history.duckdb.new").write_bytes(b"half a file")
    database = opened(path)
    assert database.writer.execute("SELECT count(*) FROM store").fetchone() == (1,)
    database.close()
    assert [file.name for file in tmp_path.iterdir()] == ["history.duckdb"]
    assert size_bytes(path) == path.stat().st_size


def test_a_file_in_use_is_reported(tmp_path: Path) -> None:
    """The second of two hubs on one file reports that, and opens the file after the first has ended."""
    path = tmp_path / "history.duckdb"
    opened(path).close()
    with (
        locked_by_another_process(path),
        pytest.raises(StoreUnavailable, match=r"in use by another process: end that process.*PID \d+"),
    ):
        opened(path)
    opened(path).close()


def flip(path: Path, *places: int) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(os.urandom(512))


def pretend(path: Path, beginning: bytes) -> None:
    path.write_bytes(beginning + bytes(8192))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "header": lambda path: flip(path, 0),
    "both headers": lambda path: flip(path, 4096, 8192),
    "first block": lambda path: flip(path, 12_288),
    "empty": lambda path: os.truncate(path, 0),
    "cut short": lambda path: os.truncate(path, 20_000),
    "something else": lambda path: pretend(path, b"SQLite format 3\0"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A file that cannot be read is neither changed nor replaced; the error says what to do."""
    path = tmp_path / "history.duckdb"
    opened(path).close()
    damage(path)
    before = path.read_bytes()
    with pytest.raises(
        StoreUnavailable, match=r"cannot be read: restore a copy of it, or move it and its .wal file away"
    ):
        opened(path)
    assert path.read_bytes() == before


def test_a_damaged_write_ahead_log_is_reported(tmp_path: Path) -> None:
    """A write-ahead log of another file is not ignored silently."""
    path, other = tmp_path / "history.duckdb", tmp_path / "other.duckdb"
    opened(path).close()
    database = opened(other)
    database.writer.execute("UPDATE store SET position = 7")
    wal = other.with_name("other.duckdb.wal").read_bytes()
    database.close()
    path.with_name("history.duckdb.wal").write_bytes(wal)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        opened(path)


def test_a_write_ahead_log_without_its_file_is_reported(tmp_path: Path) -> None:
    """Half of a moved database is not ignored."""
    (tmp_path / "history.duckdb.wal").write_bytes(b"readings")
    with pytest.raises(StoreUnavailable, match=r"history.duckdb.wal exists without its history.duckdb"):
        opened(tmp_path / "history.duckdb")


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    """The message contains the system's own text."""
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        opened(tmp_path / "nowhere" / "history.duckdb")


def test_readers_see_one_commit(tmp_path: Path) -> None:
    """All queries of a reader see the database as it was at the first query."""
    database = opened(tmp_path / "history.duckdb")
    with database.reader() as reader, database.reader() as late:
        assert reader.fetch("SELECT position FROM store")["position"].tolist() == [0]
        database.writer.execute("UPDATE store SET position = 7")
        assert reader.fetch("SELECT position FROM store")["position"].tolist() == [0]
        assert late.fetch("SELECT position FROM store")["position"].tolist() == [7]
    database.close()


def test_closing_interrupts_readers(tmp_path: Path) -> None:
    """Closing the database ends a query that never finishes, and one that is about to start."""
    database = opened(tmp_path / "history.duckdb")
    errors: list[Exception] = []
    reading = threading.Barrier(3)

    def read(sql: str) -> None:
        try:
            with database.reader() as reader:
                reading.wait()
                while True:
                    reader.fetch(sql)
        except duckdb.Error as error:
            errors.append(error)

    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 3 = b.range % 7"
    threads = [threading.Thread(target=read, args=[sql]) for sql in (endless, "SELECT 1")]
    for thread in threads:
        thread.start()
    reading.wait()
    database.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [duckdb.InterruptException] * 2
    with pytest.raises(StoreUnavailable, match="closed"), database.reader():
        pass


def test_a_reader_may_be_interrupted_after_its_end(tmp_path: Path) -> None:
    """The caller of an interrupt cannot know that the reader has finished."""
    database = opened(tmp_path / "history.duckdb")
    with database.reader() as reader:
        pass
    reader.interrupt()
    with pytest.raises(duckdb.InterruptException):
        reader.fetch("SELECT 1")
    database.close()


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    """Whatever DuckDB did when the disk became full, the error says what to do."""
    error = duckdb.IOException('Could not write file "/data/h.duckdb": No space left on device\nmore')
    assert str(explain(error, tmp_path)).startswith(f"no room on the disk of {tmp_path}: free some space")
    assert "store.memory_limit" in str(explain(duckdb.OutOfMemoryException("failed"), tmp_path))
