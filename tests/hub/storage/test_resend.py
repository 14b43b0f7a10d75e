"""Readings that a store has acknowledged and lost, for every store: they are found, and written again once."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch, EntryKind
from hub.model.store import ReadingCounts, StoreCursor
from tests.hub.storage.contract import ALL, JOURNAL, everything, examples, expected, new_store
from tests.hub.storage.implementations import Implementation, without_equal_times
from tests.hub.storage.readings import SERIES, Reading, batch, batches, entries, entry, stored
from wire.model import Value

kept_rows = st.lists(st.booleans(), min_size=1, max_size=6)


def without(content: Batch, is_kept: list[bool]) -> Batch:
    """Return a batch whose rows are kept, or not, as this pattern says: what a store has left of it."""
    rows = [row for row in range(len(content.times)) if is_kept[row % len(is_kept)]]
    plain = {s: values if isinstance(values, list) else values.tolist() for s, values in content.columns}
    columns = {series: [_value(values[row]) for row in rows] for series, values in plain.items()}
    return batch([int(content.times[row]) for row in rows], columns)


def _value(value: Value) -> Value:
    return None if value != value else value


def times_of(readings: dict[int, list[Reading]]) -> set[tuple[int, int]]:
    return {(id, time) for id, part in readings.items() for time, _ in part}


@examples
@given(st.lists(st.tuples(batches(ALL), kept_rows), min_size=1, max_size=5))
async def test_exactly_the_lost_readings_are_found_and_written_again(
    implementation: Implementation, given: list[tuple[Batch, list[bool]]]
) -> None:
    """Whatever the store has left of what it acknowledged: afterwards it has everything once, and the cursor stays."""
    complete = without_equal_times(content for content, _ in given)
    left = [without(content, is_kept) for content, (_, is_kept) in zip(complete, given, strict=True)]
    cursor = StoreCursor(JOURNAL, len(complete))
    async with new_store(implementation) as store:
        await store.write(entries(left), cursor)
        await store.save()
        lost = times_of(implementation.readings_of(complete)) - times_of(implementation.readings_of(left))
        before = await stored(store)
        for _ in range(2):
            found = await store.find_missing(entries(complete))
            assert {(part.series.id, int(time)) for part in found for time in part.times_ns} == lost
        assert all(part.times_ns.tolist() == sorted(part.times_ns.tolist()) for part in found)
        result = await store.rewrite(entries(complete))
        assert result.readings == len(lost)
        assert await everything(store) == expected(implementation, complete)
        assert await store.save() == store.cursor == cursor
        after = await stored(store)
        assert after == {id: before.get(id, 0) + result.added.get(id, 0) for id in before.keys() | result.added.keys()}
        assert await store.find_missing(entries(complete)) == []
        assert (await store.rewrite(entries(complete)))[:2] == (0, result.refused)
        assert await everything(store) == expected(implementation, complete)


async def test_entries_without_readings_are_compared(implementation: Implementation) -> None:
    """Gaps and quarantined batches have nothing that a store could lose."""
    async with new_store(implementation) as store:
        given = [entry(1, None, EntryKind.GAP), entry(2, None, EntryKind.QUARANTINE)]
        assert await store.find_missing(given) == await store.find_missing([]) == []
        assert (await store.rewrite(given)).readings == 0


async def test_the_counts_of_duckdb_grow_with_what_is_written_again(
    implementation: Implementation, tmp_path: Path
) -> None:
    """They are those of the file, and survive reopening. InfluxDB's are those of what was written once."""
    integer, string = SERIES["integer"], SERIES["string"]
    complete = [batch([1, 2, 3], {integer: [1, 2, 3], string: ["a", None, "c"]})]
    async with implementation.open(tmp_path) as store:
        await store.open()
        await store.write(entries([batch([2], {integer: [2]})]), StoreCursor(JOURNAL, 1))
        await store.save()
        result = await store.rewrite(entries(complete))
        assert (result.readings, result.refused) == (4, 0)
        assert result.added == ({} if implementation.remote else {integer.id: 2, string.id: 2})
    async with implementation.open(tmp_path) as store:
        await store.open()
        counts = await store.counts()
        assert counts.get(integer.id) == ReadingCounts(1 if implementation.remote else 3, 0)
        assert await everything(store) == expected(implementation, complete)
