"""Readings that an agent sent again: the store gets those that it does not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.model.accounting import CountedEntry
from hub.model.batch import REPAIRED, Entry, Series
from hub.model.store import HistoryQuery, SeriesHistory, StoreCursor
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.repaired import new_readings
from tests.hub.storage.readings import SERIES, batch, batches, entries, open_store

FLOAT, STRING = SERIES["float"], SERIES["string"]


def again(made: Sequence[Entry]) -> list[Entry]:
    for entry in made:
        entry.reason = REPAIRED
    return list(made)


async def stored(store: DuckdbStore) -> dict[str, list[tuple[int, Any]]]:
    history = await store.query(HistoryQuery(list(SERIES.values()), 0, 2**63 - 1, None))
    return {part.series.metric: list(zip(part.times_ns.tolist(), part.values, strict=True)) for part in history.series}


async def test_what_the_store_has_is_left_out(tmp_path: Path) -> None:
    """One batch is new in part, another one is not new; the counts say how much."""
    async with open_store(tmp_path) as store:
        await store.open()
        await store.write(entries([batch([1, 2], {FLOAT: [1.0, 2.0], STRING: ["a", None]})]), StoreCursor("j", 1))
        sent = again(
            entries(
                [
                    batch([1, 2], {FLOAT: [1.0, 2.0], STRING: ["a", None]}),
                    batch([2, 3], {FLOAT: [2.0, 3.0], STRING: ["b", "c"]}, packed=True),
                ],
                first=2,
            )
        )
        new, known = await new_readings(store, sent)
        assert known == [CountedEntry(2, "device", 3), CountedEntry(3, "device", 1)]
        assert (await store.write(new, StoreCursor("j", 3))).readings == 3
        found = await stored(store)
        assert found["float"] == [(1, 1.0), (2, 2.0), (3, 3.0)]
        assert [value for _, value in found["string"]] == ["a", "b", "c"]


@given(st.lists(batches([FLOAT], times=st.integers(0, 9)), min_size=1, max_size=4), st.integers(0, 4))
async def test_nothing_is_stored_twice(made: list[Any], written: int) -> None:
    """Whatever part of the entries the store has, and whatever precedes them in the same write."""
    before = entries(made)
    known_times = {int(time) for entry in before for time in _times(entry, FLOAT)}
    store = MemoryStore(before[:written])
    new, known = await new_readings(store, [*before[written:], *again(entries(made, first=len(before) + 1))])  # type: ignore[arg-type]
    fresh = new[len(before) - len(before[:written]) :]
    assert [time for entry in fresh for time in _times(entry, FLOAT)] == []
    assert sum(count for _, _, count in known) == sum(len(_times(entry, FLOAT)) for entry in before)
    assert known_times == {time for entry in before for time in _times(entry, FLOAT)}


def _times(entry: Entry, wanted: Series) -> list[int]:
    return [time for time, _ in _pairs(entry, wanted)]


def _pairs(entry: Entry, wanted: Series) -> list[tuple[int, Any]]:
    assert entry.batch is not None
    return [
        (int(time), value)
        for series, values in entry.batch.columns
        if series is wanted
        for time, value in zip(entry.batch.times, values, strict=True)
        if value is not None and value == value
    ]


class MemoryStore:
    """Scan of a store that has these entries."""

    def __init__(self, has: Sequence[Entry]) -> None:
        self._has = has

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> Any:
        for item in series:
            pairs = [pair for entry in self._has for pair in _pairs(entry, item) if start_ns <= pair[0] < end_ns]
            times = np.array([time for time, _ in pairs], np.int64)
            yield SeriesHistory(item, times, [value for _, value in pairs], "raw")
