"""Descriptors of files for their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from integrity.descriptors import open_private, sync_directory


def test_a_file_is_for_its_owner_and_not_for_programs_that_are_started(tmp_path: Path) -> None:
    """Its bytes stay as they are."""
    path = tmp_path / "file"
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"a\nb\r\n")
    finally:
        os.close(descriptor)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"a\nb\r\n"
    sync_directory(tmp_path)
