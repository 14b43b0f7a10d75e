"""Disks that fail, that stop, and that lose what was not synced: SQLite file systems under a journal."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

_numbers = itertools.count()
_SYSTEM = apsw.vfs_names()[0]


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(_SYSTEM, name, flags)
        self._disk = disk
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.before_sync()
        super().xSync(flags)
        self._disk.after_sync(self._path)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.is_full:
            raise apsw.FullError("the disk is full")
        super().xWrite(data, offset)

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        # A read-only connection tries for a write lock when it closes, and minds nothing but a "busy".
        try:
            super().xLock(level)
        except apsw.IOError as error:
            raise apsw.BusyError(str(error)) from error


class Disk(apsw.VFS):
    """A file system that counts syncs. `name` is what to give as `vfs`.

    With `fails` every sync is an I/O error, with `is_full` every write finds no room. `synced` has, for each file, a
    copy of what was last synced: all that a power cut would leave.
    """

    def __init__(self, synced: Path | None = None) -> None:
        self.name = f"disk-{next(_numbers)}"
        super().__init__(self.name, _SYSTEM)
        self.fails = False
        self.is_full = False
        self.syncs = 0
        self._synced = synced
        self._may_sync = threading.Event()
        self._may_sync.set()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _File:  # noqa: N802 - SQLite's name
        return _File(self, name, flags)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No sync ends meanwhile."""
        self._may_sync.clear()
        try:
            yield
        finally:
            self._may_sync.set()

    def before_sync(self) -> None:
        """Waits, fails, counts."""
        self._may_sync.wait()
        if self.fails:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        self.syncs += 1

    def after_sync(self, path: Path) -> None:
        """What is in the file now would be there after a power cut."""
        if self._synced is not None:
            copy = self._synced / path.name
            shutil.copyfile(path, copy.with_suffix(".new"))
            copy.with_suffix(".new").replace(copy)
