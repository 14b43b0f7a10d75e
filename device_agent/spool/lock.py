"""The lock of a spool: one agent at a time uses it. SQLite's exclusive mode would also block the `status` command."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from device_agent.errors import SpoolError

_CHECK_SECONDS = 0.2
"""`is_locked` of another program holds the lock for a shorter time."""


def acquire_lock(path: Path) -> int:
    """Lock the file beside the spool at `path`; return its descriptor, which releases it when closed.

    Raises SpoolError with the process that uses the spool.
    """
    try:
        lock = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(f"the spool {path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_CHECK_SECONDS)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise SpoolError(f"the spool {path} is in use by another agent (process {holder})") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def is_locked(path: Path) -> bool:
    """Return whether an agent uses the spool at `path`."""
    try:
        lock = os.open(_lock_path(path), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
