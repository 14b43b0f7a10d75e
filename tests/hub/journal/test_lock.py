"""The lock of a journal, and its record of what was written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hub.journal.lock import Lock, lock_path, read_record
from hub.model.journal import JournalError, JournalPosition

ROOT = Path(__file__).resolve().parents[3]

HOLD = """
import sys
from pathlib import Path
from hub.journal.lock import Lock
Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""

ID = "00112233445566aa"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


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


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    """The error names the path; nothing is made up."""
    with pytest.raises(JournalError, match="nowhere"):
        Lock(tmp_path / "nowhere" / "journal.db")


def test_a_lock_knows_whether_there_was_one(path: Path) -> None:
    """Its file stays when the lock is released."""
    for existed in (False, True):
        lock = Lock(path)
        assert lock.existed is existed
        lock.release()


def test_the_newest_record_is_read_with_and_without_the_lock(path: Path) -> None:
    """A record without an id states that nothing is known, as after a restore."""
    assert read_record(path) is None
    lock = Lock(path)
    assert lock.recorded() is None
    for id, offset, expected in (
        (ID, 1, JournalPosition(ID, 1)),
        (ID, 1 << 62, JournalPosition(ID, 1 << 62)),
        ("", 0, None),
    ):
        lock.record(id, offset)
        assert lock.recorded() == read_record(path) == expected
    lock.release()


@pytest.mark.parametrize("place", range(28))
def test_a_damaged_record_counts_for_nothing(path: Path, place: int) -> None:
    """An offset that is too high would declare entries lost that were never written."""
    lock = Lock(path)
    lock.record(ID, 5)
    lock.release()
    content = bytearray(lock_path(path).read_bytes())
    content[place] ^= 1
    lock_path(path).write_bytes(content)
    assert read_record(path) is None
    lock_path(path).write_bytes(content[:-1])
    assert read_record(path) is None
