from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import threading
from contextlib import aclosing
from pathlib import Path

import duckdb
import numpy as np
import pytest

from hub.model.batch import Batch, Series
from hub.model.store import SCAN_READINGS, HistoryQuery, StoreCursor, StoreUnavailable
from hub.storage.duckdb.database import SnapshotReader, wal_bytes
from hub.storage.duckdb.history import ROW_BYTES, SCAN_BYTES
from hub.storage.duckdb.query_plan import HOUR_NS
from hub.storage.duckdb.store import MAX_SCANS, MAX_WAITING, READERS, DuckdbStore
from tests.conditions import until
from tests.hub.storage.duckdb.damaged_file import ENTRIES, flip_readings, read_all, write_file
from tests.hub.storage.duckdb.deletion import delete_before
from tests.hub.storage.duckdb.killed_store import FLOAT, STRING, content
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry, stored
from tests.hub.storage.small_disk import SmallDisk

KILLS = 9
EVER = (0, 2**63)
INTEGER = SERIES["integer"]


async def fill(store: DuckdbStore, count: int) -> None:
    """Add entries of one reading each, with their offset as time and value."""
    first = store.cursor.offset + 1
    given = [entry(offset, batch([offset], {INTEGER: [offset]})) for offset in range(first, first + count)]
    await store.write(given, StoreCursor("journal", given[-1].offset))


async def times_of(store: DuckdbStore, series: Series = INTEGER) -> list[int]:
    history = await store.query(HistoryQuery([series], *EVER, None))
    return [int(time) for time in history.series[0].times_ns]


ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range % 3 = b.range % 7"


def endless(reader: SnapshotReader) -> object:
    return reader.fetch(ENDLESS)


async def test_a_store_that_cannot_open_opens_later(tmp_path: Path) -> None:
    """While the file is in use, every call reports the reason; afterwards the store opens."""
    path = tmp_path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        await fill(store, 3)
    with locked_by_another_process(path):
        store = await DuckdbStore(path, registry=REGISTRY).__aenter__()
        for call in (times_of(store), store.latest([INTEGER]), store.counts(), store.describe(), store.open()):
            with pytest.raises(StoreUnavailable, match="in use by another process"):
                await call
        with pytest.raises(StoreUnavailable, match="in use by another process"):
            await store.write([], StoreCursor("journal", 9))
        assert store.cursor == StoreCursor("", 0)
    assert await store.open() == StoreCursor("journal", 3)
    assert await times_of(store) == [1, 2, 3]
    await store.__aexit__(None, None, None)
    with pytest.raises(StoreUnavailable, match="stopping"):
        await times_of(store)


async def test_reads_wait_for_an_opening_in_progress(tmp_path: Path) -> None:
    """Right after entering, the first answers arrive when the file is open."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        assert await stored(store) == {}
        assert await times_of(store) == []


async def test_slow_queries_block_neither_others_nor_writes(tmp_path: Path) -> None:
    """While one query does not end, others are answered and readings are written."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        slow = asyncio.ensure_future(store._read(endless))
        await fill(store, 5)
        assert await times_of(store) == [1, 2, 3, 4, 5]
        assert await store.latest([INTEGER])
        assert not slow.done()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow


