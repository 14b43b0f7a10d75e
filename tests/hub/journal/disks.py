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
        # SQLite's own files have their directory synced with their first sync.
        self._is_new = not flags[0] & apsw.SQLITE_OPEN_MAIN_DB

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.before_sync()
        super().xSync(flags)
        if self._is_new:
            self._disk.after_directory_sync()
            self._is_new = False
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

    With `fails` every sync is an I/O error, with `fails_after` those after so many; with `is_full` every write finds no
    room; with `breaks_with` a sync raises that. `synced` gets, for each file, a copy of what was last synced: all that
    a power cut would leave.
    """

    def __init__(self, synced: Path | None = None) -> None:
        self.name = f"disk-{next(_numbers)}"
        super().__init__(self.name, _SYSTEM)
        self.fails = False
        self.fails_after: int | None = None
        self.is_full = False
        self.breaks_with: Exception | None = None
        self.syncs = 0
        self._synced = synced
        self._deleted: set[str] = set()
        self._ended = threading.Condition()
        self._may_sync = threading.Event()
        self._may_sync.set()
        self._waits = threading.Event()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _File:  # noqa: N802 - SQLite's name
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        """A deletion outlives a power cut once the directory is synced."""
        super().xDelete(filename, syncdir)
        self._deleted.add(Path(filename).name)
        if syncdir:
            self.after_directory_sync()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No sync ends meanwhile."""
        self._waits.clear()
        self._may_sync.clear()
        try:
            yield
        finally:
            self._may_sync.set()

    def before_sync(self) -> None:
        """Waits where it is stopped, fails where it shall."""
        self._waits.set()
        self._may_sync.wait()
        if self.breaks_with is not None:
            raise self.breaks_with
        if self.fails or self.syncs == self.fails_after:
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    def after_sync(self, path: Path) -> None:
        """Record the file's contents as those that survive a power cut."""
        with self._ended:
            if self._synced is not None:
                shutil.copyfile(path, self._synced / path.name)
            self.syncs += 1
            self._ended.notify_all()

    def after_directory_sync(self) -> None:
        """Record the directory's files as those that survive a power cut."""
        with self._ended:
            for name in self._deleted:
                if self._synced is not None:
                    (self._synced / name).unlink(missing_ok=True)
            self._deleted.clear()

    def wait_for_stop(self) -> None:
        """Blocks until a sync waits where it is stopped: what it is for is written."""
        self._waits.wait()

    def wait_for_syncs(self, count: int) -> None:
        """Blocks until there were so many."""
        with self._ended:
            self._ended.wait_for(lambda: self.syncs >= count)

    def cut_power(self, directory: Path) -> None:
        """Makes a directory that has what the disk would have, if the power went now."""
        with self._ended:
            assert self._synced is not None
            shutil.copytree(self._synced, directory)
