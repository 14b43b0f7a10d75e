"""Rebuilding a history from damaged and other files."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.model.store import HistoryQuery, ReadingCounts, StoreCursor, StoreError
from hub.storage.duckdb.query_plan import HOUR_NS
from hub.storage.duckdb.rebuild import RebuildResult, SourceFile, farthest_cursor, rebuild
from hub.storage.duckdb.store import DuckdbStore
from tests.hub.storage.duckdb.damaged_file import (
    ENTRIES,
    PERIOD_NS,
    READINGS,
    blocks,
    content,
    flip,
    read_all,
    write_file,
)
from tests.hub.storage.duckdb.deletion import delete_before
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry, retyped

EVER = (0, 2**63)


def rebuilt(path: Path, *sources: Path, offset: int = ENTRIES) -> RebuildResult:
    return rebuild(
        path,
        sources,
        registry=REGISTRY,
        cursor=StoreCursor("journal", offset),
        report_total=lambda rows: None,
        report_progress=lambda rows: None,
        memory_limit="500MB",
        threads=1,
    )


async def assert_complete(path: Path, entries: int = ENTRIES) -> None:
    """Every reading of the entries is there once, raw and in the rollups, and the cursor is behind them."""
    async with DuckdbStore(path, registry=REGISTRY) as store:
        assert await store.open() == StoreCursor("journal", entries)
        assert await read_all(store) == entries * READINGS
        (history,) = (await store.query(HistoryQuery([SERIES["float"]], *EVER, None))).series
        written = [content(offset) for offset in range(1, entries + 1)]
        assert list(history.values) == [value for batch in written for value in batch.columns[0][1]]
        hours = await store.query(HistoryQuery([SERIES["float"]], 0, 24 * HOUR_NS, 24, "count"))
        assert sum(hours.series[0].values) == entries * READINGS


async def test_a_source_of_which_nothing_can_be_read_is_named(tmp_path: Path) -> None:
    """A person must not believe that its readings are in the new file."""
    damaged, journal = tmp_path / "damaged.duckdb", tmp_path / "journal.duckdb"
    await write_file(damaged, last=1)
    await write_file(journal, first=2)
    for at in blocks(damaged):
        flip(damaged, at)
        try:
            SourceFile(damaged, memory_limit="500MB", threads=1).close()
        except StoreError:
            flip(damaged, at)
    result = rebuilt(tmp_path / "new.duckdb", damaged, journal)
    assert (result.without_rows, result.rejected) == ((damaged,), {})
    assert result.readings == (ENTRIES - 1) * READINGS


async def test_a_damaged_block_is_filled_from_another_source(tmp_path: Path) -> None:
    """Whichever block is damaged: with the entries that the journal has, no reading is missing or twice."""
    original = tmp_path / "original.duckdb"
    await write_file(original)
    journal = tmp_path / "journal.duckdb"
    await write_file(journal, first=2)
    missing = []
    for number, at in enumerate(blocks(original)[::2]):
        path, damaged = tmp_path / f"{number}.duckdb", tmp_path / f"{number}.damaged"
        shutil.copy(original, damaged)
        flip(damaged, at)
        result = rebuilt(path, damaged, journal)
        missing.append(ENTRIES * READINGS - result.readings)
        if missing[-1]:
            assert result.unreadable or result.rejected
    assert missing.count(0) > 1
    await assert_complete(tmp_path / f"{missing.index(0)}.duckdb")
    result = rebuilt(tmp_path / "all.duckdb", tmp_path / "0.damaged", original)
    assert result.readings == ENTRIES * READINGS


async def test_what_the_hub_stored_since_is_kept(tmp_path: Path) -> None:
    """The new file begins before the damaged one ends. The union has each reading once, and repeating changes
    nothing."""
    damaged, path = tmp_path / "history.duckdb.damaged-1", tmp_path / "history.duckdb"
    await write_file(damaged, last=3)
    await write_file(path, first=2)
    assert farthest_cursor([damaged, path], "journal", memory_limit="500MB", threads=1) == StoreCursor(
        "journal", ENTRIES
    )
    for _ in range(2):
        assert rebuilt(path, damaged, path).readings == ENTRIES * READINGS
        await assert_complete(path)


async def test_a_reading_of_two_types_is_kept_once(tmp_path: Path) -> None:
    """The journal's entries of a metric that became float are floats; the damaged file has them as integers."""
    integer, float_ = retyped("integer", "float")
    damaged, journal = tmp_path / "history.duckdb.damaged-1", tmp_path / "journal.duckdb"
    for path, written in (
        (damaged, batch([1, 2], {integer: [10, 2**60 + 1]})),
        (journal, batch([2, 3], {float_: [2**60 + 1, 0.5]})),
    ):
        async with DuckdbStore(path, registry=REGISTRY) as store:
            await store.open()
            await store.write([entry(1, written)], StoreCursor("journal", 1))
    path = tmp_path / "history.duckdb"
    assert rebuilt(path, damaged, journal, offset=1).readings == 3
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        (history,) = (await store.query(HistoryQuery([float_], *EVER, None))).series
        assert [*history.values] == [10.0, float(2**60), 0.5]
        (exact,) = (await store.query(HistoryQuery([Series(9, "device", "retyped", "integer")], *EVER, None))).series
        assert [*exact.values] == [10, 2**60 + 1]


