"""The file of a spool: one SQLite database, used synchronously from one thread; sqlite.py is its asynchronous side.

WAL with synchronous=FULL: a commit is one append to the log and one fsync, and is on disk when it returns. A damaged
file is moved aside and never deleted, because readings may be recovered from it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import apsw

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError, SpoolFailed
from device_agent.spool.contract import OVERFLOW_REASON, ROW_BYTES, Entry, Gaps, Lost, StoredBatch
from device_agent.spool.layout import Damaged, Standing, check_identity, create, read_metrics, read_standing
from wire.codec import Format
from wire.model import Metric

WAL_LIMIT_BYTES = 4 * 1024 * 1024
"""Size of the log after a checkpoint. The log grows while a large backlog is written, and would not shrink."""

_STATUS_SECONDS = 0.2
"""A program that reads the status holds the lock for a shorter time."""

_INSERT = "INSERT INTO batch (seq, format, historical, readings, size, time, value) VALUES (?, ?, ?, ?, ?, ?, ?)"
_UPSERT_METRIC = (
    "INSERT INTO metric (name, type, unit, description) VALUES (?, ?, ?, ?) ON CONFLICT (name) "
    "DO UPDATE SET type = excluded.type, unit = excluded.unit, description = excluded.description"
)


class SpoolFile:
    """An open spool. Every method is one transaction or one read; all raise SpoolError.

    After an I/O error it is unknown what reached the disk: a second fsync may succeed without writing what the first
    one could not. So nothing is stored until the file is opened again. A full disk is a temporary error.
    """

    def __init__(self, path: Path, *, device: str, max_bytes: int, new_epoch: Callable[[], str]) -> None:
        self.path = path
        self.moved_to: Path | None = None
        self._max_bytes = max_bytes
        self._new_epoch = new_epoch
        self._failure: str | None = None
        self._lock = _lock(path)
        self._epoch, self._device = "", device
        self._next_seq, self._claim, self._acked, self._size_bytes = 1, 1, 0, 0
        self._gaps, self._lost = Gaps(), Lost()
        try:
            try:
                self.connection = self._open(device)
            except Damaged as damage:
                self.moved_to = _move_aside(path, str(damage))
                self.connection = self._open(device)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, apsw.Error | OSError | Damaged):
                raise SpoolError(f"the spool {path} cannot be opened: {error}") from None
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        self.connection.close()
        os.close(self._lock)

    @property
    def standing(self) -> Standing:
        """The numbers and gaps of the spool."""
        return Standing(
            self._epoch,
            self._device,
            self._next_seq,
            self._claim,
            self._acked,
            self._size_bytes,
            tuple(self._gaps),
            self._lost,
        )

    def metrics(self) -> list[Metric]:
        """Return the stored definitions, in the order of their first appearance."""
        return read_metrics(self.connection)

    def append(self, batches: Sequence[EncodedBatch], metrics: Sequence[Metric], acked: int) -> int:
        """Trim to `acked`, store batches and definitions and keep the bound in one commit; return the first number."""
        with self._transaction() as connection:
            self._trim(acked)
            first = self._next_seq
            if metrics:
                connection.executemany(_UPSERT_METRIC, [(m.name, m.type, m.unit, m.description) for m in metrics])
            if batches:
                connection.executemany(_INSERT, [_row(seq, batch) for seq, batch in enumerate(batches, first)])
                self._next_seq += len(batches)
                self._size_bytes += sum(batch.size + ROW_BYTES for batch in batches)
                self._overflow()
                self._write_life()
        return first

    def read(self, after: int, *, max_batches: int, max_bytes: int) -> list[Entry]:
        """Return the entries after this number, in order and within the bounds, at least one if there is any."""
        entries: list[Entry] = []
        seq = max(after, self._acked) + 1
        with self._translated():
            rows = iter(
                self.connection.execute(
                    "SELECT seq, format, historical, readings, time, value FROM batch "
                    "WHERE seq >= ? ORDER BY seq LIMIT ?",
                    (seq, max_batches),
                )
            )
            row = next(rows, None)
            while seq < self._next_seq and len(entries) < max_batches:
                gap = self._gaps.at(seq)
                if gap is not None:
                    entries.append(gap)
                    seq = gap.to + 1
                    continue
                if row is None or row[0] != seq:
                    raise SpoolFailed(f"the spool {self.path} is damaged: batch {seq} is missing")
                _, written, historical, readings, time_column, values = row
                batch = EncodedBatch(cast("Format", written), bool(historical), readings, time_column, values)
                max_bytes -= batch.size
                if max_bytes < 0 and entries:
                    break
                entries.append(StoredBatch(seq, batch))
                seq += 1
                row = next(rows, None)
        return entries

    def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        """Replace a batch by smaller ones, or by a gap; the numbers after it move up."""
        with self._transaction() as connection:
            size = self._size_of(seq)
            if size is None:
                return
            connection.execute("DELETE FROM batch WHERE seq = ?", (seq,))
            self._size_bytes += sum(part.size + ROW_BYTES for part in parts) - size - ROW_BYTES
            if parts:
                by = len(parts) - 1
                self._move(seq, by)
                connection.executemany(_INSERT, [_row(number, part) for number, part in enumerate(parts, seq)])
                self._gaps.shift(seq, by)
                self._next_seq += by
            else:
                self._gaps.add(seq, seq, reason)
            self._write_gaps()
            self._write_life()

    def confirm(self) -> None:
        """Clear the claim on disk, before the first batch is sent."""
        if self._claim:
            with self._transaction():
                self._claim = 0
                self._write_life()

    def begin_epoch(self, acked: int) -> None:
        """Trim to `acked`, begin a new epoch and number the rest from 1 on."""
        with self._transaction():
            self._trim(acked)
            by = -self._acked
            self._move(0, by)
            self._gaps.shift(0, by)
            self._next_seq += by
            self._acked = 0
            self._claim = 1
            self._epoch = self._new_epoch()
            self._write_gaps()
            self._write_life()

    def _open(self, device: str) -> apsw.Connection:
        connection = apsw.Connection(os.fspath(self.path))
        try:
            check_identity(connection, self.path)
            connection.set_busy_timeout(5000)  # a `status` command may be reading
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)
            if connection.pragma("user_version") == 0:
                create(connection, device, self._new_epoch())
            elif connection.pragma("quick_check", 1) != "ok":
                raise Damaged("SQLite's own check failed")
            self._set_standing(read_standing(connection))
            self._claim = self._claim or self._next_seq  # written with the first batch
            if self._device != device:
                raise SpoolError(
                    f"the spool {self.path} belongs to the device {self._device!r}; "
                    f"its readings must not be sent as {device!r}"
                )
        except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
            connection.close()
            raise Damaged(str(error)) from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_standing(self, standing: Standing) -> None:
        self._epoch, self._device, self._next_seq, self._claim, self._acked, self._size_bytes, gaps, self._lost = (
            standing
        )
        self._gaps = Gaps(gaps)

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        """Commit all changes, or restore the state on disk and in memory."""
        if self._failure is not None:
            raise SpoolFailed(self._failure)
        before = self.standing
        try:
            with self._translated():
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self.connection.execute("COMMIT")
        except BaseException:
            self._set_standing(before)
            if self.connection.in_transaction:
                with self._translated():
                    self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except apsw.FullError:
            raise SpoolError(f"the disk of the spool {self.path} is full") from None
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError) as error:
            self._failure = f"the disk failed under the spool {self.path}: {error}"
            raise SpoolFailed(self._failure) from None
        except apsw.Error as error:
            raise SpoolError(f"the spool {self.path}: {error}") from None

    def _trim(self, acked: int) -> None:
        if acked <= self._acked:
            return
        count = "SELECT coalesce(sum(size), 0), count(*) FROM batch WHERE seq <= ?"
        size, batches = cast("tuple[int, int]", self.connection.execute(count, (acked,)).fetchone())
        self.connection.execute("DELETE FROM batch WHERE seq <= ?", (acked,))
        self._size_bytes -= size + batches * ROW_BYTES
        self._acked = min(acked, self._next_seq - 1)
        self._gaps.trim(self._acked)
        self._write_gaps()

    def _overflow(self) -> None:
        """Remove the oldest batches, but never the newest, until the bound holds."""
        excess = self._size_bytes - self._max_bytes
        if excess <= 0:
            return
        dropped: list[int] = []
        freed = 0
        batches, readings = self._lost
        oldest = "SELECT seq, size, readings FROM batch WHERE seq < ? ORDER BY seq"
        for seq, size, count in self.connection.execute(oldest, (self._next_seq - 1,)):
            if freed >= excess:
                break
            dropped.append(seq)
            freed += size + ROW_BYTES
            batches, readings = batches + 1, readings + count
        if dropped:
            self.connection.execute("DELETE FROM batch WHERE seq <= ?", (dropped[-1],))
            self._gaps.add_each(dropped, OVERFLOW_REASON)
            self._write_gaps()
            self._size_bytes -= freed
            self._lost = Lost(batches, readings)

    def _size_of(self, seq: int) -> int | None:
        row = self.connection.execute("SELECT size FROM batch WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else cast("int", row[0])

    def _move(self, after: int, by: int) -> None:
        # Negative numbers in between, so that no two rows have the same number.
        self.connection.execute("UPDATE batch SET seq = -(seq + ?) WHERE seq > ?", (by, after))
        self.connection.execute("UPDATE batch SET seq = -seq WHERE seq < 0")

    def _write_life(self) -> None:
        self.connection.execute(
            "UPDATE life SET epoch = ?, next_seq = ?, claim = ?", (self._epoch, self._next_seq, self._claim)
        )

    def _write_gaps(self) -> None:
        self.connection.execute("DELETE FROM gap")
        if self._gaps:
            rows = [(gap.from_seq, gap.to, gap.reason) for gap in self._gaps]
            self.connection.executemany("INSERT INTO gap (first, last, reason) VALUES (?, ?, ?)", rows)


def _row(seq: int, batch: EncodedBatch) -> tuple[int, str, int, int, int, bytes, bytes]:
    return seq, batch.format, int(batch.historical), batch.readings, batch.size, batch.time, batch.values


def _lock(path: Path) -> int:
    """Lock a file beside the spool; SQLite's exclusive mode would also block the `status` command."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(f"the spool {path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_STATUS_SECONDS)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise SpoolError(f"the spool {path} is in use by another agent (process {holder})") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _move_aside(path: Path, damage: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(f"{aside}{suffix}")
    return aside
