"""The DuckDB file: opening, reading in several threads, closing, and errors that say what to do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import numpy as np

from hub.model.store import StoreUnavailable
from hub.storage.duckdb import schema
from hub.storage.operating_system import sync
from hub.storage.query import Array
from integrity.recovery import aside

FILE_NAME = "history.duckdb"
"""Name of the file in the data directory."""

WAL_BYTES = 32_000_000
"""Size of the write-ahead log at which a write also moves it into the file. Measured on one core with writes of 15,000
rows: that write alone takes 128 ms at 16 MB, 250 ms at 32 MB and 380 ms at 64 MB, while queries continue (delayed by 13
ms at most). The work per row is 5 % less with 64 MB than with 16 MB. After a crash, 32 MB are read back in 0.2 s."""

CLOSE_S = 10.0
"""Time that readers get to stop after an interrupt. DuckDB checks for one every few milliseconds."""

INTERRUPT_S = 0.02
"""A query that was just about to start does not notice an interrupt. It is interrupted again after this time."""

DAMAGED = ("not a valid DuckDB", "orrupt", "checksum", "WAL", "enough bytes")
"""Text in DuckDB's error for a file that is damaged. DuckDB verifies the checksum of each block that it reads."""

OTHER = ("orage version", "Extension")
"""Text in DuckDB's error for a file of a newer version, or of another program (extensions exist for some)."""

_REMEDY = (
    "restore a copy of it, or move it and its .wal file away and restart the hub, which then creates a new file from "
    "the entries that are still in the journal"
)

DuckdbConfig = dict[str, str | bool | int | float | list[str]]

