"""The open file of a spool: its reads and its transactions. opening.py opens it, durable.py is its asynchronous side.

It is one SQLite database, used from one thread. WAL with synchronous=FULL: a commit is one append to the log and one
fsync, and is on disk when it returns.

Every row has a checksum, which is verified when the row is read. A damaged batch becomes a gap, and its bytes are kept.
"""

from __future__ import annotations

import logging
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
    DAMAGED_REASON,
    OVERFLOW_REASON,
    ROW_BYTES,
    Entry,
    Gaps,
    StoredCommand,
    read_entries,
)
from device_agent.spool.layout import (
    MAX_SET_ASIDE,
    READ_BATCHES,
    BatchRow,
    Damaged,
    Standing,
    batch_checksum,
    place_checksum,
    read_batches,
    read_commands,
    read_metrics,
    read_settings,
    record_incident,
)
from device_agent.spool.salvage import LastState, Salvage, write_last_state
from integrity.checksum import row_checksum
from wire.limits import MAX_REASON
from wire.model import Metric
from wire.text import plural

KEPT_BYTES = 64 * 1024 * 1024
"""Most bytes of acknowledged batches in the file, within the bound of the spool."""

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
_log = logging.getLogger(__name__)

_REPLACE_SETTINGS = "INSERT OR REPLACE INTO setting (id, content, checksum) VALUES (1, ?, ?)"

_UPSERT_COMMAND = (
    "INSERT INTO command (id, content, checksum) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
    "SET content = excluded.content, checksum = excluded.checksum"
)


class SpoolFile:
    """An open spool. Every method is one transaction or one read; all raise SpoolError.

    After an I/O error it is unknown what reached the disk: a second fsync may succeed without writing what the first
    one could not. So nothing is stored until the file is opened again. A full disk is a temporary error.

    `standing` has the numbers and gaps after the last commit. `take_incidents` returns damages for the log.
    """

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection,
        standing: Standing,
        lock: int,
        *,
        max_bytes: int,
        new_epoch: Callable[[], str],
    ) -> None:
        self.path = path
        self.connection = connection
        self.standing = standing
        self._lock = lock
        self._incidents: list[str] = []
        self._max_bytes = max_bytes
        self._new_epoch = new_epoch
        self._failure: str | None = None

    def close(self) -> None:
        """Close the file and release its lock."""
        self.write_last_state()
        self.connection.close()
        os.close(self._lock)

    def take_incidents(self) -> list[str]:
        """Return the damages that were found since the last call."""
        incidents, self._incidents = self._incidents, []
        return incidents

    def metrics(self) -> list[Metric]:
        """Return the stored definitions, in the order of their first appearance."""
        return read_metrics(self.connection)

    def record_recovery(self, salvaged: Salvage | None, incidents: Sequence[str]) -> None:
        """Write the numbers and gaps, what was salvaged, and what happened to the spool, in one commit."""
        with self._transaction() as connection:
            if salvaged is not None:
                self._write_metrics(salvaged.metrics)
                for seq, batch in salvaged.batches.items():
                    connection.executemany(_INSERT, self._rows([batch], seq))
                self._write_commands(salvaged.commands)
                if salvaged.settings is not None:
                    self._write_settings(salvaged.settings)
            self._write_gaps()
            self._write_life()
            for text in incidents:
                record_incident(connection, time.time_ns(), text)
        self._incidents += incidents

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
        self.write_last_state()
        return first

    def read(self, after: int, *, max_batches: int, max_bytes: int) -> list[Entry]:
        """Return the entries after this number, in order and within the bounds, at least one if there is any.

        Acknowledged batches are returned as far as they are kept. A damaged batch is declared as a gap first.
        """
        while True:
            standing = self.standing
            rows = self._read_rows(after, max_batches)
            batches = {row.seq: row.batch for row in rows if row.batch is not None}
            end = rows[-1].seq + 1 if len(rows) == max_batches else standing.next_seq
            gaps = standing.gaps_of_damaged(after, end, batches)
            if gaps == standing.gaps:
                gaps = standing.gaps_of_discarded(after, end, batches)
                return read_entries(
                    after + 1, end, gaps, batches.__getitem__, max_batches=max_batches, max_bytes=max_bytes
                )
            self._declare_damaged(gaps, [row for row in rows if row.batch is None and row.seq > standing.acked])

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

    def begin_epoch(self, acked: int, loss: str) -> None:
        """Trim to `acked`, and begin a new epoch in which the rest follows a gap, number 1, with this reason.

        Acknowledged batches are deleted. The loss is an incident, too.
        """
        with self._transaction() as connection:
            self._trim(acked)
            self._forget(self.standing.acked)
            standing = self.standing
            by, epoch = 1 - standing.acked, self._new_epoch()
            self._move(0, by, epoch)
            self._change(
                epoch=epoch,
                next_seq=standing.next_seq + by,
                claim=1,
                acked=0,
                gaps=standing.gaps.shift(0, by).add(1, 1, loss[:MAX_REASON]),
            )
            self._write_gaps()
            self._write_life()
            record_incident(connection, time.time_ns(), loss)
        self._incidents.append(loss)
        self.write_last_state()

    def read_commands(self) -> list[StoredCommand]:
        """Return the commands, in the order in which they were written first."""
        with self._translated():
            return read_commands(self.connection)

    def write_commands(self, written: Sequence[StoredCommand], deleted: Sequence[str]) -> None:
        """Write and delete commands in one commit."""
        with self._transaction() as connection:
            self._write_commands(written)
            connection.executemany("DELETE FROM command WHERE id = ?", [(id,) for id in deleted])

    def read_settings(self) -> bytes | None:
        """Return the settings; None if there are none, or they are damaged."""
        with self._translated():
            try:
                return read_settings(self.connection)
            except Damaged:
                _log.error("the record of the settings is damaged: the hub sends the desired values again")
                return None

    def write_settings(self, content: bytes) -> None:
        """Replace the settings."""
        with self._transaction():
            self._write_settings(content)

    def write_last_state(self) -> None:
        """Write the last numbers beside the spool. Without them only a removed spool is not noticed."""
        standing = self.standing
        batches = standing.next_seq - 1 - standing.acked - standing.gaps.count(standing.acked)
        state = LastState(
            standing.device, standing.epoch, standing.next_seq, standing.acked, batches, standing.readings
        )
        with suppress(OSError):
            write_last_state(self.path, state)

    def _read_rows(self, after: int, limit: int) -> list[BatchRow]:
        standing, select = self.standing, f"{READ_BATCHES} WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._translated():
            rows = self.connection.execute(select, (after, limit))
            return list(read_batches(rows, standing.device, standing.epoch))

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
        self._incidents.append(text)

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

    def _write_commands(self, commands: Sequence[StoredCommand]) -> None:
        # One that was damaged is written without content, which is no command either.
        rows = [(id, content or b"") for id, content in commands]
        self.connection.executemany(_UPSERT_COMMAND, [(*row, row_checksum(row)) for row in rows])

    def _write_settings(self, content: bytes) -> None:
        self.connection.execute(_REPLACE_SETTINGS, (content, row_checksum((content,))))

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
