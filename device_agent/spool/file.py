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
from typing import Any, cast

import apsw

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError, SpoolFailed
from device_agent.spool.contract import OVERFLOW_REASON, ROW_BYTES, Entry, read_entries
from device_agent.spool.layout import Damaged, check_identity, create, read_metrics, read_standing
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

    `standing` has the numbers and gaps after the last commit.
    """

    def __init__(self, path: Path, *, device: str, max_bytes: int, new_epoch: Callable[[], str]) -> None:
        self.path = path
        self.moved_to: Path | None = None
        self._max_bytes = max_bytes
        self._new_epoch = new_epoch
        self._failure: str | None = None
        self._lock = _lock(path)
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

    def metrics(self) -> list[Metric]:
        """Return the stored definitions, in the order of their first appearance."""
        return read_metrics(self.connection)

    def append(self, batches: Sequence[EncodedBatch], metrics: Sequence[Metric], acked: int) -> int:
        """Trim to `acked`, store batches and definitions and keep the bound in one commit; return the first number."""
        with self._transaction() as connection:
            self._trim(acked)
            first = self.standing.next_seq
            if metrics:
                connection.executemany(_UPSERT_METRIC, [(m.name, m.type, m.unit, m.description) for m in metrics])
            if batches:
                connection.executemany(_INSERT, [_row(seq, batch) for seq, batch in enumerate(batches, first)])
                added = sum(batch.size + ROW_BYTES for batch in batches)
                self._change(next_seq=first + len(batches), size_bytes=self.standing.size_bytes + added)
                self._overflow()
                self._write_life()
        return first

    def read(self, after: int, *, max_batches: int, max_bytes: int) -> list[Entry]:
        """Return the entries after this number, in order and within the bounds, at least one if there is any."""
        standing = self.standing
        first = max(after, standing.acked) + 1
        with self._translated():
            rows = self.connection.execute(
                "SELECT seq, format, historical, readings, time, value FROM batch WHERE seq >= ? ORDER BY seq LIMIT ?",
                (first, max_batches),
            )

            def batch_at(seq: int) -> EncodedBatch:
                row = next(rows, None)
                if row is None or row[0] != seq:
                    raise SpoolFailed(f"the spool {self.path} is damaged: batch {seq} is missing")
                _, written, historical, readings, time_column, values = row
                return EncodedBatch(cast("Format", written), bool(historical), readings, time_column, values)

            return read_entries(
                first, standing.next_seq, standing.gaps, batch_at, max_batches=max_batches, max_bytes=max_bytes
            )

    def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        """Replace a batch by smaller ones, or by a gap; the numbers after it move up."""
        with self._transaction() as connection:
            removed = connection.execute("DELETE FROM batch WHERE seq = ? RETURNING size", (seq,)).fetchone()
            if removed is None:
                return
            standing = self.standing
            added = sum(part.size + ROW_BYTES for part in parts)
            self._change(size_bytes=standing.size_bytes + added - cast("int", removed[0]) - ROW_BYTES)
            if parts:
                by = len(parts) - 1
                self._move(seq, by)
                connection.executemany(_INSERT, [_row(number, part) for number, part in enumerate(parts, seq)])
                self._change(next_seq=standing.next_seq + by, gaps=standing.gaps.shift(seq, by))
            else:
                self._change(gaps=standing.gaps.add(seq, seq, reason))
            self._write_gaps()
            self._write_life()

    def confirm(self) -> None:
        """Clear the claim on disk, before the first batch is sent."""
        if self.standing.claim:
            with self._transaction():
                self._change(claim=0)
                self._write_life()

    def begin_epoch(self, acked: int) -> None:
        """Trim to `acked`, begin a new epoch and number the rest from 1 on."""
        with self._transaction():
            self._trim(acked)
            standing = self.standing
            by = -standing.acked
            self._move(0, by)
            self._change(
                epoch=self._new_epoch(),
                next_seq=standing.next_seq + by,
                claim=1,
                acked=0,
                gaps=standing.gaps.shift(0, by),
            )
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
            standing = read_standing(connection)
            self.standing = standing._replace(claim=standing.claim or standing.next_seq)  # written with the first batch
            if standing.device != device:
                raise SpoolError(
                    f"the spool {self.path} belongs to the device {standing.device!r}; "
                    f"its readings must not be sent as {device!r}"
                )
        except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
            connection.close()
            raise Damaged(str(error)) from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _change(self, **fields: Any) -> None:
        self.standing = self.standing._replace(**fields)

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
            self.standing = before
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
        standing = self.standing
        if acked <= standing.acked:
            return
        count = "SELECT coalesce(sum(size), 0), count(*) FROM batch WHERE seq <= ?"
        size, batches = cast("tuple[int, int]", self.connection.execute(count, (acked,)).fetchone())
        self.connection.execute("DELETE FROM batch WHERE seq <= ?", (acked,))
        acked = min(acked, standing.next_seq - 1)
        left_bytes = standing.size_bytes - size - batches * ROW_BYTES
        self._change(acked=acked, size_bytes=left_bytes, gaps=standing.gaps.trim(acked))
        self._write_gaps()

    def _overflow(self) -> None:
        """Remove the oldest batches, but never the newest, until the bound holds."""
        standing = self.standing
        excess = standing.size_bytes - self._max_bytes
        if excess <= 0:
            return
        dropped: list[int] = []
        freed = 0
        lost = standing.lost
        oldest = "SELECT seq, size, readings FROM batch WHERE seq < ? ORDER BY seq"
        for seq, size, count in self.connection.execute(oldest, (standing.next_seq - 1,)):
            if freed >= excess:
                break
            dropped.append(seq)
            freed += size + ROW_BYTES
            lost = lost.plus(1, count)
        if dropped:
            self.connection.execute("DELETE FROM batch WHERE seq <= ?", (dropped[-1],))
            self._change(
                size_bytes=standing.size_bytes - freed,
                gaps=standing.gaps.add_each(dropped, OVERFLOW_REASON),
                lost=lost,
            )
            self._write_gaps()

    def _move(self, after: int, by: int) -> None:
        # Negative numbers in between, so that no two rows have the same number.
        self.connection.execute("UPDATE batch SET seq = -(seq + ?) WHERE seq > ?", (by, after))
        self.connection.execute("UPDATE batch SET seq = -seq WHERE seq < 0")

    def _write_life(self) -> None:
        standing = self.standing
        self.connection.execute(
            "UPDATE life SET epoch = ?, next_seq = ?, claim = ?", (standing.epoch, standing.next_seq, standing.claim)
        )

    def _write_gaps(self) -> None:
        self.connection.execute("DELETE FROM gap")
        rows = [(gap.from_seq, gap.to, gap.reason) for gap in self.standing.gaps.ranges]
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
