from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from structlog.testing import capture_logs

from hub.model.batch import Batch, Series
from hub.model.store import ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.duckdb import schema
from hub.storage.duckdb.database import Database
from hub.storage.duckdb.summary import Span
from hub.storage.duckdb.tables import Tables
from tests.hub.storage.readings import REGISTRY, SERIES, Reading, batch, batches, entries, entry, order, readings_of

ALL = list(SERIES.values())
MEMORY = "200MB"


class SummariesMachine(RuleBasedStateMachine):
    """Whatever happens to the tables, counts, spans and newest times are those of the stored readings."""

    @initialize(save_rows=st.sampled_from([0, 5, 1000]))
    def open(self, save_rows: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.save_rows = save_rows
        self.readings: dict[int, list[Reading]] = {}
        self.expired: dict[int, int] = {}
        self.stored = 0
        self._open()

    def _open(self) -> None:
        self.database = Database(Path(self.directory.name) / "history.duckdb", memory_limit=MEMORY, threads=1)
        with capture_logs() as logs:
            self.tables = Tables(self.database.writer, registry=REGISTRY, save_rows=self.save_rows)
        assert logs == []

    @rule(given=st.lists(batches(ALL, st.integers(0, 60)), min_size=1, max_size=4))
    def append(self, given: list[Batch]) -> None:
        first = self.tables.cursor.offset + 1
        added = self.tables.append(entries(given, first), StoreCursor("journal", first + len(given) - 1))
        new = readings_of(given)
        assert added == sum(map(len, new.values()))
        self.stored += added
        for id, readings in new.items():
            self.readings[id] = sorted([*self.readings.get(id, []), *readings], key=order)

    @rule(time_ns=st.integers(0, 70))
    def delete(self, time_ns: int) -> None:
        kept = {id: [item for item in readings if item[0] >= time_ns] for id, readings in self.readings.items()}
        for id, readings in self.readings.items():
            self.expired[id] = self.expired.get(id, 0) + len(readings) - len(kept[id])
        counts_by_type = sum(map(len, self.readings.values())) - sum(map(len, kept.values()))
        self.readings = {id: readings for id, readings in kept.items() if readings}
        assert self.tables.delete_before(time_ns) == counts_by_type

    @rule()
    def save(self) -> None:
        self.tables.save()

    @rule()
    def load(self) -> None:
        """Load the tables again, as after a failed write."""
        with capture_logs() as logs:
            self.tables.load()
        assert logs == []

    @rule()
    def reopen(self) -> None:
        """Open the tables without saving first, as after a crash."""
        self.database.close()
        self._open()

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "tables"):
            return
        assert sum(self.tables.stored.values()) == self.stored
        counts: dict[int, ReadingCounts] = {}
        newest: dict[int, int] = {}
        spans: dict[int, Span] = {}
        for summary in self.tables.summaries.values():
            counts |= summary.counts()
            newest |= {id: latest.time_ns for id, latest in summary.latest(ALL).items()}
            spans |= summary.spans(ALL)
        assert counts == {
            id: ReadingCounts(len(self.readings.get(id, [])), self.expired.get(id, 0))
            for id in self.readings.keys() | {id for id, count in self.expired.items() if count}
        }
        assert newest == {id: readings[-1][0] for id, readings in self.readings.items()}
        assert all(spans[id].oldest_ns <= readings[0][0] for id, readings in self.readings.items())
        assert all(spans[id].newest_ns == readings[-1][0] for id, readings in self.readings.items())

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.directory.cleanup()


TestSummaries = SummariesMachine.TestCase
TestSummaries.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


def packed(series: Series, times: range) -> Batch:
    values = np.arange(len(times), dtype=np.float64)
    return Batch(np.arange(times.start, times.stop), [(series, values)], readings=len(times))


def test_the_last_rows_are_found_when_whole_row_groups_were_deleted(database: Database) -> None:
    """After a checkpoint removes and joins row groups, the rows that the saved summaries lack are still known."""
    series = SERIES["float"]
    tables = Tables(database.writer, registry=REGISTRY)
    first, offset = 0, 0
    for cut in (150_000, 301_000, 500_123):
        for count in (300_000, 50_000):
            offset += 1
            tables.append([entry(offset, packed(series, range(first, first + count)))], StoreCursor("journal", offset))
            first += count
        tables.delete_before(cut)
        offset += 1
        tables.append([entry(offset, packed(series, range(first, first + 10)))], StoreCursor("journal", offset))
        first += 10
        database.writer.execute("CHECKPOINT")
        with capture_logs() as logs:
            tables.load()
        assert logs == []
        assert tables.summaries["float"].counts() == {series.id: ReadingCounts(first - cut, cut)}


def test_wrong_saved_summaries_are_detected(database: Database) -> None:
    """Summaries that do not add up are computed again from the readings, and the log reports it."""
    tables = Tables(database.writer, registry=REGISTRY)
    tables.append([entry(1, batch([3, 4], {SERIES["string"]: ["a", "b"]}))], StoreCursor("journal", 1))
    tables.save()
    database.writer.execute(f"UPDATE {schema.summary_table('string')} SET readings = 5")
    with capture_logs() as logs:
        tables.load()
    assert [log["log_level"] for log in logs] == ["error"]
    assert tables.summaries["string"].counts() == {SERIES["string"].id: ReadingCounts(2, 0)}


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    """A write that fails halfway is undone, and the next one continues from the same cursor."""
    tables = Tables(database.writer, registry=REGISTRY)
    good, bad = (batch([1, 2], {SERIES["integer"]: [1, 2], SERIES["string"]: ["a", text]}) for text in ("b", "\ud800"))
    with pytest.raises(duckdb.Error):
        tables.append([entry(1, bad)], StoreCursor("journal", 1))
    tables.load()
    assert (tables.cursor, sum(tables.stored.values())) == (StoreCursor("", 0), 0)
    assert tables.append([entry(1, good)], StoreCursor("journal", 1)) == 4
    assert database.writer.execute(f"SELECT count(*) FROM {schema.table('raw', 'integer')}").fetchone() == (2,)


def test_another_layout_is_refused(database: Database) -> None:
    """A file of a later version is not touched."""
    database.writer.execute("UPDATE store SET version = 99")
    with pytest.raises(StoreUnavailable, match="version 99"):
        Tables(database.writer, registry=REGISTRY)


def test_tables_belong_to_the_registry_that_filled_them_first(database: Database) -> None:
    """Another registry, whose series have the same numbers, is rejected with what to do; the first one is accepted."""
    Tables(database.writer, registry=REGISTRY)
    with pytest.raises(StoreUnavailable, match=r"another registry\.db .* restore the registry\.db of the same time"):
        Tables(database.writer, registry="b" * 32)
    Tables(database.writer, registry=REGISTRY)
