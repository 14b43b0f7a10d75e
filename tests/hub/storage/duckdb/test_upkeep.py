from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hub.model.batch import Batch
from hub.model.store import ReadingCounts, StoreCursor
from hub.storage.duckdb.database import Database, size_bytes
from hub.storage.duckdb.plan import HOUR_NS
from hub.storage.duckdb.rollup import Behind
from hub.storage.duckdb.tables import Tables
from hub.storage.duckdb.upkeep import (
    BUSY_READINGS_PER_S,
    DAY_NS,
    EXPIRE_EVERY_S,
    FOLD_EVERY_S,
    ROLL_EVERY_S,
    Keep,
    Upkeep,
)
from tests.hub.storage.readings import REGISTRY, SERIES, entry

FLOAT = SERIES["float"]
NOW = 1_000 * DAY_NS + HOUR_NS // 2
ROUNDS = 6


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "history.duckdb", memory_limit="400MB", threads=1)
    yield database
    database.close()


def write(tables: Tables, first_ns: int, last_ns: int, count: int) -> None:
    """So many readings of one series from one time to another."""
    times = np.linspace(first_ns, last_ns, count).astype(np.int64)
    offset = tables.cursor.offset + 1
    content = Batch(times, [(FLOAT, np.random.default_rng(offset).normal(size=count))], readings=count)
    tables.append([entry(offset, content)], StoreCursor("journal", offset))


def finish(upkeep: Upkeep, tables: Tables, now_ns: int, now_s: float) -> int:
    """Does all that is due; returns the number of steps."""
    steps = 0
    while upkeep.step(tables, now_ns=now_ns, now_s=now_s):
        steps += 1
    return steps


def test_what_came_in_is_rolled_up_now_and_then(database: Database) -> None:
    """Minutes some minutes later and hours some hours later, not with every look."""
    tables = Tables(database.writer, registry=REGISTRY)
    upkeep = Upkeep(Keep())
    finish(upkeep, tables, NOW, 0)
    write(tables, NOW - HOUR_NS, NOW, 1000)
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S - 1) == 0
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S) == 1
    assert tables.rollups.behind["float"] == Behind(0, 61)
    assert finish(upkeep, tables, NOW, FOLD_EVERY_S) >= 1
    assert tables.rollups.behind["float"] == Behind(0, 0)


def test_rolling_up_gives_way_within_its_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While very much comes in nothing is rolled up, until too much waits for it."""
    tables = Tables(database.writer, registry=REGISTRY)
    upkeep = Upkeep(Keep())
    finish(upkeep, tables, NOW, 0)
    write(tables, NOW - HOUR_NS, NOW, 1000)
    # As if it had come in within an instant.
    instant = 100 / BUSY_READINGS_PER_S
    upkeep._seen = ROLL_EVERY_S - instant, 0
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S) == 0
    monkeypatch.setattr("hub.storage.duckdb.upkeep.MAX_BEHIND", 999)
    upkeep._seen = ROLL_EVERY_S - instant, 0
    assert finish(upkeep, tables, NOW, ROLL_EVERY_S) == 1


def test_each_tier_has_its_retention(database: Database) -> None:
    """Readings, minutes and hours go each at their age, in whole hours; what is deleted is counted."""
    tables = Tables(database.writer, registry=REGISTRY)
    for day in (1, 3, 10, 40):
        write(tables, NOW - day * DAY_NS, NOW - day * DAY_NS + HOUR_NS, 500)
    upkeep = Upkeep(Keep(raw_days=2, minute_days=5, hour_days=20))
    finish(upkeep, tables, NOW, 0)
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(500, 1500)}
    assert tables.held.minute_from_ns == (NOW - 5 * DAY_NS) // HOUR_NS * HOUR_NS
    finish(upkeep, tables, NOW, ROLL_EVERY_S)

    def counted(table: str) -> int:
        ((count,),) = database.writer.execute(f"SELECT coalesce(sum(readings), 0)::BIGINT FROM {table}").fetchall()
        return int(count)

    assert (counted("minute_float"), counted("hour_float")) == (1000, 1500)
    # An hour later the next look; nothing has reached its age since.
    finish(upkeep, tables, NOW, EXPIRE_EVERY_S + 1)
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(500, 1500)}


def test_a_clock_that_leaps_ahead_deletes_little(database: Database) -> None:
    """Ten years ahead, at most CATCH_UP hours of readings are deleted in each hour, also when the hub is started anew;
    with the clock put right it goes on as if nothing had been."""
    tables = Tables(database.writer, registry=REGISTRY)
    write(tables, NOW - 10 * DAY_NS, NOW - 1, 240)
    keep = Keep(raw_days=10)
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
    """A hub that was off for a month has deleted what is too old some days later."""
    tables = Tables(database.writer, registry=REGISTRY)
    write(tables, NOW - DAY_NS, NOW - 1, 24)
    finish(Upkeep(Keep(raw_days=10)), tables, NOW, 0)
    upkeep = Upkeep(Keep(raw_days=10))
    for hour in range(61):
        finish(upkeep, tables, NOW + 30 * DAY_NS + hour * HOUR_NS, hour * EXPIRE_EVERY_S)
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(0, 24)}


def test_an_old_outlier_does_not_take_a_step_for_every_hour(database: Database) -> None:
    """One reading of 1970 and a thousand days of nothing are one step."""
    tables = Tables(database.writer, registry=REGISTRY)
    write(tables, 5, 5, 1)
    write(tables, NOW - HOUR_NS, NOW, 10)
    assert finish(Upkeep(Keep(raw_days=1)), tables, NOW, 0) < 8
    assert tables.summaries["float"].counts() == {FLOAT.id: ReadingCounts(10, 1)}


def test_the_room_of_what_is_deleted_is_used_again(database: Database) -> None:
    """As much comes as goes, round after round: the file stays as it was after the first rounds."""
    tables = Tables(database.writer, registry=REGISTRY)
    upkeep = Upkeep(Keep(raw_days=1))
    sizes = []
    for day in range(ROUNDS):
        for part in range(4):
            start = NOW + day * DAY_NS + part * 6 * HOUR_NS
            write(tables, start, start + 6 * HOUR_NS - 1, 150_000)
        finish(upkeep, tables, NOW + (day + 1) * DAY_NS, (day + 1) * 86_400.0)
        database.writer.execute("CHECKPOINT")
        sizes.append(size_bytes(database.path))
        assert tables.summaries["float"].counts()[FLOAT.id].stored <= 650_000
    assert max(sizes) <= 1.25 * max(sizes[:3]), sizes
