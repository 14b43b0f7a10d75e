"""Readings that an agent sent again because the hub had lost their batches: those that the store has already are left
out.

A journal can lose entries that the store has. A reading is identified by its series, its time and its value: ingest
gives no two readings of a series the same time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from hub.model.accounting import CountedEntry
from hub.model.batch import REPAIRED, Batch, Column, Entry, Series
from hub.model.store import Store
from wire.model import Value

Reading = tuple[int, Value]


async def new_readings(
    store: Store, entries: Sequence[Entry], *, doubtful_up_to: int = 0
) -> tuple[list[Entry], list[CountedEntry]]:
    """Return the entries without the readings that the store has already, and the number of these by entry.

    Only entries with the reason REPAIRED are compared, and those up to the offset `doubtful_up_to`, with the store and
    with the entries before them. Raises StoreError.
    """

    def is_doubtful(entry: Entry) -> bool:
        return entry.reason == REPAIRED or entry.offset <= doubtful_up_to

    wanted: dict[Series, set[int]] = defaultdict(set)
    for entry in entries:
        if entry.batch is not None and is_doubtful(entry):
            for series, _ in entry.batch.columns:
                wanted[series].update(map(int, entry.batch.times))
    stored = await _stored_readings(store, wanted)
    known: list[CountedEntry] = []
    result: list[Entry] = []
    for entry in entries:
        batch = entry.batch
        if batch is not None and is_doubtful(entry):
            fresh = _without(batch, stored)
            if fresh.readings != batch.readings:
                known.append(CountedEntry(entry.offset, entry.device, batch.readings - fresh.readings))
            result.append(replace(entry, batch=fresh))
        else:
            result.append(entry)
        for series, values in batch.columns if batch is not None else ():
            if batch is not None and series in wanted:
                stored[series].update(zip(map(int, batch.times), _listed(values), strict=True))
    return result, known


async def _stored_readings(store: Store, wanted: Mapping[Series, set[int]]) -> dict[Series, set[Reading]]:
    """Return the readings that the store has at the wanted times."""
    stored: dict[Series, set[Reading]] = defaultdict(set)
    for series, times in wanted.items():
        if not times:
            continue
        async for piece in store.scan([series], min(times), max(times) + 1):
            pairs = zip(piece.times_ns.tolist(), _listed(piece.values), strict=True)
            stored[series].update(pair for pair in pairs if pair[0] in times)
    return stored


def _without(batch: Batch, stored: Mapping[Series, set[Reading]]) -> Batch:
    """Return a batch without these readings."""
    times = [int(time) for time in batch.times]
    columns: list[Column] = []
    readings = 0
    for series, values in batch.columns:
        known = stored.get(series, set())
        kept: list[Value] = [
            value if value is not None and value == value and (time, value) not in known else None
            for time, value in zip(times, _listed(values), strict=True)
        ]
        readings += len(kept) - kept.count(None)
        columns.append((series, kept))
    return Batch(times, columns, readings, historical=batch.historical, rising=batch.rising)


def _listed(values: Any) -> list[Value]:
    return values if isinstance(values, list) else values.tolist()