LOCAL: DuckdbConfig = {
    # Eight more threads, which only help if the file is on a remote system.
    "async_threads": 0,
    # The hub downloads no extensions, also not for a file that is no database.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""Part of every configuration."""


class DatabaseDamaged(StoreUnavailable):
    """The file, or its write-ahead log, is damaged. What is intact can be read by `hub store rebuild`.

    `reason` is the error of DuckDB alone.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class SnapshotReader:
    """A snapshot of the database for one read. All its queries see the same commit. `Database.reader` opens it.

    The event loop may interrupt it, also before a thread has opened it. With a `reason`, the read fails with it.
    """

    def __init__(self) -> None:
        self.connection: duckdb.DuckDBPyConnection | None = None
        self.is_interrupted = False
        self.reason: str | None = None
        self.busy = threading.Lock()

    def select_series(self, ids: Iterable[int], **columns: Array) -> None:
        """Make the table `wanted` of these series ids, with further columns in their order."""
        with self._querying() as connection:
            connection.register("wanted", {"id": np.array(list(ids), np.int32), **columns})

    def fetch(self, sql: str, *parameters: object) -> dict[str, Array]:
        """Return the columns of the answer."""
        with self._querying() as connection:
            columns: dict[str, Array] = connection.execute(sql, parameters).fetchnumpy()
            return columns

    def interrupt(self, reason: str | None = None) -> bool:
        """Interrupt the running query and refuse later ones; return True if one is running. Any thread may call it.

        If no query is running, release the snapshot: between two pieces of a scan, no other code would do it.
        """
        self.is_interrupted = True
        self.reason = reason or self.reason
        if self.connection is None:
            return False
        # A reader that has finished may be closed already. Then there is nothing to interrupt.
        with contextlib.suppress(duckdb.ConnectionException):
            self.connection.interrupt()
        if not self.busy.acquire(blocking=False):
            return True
        try:
            self.connection.close()
        finally:
            self.busy.release()
        return False

    @contextlib.contextmanager
    def _querying(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.busy:
            if self.is_interrupted or self.connection is None:
                raise duckdb.InterruptException
            yield self.connection


class Database:
    """An open DuckDB file. `writer` is the connection of the only thread that writes."""

    def __init__(self, path: Path, *, memory_limit: str, threads: int) -> None:
        """Open the file, and create it if it does not exist. Raises StoreUnavailable."""
        self.path = path
        config: DuckdbConfig = {
            "memory_limit": memory_limit,
            "threads": threads,
            "wal_autocheckpoint": f"{WAL_BYTES}B",
            **LOCAL,
        }
        try:
            if not path.exists():
                _create(path, config)
            self._root = duckdb.connect(path, config=config)
            self.writer = self._root.cursor()
            make_private(path)
        except (duckdb.Error, OSError) as error:
            raise explain(error, path) from error
        self._changed = threading.Condition()
        self._readers: set[SnapshotReader] = set()
        self._closed = False

    @contextlib.contextmanager
    def reader(self, reader: SnapshotReader | None = None) -> Iterator[SnapshotReader]:
        """Open a reader of a snapshot, by default a new one. Raises StoreUnavailable."""
        reader = reader or SnapshotReader()
        with self._changed:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            connection = self._root.cursor()
            self._readers.add(reader)
        try:
            connection.execute("BEGIN")
            # From here on, an interrupt may close the connection.
            reader.connection = connection
            yield reader
        finally:
            # This also ends the transaction.
            with reader.busy:
                connection.close()
            with self._changed:
                self._readers.discard(reader)
                self._changed.notify_all()

    def close(self, *, checkpoint: bool = True) -> None:
        """Interrupt the readers, move the write-ahead log into the file and close it.

        Without `checkpoint` the log stays, and the next opening reads it.
        """
        end = time.monotonic() + CLOSE_S
        with self._changed:
            self._closed = True
            while self._readers and time.monotonic() < end:
                # A reader without a connection is just being opened, and ends at its first query.
                self._readers = {reader for reader in self._readers if reader.interrupt() or reader.connection is None}
                self._changed.wait(INTERRUPT_S)
        if not checkpoint:
            with contextlib.suppress(duckdb.Error):
                self.writer.execute("PRAGMA disable_checkpoint_on_shutdown")
        self.writer.close()
        self._root.close()


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit the work of the block, or none of it."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed commit has ended its transaction already.
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


def size_bytes(path: Path) -> int:
    """Return the bytes on disk, including the write-ahead log."""
    return sum(file.stat().st_size for file in (path, _wal(path)) if file.exists())


def wal_bytes(path: Path) -> int:
    """Return the bytes of the write-ahead log."""
    return _wal(path).stat().st_size if _wal(path).exists() else 0


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its write-ahead log; return the new path. Raises OSError.

    The log first: without it, the file is an older state of itself, and a file is never without it.
    """
    kept = aside(path)
    for old, new in ((_wal(path), _wal(kept)), (path, kept)):
        if old.exists():
            old.rename(new)
    sync(path.parent)
    return kept


def set_log_aside(path: Path) -> Path | None:
    """Rename the write-ahead log of a file; return its new path, None if there is none. Raises OSError."""
    if not _wal(path).exists():
        return None
    kept = _wal(path).rename(aside(_wal(path)))
    sync(path.parent)
    return kept


def files_set_aside(path: Path) -> list[Path]:
    """Return the damaged files that were set aside and not rebuilt yet, the oldest first."""
    return sorted(
        file
        for file in path.parent.glob(f"{path.name}.damaged-*")
        if not file.name.endswith((".wal", ".tmp")) or not file.with_suffix("").exists()
    )


def make_private(path: Path) -> None:
    """Let only the owner read the file, its write-ahead log and its folder of temporary files.

    New ones are private by the process's umask (hub.storage.operating_system); older versions left theirs readable.
    """
    for file in (path, _wal(path)):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(path.name + ".tmp").chmod(0o700)


def remove(path: Path) -> None:
    """Remove an unfinished file and its write-ahead log."""
    path.unlink(missing_ok=True)
    _wal(path).unlink(missing_ok=True)


def explain(error: Exception, path: Path) -> StoreUnavailable:
    """Return an error of DuckDB or the system as StoreUnavailable, with what it means and what to do."""
    text = str(error).partition("\n")[0]
    if "Could not set lock" in text:
        advice = f"{path} is in use by another process: end that process, and the hub continues by itself"
    elif "No space left" in text or "Disk quota" in text:
        advice = f"no room on the disk of {path}: free some space, and the hub continues by itself"
    elif isinstance(error, duckdb.OutOfMemoryException):
        advice = "DuckDB's memory limit is too small for this: raise store.memory_limit"
    elif isinstance(error, duckdb.InterruptException):
        advice = "the query was interrupted"
    elif any(sign in text for sign in OTHER):
        advice = f"{path} cannot be read: {_REMEDY}"
    elif any(sign in text for sign in DAMAGED):
        return DatabaseDamaged(f"{path} cannot be read: {_REMEDY} ({text})", text)
    else:
        advice = str(path)
    return StoreUnavailable(f"{advice} ({text})")


def _create(path: Path, config: DuckdbConfig) -> None:
    """Create the file completely or not at all: DuckDB does not open a file that a crash left half made."""
    if _wal(path).exists():
        raise DatabaseDamaged(
            f"{_wal(path)} exists without its {path.name}: restore that file, or move the .wal file away"
        )
    making = path.with_name(path.name + ".new")
    remove(making)
    with duckdb.connect(making, config=config) as connection:
        for statement in schema.CREATE:
            connection.execute(statement)
    making.rename(path)
    sync(path.parent)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
