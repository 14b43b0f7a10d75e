"""Services of the operating system for the stores: the priority of threads, and files that survive a crash."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

NICENESS = 10
"""Niceness of a store thread (Linux, where each thread has one). On one core, commits and acknowledgements of incoming
data then run before the store's work, which still gets a tenth of the core. At 30,000 batches/s with a write every
0.04 s, the 99th percentile of acknowledgements is 15 to 20 ms; at a niceness of 5 it is 18 to 38 ms."""


def lower_priority() -> None:
    """Lower the priority of the current thread, so that the intake of data runs before it."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def keep_files_private() -> None:
    """Let only the owner read the files that this process creates: DuckDB takes no mode for those that it creates."""
    os.umask(0o077)


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
