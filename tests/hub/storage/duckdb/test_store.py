from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from hub.model.batch import Batch, Series
from hub.model.store import SCAN_READINGS, HistoryQuery, StoreCursor, StoreUnavailable
from hub.storage.duckdb.database import Reader, wal_bytes
from hub.storage.duckdb.plan import HOUR_NS
from hub.storage.duckdb.scan import ROW_BYTES, SCAN_BYTES
from hub.storage.duckdb.store import MAX_SCANS, MAX_WAITING, READERS, DuckdbStore
from tests.hub.storage.duckdb.killed_store import FLOAT, STRING, content
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry, stored
from tests.hub.storage.small_disk import SmallDisk

KILLS = 9
EVER = (0, 2**63)
INTEGER = SERIES["integer"]


async def fill(store: DuckdbStore, count: int) -> None:
    """Adds so many entries of one reading each, with their offset as time and value."""
    first = store.cursor.offset + 1
    given = [entry(offset, batch([offset], {INTEGER: [offset]})) for offset in range(first, first + count)]
    await store.write(given, StoreCursor("journal", given[-1].offset))


async def held(store: DuckdbStore, series: Series = INTEGER) -> list[int]:
    history = await store.query(HistoryQuery([series], *EVER, None))
    return [int(time) for time in history.series[0].times_ns]


ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 3 = b.range % 7"


def endless(reader: Reader) -> object:
    return reader.fetch(ENDLESS)


async def test_a_store_that_cannot_open_comes_later(tmp_path: Path) -> None:
    """While the file is in use, the store is entered and every call says why it has no answer; afterwards it opens."""
    path = tmp_path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        await fill(store, 3)
    with locked_by_another_process(path):
        store = await DuckdbStore(path, registry=REGISTRY).__aenter__()
        for call in (held(store), store.latest([INTEGER]), store.counts(), store.describe(), store.open()):
            with pytest.raises(StoreUnavailable, match="in use by another process"):
                await call
        with pytest.raises(StoreUnavailable, match="in use by another process"):
            await store.write([], StoreCursor("journal", 9))
        assert store.cursor == StoreCursor("", 0)
    assert await store.open() == StoreCursor("journal", 3)
    assert await held(store) == [1, 2, 3]
    await store.__aexit__(None, None, None)
    with pytest.raises(StoreUnavailable, match="stopping"):
        await held(store)


async def test_readings_wait_for_an_opening_under_way(tmp_path: Path) -> None:
    """Right after entering, the first answers come when the file is open."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        assert await stored(store) == {}
        assert await held(store) == []


async def test_slow_queries_hold_up_neither_others_nor_writes(tmp_path: Path) -> None:
    """Beside a query that does not end, others are answered and readings are written."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        slow = asyncio.ensure_future(store._read(endless))
        await fill(store, 5)
        assert await held(store) == [1, 2, 3, 4, 5]
        assert await store.latest([INTEGER])
        assert not slow.done()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow


