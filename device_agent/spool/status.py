"""What a spool's file says, for whoever looks at it from outside, whether or not its agent runs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import apsw
import msgspec

from device_agent.errors import SpoolError
from device_agent.spool.layout import Damaged, check_identity, read_standing


class SpoolStatus(msgspec.Struct, frozen=True):
    """`waiting` counts batches, `lost` those in gaps that the hub does not know of yet; `in_use`: an agent runs."""

    path: str
    device: str
    epoch: str
    next_seq: int
    waiting: int
    lost: int
    size_bytes: int
    file_bytes: int
    in_use: bool


def read_status(path: Path) -> SpoolStatus:
    """The status of the spool at this path. Raises SpoolError."""
    if not path.exists():
        raise SpoolError(f"there is no spool {path}")
    try:
        connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(2000)
            check_identity(connection, path)
            standing = read_standing(connection)
        finally:
            connection.close()
    except (apsw.Error, Damaged) as error:
        raise SpoolError(f"the spool {path} cannot be read: {error}") from None
    lost = sum(gap.to - gap.from_seq + 1 for gap in standing.gaps)
    files = (path, path.with_name(f"{path.name}-wal"))
    return SpoolStatus(
        str(path),
        standing.device,
        standing.epoch,
        standing.next_seq,
        standing.next_seq - 1 - standing.acked - lost,
        lost,
        standing.size_bytes,
        sum(file.stat().st_size for file in files if file.exists()),
        _is_locked(path),
    )


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
