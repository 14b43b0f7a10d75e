"""Services of the operating system for the stores."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from hub.storage.operating_system import NICENESS, lower_priority, sync


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux a thread has a niceness of its own")
def test_only_the_calling_thread_gets_a_lower_priority() -> None:
    """Acknowledgements run in another thread of the process, and keep theirs."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found: list[int] = []

    def run() -> None:
        lower_priority()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def open_descriptors() -> int:
    """Return the number of open descriptors of this process, 0 where it is unknown."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_a_file_and_its_directory_can_be_flushed(tmp_path: Path) -> None:
    """No descriptor stays open; something that is not there is an error."""
    (tmp_path / "file").write_bytes(b"x")
    before = open_descriptors()
    sync(tmp_path / "file")
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "gone")
    assert open_descriptors() == before
