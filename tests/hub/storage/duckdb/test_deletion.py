from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch
from hub.model.store import ReadingCounts, StoreCursor
from tests.hub.storage.contract import ALL, JOURNAL, everything, exactly_at, examples, write
from tests.hub.storage.duckdb.deletion import delete_before
from tests.hub.storage.readings import SERIES, batch, batches, open_store, readings_of, stored


@examples
@given(st.lists(batches(ALL), min_size=1, max_size=8), st.integers(0, 2**63 - 1) | st.integers(0, 50))
async def test_deletion_removes_older_readings(given: list[Batch], cut_ns: int) -> None:
    """Afterwards counts, history and newest readings are as if the older readings never existed; the cursor stays."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_store(Path(directory)) as store:
            await store.open()
            await write(store, given)
            readings = readings_of(given)
            kept = {id: [reading for reading in part if reading[0] >= cut_ns] for id, part in readings.items()}
            kept = {id: part for id, part in kept.items() if part}
            deleted = sum(map(len, readings.values())) - sum(map(len, kept.values()))
            assert await delete_before(store, cut_ns) == deleted
            assert await stored(store) == {id: len(part) for id, part in kept.items()}
            assert await store.counts() == {
                id: ReadingCounts(len(kept.get(id, [])), len(part) - len(kept.get(id, [])))
                for id, part in readings.items()
            }
            assert {id: newest.time_ns for id, newest in (await store.latest(ALL)).items()} == {
                id: part[-1][0] for id, part in kept.items()
            }
            assert await everything(store) == {id: list(map(exactly_at, part)) for id, part in kept.items()}
            assert store.cursor == StoreCursor(JOURNAL, len(given))
            description = await store.describe()
            assert description.readings == deleted + sum(map(len, kept.values()))
            times = [time for part in kept.values() for time, _ in part]
            assert description.oldest_ns == (min(times) if times else None)
            assert description.newest_ns == (max(times) if times else None)
            assert await delete_before(store, cut_ns) == 0


async def test_expired_counts_survive_reopening(tmp_path: Path) -> None:
    """The count of deleted readings is as durable as the readings, also for a series that has none left."""
    integer, string = SERIES["integer"], SERIES["string"]
    async with open_store(tmp_path) as store:
        await store.open()
        await write(store, [batch([1, 2], {integer: [1, 2], string: ["a", "b"]}), batch([3], {integer: [3]})])
        assert await delete_before(store, 3) == 4
        assert await store.counts() == {integer.id: ReadingCounts(1, 2), string.id: ReadingCounts(0, 2)}
    async with open_store(tmp_path) as store:
        await store.open()
        assert await store.counts() == {integer.id: ReadingCounts(1, 2), string.id: ReadingCounts(0, 2)}
        await write(store, [batch([5], {string: ["c"]})], first=3)
        assert await delete_before(store, 4) == 1
        assert await store.counts() == {integer.id: ReadingCounts(0, 3), string.id: ReadingCounts(1, 2)}