async def test_a_cancelled_query_gives_its_reader_back(tmp_path: Path) -> None:
    """With every reader held by a query that does not end, cancelling them lets the waiting ones through."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        await fill(store, 5)
        began = [asyncio.Event() for _ in range(READERS)]
        loop = asyncio.get_running_loop()

        def slow(event: asyncio.Event) -> asyncio.Task[object]:
            def read(reader: Reader) -> object:
                loop.call_soon_threadsafe(event.set)
                return endless(reader)

            return asyncio.create_task(store._read(read))

        queries = [slow(event) for event in began]
        for event in began:
            await event.wait()
        waiting, gone = asyncio.create_task(held(store)), asyncio.create_task(held(store))
        await asyncio.sleep(0)
        gone.cancel()
        # One was told before it began its query, or in the middle of it: both end.
        for query in queries:
            query.cancel()
        done = await asyncio.gather(*queries, gone, return_exceptions=True)
        assert [type(error) for error in done] == [asyncio.CancelledError] * (READERS + 1)
        assert await waiting == [1, 2, 3, 4, 5]


async def test_a_scan_is_of_one_moment(tmp_path: Path) -> None:
    """What is written and deleted while a scan is under way makes no difference to it; it may be left early."""
    series = [Series(id, "device", f"m{id}", "integer") for id in range(3)]
    times = list(range(SCAN_READINGS + 1))
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        await store.write([entry(1, batch(times, dict.fromkeys(series, times)))], StoreCursor("journal", 1))
        async with aclosing(store.scan(series, *EVER)) as left:
            await anext(left)
        scan = store.scan(series, *EVER)
        pieces = [await anext(scan)]
        await store.delete_before(SCAN_READINGS)
        await store.write([entry(2, batch([7], {series[2]: [7]}))], StoreCursor("journal", 2))
        pieces += [piece async for piece in scan]
        assert [(piece.series, len(piece.times_ns)) for piece in pieces] == [
            (one, count) for one in series for count in (SCAN_READINGS, 1)
        ]


async def test_too_many_scans_are_refused(tmp_path: Path) -> None:
    """Beyond the bound a caller is told at once; one that ended makes room."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        await fill(store, 1)
        scans = [store.scan([INTEGER], *EVER) for _ in range(MAX_SCANS + 1)]
        for scan in scans[:-1]:
            await anext(scan)
        with pytest.raises(StoreUnavailable, match=f"busy: {MAX_SCANS} scans"):
            await anext(scans[-1])
        await scans[0].aclose()
        assert [piece async for piece in store.scan([INTEGER], *EVER)]
        for scan in scans[1:-1]:
            await scan.aclose()


