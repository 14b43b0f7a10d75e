from __future__ import annotations

import numpy as np
import pytest

from hub.model.batch import Batch
from hub.model.store import ReadingCounts, StoreCursor
from hub.storage.duckdb.database import Database, size_bytes
from hub.storage.duckdb.query_plan import HOUR_NS, RollupBacklog, read_sources
from hub.storage.duckdb.tables import Tables
from hub.storage.duckdb.upkeep import (
    BUSY_READINGS_PER_S,
    DAY_NS,
    EXPIRE_EVERY_S,
    FOLD_EVERY_S,
    ROLL_EVERY_S,
    RetentionPeriods,
    Upkeep,
)
from tests.hub.storage.readings import REGISTRY, SERIES, entry

FLOAT = SERIES["float"]
NOW = 1_000 * DAY_NS + HOUR_NS // 2
ROUNDS = 6


def write(tables: Tables, first_ns: int, last_ns: int, count: int) -> None:
    """Write `count` readings of one series from one time to another."""
    times = np.linspace(first_ns, last_ns, count).astype(np.int64)
    offset = tables.cursor.offset + 1
    content = Batch(times, [(FLOAT, np.random.default_rng(offset).normal(size=count))], readings=count)
    tables.append([entry(offset, content)], StoreCursor("journal", offset))


def finish(upkeep: Upkeep, tables: Tables, now_ns: int, now_s: float) -> int:
    """Run all steps that are due, and return their number."""
    steps = 0
    while upkeep.step(tables, now_ns=now_ns, now_s=now_s):
        steps += 1
    return steps


def test_readings_are_rolled_up_from_time_to_time(database: Database) -> None:
    """Minutes follow some minutes later and hours some hours later, not with every step."""
    tables = Tables(database.writer, registry=REGISTRY)
    upkeep = Upkeep(RetentionPeriods())
    finish(upkeep, tables, NOW, 0)
    write(tables, NOW - HOUR_NS, NOW, 1000)
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S - 1) == 0
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S) == 1
    assert tables.rollups.backlog["float"] == RollupBacklog(0, 61)
    assert finish(upkeep, tables, NOW, FOLD_EVERY_S) >= 1
    assert tables.rollups.backlog["float"] == RollupBacklog(0, 0)


def test_rolling_up_waits_within_its_limit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While very much data arrives, nothing is rolled up until the backlog is too large."""
    tables = Tables(database.writer, registry=REGISTRY)
    upkeep = Upkeep(RetentionPeriods())
    finish(upkeep, tables, NOW, 0)
    write(tables, NOW - HOUR_NS, NOW, 1000)
    # As if the readings had arrived within an instant.
    instant = 100 / BUSY_READINGS_PER_S
    upkeep._last_count = ROLL_EVERY_S - instant, 0
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S) == 0
    monkeypatch.setattr("hub.storage.duckdb.upkeep.MAX_BACKLOG", 999)
    upkeep._last_count = ROLL_EVERY_S - instant, 0
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S) == 1


def test_each_tier_has_its_retention(database: Database) -> None:
    """Readings, minutes and hours are deleted at their own age, in whole hours; deletions are counted."""
    tables = Tables(database.writer, registry=REGISTRY)
    for day in (1, 3, 10, 40):
        write(tables, NOW - day * DAY_NS, NOW - day * DAY_NS + HOUR_NS, 500)
    upkeep = Upkeep(RetentionPeriods(raw_days=2, minute_days=5, hour_days=20))
    finish(upkeep, tables, NOW, 0)
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(500, 1500)}
    with database.reader() as reader:
        assert read_sources(reader).tier_starts.minute_from_ns == (NOW - 5 * DAY_NS) // HOUR_NS * HOUR_NS
    finish(upkeep, tables, NOW, ROLL_EVERY_S)

    def counted(table: str) -> int:
        ((count,),) = database.writer.execute(f"SELECT coalesce(sum(readings), 0)::BIGINT FROM {table}").fetchall()
        return int(count)

    assert (counted("minute_float"), counted("hour_float")) == (1000, 1500)
    # The next step is an hour later; nothing has reached its age since.
    finish(upkeep, tables, NOW, EXPIRE_EVERY_S + 1)
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(500, 1500)}


def test_a_clock_that_leaps_ahead_deletes_little(database: Database) -> None:
    """With a clock ten years ahead, each hour deletes at most CATCH_UP hours of readings, also after a restart. When
    the clock is corrected, the store continues normally."""
    tables = Tables(database.writer, registry=REGISTRY)
    write(tables, NOW - 10 * DAY_NS, NOW - 1, 240)
    keep = RetentionPeriods(raw_days=10)
    upkeep = Upkeep(keep)
    finish(upkeep, tables, NOW, 0)
    before = tables.summaries["float"].counts()[FLOAT.id].stored
    assert before >= 239
    wrong_ns = NOW + 3_650 * DAY_NS
    for looks in range(1, 3):
        finish(upkeep, tables, wrong_ns, looks * (EXPIRE_EVERY_S + 1))
        assert before - tables.summaries["float"].counts()[FLOAT.id].stored in range(11 * looks, 14 * looks)
    upkeep = Upkeep(keep)
    finish(upkeep, tables, wrong_ns, 0)
    left = tables.summaries["float"].counts()[FLOAT.id].stored
    assert before - left <= 27
    finish(upkeep, tables, NOW + HOUR_NS, EXPIRE_EVERY_S + 1)
    assert tables.summaries["float"].counts()[FLOAT.id].stored == left
    assert tables.clock_ns() == NOW + HOUR_NS


def test_a_long_pause_is_caught_up(database: Database) -> None:
    """A hub that was off for a month has deleted its old data some days later."""
    tables = Tables(database.writer, registry=REGISTRY)
    write(tables, NOW - DAY_NS, NOW - 1, 24)
    finish(Upkeep(RetentionPeriods(raw_days=10)), tables, NOW, 0)
    upkeep = Upkeep(RetentionPeriods(raw_days=10))
    for hour in range(61):
        finish(upkeep, tables, NOW + 30 * DAY_NS + hour * HOUR_NS, hour * EXPIRE_EVERY_S)
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(0, 24)}


def test_an_old_outlier_is_one_step(database: Database) -> None:
    """One reading of 1970 before a gap of a thousand days is one step."""
    tables = Tables(database.writer, registry=REGISTRY)
    write(tables, 5, 5, 1)
    write(tables, NOW - HOUR_NS, NOW, 10)
    assert finish(Upkeep(RetentionPeriods(raw_days=1)), tables, NOW, 0) < 8
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(10, 1)}


def test_space_of_deleted_readings_is_reused(database: Database) -> None:
    """With as much data added as deleted, the file keeps the size of the first rounds."""
    tables = Tables(database.writer, registry=REGISTRY)
    upkeep = Upkeep(RetentionPeriods(raw_days=1))
    sizes = []
    for day in range(ROUNDS):
        for quarter in range(4):
            start = NOW + day * DAY_NS + quarter * 6 * HOUR_NS
            write(tables, start, start + 6 * HOUR_NS - 1, 150_000)
        finish(upkeep, tables, NOW + (day + 1) * DAY_NS, (day + 1) * 86_400.0)
        database.writer.execute("CHECKPOINT")
        sizes.append(size_bytes(database.path))
        assert tables.summaries["float"].counts()[FLOAT.id].stored <= 650_000
    assert max(sizes) <= 1.25 * max(sizes[:3]), sizes
