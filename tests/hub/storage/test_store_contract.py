"""Contract tests of writes and reads of every store."""

from __future__ import annotations

import asyncio
import tempfile
from itertools import chain
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch, EntryKind, Series
from hub.model.store import SCAN_READINGS, HistoryQuery, NewestReading, ReadingCounts, StoreCursor
from tests.hub.storage.contract import (
    ALL,
    EVER,
    JOURNAL,
    apart,
    everything,
    exactly_at,
    examples,
    expected,
    new_store,
    write,
    write_all,
)
from tests.hub.storage.implementations import Implementation, plain
from tests.hub.storage.readings import SERIES, Reading, batch, batches, entries, entry, stored
from wire.model import Value

HELD_S = 0.2
"""Longer than a write takes that nothing delays."""

ENOUGH_ANSWERS = 25
"""The number of different offsets for which answers are checked."""


async def test_a_new_store_has_nothing(implementation: Implementation, tmp_path: Path) -> None:
    """A new store contains nothing of any journal."""
    async with implementation.open(tmp_path) as store:
        assert await store.open() == store.cursor == StoreCursor("", 0)
        assert await everything(store) == {}
        assert await store.latest(ALL) == {}
        assert await stored(store) == {}
        description = await store.describe()
        assert (description.readings, description.oldest_ns, description.newest_ns) == (0, None, None)


@examples
@given(st.lists(st.lists(batches(ALL), min_size=1, max_size=5), min_size=1, max_size=4))
async def test_written_readings_are_read_exactly(implementation: Implementation, writes: list[list[Batch]]) -> None:
    """Raw history equals the written readings, to the bit, in time order; missing values do not exist."""
    writes = apart(implementation, writes)
    async with new_store(implementation) as store:
        assert await write_all(store, writes) == [
            sum(len(part) for part in implementation.readings_of(given).values()) for given in writes
        ]
        together = list(chain(*writes))
        assert await everything(store) == expected(implementation, together)
        assert store.cursor == StoreCursor(JOURNAL, len(together))
        readings = implementation.readings_of(together)
        assert await stored(store) == {id: len(part) for id, part in readings.items()}
        assert (await store.describe()).readings == sum(len(part) for part in readings.values())


@examples
@given(st.lists(batches(ALL), min_size=1, max_size=12), st.data())
async def test_repeated_entries_are_stored_once(
    implementation: Implementation, given: list[Batch], data: st.DataObject
) -> None:
    """However entries are delivered again, each is stored once."""
    given = implementation.without_collisions(given)
    async with new_store(implementation) as store:
        all_entries = entries(given)
        while (held := store.cursor.offset) < len(given):
            start = data.draw(st.integers(0, held))
            end = data.draw(st.integers(start + 1, len(given)))
            await store.write(all_entries[start:end], StoreCursor(JOURNAL, end))
            await store.save()
            assert store.cursor.offset == max(held, end)
        assert await everything(store) == expected(implementation, given)


@examples
@given(st.lists(batches(ALL), min_size=1, max_size=6))
async def test_everything_survives_reopening(implementation: Implementation, given: list[Batch]) -> None:
    """A closed store opens with its cursor, readings, counts and newest values."""
    given = implementation.without_collisions(given)
    with tempfile.TemporaryDirectory() as directory:
        async with implementation.open(Path(directory)) as store:
            await store.open()
            await write(store, given)
            latest = await store.latest(ALL)
        async with implementation.open(Path(directory)) as store:
            assert await store.open() == StoreCursor(JOURNAL, len(given))
            assert await everything(store) == expected(implementation, given)
            assert await store.latest(ALL) == latest
            assert await stored(store) == {id: len(part) for id, part in implementation.readings_of(given).items()}


