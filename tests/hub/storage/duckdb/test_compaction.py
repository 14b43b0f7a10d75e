from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.model.batch import Batch
from hub.model.store import Aggregate, HistoryQuery, StoreCursor, StoreError, StoreUnavailable
from hub.storage.duckdb.compaction import compact
from hub.storage.duckdb.database import Database, size_bytes
from hub.storage.duckdb.history import read_history
from hub.storage.duckdb.query_plan import HOUR_NS, read_sources
from hub.storage.duckdb.tables import Tables
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry
from tests.hub.storage.small_disk import SmallDisk

ALL = list(SERIES.values())
DAYS = 5
KILLED = """
import os, signal, sys
from pathlib import Path
from hub.storage.duckdb.compaction import compact
def report(share):
    if share >= float(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
compact(Path(sys.argv[1]), memory_limit="400MB", threads=1, report_progress=report)
"""


def opened(path: Path) -> tuple[Database, Tables]:
    database = Database(path, memory_limit="400MB", threads=1)
    return database, Tables(database.writer, registry=REGISTRY)


def fill(path: Path, rows: int) -> None:
    """Write some days of readings of all types, some of them late, and delete half of them."""
    database, tables = opened(path)
    chance = np.random.default_rng(7)
    for number in range(1, 9):
        times = (number % 4) * 30 * HOUR_NS + np.sort(chance.choice(24 * HOUR_NS, rows))
        floats = Batch(times, [(SERIES["float"], chance.normal(size=rows))], readings=rows)
        few = [int(time) for time in times[:50]]
        others = batch(
            few,
            {
                SERIES["integer"]: [number * 50 + place for place in range(50)],
                SERIES["string"]: [f"{time}" for time in few],
                SERIES["boolean"]: [time % 2 == 0 for time in few],
            },
        )
        tables.append([entry(2 * number - 1, floats), entry(2 * number, others)], StoreCursor("journal", 2 * number))
        tables.rollups.roll_up("float", rows // 3)
        tables.rollups.fold("float", 500)
    tables.delete_before(33 * HOUR_NS)
    # Readings folded by the compaction would be answered by the hour instead of by the minute.
    for item in ALL:
        while tables.rollups.fold(item.type, 1000):
            pass
    database.close()


def answers(path: Path) -> list[Any]:
    """Return the store's answers about everything."""
    database, tables = opened(path)
    # Intervals of whole buckets, so that the number of pieces of a bucket makes no difference.
    of_buckets: tuple[Aggregate, ...] = ("count", "first", "last")
    questions: list[tuple[int | None, Aggregate]] = [
        (None, "minmax"),
        *((DAYS * points, aggregate) for points in (24, 1440) for aggregate in of_buckets),
    ]
    found: list[Any] = [tables.cursor, dict(tables.stored)]
    found += [summary.counts() for summary in tables.summaries.values()]
    found += [summary.latest(ALL) for summary in tables.summaries.values()]
    with database.reader() as reader:
        found.append(read_sources(reader).tier_starts)
        for points, aggregate in questions:
            spans = {id: span for summary in tables.summaries.values() for id, span in summary.spans(ALL).items()}
            history = read_history(reader, HistoryQuery(ALL, 0, DAYS * 24 * HOUR_NS, points, aggregate), spans)
            found += [(list(piece.times_ns), list(piece.values), piece.resolution) for piece in history.series]
    database.close()
    return found


def test_a_compacted_file_answers_the_same_and_is_smaller(tmp_path: Path) -> None:
    """Raw readings, rollups and expired counts stay the same; the space of deleted readings is free."""
    path = tmp_path / "history.duckdb"
    fill(path, 200_000)
    before = answers(path)
    shares: list[float] = []
    compacted = compact(path, memory_limit="400MB", threads=1, report_progress=shares.append)
    assert answers(path) == before
    assert compacted.after_bytes < 0.75 * compacted.before_bytes
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["history.duckdb"]
    # The store continues as before.
    database, tables = opened(path)
    tables.append([entry(17, batch([HOUR_NS], {SERIES["float"]: [1.0]}))], StoreCursor("journal", 17))
    assert tables.rollups.roll_up("float", 100) == 1
    assert tables.rollups.fold("float", 100) == 1
    database.close()


def test_rows_are_in_order_of_days_and_series(tmp_path: Path) -> None:
    """Rows written in order of arrival are grouped by series afterwards."""
    path = tmp_path / "history.duckdb"
    database, tables = opened(path)
    series = [SERIES["float"], type(SERIES["float"])(99, "device", "other", "float")]
    for offset in range(1, 30):
        time = (offset * 7 % 30) * 2 * HOUR_NS
        tables.append([entry(offset, batch([time], {item: [1.0] for item in series}))], StoreCursor("journal", offset))
    database.close()
    compact(path, memory_limit="400MB", threads=1, report_progress=lambda _: None)
    database, _ = opened(path)
    rows = database.writer.execute("SELECT time_ns, series FROM raw_float ORDER BY rowid").fetchall()
    assert rows == sorted(rows, key=lambda row: (row[0] // (24 * HOUR_NS), row[1], row[0]))
    database.close()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_killed_compaction_changes_nothing(tmp_path: Path, share: float) -> None:
    """The old file stays complete until the new one replaces it, and the next attempt starts over."""
    path = tmp_path / "history.duckdb"
    fill(path, 20_000)
    before = answers(path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), str(share)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert answers(path) == before
    compact(path, memory_limit="400MB", threads=1, report_progress=lambda _: None)
    assert answers(path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["history.duckdb"]


def test_a_file_in_use_is_not_compacted(tmp_path: Path) -> None:
    """While a hub has the file open, compaction reports that, and the file stays as it is."""
    path = tmp_path / "history.duckdb"
    fill(path, 1000)
    with locked_by_another_process(path), pytest.raises(StoreUnavailable, match="in use by another process"):
        compact(path, memory_limit="400MB", threads=1, report_progress=lambda _: None)
    with pytest.raises(StoreError, match="nothing to compact"):
        compact(tmp_path / "other.duckdb", memory_limit="400MB", threads=1, report_progress=lambda _: None)


def test_too_little_disk_space_is_reported_before_the_start(small_disk: SmallDisk) -> None:
    """Without space for the second file, compaction does not start."""
    path = small_disk.path / "history.duckdb"
    fill(path, 60_000)
    before = size_bytes(path)
    with small_disk.filled(leaving_bytes=1_000_000), pytest.raises(StoreError, match="free some space"):
        compact(path, memory_limit="400MB", threads=1, report_progress=lambda _: None)
    assert size_bytes(path) == before
    assert not path.with_name("history.duckdb.compacted").exists()
