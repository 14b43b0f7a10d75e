"""Open files that lose their name or their bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integrity.open_file import OpenFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    path.write_bytes(bytes(100))
    return path


def test_a_file_that_grows_is_as_it_should_be(path: Path) -> None:
    """Only a file that is smaller than it was has lost something."""
    file = OpenFile(path)
    assert file.problem() is None
    path.write_bytes(bytes(200))
    assert file.problem() is None
    os.truncate(path, 150)
    assert file.problem() == "journal.db was cut to 150 bytes while the hub ran"


def test_a_file_with_a_least_size_may_become_smaller(path: Path) -> None:
    """Its owner empties it now and then."""
    file = OpenFile(path, min_bytes=50)
    os.truncate(path, 50)
    assert file.problem() is None
    os.truncate(path, 49)
    assert file.problem() is not None


def test_a_removed_file_is_found_although_it_can_still_be_written(path: Path) -> None:
    """Its name is gone, or is that of another file."""
    with path.open("ab"):
        file = OpenFile(path)
        path.unlink()
        assert file.problem() == "journal.db was removed while the hub ran"
        path.write_bytes(bytes(100))
        assert file.problem() == "journal.db was replaced by another file while the hub ran"
