"""The lock of a spool: one agent at a time uses it. SQLite's exclusive mode would also block the `status` command."""

from __future__ import annotations

import os
import time
from pathlib import Path

from device_agent.errors import SpoolError
from device_agent.spool.file_lock import try_lock
from integrity.descriptors import open_private

_CHECK_SECONDS = 0.2
"""`is_locked` of another program holds the lock for a shorter time."""


def acquire_lock(path: Path) -> int:
    """Lock the file beside the spool at `path`; return its descriptor, which releases it when closed.

    Raises SpoolError with the process that uses the spool.
    """
    try:
        lock = open_private(_lock_path(path), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SpoolError(f"the spool {path} cannot be opened: {error.strerror}") from None
    if not try_lock(lock):
        time.sleep(_CHECK_SECONDS)
        if try_lock(lock):
            return _owned(lock)
        holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise SpoolError(f"the spool {path} is in use by another agent (process {holder})") from None
    return _owned(lock)


def _owned(lock: int) -> int:
    """Write the id of this process into the locked file, and return its descriptor."""
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def is_locked(path: Path) -> bool:
    """Return whether an agent uses the spool at `path`."""
    try:
        lock = open_private(_lock_path(path), os.O_RDWR)
    except OSError:
        return False
    try:
        return not try_lock(lock, shared=True)
    finally:
        os.close(lock)


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
