"""The file of a spool: one SQLite database, used synchronously from one thread; durable.py is its asynchronous side.

WAL with synchronous=FULL: a commit is one append to the log and one fsync, and is on disk when it returns.

Every row has a checksum, which is verified when the row is read. A damaged batch becomes a gap, and its bytes are kept.
A file that SQLite cannot read is moved aside, never deleted, and what is intact in it continues in a new file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import apsw

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError, SpoolFailed
from device_agent.spool.contract import (
    NOT_KEPT_REASON,
    OVERFLOW_REASON,
    ROW_BYTES,
    Count,
    Entry,
    Gaps,
    read_entries,
)
from device_agent.spool.layout import (
    MAX_SET_ASIDE,
    READ_BATCHES,
    SCHEMA_VERSION,
    BatchRow,
    Damaged,
    Standing,
    batch_checksum,
    check_identity,
    create,
    place_checksum,
    read_batches,
    read_metrics,
    read_standing,
    record_incident,
    upgrade,
)
from device_agent.spool.lock import acquire_lock
from device_agent.spool.salvage import DAMAGED_REASON, LastState, Salvage, read_last_state, salvage, write_last_state
from integrity.checksum import row_checksum
from integrity.recovery import aside, beside, recover_log
from wire.device import Gap
from wire.limits import MAX_REASON
from wire.model import Metric
from wire.text import plural

WAL_LIMIT_BYTES = 4 * 1024 * 1024
"""Size of the log after a checkpoint. The log grows while a large backlog is written, and would not shrink."""

KEPT_BYTES = 64 * 1024 * 1024
"""Most bytes of acknowledged batches in the file, within the bound of the spool."""

STATE_SECONDS = 1.0
"""Time between two writes of the file with the last numbers."""

_INSERT = (
    "INSERT INTO batch (seq, format, historical, readings, size, time, value, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_SET_ASIDE = (
    "INSERT INTO set_aside (epoch, seq, reason, format, time, value) "
    "VALUES (?, ?, ?, CAST(? AS BLOB), CAST(? AS BLOB), CAST(? AS BLOB))"
)
_UPSERT_METRIC = (
    "INSERT INTO metric (name, type, unit, description, checksum) VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE "
    "SET type = excluded.type, unit = excluded.unit, description = excluded.description, checksum = excluded.checksum"
)


class SpoolFile:
    """An open spool. Every method is one transaction or one read; all raise SpoolError.

    After an I/O error it is unknown what reached the disk: a second fsync may succeed without writing what the first
    one could not. So nothing is stored until the file is opened again. A full disk is a temporary error.

    `standing` has the numbers and gaps after the last commit. `take_incidents` returns damages for the log.
    """

    def __init__(self, path: Path, *, device: str, max_bytes: int, new_epoch: Callable[[], str]) -> None:
        self.path = path
        self.moved_to: Path | None = None
        self.incidents: list[str] = []
        self._max_bytes = max_bytes
        self._new_epoch = new_epoch
        self._failure: str | None = None
        self._state_written_s = 0.0
        self._lock = acquire_lock(path)
        try:
            self._open(device)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, apsw.Error | OSError | Damaged):
                raise SpoolError(f"the spool {path} cannot be opened: {error}") from None
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        self._write_last_state()
        self.connection.close()
        os.close(self._lock)

    def take_incidents(self) -> list[str]:
        """Return the damages that were found since the last call."""
        incidents, self.incidents = self.incidents, []
        return incidents

    def metrics(self) -> list[Metric]:
        """Return the stored definitions, in the order of their first appearance."""
        return read_metrics(self.connection)

    def append(self, batches: Sequence[EncodedBatch], metrics: Sequence[Metric], acked: int, forget: int = 0) -> int:
        """Trim to `acked`, store batches and definitions and keep the bound in one commit; return the first number.

        Acknowledged batches up to `forget` are deleted, and others of them as far as the bounds require.
        """
        with self._transaction() as connection:
            self._trim(acked)
            first = self.standing.next_seq
            if metrics:
                self._write_metrics(metrics)
            if batches:
                connection.executemany(_INSERT, self._rows(batches, first))
                standing = self.standing
                self._change(
                    next_seq=first + len(batches),
                    size_bytes=standing.size_bytes + sum(batch.size + ROW_BYTES for batch in batches),
                    readings=standing.readings + sum(batch.readings for batch in batches),
                )
            self._forget(forget)
            if batches:
                self._overflow()
            self._write_life()
        if time.monotonic() >= self._state_written_s + STATE_SECONDS:
            self._write_last_state()
        return first

    def read(self, after: int, *, max_batches: int, max_bytes: int) -> list[Entry]:
        """Return the entries after this number, in order and within the bounds, at least one if there is any.

        Acknowledged batches are returned as far as they are kept. A damaged batch is declared as a gap first.
        """
        while True:
            standing = self.standing
            with self._translated():
                select = f"{READ_BATCHES} WHERE seq > ? ORDER BY seq LIMIT ?"
                rows = list(
                    read_batches(self.connection.execute(select, (after, max_batches)), standing.device, standing.epoch)
                )
            batches = {row.seq: row.batch for row in rows if row.batch is not None}
            end = rows[-1].seq + 1 if len(rows) == max_batches else standing.next_seq
            waiting_from = max(after, standing.acked) + 1
            waiting = [seq for seq in batches if seq >= waiting_from]
            gaps = standing.gaps.fill_between(waiting_from, end - 1, waiting, DAMAGED_REASON)
            if gaps == standing.gaps:
                kept = [seq for seq in batches if seq < waiting_from]
                gaps = gaps.fill_between(after + 1, min(standing.acked, end - 1), kept, NOT_KEPT_REASON)
                return read_entries(
                    after + 1, end, gaps, batches.__getitem__, max_batches=max_batches, max_bytes=max_bytes
                )
            self._declare_damaged(gaps, [row for row in rows if row.batch is None and row.seq >= waiting_from])

    def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        """Replace a waiting batch by smaller ones, or by a gap; the numbers after it move up."""
        with self._transaction() as connection:
            removed = connection.execute(
                "DELETE FROM batch WHERE seq = ? AND seq > ? RETURNING size, readings, format, time, value",
                (seq, self.standing.acked),
            ).fetchone()
            if removed is None:
                return
            size, readings = cast("tuple[int, int]", removed[:2])
            if not parts:
                self._set_aside(seq, reason, removed[2:])
            standing = self.standing
            added = sum(part.size + ROW_BYTES for part in parts)
            self._change(
                size_bytes=standing.size_bytes + added - size - ROW_BYTES,
                readings=standing.readings + sum(part.readings for part in parts) - readings,
            )
            if parts:
                by = len(parts) - 1
                self._move(seq, by)
                connection.executemany(_INSERT, self._rows(parts, seq))
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
        """Trim to `acked`, begin a new epoch and number the rest from 1 on. Acknowledged batches are deleted."""
        with self._transaction():
            self._trim(acked)
            self._forget(self.standing.acked)
            standing = self.standing
            by, epoch = -standing.acked, self._new_epoch()
            self._move(0, by, epoch)
            self._change(
                epoch=epoch,
                next_seq=standing.next_seq + by,
                claim=1,
                acked=0,
                gaps=standing.gaps.shift(0, by),
            )
            self._write_gaps()
            self._write_life()
        self._write_last_state()

    def _open(self, device: str) -> None:
        last = read_last_state(self.path, device)
        found = recover_log(self.path)
        if found is not None:
            self._note(str(found))
        try:
            standing = self._connect(device)
        except Damaged as damage:
            standing = self._rebuild(device, last, str(damage))
        else:
            if last is not None and standing.next_seq == 1 and standing.epoch != last.epoch:
                standing = self._begin_after_loss(f"the spool was removed or emptied: {last}")
            elif last is not None and standing.epoch == last.epoch and standing.next_seq < last.next_seq:
                standing = self._declare_missing(standing, last.next_seq)
        self.standing = standing._replace(claim=standing.claim or standing.next_seq)  # written with the first batch
        if self.incidents:
            with self._transaction() as connection:
                for text in self.incidents:
                    record_incident(connection, time.time_ns(), text)
        self._write_last_state()

    def _connect(self, device: str) -> Standing:
        """Open the file, create or convert its tables, and return its state. Raises Damaged, SpoolError, apsw.Error."""
        connection = apsw.Connection(os.fspath(self.path))
        try:
            check_identity(connection, self.path)
            connection.set_busy_timeout(5000)  # a `status` command may be reading
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)
            version = connection.pragma("user_version")
            if version and connection.pragma("quick_check", 1) != "ok":
                raise Damaged("SQLite's own check failed")
            if version != SCHEMA_VERSION:
                connection.execute("BEGIN IMMEDIATE")
                if version:
                    upgrade(connection)
                else:
                    create(connection, device, self._new_epoch())
                connection.execute("COMMIT")
            standing = read_standing(connection)
            read_metrics(connection)
            if standing.device != device:
                raise SpoolError(
                    f"the spool {self.path} belongs to the device {standing.device!r}; "
                    f"its readings must not be sent as {device!r}"
                )
        except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, UnicodeDecodeError) as error:
            connection.close()
            raise Damaged(str(error)) from None
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return standing

    def _rebuild(self, device: str, last: LastState | None, damage: str) -> Standing:
        """Move the damaged file aside and continue in a new one with what is intact in it."""
        self.moved_to = _move_aside(self.path)
        try:
            found = salvage(self.moved_to, device, last)
        except apsw.Error:
            found = None
        standing = self._connect(device)
        if found is None:
            held = "its contents are unknown" if last is None else str(last)
            return self._begin_after_loss(f"the spool was damaged ({damage}): {held}")
        self._note(f"the spool was damaged ({damage}); intact batches continue, and the file is {self.moved_to.name}")
        return self._adopt(standing, found)

    def _adopt(self, standing: Standing, found: Salvage) -> Standing:
        """Write salvaged contents to the new file."""
        waiting = [batch for seq, batch in found.batches.items() if seq > found.acked]
        self.standing = Standing(
            found.epoch,
            standing.device,
            found.next_seq,
            found.claim,
            found.acked,
            sum(batch.size + ROW_BYTES for batch in waiting),
            sum(batch.readings for batch in waiting),
            sum(batch.size + ROW_BYTES for seq, batch in found.batches.items() if seq <= found.acked),
            found.gaps,
            Count(),
        )
        with self._transaction() as connection:
            self._write_metrics(found.metrics)
            for seq, batch in found.batches.items():
                connection.executemany(_INSERT, self._rows([batch], seq))
            self._write_gaps()
            self._write_life()
        return self.standing

    def _begin_after_loss(self, text: str) -> Standing:
        """Declare the loss of an unknown number of batches as a gap of one number, with its reason."""
        self._note(text)
        gap = Gap(1, 1, text[:MAX_REASON])
        self.standing = read_standing(self.connection)._replace(next_seq=2, gaps=Gaps((gap,)))
        with self._transaction():
            self._write_gaps()
            self._write_life()
        return self.standing

    def _declare_missing(self, standing: Standing, next_seq: int) -> Standing:
        """Declare the batches lost that were in the spool, and are not in a file that was cut or is an older copy."""
        first, last = standing.next_seq, next_seq - 1
        self._note(f"the spool was cut or replaced by an older copy: batches {first} to {last} are missing")
        gaps = standing.gaps.add(first, last, "missing in the spool, which was cut or is an older copy")
        self.standing = standing._replace(next_seq=next_seq, gaps=gaps, lost=standing.lost.plus(last - first + 1, 0))
        with self._transaction():
            self._write_gaps()
            self._write_life()
        return self.standing

    def _note(self, text: str) -> None:
        self.incidents.append(text)

    def _declare_damaged(self, gaps: Gaps, damaged: Sequence[BatchRow]) -> None:
        """Declare damaged batches as these gaps, and keep their bytes apart."""
        before = self.standing
        with self._transaction() as connection:
            for row in damaged:
                self._set_aside(row.seq, DAMAGED_REASON, row.cells)
                connection.execute("DELETE FROM batch WHERE seq = ?", (row.seq,))
            left = connection.execute(
                "SELECT coalesce(sum(size), 0) + count(*) * ?, coalesce(sum(readings), 0) FROM batch WHERE seq > ?",
                (ROW_BYTES, before.acked),
            ).fetchone()
            size_bytes, readings = cast("tuple[int, int]", left)
            lost = gaps.count(before.acked) - before.gaps.count(before.acked)
            text = f"{plural(lost, 'batch was', 'batches were')} damaged on the disk: declared lost"
            self._change(
                gaps=gaps,
                size_bytes=size_bytes,
                readings=readings,
                lost=before.lost.plus(lost, max(0, before.readings - readings)),
            )
            self._write_gaps()
            record_incident(connection, time.time_ns(), text)
        self._note(text)

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
        """Count batches as acknowledged. They stay in the file until `_forget`."""
        standing = self.standing
        acked = min(acked, standing.next_seq - 1)
        if acked <= standing.acked:
            return
        count = (
            "SELECT coalesce(sum(size), 0), count(*), coalesce(sum(readings), 0) FROM batch WHERE seq > ? AND seq <= ?"
        )
        counted = self.connection.execute(count, (standing.acked, acked)).fetchone()
        size, batches, readings = cast("tuple[int, int, int]", counted)
        size += batches * ROW_BYTES
        self._change(
            acked=acked,
            size_bytes=standing.size_bytes - size,
            readings=standing.readings - readings,
            kept_bytes=standing.kept_bytes + size,
            gaps=standing.gaps.trim(acked),
        )
        self._write_gaps()

    def _forget(self, up_to: int) -> None:
        """Delete acknowledged batches up to this number, and the oldest of the others beyond the bounds."""
        standing = self.standing
        up_to = min(up_to, standing.acked)
        room = min(KEPT_BYTES, max(0, self._max_bytes - standing.size_bytes))
        excess = standing.kept_bytes - room
        freed = 0
        oldest = "SELECT seq, size FROM batch WHERE seq <= ? ORDER BY seq"
        for seq, size in self.connection.execute(oldest, (standing.acked,)):
            if seq > up_to and freed >= excess:
                break
            freed += size + ROW_BYTES
            up_to = max(up_to, seq)
        if freed:
            self.connection.execute("DELETE FROM batch WHERE seq <= ?", (up_to,))
            self._change(kept_bytes=standing.kept_bytes - freed)

    def _overflow(self) -> None:
        """Remove the oldest batches, but never the newest, until the bound holds."""
        standing = self.standing
        excess = standing.size_bytes - self._max_bytes
        if excess <= 0:
            return
        dropped: list[int] = []
        freed = 0
        lost = standing.lost
        readings = standing.readings
        oldest = "SELECT seq, size, readings FROM batch WHERE seq > ? AND seq < ? ORDER BY seq"
        for seq, size, count in self.connection.execute(oldest, (standing.acked, standing.next_seq - 1)):
            if freed >= excess:
                break
            dropped.append(seq)
            freed += size + ROW_BYTES
            lost = lost.plus(1, count)
            readings -= count
        if dropped:
            self.connection.execute("DELETE FROM batch WHERE seq > ? AND seq <= ?", (standing.acked, dropped[-1]))
            self._change(
                size_bytes=standing.size_bytes - freed,
                readings=readings,
                gaps=standing.gaps.add_each(dropped, OVERFLOW_REASON),
                lost=lost,
            )
            self._write_gaps()

    def _move(self, after: int, by: int, epoch: str | None = None) -> None:
        """Add `by` to the numbers after this one. A damaged batch stays recognisable: its checksum stays wrong."""
        device, before = self.standing.device, self.standing.epoch

        def moved(*cells: Any) -> int:
            checksum, seq = cells
            places = place_checksum(device, before, seq) ^ place_checksum(device, epoch or before, seq + by)
            return cast("int", checksum) ^ places

        self.connection.create_scalar_function("moved", moved, 2)
        # Negative numbers in between, so that no two rows have the same number.
        self.connection.execute(
            "UPDATE batch SET seq = -(seq + ?), checksum = moved(checksum, seq) WHERE seq > ?", (by, after)
        )
        self.connection.execute("UPDATE batch SET seq = -seq WHERE seq < 0")

    def _rows(self, batches: Sequence[EncodedBatch], first: int) -> Iterator[tuple[str | int | bytes, ...]]:
        device, epoch = self.standing.device, self.standing.epoch
        for seq, batch in enumerate(batches, first):
            checksum = batch_checksum(device, epoch, seq, batch)
            yield (
                seq,
                batch.format,
                int(batch.historical),
                batch.readings,
                batch.size,
                batch.time,
                batch.values,
                checksum,
            )

    def _set_aside(self, seq: int, reason: str, cells: Sequence[Any]) -> None:
        """Keep the format and the columns of a batch that is declared lost, inside a transaction."""
        self.connection.execute(_INSERT_SET_ASIDE, (self.standing.epoch, seq, reason, *cells))
        newest = "SELECT id FROM set_aside ORDER BY id DESC LIMIT ?"
        self.connection.execute(f"DELETE FROM set_aside WHERE id NOT IN ({newest})", (MAX_SET_ASIDE,))

    def _write_metrics(self, metrics: Sequence[Metric]) -> None:
        rows = [(metric.name, metric.type, metric.unit, metric.description) for metric in metrics]
        self.connection.executemany(_UPSERT_METRIC, [(*row, row_checksum(row)) for row in rows])

    def _write_life(self) -> None:
        standing = self.standing
        life = standing.epoch, standing.next_seq, standing.claim, standing.device, standing.acked
        self.connection.execute(
            "UPDATE life SET epoch = ?, next_seq = ?, claim = ?, device = ?, acked = ?, checksum = ?",
            (*life, row_checksum(life)),
        )

    def _write_gaps(self) -> None:
        self.connection.execute("DELETE FROM gap")
        rows = [(gap.from_seq, gap.to, gap.reason) for gap in self.standing.gaps.ranges]
        self.connection.executemany("INSERT INTO gap VALUES (?, ?, ?, ?)", [(*row, row_checksum(row)) for row in rows])

    def _write_last_state(self) -> None:
        """Write the last numbers beside the spool. Without them only a removed spool is not noticed."""
        standing = self.standing
        batches = standing.next_seq - 1 - standing.acked - standing.gaps.count(standing.acked)
        state = LastState(
            standing.device, standing.epoch, standing.next_seq, standing.acked, batches, standing.readings
        )
        self._state_written_s = time.monotonic()
        with suppress(OSError):
            write_last_state(self.path, state)


def _move_aside(path: Path) -> Path:
    free = aside(path)
    path.rename(free)
    for suffix in ("-wal", "-shm"):
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(free, suffix))
    return free
