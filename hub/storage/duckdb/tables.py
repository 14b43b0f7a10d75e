"""What the store's one writing thread does with the tables: read their state, append, save summaries, delete."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import duckdb
import numpy as np
import structlog

from hub.model.batch import Entry, Series
from hub.model.store import ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.duckdb import schema
from hub.storage.duckdb.columns import Array, Touched, gather, touched_by
from hub.storage.duckdb.database import transaction
from hub.storage.duckdb.plan import Held
from hub.storage.duckdb.rollup import Rollups, last_row
from hub.storage.duckdb.summary import Summary
from wire.model import MetricType

SAVE_ROWS = 8_000_000
"""Rows after which the summaries are saved. Opening summarises the rows since: 0.16 s at most, at 20 ns a row. To save
those of 1,000 series takes 3 ms, of 100,000 series 60 ms."""

STEP_READINGS = 4_000_000
"""Readings that one step rolls up, in 0.3 s: as long as a write can have to wait for it. Of 100,000 series that come at
the same pace a step then still has 40 of each."""

STEP_PIECES = 2_000_000
"""Pieces of minutes that one step folds into hours, in 0.3 s."""

log = structlog.get_logger(__name__)


class Tables:
    """The tables of an open database, for the thread that writes.

    `cursor`, `stored` (readings since the file was made), `summaries`, `rollups` and `held` are as the last commit left
    them. When a call failed, `load` says what holds: a commit may report an error after it was written.
    """

    cursor: StoreCursor
    stored: dict[MetricType, int]
    summaries: Mapping[MetricType, Summary]
    rollups: Rollups
    held: Held

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, registry: str, save_rows: int = SAVE_ROWS) -> None:
        """Reads the state; new tables are this registry's from now on.

        Raises StoreUnavailable for another version of the layout, and where the tables are another registry's.
        """
        self._connection = connection
        self._save_rows = save_rows
        (version,) = self._row(schema.READ_VERSION)
        if version != schema.VERSION:
            raise StoreUnavailable(
                f"the store's layout is version {version}, this hub knows {schema.VERSION}: move its file away, so "
                "that a new one begins"
            )
        self._belong_to(registry)
        self.load()

    def load(self) -> None:
        """Reads the cursor, the saved summaries and the rows that they do not have yet, and how far the rollups are."""
        journal, position, *counts = self._row(schema.READ_STORE)
        self._tails = dict(zip(schema.TYPES, counts[::2], strict=True))
        self.stored = dict(zip(schema.TYPES, counts[1::2], strict=True))
        self.summaries = {type: self._summary(type, tail) for type, tail in self._tails.items()}
        self.rollups = Rollups(self._connection)
        self.held = Held(*self._row(schema.READ_TIERS))
        self.cursor = StoreCursor(journal, position)

    def append(self, entries: Sequence[Entry], cursor: StoreCursor) -> int:
        """Appends what is beyond the cursor, and moves it, in one transaction. Returns the number of readings."""
        held = self.cursor.offset if self.cursor.journal == cursor.journal else 0
        if cursor.offset <= held:
            return 0
        rows = gather(entries[bisect_right(entries, held, key=attrgetter("offset")) :])
        touched = {type: touched_by(rows_of_type) for type, rows_of_type in rows.items()}
        counts = {type: len(rows[type].series) if type in rows else 0 for type in schema.TYPES}
        added = sum(counts.values())
        # Saved as they are before this write, whose rows then are the ones that the saved summaries do not have.
        save = sum(self._tails.values()) + added > self._save_rows
        tails = counts if save else {type: tail + counts[type] for type, tail in self._tails.items()}
        incoming = {
            schema.raw(type): {"series": part.series, "time_ns": part.times_ns, "value": part.values}
            for type, part in rows.items()
        }
        stored = {type: self.stored[type] + count for type, count in counts.items()}
        with self._transaction(incoming, save=save):
            self._update(cursor, stored, tails)
        self.cursor, self.stored, self._tails = cursor, stored, tails
        self.rollups.appended(counts)
        for type, touched_of_type in touched.items():
            self.summaries[type].add(touched_of_type)
        return added

    def delete_before(self, time_ns: int) -> int:
        """Deletes readings older than this, once they are in the rollups. Returns how many."""
        for type in schema.TYPES:
            while self.rollups.roll_up(type, STEP_READINGS):
                pass
        count_by_series = "SELECT series, count(*) AS readings FROM {} WHERE time_ns < ? GROUP BY series"
        deleted = {type: self._columns(count_by_series.format(schema.raw(type)), time_ns) for type in schema.TYPES}
        count = sum(int(columns["readings"].sum()) for columns in deleted.values())
        if not count:
            return 0
        for type, columns in deleted.items():
            self.summaries[type].delete(columns["series"], columns["readings"], time_ns)
        # Summaries are saved with every deletion: the rows that they do not have are then always the tables' last ones,
        # with no deleted row between them.
        none = dict.fromkeys(schema.TYPES, 0)
        with self._transaction({}, save=True):
            for type in schema.TYPES:
                self._connection.execute(f"DELETE FROM {schema.raw(type)} WHERE time_ns < ?", [time_ns])
            self._update(self.cursor, self.stored, none)
            self._connection.execute("UPDATE tiers SET raw_from_ns = greatest(raw_from_ns, ?)", [time_ns])
        self._tails = none
        self.held = self.held._replace(raw_from_ns=max(self.held.raw_from_ns, time_ns))
        return count

    def delete_rollups_before(self, tier: schema.Tier, time_ns: int) -> None:
        """Deletes buckets that begin before this, once they are in the next rollup."""
        if tier == "minute":
            for type in schema.TYPES:
                while self.rollups.fold(type, STEP_PIECES):
                    pass
        with transaction(self._connection):
            for type in schema.TYPES:
                self._connection.execute(f"DELETE FROM {schema.rolled(tier, type)} WHERE time_ns < ?", [time_ns])
            self._connection.execute(f"UPDATE tiers SET {tier}_from_ns = greatest({tier}_from_ns, ?)", [time_ns])
        self.held = Held(*self._row(schema.READ_TIERS))

    def clock_ns(self) -> int:
        """The time up to which the retentions have come; 0 before the first of them looked."""
        (clock_ns,) = self._row(schema.READ_CLOCK)
        return int(clock_ns)

    def save_clock(self, clock_ns: int) -> None:
        """Keeps that time."""
        self._connection.execute(schema.UPDATE_CLOCK, [clock_ns])

    def oldest_ns(self) -> int | None:
        """The oldest reading's time."""
        return min((int(oldest) for oldest in self._columns(schema.READ_ENDS)["oldest_ns"]), default=None)

    def import_counts(self, counts: Sequence[tuple[Series, ReadingCounts]]) -> None:
        """Takes over what another store knew to be expired and refused of series whose readings come here."""
        for type, summary in self.summaries.items():
            summary.import_counts({series.id: one for series, one in counts if series.type == type})
        none = dict.fromkeys(schema.TYPES, 0)
        with self._transaction({}, save=True):
            self._update(self.cursor, self.stored, none)
        self._tails = none

    def save(self) -> None:
        """Saves the summaries, so that the next opening has nothing to compute."""
        if any(self._tails.values()):
            none = dict.fromkeys(schema.TYPES, 0)
            with self._transaction({}, save=True):
                self._update(self.cursor, self.stored, none)
            self._tails = none

    def _belong_to(self, registry: str) -> None:
        # The series' ids are small numbers that every registry gives out anew: in another registry's hands the readings
        # would be those of other devices.
        (owner,) = self._row(schema.READ_REGISTRY)
        if not owner:
            self._connection.execute(schema.UPDATE_REGISTRY, [registry])
        elif owner != registry:
            raise StoreUnavailable(
                f"history was stored with another registry.db (of hub {owner}, this is hub {registry}) and cannot be "
                "read without it: stop the hub and put back the registry.db of the same time, or move the store's file "
                "and its .wal file away, so that a new history begins"
            )

    @contextlib.contextmanager
    def _transaction(self, incoming: dict[str, dict[str, Array]], *, save: bool) -> Iterator[None]:
        """Appends the incoming columns to their tables, and what the block does, or nothing of it."""
        connection = self._connection
        saved = {schema.saved(type): self._saved_columns(summary) for type, summary in self.summaries.items() if save}
        offered = {f"new_{table}": columns for table, columns in (incoming | saved).items() if len(columns["series"])}
        try:
            # A registration is a statement, too: in the transaction it would be undone with it.
            for name, columns in offered.items():
                connection.register(name, columns)
            with transaction(connection):
                for table in saved:
                    connection.execute(f"DELETE FROM {table}")
                for name in offered:
                    connection.execute(f"INSERT INTO {name.removeprefix('new_')} SELECT * FROM {name}")
                yield
        finally:
            with contextlib.suppress(duckdb.Error):
                for name in offered:
                    connection.unregister(name)

    def _update(self, cursor: StoreCursor, stored: Mapping[MetricType, int], tails: Mapping[MetricType, int]) -> None:
        counts = [count for type in schema.TYPES for count in (tails[type], stored[type])]
        self._connection.execute(schema.UPDATE_STORE, [*cursor, *counts])

    @staticmethod
    def _saved_columns(summary: Summary) -> dict[str, Array]:
        known, expired, refused = summary.everything()
        return {
            "series": known.series,
            "readings": known.readings,
            "oldest_ns": known.oldest_ns,
            "newest_ns": known.newest_ns,
            "value": known.values,
            "expired": expired,
            "refused": refused,
        }

    def _summary(self, type: MetricType, tail: int) -> Summary:
        summary = Summary(type)
        (rows,) = self._row(f"SELECT count(*) FROM {schema.raw(type)}")
        saved = self._columns(f"SELECT * FROM {schema.saved(type)} ORDER BY series")
        summary.restore(_touched(saved), saved["expired"], saved["refused"])
        if tail:
            last = last_row(self._connection, schema.raw(type))
            summary.add(_touched(self._columns(schema.summarise(type, f"WHERE rowid > {last - tail}"))))
        counted = sum(counts.stored for counts in summary.counts().values())
        if counted != rows:
            log.error("saved summaries were wrong: reading all", table=schema.raw(type), rows=rows, counted=counted)
            summary = Summary(type)
            # Nothing else knows what is expired, and what another store refused.
            nothing = _touched(saved)._replace(readings=np.zeros_like(saved["readings"]))
            summary.restore(nothing, saved["expired"], saved["refused"])
            summary.add(_touched(self._columns(schema.summarise(type, ""))))
        return summary

    def _columns(self, sql: str, *parameters: object) -> dict[str, Array]:
        columns: dict[str, Array] = self._connection.execute(sql, parameters).fetchnumpy()
        return columns

    def _row(self, sql: str) -> tuple[Any, ...]:
        # All of them: what is not fetched to its end keeps the connection busy.
        (row,) = self._connection.execute(sql).fetchall()
        found: tuple[Any, ...] = row
        return found


def _touched(columns: Mapping[str, Array]) -> Touched:
    return Touched(*(columns[name] for name in ("series", "readings", "oldest_ns", "newest_ns", "value")))