async def test_entries_without_readings_move_the_cursor(implementation: Implementation) -> None:
    """Gaps and quarantined batches move the cursor, too."""
    async with new_store(implementation) as store:
        given = [entry(1, None, EntryKind.GAP), entry(2, None, EntryKind.QUARANTINE)]
        written = await store.write(given, StoreCursor(JOURNAL, 2))
        assert (written.readings, list(written.refused)) == (0, [])
        assert await store.save() == store.cursor == StoreCursor(JOURNAL, 2)
        assert (await store.query(HistoryQuery(ALL, *EVER, None))).cursor == StoreCursor(JOURNAL, 2)


async def test_another_journal_begins_at_its_beginning(implementation: Implementation) -> None:
    """Offsets of a new journal are independent of those of the old one."""
    async with new_store(implementation) as store:
        old, new = (batch([time], {SERIES["integer"]: [time]}) for time in (1, 2))
        await write(store, [old, old, old])
        assert (await store.write([entry(1, new)], StoreCursor("journal-b", 1))).readings == 1
        assert await store.save() == store.cursor == StoreCursor("journal-b", 1)
        assert await stored(store) == {SERIES["integer"].id: 4}


async def test_a_range_includes_its_start_and_excludes_its_end(implementation: Implementation) -> None:
    """Queries of neighbouring ranges share no reading and miss none."""
    async with new_store(implementation) as store:
        series = SERIES["integer"]
        newest = implementation.newest_ns
        await write(store, [batch([1, 2, 3, newest], {series: [1, 2, 3, 4]})])
        ranges = [(1, 3), (3, 4), (4, newest), (4, 2**63), (3, 3), (-5, 2)]
        for points in (None, 100):
            found = [
                [
                    value
                    for _, value in plain(await store.query(HistoryQuery([series], *range, points))).get(series.id, [])
                ]
                for range in ranges
            ]
            assert found == [[1, 2], [3], [], [4], [], [1]]


async def test_series_keep_the_requested_order(implementation: Implementation) -> None:
    """Every requested series is in the answer, in its place, also without readings."""
    async with new_store(implementation) as store:
        nobody = Series(999, "device", "nobody", "string")
        await write(store, [batch([1], {series: [None] for series in ALL} | {SERIES["boolean"]: [True]})])
        asked = [nobody, *reversed(ALL)]
        for points in (None, 10):
            history = await store.query(HistoryQuery(asked, *EVER, points))
            assert [part.series for part in history.series] == asked
            assert [len(part.times_ns) for part in history.series] == [0, 0, 1, 0, 0]
            assert isinstance(history.series[0].values, list)


@examples
@given(
    st.lists(st.lists(batches(ALL, st.integers(0, 20)), min_size=1, max_size=5), min_size=1, max_size=3),
    st.integers(-5, 10),
    st.integers(10, 25),
)
async def test_a_scan_returns_every_reading(
    implementation: Implementation, writes: list[list[Batch]], start: int, end: int
) -> None:
    """One series follows the other as requested, each in time order, pieces within their limit, all readings of equal
    times."""
    writes = apart(implementation, writes)
    async with new_store(implementation) as store:
        await write_all(store, writes)
        asked = list(reversed(ALL))
        found: dict[int, list[Reading]] = {}
        async for piece in store.scan(asked, start, end):
            assert 0 < len(piece.times_ns) == len(piece.values) <= SCAN_READINGS
            assert piece.resolution == "raw"
            assert list(found)[-1:] in ([], [piece.series.id]) or piece.series.id not in found
            values = piece.values if isinstance(piece.values, list) else piece.values.tolist()
            found.setdefault(piece.series.id, []).extend(zip(piece.times_ns.tolist(), values, strict=True))
        readings = implementation.readings_of(chain(*writes))
        inside = {id: [item for item in part if start <= item[0] < end] for id, part in readings.items()}
        assert list(found) == [series.id for series in asked if inside.get(series.id)]
        for id, part in found.items():
            assert [time for time, _ in part] == [time for time, _ in inside[id]]
            assert sorted(map(exactly_at, part)) == list(map(exactly_at, inside[id]))


