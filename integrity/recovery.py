"""Recovery of SQLite databases whose write-ahead log is damaged. Called before a program opens its database.

The database's owner holds its own lock meanwhile: no other process may write.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import struct
import time
from pathlib import Path
from typing import NamedTuple

import apsw

from integrity.descriptors import open_private, sync_directory
from integrity.wal import (
    HEADER_BYTES,
    Log,
    WalDamage,
    commits_of,
    find_damage,
    is_rewritten,
    read_header,
    repaired,
    with_header,
)

_ACCEPTED_AT = 16
"""Offset in the file `-shm` of the number of frames that SQLite accepts, `mxFrame` of the header of the WAL index
(https://sqlite.org/walformat.html#walidxfmt)."""


class LogRecovery(NamedTuple):
    """A repaired log: what was damaged, where the damaged log is kept, and whether a later commit wrote the page of the
    damaged frame again."""

    damage: WalDamage
    kept: Path
    rewritten: bool

    def __str__(self) -> str:
        """Return what happened, for people."""
        frame, commits = self.damage
        page = (
            "a later commit wrote the page of this frame again, so nothing is lost"
            if self.rewritten
            else "the page of this frame may be wrong: the checksums of its rows are verified"
        )
        return (
            f"frame {frame} of the write-ahead log is damaged; {commits} commits behind it are kept, and the damaged "
            f"log is {self.kept.name}; {page}"
        )


def recover_log(path: Path) -> LogRecovery | None:
    """Repair the write-ahead log of the database at this path if it is damaged; return what was found.

    All commits behind the damage are kept. The damaged page itself may be wrong: after a repair the caller verifies all
    its rows. Raises apsw.Error and OSError.
    """
    examined = _examine(path)
    if examined is None:
        return None
    damage, content, rewritten = examined
    log_path = beside(path, "-wal")
    # A crash at any moment leaves a complete log: the damaged one, which is repaired again, or the repaired one.
    kept = _keep(log_path)
    # SQLite rebuilds this index of the log.
    beside(path, "-shm").unlink(missing_ok=True)
    _replace_durably(log_path, content)
    return LogRecovery(damage, kept, rewritten)


def examine_log(path: Path) -> WalDamage | None:
    """Return the damage of the write-ahead log of the database at this path; None if it is intact, or there is none.

    Nothing is changed. Raises OSError.
    """
    try:
        examined = _examine(path)
    except apsw.Error as error:
        raise OSError(errno.EIO, str(error), os.fspath(path)) from error
    return None if examined is None else examined[0]


def _examine(path: Path) -> tuple[WalDamage, bytes, bool] | None:
    """Return the damage of a log, the bytes of the repaired log, and whether a later commit wrote the page again."""
    log_path = beside(path, "-wal")
    try:
        if log_path.stat().st_size <= HEADER_BYTES or path.stat().st_size == 0:
            return None
    except FileNotFoundError:
        return None
    with log_path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        accepted = _accepted_frames(path)
        if accepted is None:
            return None
        whole: Log = log
        damage = find_damage(log, accepted)
        if accepted == 0 and read_header(log) is None:
            whole = with_header(log, _page_bytes(path))
            header = read_header(whole)
            damage = None if header is None else WalDamage(0, len(commits_of(whole, header)))
        return None if damage is None else (damage, repaired(whole), is_rewritten(whole, damage.frame))


def aside(path: Path) -> Path:
    """Return a free name beside this path for a damaged file, with the time in it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    return name


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file beside a database, such as `-wal` of SQLite or a lock."""
    return path.with_name(path.name + suffix)


def _accepted_frames(path: Path) -> int | None:
    """Return how many frames of the log SQLite accepts; None if it reads no log. The log does not change."""
    connection = apsw.Connection(os.fspath(path))
    try:
        # Closing the last connection would otherwise write the accepted frames to the database and remove the log.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        with beside(path, "-shm").open("rb") as index:
            header = index.read(_ACCEPTED_AT + 4)
    except (apsw.NotADBError, apsw.CorruptError, FileNotFoundError):
        return None  # the database itself is damaged, or is not in WAL mode: opening it reports that
    finally:
        connection.close()
    accepted: int = struct.unpack("=I", header[_ACCEPTED_AT:])[0]
    return accepted


def _page_bytes(path: Path) -> int:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:18], "big")
    return 65_536 if size == 1 else size


def _keep(path: Path) -> Path:
    """Give the file a second name beside it, durably, and return that name."""
    for name in sorted(path.parent.glob(f"{path.name}.damaged-*")):
        if name.samefile(path):
            return name  # a crash came before the file was replaced
    kept = aside(path)
    try:
        os.link(path, kept)
    except OSError:  # a file system without hard links
        copy = path.with_name(f"{path.name}.copy")
        shutil.copyfile(path, copy)
        with copy.open("rb+") as file:  # Windows synchronises only files that can be written
            os.fsync(file.fileno())
        copy.rename(kept)
    sync_directory(path.parent)
    return kept


def _replace_durably(path: Path, content: bytes) -> None:
    """Replace the content of a file, so that a crash leaves the old or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        new.unlink()  # the disk is full: a part of the log would keep it full
        raise
    new.replace(path)
    sync_directory(path.parent)
