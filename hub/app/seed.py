"""What the hub has to know of the past before it takes in the first new batch."""

from __future__ import annotations

import asyncio

import structlog

from hub.app.past import JournalAndStore
from hub.ingest.intake import Intake
from hub.live.live import Live
from hub.model.journal import Journal
from hub.model.store import Store, StoreError
from hub.registry.registry import Registry

MAX_SEED_ENTRIES = 200_000
"""Journal entries that the store has not got, read at the start for their latest values: a second or two. Where the
store is further behind, only the newest are read."""

STORE_S = 20.0
"""The store gets this long to tell the latest values: a server that hangs must not keep the hub from taking in data."""

log = structlog.get_logger(__name__)


async def seed(
    *, registry: Registry, journal: Journal, store: Store, past: JournalAndStore, live: Live, intake: Intake
) -> None:
    """Makes known devices, their series and the latest values known to live and ingestion."""
    for remembered in registry.devices.values():
        device = intake.device(remembered.id)
        device.tags = dict(remembered.tags)
        device.agent = remembered.agent
        device.retired = remembered.retired_ns is not None
        device.seen_ns = device.since_ns = remembered.last_seen_ns
    series = registry.series
    live.add_series(list(series.values()))
    try:
        async with asyncio.timeout(STORE_S):
            found = await store.latest(list(series.values()))
        for id, latest in found.items():
            live.seed(series[id], latest.time_ns, latest.value)
        after = store.cursor.offset if store.cursor.journal == journal.id else 0
    except (StoreError, TimeoutError) as error:
        log.warning("the store cannot tell the latest values", error=str(error) or f"no answer within {STORE_S:g} s")
        after = 0
    await _reserve_series(registry, journal, store)
    await _replay(past, live, max(after, journal.first_offset - 1, journal.last_offset - MAX_SEED_ENTRIES))


async def _reserve_series(registry: Registry, journal: Journal, store: Store) -> None:
    """Keeps a registry that is older than what it is put back beside from giving out the ids of others' readings."""
    try:
        stored = await store.counts()
    except StoreError:
        # What the store will turn out to have, the journal was told of.
        stored = {}
    nameless = stored.keys() - registry.series.keys()
    if nameless:
        log.warning(
            "the store has readings of series that registry.db does not know: it was put back from a copy. Nobody sees "
            "these readings until the registry.db that knows them is back",
            series=len(nameless),
        )
    await registry.reserve_series(max([journal.highest_series, *stored]))


async def _replay(past: JournalAndStore, live: Live, after: int) -> None:
    """Applies what the journal has and the store has not."""
    async for entries in past.replay(after):
        for entry in entries:
            if entry.batch is not None and entry.batch.readings:
                newest = int(max(entry.batch.times))
                for series, _ in entry.batch.columns:
                    series.reach(newest)
        live.apply(entries)
