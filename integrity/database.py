"""Snapshots of SQLite databases that other processes may write meanwhile: to verify a file, and to copy it.

A snapshot is a read transaction. The writer continues, and its write-ahead log grows until the snapshot is closed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import apsw

from integrity.descriptors import open_private
from integrity.recovery import beside

BUSY_TIMEOUT_MS = 5_000
"""Wait for a program that holds the file's lock, such as one that opens it."""

COPIED_PAGES = 256
"""Pages copied between two reports of the progress: one to two megabytes."""

MAX_PROBLEMS = 5
"""Problems of a damaged structure that are reported. The first ones say enough."""

ReportBytes = Callable[[int], None]
"""Receives the number of bytes that were processed since the last call."""


class SnapshotError(Exception):
    """The database cannot be read. `is_damage` states whether its bytes are the reason."""

    def __init__(self, path: Path, error: apsw.Error) -> None:
        super().__init__(f"{path.name} cannot be read: {error}")
        self.is_damage = isinstance(error, apsw.NotADBError | apsw.CorruptError)


class DatabaseSnapshot:
    """Consistent view of a database, taken when it is created. The methods that read it raise apsw.Error.

    The bytes of a damaged page are only found by the checksums of its rows; `structure_problems` finds what SQLite can
    see itself.
    """

    def __init__(self, path: Path, *, is_static: bool = False) -> None:
        """Take a snapshot of an existing database, which is never changed. Raises SnapshotError.

        With `is_static` no process writes the file, as in a backup: SQLite creates no files beside it, so that its
        folder may be read only.
        """
        self.path = path
        log = beside(path, "-wal")
        # An immutable file is read without its log.
        is_immutable = is_static and not (log.exists() and log.stat().st_size)
        try:
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            query = "?immutable=1" if is_immutable else ""
            self.connection = apsw.Connection(f"file:{quote(os.fspath(path.absolute()))}{query}", flags=flags)
        except apsw.Error as error:
            raise SnapshotError(path, error) from None
        try:
            self.connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self.connection.execute("BEGIN")
            # The first read takes the snapshot.
            self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except apsw.Error as error:
            self.connection.close()
            raise SnapshotError(path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the snapshot."""
        self.connection.close()

    @property
    def size_bytes(self) -> int:
        """Return the size of the database in this snapshot."""
        return int(self.connection.pragma("page_count")) * int(self.connection.pragma("page_size"))

    def structure_problems(self) -> list[str]:
        """Return what is wrong with the structure of the file, at most MAX_PROBLEMS; an empty list if nothing is."""
        found: list[str] = []
        try:
            for (text,) in self.connection.execute(f"PRAGMA quick_check({MAX_PROBLEMS})"):
                found.append(str(text))
        except apsw.CorruptError as error:
            found.append(str(error))
        return [text for text in found if text != "ok"]

    def copy(self, target: Path, report: ReportBytes) -> None:
        """Write the database of this snapshot to a new file, page by page, without a write-ahead log.

        The copy is on disk when this returns. A damaged page is copied as it is. Raises OSError and SnapshotError.
        """
        os.close(open_private(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        page_bytes = int(self.connection.pragma("page_size"))
        copy = apsw.Connection(os.fspath(target))
        try:
            # An unfinished copy is discarded, so it needs neither a journal nor an fsync for each step.
            copy.pragma("journal_mode", "off")
            copy.pragma("synchronous", "off")
            with copy.backup("main", self.connection, "main") as backup:
                left = None
                while not backup.done:
                    backup.step(COPIED_PAGES)
                    before, left = backup.page_count if left is None else left, backup.remaining
                    report((before - left) * page_bytes)
        except apsw.Error as error:
            raise SnapshotError(self.path, error) from None
        finally:
            copy.close()
        descriptor = open_private(target, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
