"""Command `hub` on a disk that reports I/O errors on fsync as long as a file exists.

python -m tests.end_to_end.failing_disk FILE run --data DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import apsw

SYSTEM_VFS = apsw.vfs_names()[0]


class FailingFile(apsw.VFSFile):
    """A file of the system's own VFS whose sync fails while `switch` exists. Only the files of the journal fail."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], switch: Path) -> None:
        super().__init__(SYSTEM_VFS, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._is_journal = "journal.db" in path
        self._switch = switch

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._is_journal and self._switch.exists():
            raise apsw.IOError("injected: the disk failed")
        super().xSync(flags)

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        # A read-only connection tries to get a write lock when it closes, and handles no error but "busy".
        try:
            super().xLock(level)
        except apsw.IOError as error:
            raise apsw.BusyError(str(error)) from error


class FailingDisk(apsw.VFS):
    """Default VFS as long as the object lives."""

    def __init__(self, switch: Path) -> None:
        super().__init__("failing_disk", SYSTEM_VFS, makedefault=True)
        self._switch = switch

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> FailingFile:  # noqa: N802
        return FailingFile(name, flags, self._switch)


if __name__ == "__main__":
    disk = FailingDisk(Path(sys.argv.pop(1)))
    from hub.cli import main

    main()