async def test_a_cancelled_query_releases_its_reader(tmp_path: Path) -> None:
    """After the cancellation of queries that hold every reader and do not end, the waiting ones run."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        await fill(store, 5)
        began = [asyncio.Event() for _ in range(READERS)]
        loop = asyncio.get_running_loop()

        def slow(event: asyncio.Event) -> asyncio.Task[object]:
            def read(reader: SnapshotReader) -> object:
                loop.call_soon_threadsafe(event.set)
                return endless(reader)

            return asyncio.create_task(store._read(read))

        queries = [slow(event) for event in began]
        for event in began:
            await event.wait()
        waiting, gone = asyncio.create_task(times_of(store)), asyncio.create_task(times_of(store))
        await asyncio.sleep(0)
        gone.cancel()
        # A query is cancelled before it starts or while it runs: both end.
        for query in queries:
            query.cancel()
        done = await asyncio.gather(*queries, gone, return_exceptions=True)
        assert [type(error) for error in done] == [asyncio.CancelledError] * (READERS + 1)
        assert await waiting == [1, 2, 3, 4, 5]


async def test_a_scan_reads_a_snapshot(tmp_path: Path) -> None:
    """Writes and deletions during a scan do not change it, and a scan may be left early."""
    series = [Series(id, "device", f"m{id}", "integer") for id in range(3)]
    times = list(range(SCAN_READINGS + 1))
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        await store.write([entry(1, batch(times, dict.fromkeys(series, times)))], StoreCursor("journal", 1))
        async with aclosing(store.scan(series, *EVER)) as left:
            await anext(left)
        scan = store.scan(series, *EVER)
        pieces = [await anext(scan)]
        await delete_before(store, SCAN_READINGS)
        await store.write([entry(2, batch([7], {series[2]: [7]}))], StoreCursor("journal", 2))
        pieces += [piece async for piece in scan]
        assert [(piece.series, len(piece.times_ns)) for piece in pieces] == [
            (item, count) for item in series for count in (SCAN_READINGS, 1)
        ]


async def test_too_many_scans_are_refused(tmp_path: Path) -> None:
    """Beyond the limit, a caller gets an error at once; a finished scan makes room."""
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


async def test_a_long_scan_is_ended(tmp_path: Path) -> None:
    """Too much data during a scan ends it with an error that says what to do, and the write-ahead log moves into the
    file."""
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
        with pytest.raises(StoreUnavailable, match="request a shorter time range"):
            await anext(scan)
        await store._run_in_writer(store._change, lambda tables: tables._connection.execute("CHECKPOINT"))
        assert wal_bytes(path) == 0


async def test_closing_ends_scans(tmp_path: Path) -> None:
    """An abandoned scan does not delay closing; a scan that continues gets an error."""
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
    """Beyond the limit, a caller gets an error at once."""
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        queries = [asyncio.ensure_future(store._read(endless)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match=f"busy: {MAX_WAITING} queries"):
            await times_of(store)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
        assert await times_of(store) == []


async def test_a_query_that_is_cancelled_as_it_starts_ends(tmp_path: Path) -> None:
    """DuckDB does not notice an interrupt just before the query; the threads are free again soon."""
    go = threading.Event()
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        await store.open()
        queries, about_to_start = [], []
        for _ in range(READERS):
            about_to_start.append(threading.Event())

            def read(reader: SnapshotReader, moment: threading.Event = about_to_start[-1]) -> object:
                with reader._querying() as connection:
                    moment.set()
                    go.wait()
                    return connection.execute(ENDLESS).fetchall()

            queries.append(asyncio.ensure_future(store._read(read)))
        for moment in about_to_start:
            await asyncio.to_thread(moment.wait)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
        go.set()
        assert await times_of(store) == []


async def test_closing_does_not_wait_for_queries(tmp_path: Path) -> None:
    """A query that does not end is interrupted, and a write in progress is finished."""
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
        assert await times_of(store) == list(range(1, 101))


async def test_little_disk_space_stops_writes_and_not_queries(small_disk: SmallDisk) -> None:
    """The store reports it before the disk is full, and continues when there is space again."""
    async with DuckdbStore(small_disk.path / "history.duckdb", registry=REGISTRY, min_free_bytes=4_000_000) as store:
        await store.open()
        await fill(store, 10)
        with small_disk.filled(leaving_bytes=3_000_000):
            with pytest.raises(StoreUnavailable, match=r"no room on the disk of .*: free some space"):
                await fill(store, 10)
            assert await times_of(store) == list(range(1, 11))
        await fill(store, 10)
        assert await times_of(store) == list(range(1, 21))


@pytest.mark.parametrize(("size_bytes", "while_doing"), [(20_000_000, "commit"), (50_000_000, "checkpoint")])
async def test_a_full_disk_loses_and_duplicates_nothing(
    small_disk: SmallDisk, size_bytes: int, while_doing: str
) -> None:
    """After the disk became full during a write or a checkpoint, the cursor and the readings still agree."""
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
                assert len(await times_of(store)) == rows * held_offset
        assert all("no room on the disk" in message for message in refused)
        assert while_doing in refused[0]
        small_disk.resize(200_000_000)
        offset = store.cursor.offset
        await fill(store, 1)
        assert store.cursor.offset == offset + 1
        assert len(await times_of(store)) == rows * offset + 1


@pytest.mark.deadline(300)
@pytest.mark.parametrize("seed", range(3))
async def test_after_a_kill_the_store_agrees_with_its_cursor(tmp_path: Path, seed: int) -> None:
    """After kill -9 the readings are exactly those up to the cursor, and the next process continues from there."""
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
            floats = np.concatenate([np.empty(0, np.int64), *(np.asarray(item.times) for item in expected)])
            strings = [time for item in expected if len(item.columns) == 2 for time in item.times]
            assert np.array_equal(history.series[0].times_ns, floats)
            assert np.array_equal(np.asarray(history.series[0].values), floats / 8)
            assert history.series[1].values == [f"{time}" for time in strings]
            # Each reading is once in an hour, in a minute without an hour, or raw without a minute.
            hours = await store.query(HistoryQuery([FLOAT, STRING], 0, 24 * HOUR_NS, 24, "count"))
            assert [int(sum(piece.values)) for piece in hours.series] == [len(floats), len(strings)]
            counts = {FLOAT.id: len(floats), STRING.id: len(strings)}
            assert await stored(store) == {id: count for id, count in counts.items() if count}
    assert offset > 0


async def test_a_damaged_file_is_set_aside_at_the_opening(tmp_path: Path) -> None:
    """The store continues in a new file, reports what happened, and remembers it in the next run."""
    path = tmp_path / "history.duckdb"
    await write_file(path, last=1)
    content = path.read_bytes()
    path.write_bytes(b"damaged" + content[7:])
    reports: list[str] = []
    async with DuckdbStore(path, registry=REGISTRY, on_set_aside=reports.append) as store:
        assert await store.open() == StoreCursor("", 0)
        await until(lambda: reports)
        await fill(store, 3)
        assert await times_of(store) == [1, 2, 3]
        assert "run `hub store rebuild`" in (store.history_problem or "")
    (kept,) = tmp_path.glob("history.duckdb.damaged-*")
    assert kept.read_bytes() == b"damaged" + content[7:]
    assert kept.name in reports[0]
    async with DuckdbStore(path, registry=REGISTRY, on_set_aside=reports.append) as store:
        assert await store.open() == StoreCursor("journal", 3)
        assert kept.name in (store.history_problem or "")


async def test_a_block_that_is_damaged_while_the_store_is_open(tmp_path: Path) -> None:
    """The query fails, the file is set aside, and nothing is written until the writer has opened a new file: it has to
    begin where that file ends."""
    path = tmp_path / "history.duckdb"
    await write_file(path)
    flip_readings(path)
    reports: list[str] = []
    async with DuckdbStore(path, registry=REGISTRY, on_set_aside=reports.append) as store:
        assert (await store.open()).offset == ENTRIES
        assert store.history_problem is None
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await read_all(store)
        await until(lambda: reports)
        with pytest.raises(StoreUnavailable, match="set aside"):
            await fill(store, 1)
        assert await store.open() == StoreCursor("", 0)
        await fill(store, 2)
        assert await times_of(store) == [1, 2]
    assert len(reports) == 1
    assert len(list(tmp_path.glob("history.duckdb.damaged-*"))) == 1


async def test_a_damaged_log_costs_no_more_than_its_own_writes(tmp_path: Path) -> None:
    """The file stays in use, and its cursor says what the journal has to write again. The log is kept."""
    path = tmp_path / "history.duckdb"
    await write_file(path, last=1)
    shutil.copy(path, tmp_path / "copy.duckdb")
    with duckdb.connect(tmp_path / "copy.duckdb") as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("UPDATE store SET position = 7")
    content = (tmp_path / "copy.duckdb.wal").read_bytes()
    (tmp_path / "history.duckdb.wal").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    reports: list[str] = []
    async with DuckdbStore(path, registry=REGISTRY, on_set_aside=reports.append) as store:
        assert await store.open() == StoreCursor("journal", 1)
        assert await read_all(store) > 0
        await until(lambda: reports)
        assert store.history_problem is None
    (kept,) = tmp_path.glob("history.duckdb.wal.damaged-*")
    assert kept.name in reports[0]


async def test_without_a_listener_a_damaged_file_stays(tmp_path: Path) -> None:
    """A command that reads a file does not rename it."""
    path = tmp_path / "history.duckdb"
    await write_file(path, last=1)
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    async with DuckdbStore(path, registry=REGISTRY) as store:
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            await store.open()
    assert [file.name for file in tmp_path.iterdir()] == ["history.duckdb"]


async def test_no_checkpoint_begins_without_room(small_disk: SmallDisk) -> None:
    """The room that is kept grows with the write-ahead log. A stop without it leaves the log, and nothing is lost."""
    path = small_disk.path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY, min_free_bytes=1_000_000) as store:
        await store.open()
        noise = np.random.default_rng(1).integers(0, 2**62, 60_000).tolist()
        await store.write([entry(1, batch(noise, {INTEGER: noise}))], StoreCursor("journal", 1))
        log_bytes = wal_bytes(path)
        assert log_bytes > 500_000
        with (
            small_disk.filled(leaving_bytes=1_000_000 + log_bytes),
            pytest.raises(StoreUnavailable, match="for the checkpoint"),
        ):
            await fill(store, 1)
        ballast = small_disk.filled(leaving_bytes=1_000_000 + log_bytes)
        ballast.__enter__()
    assert wal_bytes(path) == log_bytes
    ballast.__exit__(None, None, None)
    async with DuckdbStore(path, registry=REGISTRY) as store:
        assert await store.open() == StoreCursor("journal", 1)
        assert len(await times_of(store)) == len(noise)
