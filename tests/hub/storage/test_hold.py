"""Holds on the store: their leases, and that nothing changes the files of a store meanwhile."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.model.store import StoreCursor, StoreUnavailable
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.hold import StoreHolds
from tests.conditions import until
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry, open_store

WRITE_S = 0.2
"""Much longer than a write takes that does not wait."""

LONG_S = 60.0
"""Longer than any test."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DuckdbStore]:
    """Return an open store in a file."""
    async with open_store(tmp_path) as store:
        await store.open()
        yield store


async def write(store: DuckdbStore, offset: int) -> None:
    """Write one reading."""
    await store.write([entry(offset, batch([offset], {SERIES["float"]: [1.0]}))], StoreCursor("journal", offset))


def files(folder: Path) -> dict[str, bytes]:
    """Return the contents of the store's files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


async def test_the_files_stand_still_and_are_complete_during_a_hold(store: DuckdbStore, tmp_path: Path) -> None:
    """A write waits until the hold has ended. A copy of the files has everything up to the position of the hold."""
    await write(store, 1)
    holds = StoreHolds(store)
    hold = await holds.begin()
    assert hold is not None
    assert hold.cursor == StoreCursor("journal", 1)
    before = files(tmp_path)
    writing = asyncio.create_task(write(store, 2))
    await asyncio.wait([writing], timeout=WRITE_S)
    assert not writing.done()
    assert holds.renew(hold.id)
    assert files(tmp_path) == before
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    assert await holds.end(hold.id)
    await writing
    assert store.cursor == StoreCursor("journal", 2)
    async with DuckdbStore(tmp_path.with_name("copy") / "history.duckdb", registry=REGISTRY) as copy:
        assert await copy.open() == StoreCursor("journal", 1)
        assert sum(counts.stored for counts in (await copy.counts()).values()) == 1


async def test_queries_are_answered_during_a_hold(store: DuckdbStore) -> None:
    """A hold stops writes, and no reads."""
    await write(store, 1)
    holds = StoreHolds(store)
    hold = await holds.begin()
    assert hold is not None
    assert (await store.describe()).newest_ns == 1
    await holds.close()


async def test_one_hold_at_a_time(store: DuckdbStore) -> None:
    """A second hold is refused while there is one, and works afterwards. An ended hold is not renewed."""
    holds = StoreHolds(store)
    first = await holds.begin()
    assert first is not None
    assert await holds.begin() is None
    assert await holds.end(first.id)
    second = await holds.begin()
    assert second is not None
    assert second.id != first.id
    assert not holds.renew(first.id)
    assert not await holds.end(first.id)
    assert await holds.end(second.id)


async def test_a_hold_that_nobody_renews_ends_by_itself(store: DuckdbStore) -> None:
    """The writes continue, and the holder learns that its copy is not consistent."""
    holds = StoreHolds(store, lease_s=0.02, max_s=LONG_S)
    hold = await holds.begin()
    assert hold is not None
    await write(store, 1)
    assert not holds.renew(hold.id)
    assert not await holds.end(hold.id)


async def test_a_hold_ends_at_its_bound_although_it_is_renewed(store: DuckdbStore) -> None:
    """A holder that renews forever cannot stop the store for good."""
    holds = StoreHolds(store, lease_s=LONG_S, max_s=0.02)
    hold = await holds.begin()
    assert hold is not None
    await until(lambda: not holds.renew(hold.id))


async def test_the_stop_of_the_hub_ends_a_hold(store: DuckdbStore) -> None:
    """The holder learns it at its next request."""
    holds = StoreHolds(store)
    hold = await holds.begin()
    assert hold is not None
    await holds.close()
    await write(store, 1)
    assert not await holds.end(hold.id)


async def test_a_store_that_is_not_open_cannot_be_held(tmp_path: Path) -> None:
    """The error has the reason, and the next attempt is not blocked."""
    (tmp_path / "history.duckdb").write_bytes(b"no database" * 1000)
    async with DuckdbStore(tmp_path / "history.duckdb", registry=REGISTRY) as store:
        holds = StoreHolds(store)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await holds.begin()
