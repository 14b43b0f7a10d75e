"""What every store does when old readings are to go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch
from hub.model.store import (
    ReadingCounts,
    StoreCursor,
    StoreError,
)
from tests.hub.storage.contract import (
    ALL,
    JOURNAL,
    everything,
    exactly_at,
    examples,
    new_store,
    write,
)
from tests.hub.storage.implementations import Implementation, duckdb
from tests.hub.storage.readings import SERIES, batch, batches, stored

deleting = pytest.mark.parametrize("implementation", [duckdb()], ids=["duckdb"])
"""For tests of stores that delete when they are asked to."""


async def test_a_server_deletes_by_its_own_retention(implementation: Implementation, tmp_path: Path) -> None:
    """Who asks the hub to do it is told where that is set."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        if implementation.remote:
            with pytest.raises(StoreError, match="retention"):
                await store.delete_before(1)
        else:
            assert await store.delete_before(1) == 0


@deleting
@examples
@given(st.lists(batches(ALL), min_size=1, max_size=8), st.integers(0, 2**63 - 1) | st.integers(0, 50))
async def test_deleting_deletes_what_is_older(implementation: Implementation, given: list[Batch], cut_ns: int) -> None:
    """Afterwards counts, history and latest are as if the older readings had never been; the cursor stays."""
    async with new_store(implementation) as store:
        await write(store, given)
        readings = implementation.readings_of(given)
        kept = {id: [reading for reading in part if reading[0] >= cut_ns] for id, part in readings.items()}
        kept = {id: part for id, part in kept.items() if part}
        deleted = sum(map(len, readings.values())) - sum(map(len, kept.values()))
        assert await store.delete_before(cut_ns) == deleted
        assert await stored(store) == {id: len(part) for id, part in kept.items()}
        assert await store.counts() == {
            id: ReadingCounts(len(kept.get(id, [])), len(part) - len(kept.get(id, []))) for id, part in readings.items()
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
        assert await store.delete_before(cut_ns) == 0


@deleting
async def test_what_is_expired_is_known_after_reopening(implementation: Implementation, tmp_path: Path) -> None:
    """The count of deleted readings is as durable as the readings, also for a series that has none left."""
    integer, string = SERIES["integer"], SERIES["string"]
    async with implementation.open(tmp_path) as store:
        await store.open()
        await write(store, [batch([1, 2], {integer: [1, 2], string: ["a", "b"]}), batch([3], {integer: [3]})])
        assert await store.delete_before(3) == 4
        assert await store.counts() == {integer.id: ReadingCounts(1, 2), string.id: ReadingCounts(0, 2)}
    async with implementation.open(tmp_path) as store:
        await store.open()
        assert await store.counts() == {integer.id: ReadingCounts(1, 2), string.id: ReadingCounts(0, 2)}
        await write(store, [batch([5], {string: ["c"]})], first=3)
        assert await store.delete_before(4) == 1
        assert await store.counts() == {integer.id: ReadingCounts(0, 3), string.id: ReadingCounts(1, 2)}
