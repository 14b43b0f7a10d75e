"""The DuckDB file: opened, read by several threads at a time, closed; and its errors in words that say what to do."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from hub.model.store import StoreUnavailable
from hub.storage.duckdb import schema
from hub.storage.duckdb.columns import Array

FILE_NAME = "history.duckdb"
"""In the data directory."""

WAL_BYTES = 32_000_000
"""The write-ahead log's size at which a write also brings it into the file. Measured on one core with writes of 15,000
rows: 128 ms at 16 MB, 250 ms at 32 MB, 380 ms at 64 MB for that write alone, while queries went on (13 ms at most); the
work a row is 5 % less with 64 MB than with 16 MB. After a crash 32 MB are read back in 0.2 s."""

CLOSE_S = 10.0
"""Readers get this long to stop after an interrupt; DuckDB looks for one every few milliseconds."""

INTERRUPT_S = 0.02
"""A query that was just about to start does not notice an interrupt: it is told again after this time."""

UNREADABLE = ("not a valid DuckDB", "orrupt", "checksum", "WAL", "enough bytes", "orage version", "Extension")
"""What DuckDB says of a file that is damaged, newer than itself, or another program's (it has extensions for some)."""

Config = dict[str, str | bool | int | float | list[str]]


class Reader:
    """A snapshot of the database for one reading: all its queries see the same commit."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._busy = threading.Lock()
        self._stopped = False

    def offer(self, name: str, columns: Mapping[str, Array]) -> None:
        """Makes arrays readable as a table."""
        with self._querying():
            self._connection.register(name, dict(columns))

    def fetch(self, sql: str, *parameters: object) -> dict[str, Array]:
        """The columns of the answer."""
        with self._querying():
            columns: dict[str, Array] = self._connection.execute(sql, parameters).fetchnumpy()
            return columns

    def stop(self) -> None:
        """Interrupts the query under way and refuses later ones; from any thread."""
        self._stopped = True
        # A reader that is done may be closed already: then there is nothing to interrupt.
        with contextlib.suppress(duckdb.ConnectionException):
            self._connection.interrupt()

    def end(self) -> bool:
        """Lets go of the snapshot where no query is under way; from any thread, after `stop`. Tells whether it did."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            self._connection.close()
        finally:
            self._busy.release()
        return True

    @contextlib.contextmanager
    def _querying(self) -> Iterator[None]:
        with self._busy:
            if self._stopped:
                raise duckdb.InterruptException
            yield


class Database:
    """An open DuckDB file. `writer` is the connection of the one thread that writes."""

    def __init__(self, path: Path, *, memory_limit: str, threads: int) -> None:
        """Opens the file, and makes it first where there is none. Raises StoreUnavailable."""
        self.path = path
        config: Config = {
            "memory_limit": memory_limit,
            "threads": threads,
            # Eight more threads that only help where the file is far away.
            "async_threads": 0,
            "wal_autocheckpoint": f"{WAL_BYTES}B",
            # The hub asks nobody on the network for extensions.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            if not path.exists():
                _create(path, config)
            self._root = duckdb.connect(path, config=config)
            self.writer = self._root.cursor()
        except (duckdb.Error, OSError) as error:
            raise explain(error, path) from error
        self._changed = threading.Condition()
        self._readers: set[Reader] = set()
        self._closed = False

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """A snapshot of its own. Raises StoreUnavailable."""
        with self._changed:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            connection = self._root.cursor()
            reader = Reader(connection)
            self._readers.add(reader)
        try:
            connection.execute("BEGIN")
            yield reader
        finally:
            # This ends the transaction, too.
            connection.close()
            with self._changed:
                self._readers.discard(reader)
                self._changed.notify_all()

    def close(self) -> None:
        """Interrupts the readers, brings the write-ahead log into the file and lets go of it."""
        end = time.monotonic() + CLOSE_S
        with self._changed:
            self._closed = True
            while self._readers and time.monotonic() < end:
                for reader in self._readers:
                    reader.stop()
                # Between two pieces of a scan nobody is there who could end its reader.
                self._readers = {reader for reader in self._readers if not reader.end()}
                self._changed.wait(INTERRUPT_S)
        self.writer.close()
        self._root.close()


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """What the block does is committed, or nothing of it."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed commit has ended its transaction itself.
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


def size_bytes(path: Path) -> int:
    """Bytes on disk, with the write-ahead log."""
    return sum(part.stat().st_size for part in (path, _wal(path)) if part.exists())


def wal_bytes(path: Path) -> int:
    """Bytes of the write-ahead log."""
    return _wal(path).stat().st_size if _wal(path).exists() else 0


def remove(path: Path) -> None:
    """Removes a file that was being made, with its write-ahead log."""
    path.unlink(missing_ok=True)
    _wal(path).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Brings a file, or what a directory says of its files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: Exception, path: Path) -> StoreUnavailable:
    """What an error of DuckDB or the system means for the operator, and what to do."""
    said = str(error).partition("\n")[0]
    if "Could not set lock" in said:
        advice = f"{path} is in use by another process: end it, and the hub goes on by itself"
    elif "No space left" in said or "Disk quota" in said:
        advice = f"no room on the disk of {path}: make room, and the hub goes on by itself"
    elif isinstance(error, duckdb.OutOfMemoryException):
        advice = "DuckDB's memory limit is too small for this: raise store.memory_limit"
    elif isinstance(error, duckdb.InterruptException):
        advice = "the reading was interrupted"
    elif any(sign in said for sign in UNREADABLE):
        advice = (
            f"{path} cannot be read: put a copy back, or move it and its .wal file away and restart the hub, "
            "which then begins a new one with what the journal still has"
        )
    else:
        advice = str(path)
    return StoreUnavailable(f"{advice} ({said})")


def _create(path: Path, config: Config) -> None:
    """A new file appears complete or not at all: DuckDB does not open one that a crash left half made."""
    if _wal(path).exists():
        raise StoreUnavailable(f"{_wal(path)} is without its {path.name}: put that back, or move the .wal file away")
    making = path.with_name(path.name + ".new")
    remove(making)
    with duckdb.connect(making, config=config) as connection:
        for statement in schema.CREATE:
            connection.execute(statement)
    making.rename(path)
    sync(path.parent)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")
