"""The start of a hub: latest values from the store, and from the journal's entries that the store lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.store import StoreCursor
from hub.storage import warm_start as module
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.warm_start import highest_series_in_use, restore_live
from tests.hub.storage.readings import REGISTRY


class Parts(NamedTuple):
    """Journal and store of a hub that starts, and its two series."""

    journal: Journal
    store: DuckdbStore
    series: dict[int, Series]
    live: LiveHub

    async def restore(self) -> None:
        reader = EntryReader(self.journal, lambda entry: made(self.series, *map(int, entry.payload.split())))
        await restore_live(series=self.series, journal=self.journal, reader=reader, store=self.store, live=self.live)

    def latest(self, id: int) -> tuple[int, object]:
        live = self.live.live_series(self.series[id])
        return live.time_ns, live.value


def made(series: dict[int, Series], id: int, time_ns: int, historical: int = 0) -> Batch:
    return Batch([time_ns], [(series[id], [float(time_ns)])], readings=1, historical=bool(historical), rising=True)


@asynccontextmanager
async def starting(directory: Path, *, has_store: bool = True) -> AsyncIterator[Parts]:
    """Open journal and store as at a start of the hub: nothing of the run before is in memory.

    Without `has_store` the store belongs to another registry, and cannot be used.
    """
    journal = Journal(directory / "journal.db", keep_bytes=1 << 20, keep_seconds=3600, max_bytes=1 << 30)
    registry = REGISTRY if has_store else "b" * 32
    async with journal, DuckdbStore(directory / "history.duckdb", registry=registry) as store:
        series = {id: Series(id, "pump", f"m{id}", "float") for id in (1, 2)}
        yield Parts(journal, store, series, LiveHub(offset=journal.last_offset, clock=lambda: 1_000))


async def commit(parts: Parts, *readings: tuple[int, ...], stored: int = 0, journal: str = "") -> None:
    """Append one entry for each reading, and store the first `stored` of them as entries of `journal`."""
    entries = [
        Entry(EntryKind.BATCH, "pump", "e", n, 1, "json", " ".join(map(str, r)).encode(), batch=made(parts.series, *r))
        for n, r in enumerate(readings, 1)
    ]
    last = await parts.journal.append(entries, [])
    if stored:
        await parts.store.open()
        cursor = StoreCursor(journal or parts.journal.id, last - len(entries) + stored)
        await parts.store.write(entries[:stored], cursor)


async def test_the_latest_values_come_from_the_store_and_the_entries_after_it(tmp_path: Path) -> None:
    """The journal's newer reading wins, and a series that only the store knows keeps its value."""
    async with starting(tmp_path) as parts:
        await commit(parts, (1, 10), (2, 20), (1, 30), stored=2)
    async with starting(tmp_path) as parts:
        await parts.restore()
        assert (parts.latest(1), parts.latest(2)) == ((30, 30.0), (20, 20.0))
        assert [series.last_time_ns for series in parts.series.values()] == [30, 20]
        assert parts.live.offset == 3


async def test_a_historical_entry_is_no_latest_value_and_takes_its_time(tmp_path: Path) -> None:
    """A later reading with the same time is still moved, although the dashboards never showed the first."""
    async with starting(tmp_path) as parts:
        await commit(parts, (1, 10), (1, 30, 1))
    async with starting(tmp_path) as parts:
        await parts.restore()
        assert (parts.latest(1), parts.series[1].last_time_ns) == ((10, 10.0), 30)


async def test_the_cursor_of_another_journal_means_nothing(tmp_path: Path) -> None:
    """With a new journal every entry of it is read, although the store's cursor is beyond its end."""
    async with starting(tmp_path) as parts:
        await commit(parts, (1, 10), (1, 20), (1, 30), stored=3, journal="f" * 32)
        await commit(parts, (2, 40))
    async with starting(tmp_path) as parts:
        await parts.restore()
        assert (parts.latest(1), parts.latest(2)) == ((30, 30.0), (40, 40.0))


async def test_a_store_that_fails_costs_only_what_the_journal_lacks(tmp_path: Path) -> None:
    """The hub starts with the journal's entries, and the log says that older values are missing."""
    async with starting(tmp_path) as parts:
        await commit(parts, (1, 10), (2, 20), stored=1)
    async with starting(tmp_path, has_store=False) as parts:
        with capture_logs() as logs:
            await parts.restore()
        assert (parts.latest(1), parts.latest(2)) == ((10, 10.0), (20, 20.0))
        assert [line["event"] for line in logs] == ["latest values unavailable"]


async def test_only_the_newest_entries_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is far behind must not delay the start by minutes."""
    monkeypatch.setattr(module, "MAX_REPLAYED_ENTRIES", 2)
    async with starting(tmp_path) as parts:
        await commit(parts, (1, 10), (2, 20), (2, 30))
    async with starting(tmp_path) as parts:
        await parts.restore()
        assert (parts.latest(1), parts.latest(2)) == ((-1, None), (30, 30.0))


async def test_an_id_that_journal_or_store_knows_is_in_use(tmp_path: Path) -> None:
    """A registry that was restored from a copy knows fewer series; the log counts the readings without a name."""
    async with starting(tmp_path) as parts:
        assert await highest_series_in_use(series=parts.series, journal=parts.journal, store=parts.store) == 0
        await commit(parts, (1, 10), (2, 20), stored=2)
        with capture_logs() as logs:
            known = {1: parts.series[1]}
            assert await highest_series_in_use(series=known, journal=parts.journal, store=parts.store) == 2
        assert [line["series"] for line in logs] == [1]
        await parts.journal.series_ids.record(7)
        with capture_logs() as logs:
            assert await highest_series_in_use(series=parts.series, journal=parts.journal, store=parts.store) == 7
        assert logs == []


async def test_without_the_store_the_journal_knows_the_highest_id(tmp_path: Path) -> None:
    """It recorded every id before its first reading was accepted."""
    async with starting(tmp_path) as parts:
        await commit(parts, (1, 10), (2, 20), stored=2)
        await parts.journal.series_ids.record(2)
    async with starting(tmp_path, has_store=False) as parts:
        assert await highest_series_in_use(series=parts.series, journal=parts.journal, store=parts.store) == 2
