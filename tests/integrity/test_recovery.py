"""Recovery of a database whose write-ahead log is damaged."""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import apsw
import pytest

from integrity.recovery import aside, recover_log

ROWS = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database as a kill leaves it: its rows are in the log."""
    live = tmp_path / "live"
    connection = apsw.Connection(os.fspath(live))
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, data BLOB)")
    for number in range(ROWS):
        connection.execute("INSERT INTO row VALUES (?, ?)", (number, bytes(500)))
    copy = tmp_path / "a.db"
    shutil.copy(live, copy)
    shutil.copy(live.with_name("live-wal"), copy.with_name("a.db-wal"))
    connection.close()
    return copy


def rows_of(path: Path) -> int:
    """Return how many rows SQLite reads, after its own check."""
    connection = apsw.Connection(os.fspath(path))
    try:
        assert connection.pragma("integrity_check") == "ok"
        count: int = connection.execute("SELECT count(*) FROM row").get
        return count
    finally:
        connection.close()


def test_every_row_is_kept_after_a_flipped_bit(path: Path) -> None:
    """SQLite alone would end at the damage; after the recovery it reads all rows, and the damaged log is kept."""
    log = path.with_name("a.db-wal")
    intact = log.read_bytes()
    dice = random.Random(3)
    for at in [5, 18, *(dice.randrange(32, int(len(intact) * 0.9)) for _ in range(20))]:
        damaged = bytearray(intact)
        damaged[at] ^= 2
        for file in path.parent.glob("a.db-*"):
            file.unlink()
        log.write_bytes(damaged)
        before = path.read_bytes()
        found = recover_log(path)
        assert found is not None, at
        assert found.damage.commits > 0
        assert found.kept.read_bytes() == damaged
        assert path.read_bytes() == before
        assert rows_of(path) == ROWS
        path.write_bytes(before)


@pytest.mark.parametrize("step", ["link", "unlink", "fsync", "replace"])
def test_a_crash_during_the_repair_loses_nothing(path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The damaged log is in its place until the repaired one is complete, and the next repair keeps one copy of it."""
    log = path.with_name("a.db-wal")
    damaged = bytearray(log.read_bytes())
    damaged[len(damaged) // 2] ^= 2
    log.write_bytes(damaged)

    def crash(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "fsync":
            patch.setattr(os, "fsync", crash)
        else:
            owner = os if step == "link" else Path
            patch.setattr(owner, step, crash)
        with pytest.raises(KeyboardInterrupt):
            recover_log(path)
    assert log.read_bytes() == damaged
    found = recover_log(path)
    assert found is not None
    assert found.kept.read_bytes() == damaged
    assert len(list(path.parent.glob("*.damaged-*"))) == 1
    assert rows_of(path) == ROWS


def test_a_page_that_a_later_commit_wrote_again_is_recognized(path: Path) -> None:
    """Each commit here writes the newest page of the table, so the bytes of the last frame alone matter."""
    log = path.with_name("a.db-wal")
    content = bytearray(log.read_bytes())
    frame_bytes = 24 + 4096
    frames = (len(content) - 32) // frame_bytes
    content[32 + (frames - 4) * frame_bytes + 500] ^= 2
    log.write_bytes(content)
    found = recover_log(path)
    assert found is not None
    assert found.rewritten
    assert "nothing is lost" in str(found)


def test_an_intact_log_is_left_alone(path: Path) -> None:
    """Nothing is written: not to the log, and not to the database."""
    log = path.with_name("a.db-wal")
    before = path.read_bytes(), log.read_bytes()
    assert recover_log(path) is None
    assert (path.read_bytes(), log.read_bytes()) == before
    assert rows_of(path) == ROWS


def test_a_torn_end_is_left_alone(path: Path) -> None:
    """A log that ends in the middle of its last commit is what a power failure leaves."""
    log = path.with_name("a.db-wal")
    log.write_bytes(log.read_bytes()[:-700])
    assert recover_log(path) is None
    assert rows_of(path) == ROWS - 1


def test_other_files_are_left_to_their_reader(tmp_path: Path) -> None:
    """A missing file, an empty one and one that is no database have no log to repair."""
    missing = tmp_path / "missing"
    assert recover_log(missing) is None
    for name, content in (("empty", b""), ("text", b"this is not a database" * 400)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}-wal").write_bytes(bytes(9_000))
        assert recover_log(tmp_path / name) is None
        assert (tmp_path / name).read_bytes() == content


def test_names_for_damaged_files_are_free(tmp_path: Path) -> None:
    """A file that is kept is never overwritten by the next one."""
    names = []
    for _ in range(3):
        names.append(aside(tmp_path / "a.db"))
        names[-1].touch()
    assert len(set(names)) == 3


def test_a_repair_on_a_full_disk_leaves_no_part_of_a_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the disk full. The repair succeeds as soon as there is room."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = path.with_name("a.db-wal")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        patch.setattr("integrity.recovery.sync_directory", lambda directory: None)
        with pytest.raises(OSError, match="No space left"):
            recover_log(path)
    assert log.read_bytes() == content
    assert not path.with_name("a.db-wal.new").exists()
    assert recover_log(path) is not None
    assert rows_of(path) == ROWS