async def test_expired_readings_stay_expired(tmp_path: Path) -> None:
    """The rollups and counts of readings that a retention deleted are copied; a copy does not bring them back."""
    copy, path = tmp_path / "copy.duckdb", tmp_path / "history.duckdb"
    await write_file(copy)
    shutil.copy(copy, path)
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        await delete_before(store, 4 * HOUR_NS)
        counts = await store.counts()
    rebuilt(tmp_path / "new.duckdb", path, copy)
    async with DuckdbStore(tmp_path / "new.duckdb", registry=REGISTRY) as store:
        await store.open()
        expired = 4 * HOUR_NS // PERIOD_NS - READINGS
        assert await store.counts() == counts == {1: ReadingCounts(ENTRIES * READINGS - expired, expired)}
        hours = await store.query(HistoryQuery([SERIES["float"]], 0, 24 * HOUR_NS, 24, "count"))
        assert sum(hours.series[0].values) == ENTRIES * READINGS


@settings(max_examples=5)
@given(
    first=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=12),
    second=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=12),
)
def test_the_union_has_each_reading_as_often_as_the_richer_source(
    tmp_path_factory: pytest.TempPathFactory, first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    """The law of the union, whatever is in the sources."""
    folder = tmp_path_factory.mktemp("union")

    async def write(path: Path, readings: list[tuple[int, int]]) -> None:
        async with DuckdbStore(path, registry=REGISTRY) as store:
            await store.open()
            entries = [
                entry(offset, batch([time], {SERIES["integer"]: [value]}))
                for offset, (time, value) in enumerate(readings, start=1)
            ]
            if entries:
                await store.write(entries, StoreCursor("journal", len(entries)))

    async def read(path: Path) -> Counter[tuple[int, int]]:
        async with DuckdbStore(path, registry=REGISTRY) as store:
            await store.open()
            history = (await store.query(HistoryQuery([SERIES["integer"]], *EVER, None))).series
            return Counter(
                (int(time), int(value))
                for part in history
                for time, value in zip(part.times_ns, part.values, strict=True)
            )

    sources = [folder / "first.duckdb", folder / "second.duckdb"]
    for path, readings in zip(sources, (first, second), strict=True):
        asyncio.run(write(path, readings))
    rebuilt(folder / "new.duckdb", *sources)
    assert asyncio.run(read(folder / "new.duckdb")) == Counter(first) | Counter(second)


async def test_a_source_of_another_registry_is_left_out(tmp_path: Path) -> None:
    """Its series have other names. Without any source nothing is written."""
    source, path = tmp_path / "other.duckdb", tmp_path / "history.duckdb"
    async with DuckdbStore(source, registry="b" * 32) as store:
        await store.open()
    with pytest.raises(StoreError, match="belongs to the registry of hub bbbb"):
        rebuilt(path, source)
    assert not path.exists()


async def test_a_damaged_log_is_left_out(tmp_path: Path) -> None:
    """The rows of the file itself are used; the journal has the rest."""
    source, other = tmp_path / "history.duckdb", tmp_path / "other.duckdb"
    await write_file(source, last=2)
    await write_file(other)
    (tmp_path / "history.duckdb.wal").write_bytes(b"no log" * 1_000)
    result = rebuilt(tmp_path / "new.duckdb", source)
    assert (result.readings, result.rejected) == (2 * READINGS, {})
