"""The lock of a journal, which also records what a hub has written to it."""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from hub.model.journal import JournalError, JournalPosition
from integrity.recovery import beside

_RECORD = struct.Struct(">16sQI")


def lock_path(path: Path) -> Path:
    """Return the path of the lock of the journal at this path."""
    return beside(path, ".lock")


class Lock:
    """Lock on a file beside the journal, so that one process has the journal open at a time.

    It is a file of its own, because closing any descriptor of the database would drop SQLite's locks on the database.
    It contains the journal's id and its newest durable offset, which show that a journal has lost its end. The record
    is written after each commit and not synced, so it is never ahead of the disk; a power failure may lose it.
    """

    def __init__(self, path: Path) -> None:
        """Acquire the lock. Raises JournalError when another process has it."""
        lock = lock_path(path)
        self.existed = lock.exists()
        """True if a journal was opened here before: a file that cannot be read is damaged then, and no foreign one."""
        try:
            self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.geteuid() == 0 and not self.existed:
                # The hub may run as another user, to whom the directory belongs.
                owner = path.parent.stat()
                os.fchown(self._descriptor, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise JournalError(f"{lock} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise JournalError(f"{path} is in use by another process, usually a running hub: stop it first") from error

    def recorded(self) -> JournalPosition | None:
        """Return the recorded position; None if there is none, or its checksum is wrong."""
        return _decode_record(os.pread(self._descriptor, _RECORD.size, 0))

    def record(self, id: str, offset: int) -> None:
        """Record the newest durable offset of the journal with this id; an empty id records that nothing is known."""
        data = _RECORD.pack(id.encode(), offset, 0)[:-4]
        with suppress(OSError):  # a full disk: the record is an additional witness only
            os.pwrite(self._descriptor, data + zlib.crc32(data).to_bytes(4, "big"), 0)

    def release(self) -> None:
        """Release the lock. The lock's file stays."""
        os.close(self._descriptor)


def read_record(path: Path) -> JournalPosition | None:
    """Return the position that the file of the lock has for the journal at this path, without the lock."""
    try:
        return _decode_record(lock_path(path).read_bytes()[: _RECORD.size])
    except OSError:
        return None


def _decode_record(data: bytes) -> JournalPosition | None:
    if len(data) < _RECORD.size or zlib.crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
        return None
    id, offset, _ = _RECORD.unpack(data)
    return JournalPosition(id.decode(), offset) if id.strip(b"\0") else None
