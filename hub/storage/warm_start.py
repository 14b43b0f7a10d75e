"""Warm start: what the hub has to know of the past before it accepts the first new batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Series
from hub.model.journal import JournalPosition
from hub.model.store import Store, StoreError

MAX_REPLAYED_ENTRIES = 200_000
"""Journal entries that the store does not have yet and that are read at the start for their latest values: a second or
two. Where the store is further behind, only the newest are read."""

STORE_S = 20.0
"""The store gets this long to return the latest values: a server that hangs must not keep the hub from accepting
data."""

log = structlog.get_logger(__name__)


async def restore_live(
    *, series: Mapping[int, Series], journal: Journal, reader: EntryReader, store: Store, live: LiveHub
) -> None:
    """Give live the latest value of each series, from the store and from the journal's entries after it."""
    live.add_series(list(series.values()))
    try:
        async with asyncio.timeout(STORE_S):
            newest = await store.latest(list(series.values()))
        for id, reading in newest.items():
            live.restore(series[id], reading.time_ns, reading.value)
        after = store.cursor.offset if store.cursor.journal == journal.id else 0
    except (StoreError, TimeoutError) as error:
        log.warning("latest values unavailable", error=str(error) or f"no answer within {STORE_S:g} s")
        after = 0
    after = max(after, journal.first_offset - 1, journal.last_offset - MAX_REPLAYED_ENTRIES)
    async for entries in reader.read_range(after, journal.last_offset):
        for entry in entries:
            if entry.batch is not None and entry.batch.readings:
                newest_ns = int(max(entry.batch.times))
                for column_series, _ in entry.batch.columns:
                    column_series.reach(newest_ns)
        live.apply(entries)


async def stored_position(store: Store) -> JournalPosition:
    """Return the journal that the store has seen, and its newest offset there; no journal if the store is not open."""
    try:
        async with asyncio.timeout(STORE_S):
            await store.counts()  # waits for an opening in progress
    except (StoreError, TimeoutError):
        return JournalPosition("", 0)
    return JournalPosition(*store.cursor)


async def highest_series_in_use(*, series: Mapping[int, Series], journal: Journal, store: Store) -> int:
    """Return the highest series id that journal or store know, which the registry must not assign again.

    A registry that was restored from a copy may know fewer series than the data beside it.
    """
    try:
        stored = await store.counts()
    except StoreError:
        # The journal recorded every id that the store may have.
        stored = {}
    unknown = stored.keys() - series.keys()
    if unknown:
        log.warning(
            "store has readings of series that registry.db does not know, was registry.db restored from a copy? These "
            "readings are not visible until the registry.db that knows them is back",
            series=len(unknown),
        )
    return max([journal.series_ids.highest, *stored])