@examples
@given(st.lists(st.lists(batches(ALL), min_size=1, max_size=3), min_size=1, max_size=5))
async def test_latest_is_the_newest_and_not_the_last(implementation: Implementation, writes: list[list[Batch]]) -> None:
    """A late reading does not become the newest."""
    writes = apart(implementation, writes)
    async with new_store(implementation) as store:
        await write_all(store, writes)
        readings = implementation.readings_of(chain(*writes))
        latest = await store.latest(ALL)
        assert {id: newest.time_ns for id, newest in latest.items()} == {
            id: part[-1][0] for id, part in readings.items()
        }
        for id, (time, value) in latest.items():
            assert exactly_at((time, value)) in map(exactly_at, readings[id])


async def test_latest_has_plain_values(implementation: Implementation) -> None:
    """A newest value is a Python value of its series' type."""
    async with new_store(implementation) as store:
        values: list[Value] = [1.5, 2, True, "on"]
        await write(store, [batch([7], {series: [value] for series, value in zip(ALL, values, strict=True)})])
        latest = await store.latest(ALL)
        assert latest == {series.id: NewestReading(7, value) for series, value in zip(ALL, values, strict=True)}
        assert [type(latest[series.id].value) for series in ALL] == [type(value) for value in values]


async def test_a_history_is_true_for_its_cursor(implementation: Implementation) -> None:
    """While entries are written, every answer contains exactly those up to its offset."""
    series = [Series(id, "device", f"m{id}", "integer") for id in range(8)]
    seen: dict[int | None, set[int]] = {None: set(), 6: set()}
    async with new_store(implementation) as store:

        async def write_on() -> None:
            while min(map(len, seen.values())) < ENOUGH_ANSWERS:
                first = (await store.save()).offset + 1
                given = [
                    entry(offset, batch([offset], {series[offset % len(series)]: [offset]}))
                    for offset in range(first, first + 40)
                ]
                await store.write(given, StoreCursor(JOURNAL, given[-1].offset))

        async def query_on(points: int | None) -> None:
            while not writing.done():
                history = await store.query(HistoryQuery(series, *EVER, points))
                offset = history.cursor.offset
                seen[points].add(offset)
                if points is None:
                    held = sorted(value for part in plain(history).values() for _, value in part)
                    assert held == list(range(1, offset + 1))
                for part in plain(history).values():
                    assert offset - len(series) < part[-1][1] <= offset

        writing = asyncio.ensure_future(write_on())
        await asyncio.gather(writing, query_on(None), query_on(None), query_on(6))


async def test_counts_of_another_store_are_imported(implementation: Implementation, tmp_path: Path) -> None:
    """They are added to the store's own counts, and survive reopening."""
    integer, string = SERIES["integer"], SERIES["string"]
    async with implementation.open(tmp_path) as store:
        await store.open()
        await store.import_counts([(integer, ReadingCounts(9, 2, 3)), (string, ReadingCounts(0, 4, 0))])
        await write(store, [batch([1], {integer: [1]})])
    async with implementation.open(tmp_path) as store:
        await store.open()
        assert await store.counts() == {integer.id: ReadingCounts(1, 2, 3), string.id: ReadingCounts(0, 4, 0)}


async def test_a_hold_keeps_the_files_as_they_are(implementation: Implementation, tmp_path: Path) -> None:
    """They have the durable cursor. What is written meanwhile is in them after the hold, and all of them are intact."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        await write(store, [batch([1], {SERIES["float"]: [1.0]})])
        async with store.hold() as cursor:
            assert cursor == store.cursor == StoreCursor(JOURNAL, 1)
            before = {path: path.read_bytes() for path in tmp_path.iterdir()}
            writing = asyncio.create_task(write(store, [batch([2], {SERIES["float"]: [2.0]})], first=2))
            await asyncio.wait([writing], timeout=HELD_S)
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
            assert store.cursor == cursor
        await writing
        assert store.cursor == StoreCursor(JOURNAL, 2)
        position: int | None = 0
        while position is not None:
            part = await store.verify(position)
            assert part.problem is None
            position = part.next
        assert part.verified == part.total