async def test_a_scan_does_not_hold_on_to_the_tables_for_ever(tmp_path: Path) -> None:
    """When too much came in meanwhile it is ended, with what to do, and the write-ahead log goes into the file."""
    path = tmp_path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY, scan_wal_bytes=1000) as store:
        await store.open()
        await fill(store, 10)
        much = np.arange(SCAN_BYTES // ROW_BYTES + 1)
        floats = Batch(much, [(SERIES["float"], much / 8)], readings=len(much))
        await store.write([entry(11, floats)], StoreCursor("journal", 11))
        scan = store.scan([INTEGER, SERIES["float"]], *EVER)
        store._end_long_scans()
        assert (await anext(scan)).series is INTEGER
        await fill(store, 100)
        assert wal_bytes(path) > 1000
        store._end_long_scans()
        with pytest.raises(StoreUnavailable, match="take a shorter stretch"):
            await anext(scan)
        await store._in_writer(store._change, lambda tables: tables._connection.execute("CHECKPOINT"))
        assert wal_bytes(path) == 0


async def test_closing_ends_scans(tmp_path: Path) -> None:
    """A scan that nobody goes on with does not keep the store from closing; who does go on is told."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        await fill(store, 1)
        scan = store.scan([INTEGER, SERIES["float"]], *EVER)
        await anext(scan)
    with pytest.raises(StoreUnavailable):
        await anext(scan)
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        assert (await store.open()).offset == 1


async def test_too_many_queries_are_refused(tmp_path: Path) -> None:
    """Beyond the bound a caller is told at once."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        queries = [asyncio.ensure_future(store._read(endless)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match=f"busy: {MAX_WAITING} queries"):
            await held(store)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
        assert await held(store) == []


async def test_a_query_that_is_cancelled_as_it_starts_ends_all_the_same(tmp_path: Path) -> None:
    """DuckDB does not notice an interrupt that comes just before the query; the threads are free again soon."""
    go = threading.Event()
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        queries, about_to_start = [], []
        for _ in range(READERS):
            about_to_start.append(threading.Event())

            def read(reader: Reader, moment: threading.Event = about_to_start[-1]) -> object:
                moment.set()
                go.wait()
                return reader._connection.execute(ENDLESS).fetchall()

            queries.append(asyncio.ensure_future(store._read(read)))
        for moment in about_to_start:
            await asyncio.to_thread(moment.wait)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
        go.set()
        assert await held(store) == []


async def test_closing_does_not_wait_for_queries(tmp_path: Path) -> None:
    """A query that does not end is interrupted, and a write that has begun is finished."""
    path = tmp_path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        slow = asyncio.ensure_future(store._read(endless))
        writing = asyncio.ensure_future(fill(store, 100))
        await asyncio.sleep(0)
    await writing
    with pytest.raises(StoreUnavailable, match="interrupted"):
        await slow
    async with DuckdbStore(path, registry=REGISTRY) as store:
        assert await store.open() == StoreCursor("journal", 100)
        assert await held(store) == list(range(1, 101))


async def test_little_room_stops_writes_and_not_queries(small_disk: SmallDisk) -> None:
    """Before the disk is full the store says so; with room again it goes on."""
    async with DuckdbStore(small_disk.path / "history.duckdb", registry=REGISTRY, min_free_bytes=4_000_000) as store:
        await store.open()
        await fill(store, 10)
        with small_disk.filled(leaving_bytes=3_000_000):
            with pytest.raises(StoreUnavailable, match=r"no room on the disk of .*: make room"):
                await fill(store, 10)
            assert await held(store) == list(range(1, 11))
        await fill(store, 10)
        assert await held(store) == list(range(1, 21))


@pytest.mark.parametrize(("size_bytes", "while_doing"), [(20_000_000, "commit"), (50_000_000, "checkpoint")])
async def test_a_full_disk_loses_nothing_and_doubles_nothing(
    small_disk: SmallDisk, size_bytes: int, while_doing: str
) -> None:
    """Where the disk is full in the middle of a write or of a checkpoint, the cursor and the readings still agree."""
    small_disk.resize(size_bytes)
    rows = 100_000
    async with DuckdbStore(small_disk.path / "history.duckdb", registry=REGISTRY, min_free_bytes=0) as store:
        await store.open()
        refused: list[str] = []
        while len(refused) < 3:
            offset = store.cursor.offset
            noise = np.random.default_rng(offset).integers(0, 2**62, rows).tolist()
            try:
                await store.write(
                    [entry(offset + 1, batch(noise, {INTEGER: noise}))], StoreCursor("journal", offset + 1)
                )
            except StoreUnavailable as error:
                refused.append(str(error))
                held_offset = (await store.open()).offset
                assert held_offset in (offset, offset + 1)
                assert await stored(store) == {INTEGER.id: rows * held_offset}
                assert len(await held(store)) == rows * held_offset
        assert all("no room on the disk" in said for said in refused)
        assert while_doing in refused[0]
        small_disk.resize(200_000_000)
        offset = store.cursor.offset
        await fill(store, 1)
        assert store.cursor.offset == offset + 1
        assert len(await held(store)) == rows * offset + 1


@pytest.mark.deadline(300)
@pytest.mark.parametrize("seed", range(3))
async def test_killed_at_any_moment_the_store_holds_what_its_cursor_says(tmp_path: Path, seed: int) -> None:
    """After kill -9 the readings are exactly those up to the cursor, and the next process goes on from there."""
    offset = 0
    for kill in range(KILLS // 3):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hub.storage.duckdb.killed_store", tmp_path, f"{seed * KILLS + kill}"
        )
        assert await child.wait() == -signal.SIGKILL
        async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
            cursor = await store.open()
            assert cursor.offset >= offset
            offset = cursor.offset
            history = await store.query(HistoryQuery([FLOAT, STRING], *EVER, None))
            assert history.cursor == cursor
            expected = [content(number) for number in range(1, offset + 1)]
            floats = np.concatenate([np.empty(0, np.int64), *(np.asarray(one.times) for one in expected)])
            strings = [time for one in expected if len(one.columns) == 2 for time in one.times]
            assert np.array_equal(history.series[0].times_ns, floats)
            assert np.array_equal(np.asarray(history.series[0].values), floats / 8)
            assert history.series[1].values == [f"{time}" for time in strings]
            # Each reading is once in an hour, in a minute that no hour has yet, or raw and in no minute yet.
            hours = await store.query(HistoryQuery([FLOAT, STRING], 0, 24 * HOUR_NS, 24, "count"))
            assert [int(sum(part.values)) for part in hours.series] == [len(floats), len(strings)]
            counts = {FLOAT.id: len(floats), STRING.id: len(strings)}
            assert await stored(store) == {id: count for id, count in counts.items() if count}
    assert offset > 0
