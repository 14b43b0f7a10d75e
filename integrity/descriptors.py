"""Descriptors of files for their owner alone. POSIX and Windows differ only here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    _BINARY = os.O_BINARY
else:
    _BINARY = 0


def open_private(path: Path, flags: int) -> int:
    """Open a file, and create it for its owner alone if the flags say so. Raises OSError.

    Its bytes are left as they are, also on Windows, and programs that are started do not inherit it (PEP 446).
    """
    return os.open(path, flags | _BINARY, 0o600)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Windows has no such operation."""
    if sys.platform == "win32":
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
