"""What every store does, whichever it is."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.contract.batch import Batch, EntryKind, Series
from hub.contract.store import (
    MIN_POINTS,
    SCAN_READINGS,
    Aggregate,
    Counts,
    Cursor,
    Latest,
    Query,
    Store,
    StoreError,
)
from tests.hub.stores.implementations import Implementation, duckdb, plain
from tests.hub.stores.readings import SERIES, Reading, batch, batches, entries, entry, exactly, stored
from wire.model import MetricType, Value

ALL = list(SERIES.values())
EVER = (0, 2**63)
JOURNAL = "journal-a"
# Each example is a store of its own, some 100 ms.
ENOUGH_ANSWERS = 25
"""True for as many different offsets."""

examples = settings(max_examples=12)
deleting = pytest.mark.parametrize("implementation", [duckdb()], ids=["duckdb"])
"""For tests of stores that delete when they are asked to."""


@asynccontextmanager
async def new_store(implementation: Implementation) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        async with implementation.open(Path(directory)) as store:
            await store.open()
            yield store


async def write(store: Store, batches: Sequence[Batch], *, first: int = 1) -> int:
    given = entries(batches, first)
    written = await store.write(given, Cursor(JOURNAL, given[-1].offset))
    await store.save()
    return written.readings


def apart(implementation: Implementation, writes: list[list[Batch]]) -> list[list[Batch]]:
    """As Implementation.apart has it, over all writes."""
    together = iter(implementation.apart([content for given in writes for content in given]))
    return [[next(together) for _ in given] for given in writes]


async def everything(store: Store) -> dict[int, list[tuple[int, bytes]]]:
    history = await store.query(Query(ALL, *EVER, None))
    return {id: [(time, exactly(value)) for time, value in part] for id, part in plain(history).items()}


def expected(implementation: Implementation, batches: Sequence[Batch]) -> dict[int, list[tuple[int, bytes]]]:
    return {
        id: [(time, exactly(value)) for time, value in part] for id, part in implementation.readings_of(batches).items()
    }


async def test_a_new_store_has_nothing(implementation: Implementation, tmp_path: Path) -> None:
    """A new store holds nothing of any journal."""
    async with implementation.open(tmp_path) as store:
        assert await store.open() == store.cursor == Cursor("", 0)
        assert await everything(store) == {}
        assert await store.latest(ALL) == {}
        assert await stored(store) == {}
        description = await store.describe()
        assert (description.readings, description.oldest_ns, description.newest_ns) == (0, None, None)


@examples
@given(st.lists(st.lists(batches(ALL), min_size=1, max_size=5), min_size=1, max_size=4))
async def test_what_is_written_is_read_exactly(implementation: Implementation, writes: list[list[Batch]]) -> None:
    """Raw history is what was written, to the bit, in order of time; missing values are not there."""
    writes = apart(implementation, writes)
    async with new_store(implementation) as store:
        first = 1
        for given in writes:
            added = await write(store, given, first=first)
            assert added == sum(len(part) for part in implementation.readings_of(given).values())
            first += len(given)
        together = [content for given in writes for content in given]
        assert await everything(store) == expected(implementation, together)
        assert store.cursor == Cursor(JOURNAL, first - 1)
        readings = implementation.readings_of(together)
        assert await stored(store) == {id: len(part) for id, part in readings.items()}
        assert (await store.describe()).readings == sum(len(part) for part in readings.values())


@examples
@given(st.lists(batches(ALL), min_size=1, max_size=12), st.data())
async def test_what_is_stored_is_not_stored_again(
    implementation: Implementation, given: list[Batch], data: st.DataObject
) -> None:
    """However entries are delivered again, each is stored once."""
    given = implementation.apart(given)
    async with new_store(implementation) as store:
        all_entries = entries(given)
        while (held := store.cursor.offset) < len(given):
            start = data.draw(st.integers(0, held))
            end = data.draw(st.integers(start + 1, len(given)))
            await store.write(all_entries[start:end], Cursor(JOURNAL, end))
            await store.save()
            assert store.cursor.offset == max(held, end)
        assert await everything(store) == expected(implementation, given)


@examples
@given(st.lists(batches(ALL), min_size=1, max_size=6))
async def test_all_is_there_after_reopening(implementation: Implementation, given: list[Batch]) -> None:
    """A store that was closed opens with its cursor, readings, counts and latest values."""
    given = implementation.apart(given)
    with tempfile.TemporaryDirectory() as directory:
        async with implementation.open(Path(directory)) as store:
            await store.open()
            await write(store, given)
            latest = await store.latest(ALL)
        async with implementation.open(Path(directory)) as store:
            assert await store.open() == Cursor(JOURNAL, len(given))
            assert await everything(store) == expected(implementation, given)
            assert await store.latest(ALL) == latest
            assert await stored(store) == {id: len(part) for id, part in implementation.readings_of(given).items()}


async def test_entries_without_readings_move_the_cursor(implementation: Implementation, tmp_path: Path) -> None:
    """Gaps and quarantined batches are dealt with, too."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        given = [entry(1, None, EntryKind.GAP), entry(2, None, EntryKind.QUARANTINE)]
        written = await store.write(given, Cursor(JOURNAL, 2))
        assert (written.readings, list(written.refused)) == (0, [])
        assert await store.save() == store.cursor == Cursor(JOURNAL, 2)
        assert (await store.query(Query(ALL, *EVER, None))).cursor == Cursor(JOURNAL, 2)


async def test_another_journal_begins_at_its_beginning(implementation: Implementation, tmp_path: Path) -> None:
    """Offsets of a new journal have nothing to do with those of the old one."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        old, new = (batch([time], {SERIES["integer"]: [time]}) for time in (1, 2))
        await write(store, [old, old, old])
        assert (await store.write([entry(1, new)], Cursor("journal-b", 1))).readings == 1
        assert await store.save() == store.cursor == Cursor("journal-b", 1)
        assert await stored(store) == {SERIES["integer"].id: 4}


async def test_a_range_has_its_start_and_not_its_end(implementation: Implementation, tmp_path: Path) -> None:
    """Queries of neighbouring ranges share no reading and miss none."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        series = SERIES["integer"]
        newest = implementation.newest_ns
        await write(store, [batch([1, 2, 3, newest], {series: [1, 2, 3, 4]})])
        ranges = [(1, 3), (3, 4), (4, newest), (4, 2**63), (3, 3), (-5, 2)]
        for points in (None, 100):
            found = [
                [value for _, value in plain(await store.query(Query([series], *range, points))).get(series.id, [])]
                for range in ranges
            ]
            assert found == [[1, 2], [3], [], [4], [], [1]]


async def test_series_come_in_the_order_asked_for(implementation: Implementation, tmp_path: Path) -> None:
    """Every series asked for is in the answer, in its place, also one without readings."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        nobody = Series(999, "device", "nobody", "string")
        await write(store, [batch([1], {series: [None] for series in ALL} | {SERIES["boolean"]: [True]})])
        asked = [nobody, *reversed(ALL)]
        for points in (None, 10):
            history = await store.query(Query(asked, *EVER, points))
            assert [part.series for part in history.series] == asked
            assert [len(part.times_ns) for part in history.series] == [0, 0, 1, 0, 0]
            assert isinstance(history.series[0].values, list)


@examples
@given(st.lists(batches(ALL, st.integers(0, 200)), min_size=1, max_size=30), st.integers(MIN_POINTS, 30), st.data())
async def test_reduced_history_keeps_the_peaks(
    implementation: Implementation, given: list[Batch], points: int, data: st.DataObject
) -> None:
    """Never more than the points asked for, true readings only, the least and the greatest of the range among them."""
    start = data.draw(st.integers(0, 100))
    end = data.draw(st.integers(start, 201))
    given = implementation.apart(given)
    async with new_store(implementation) as store:
        await write(store, given)
        history = await store.query(Query(ALL, start, end, points))
        resolutions = {part.series.id: part.resolution for part in history.series}
        found = plain(history)
        for id, readings in implementation.readings_of(given).items():
            inside = [(time, value) for time, value in readings if start <= time < end]
            part = found.get(id, [])
            assert len(part) <= points
            assert set(map(exactly_at, part)) <= set(map(exactly_at, inside))
            if len(inside) <= points:
                assert resolutions[id] == "raw"
                assert list(map(exactly_at, part)) == list(map(exactly_at, inside))
                continue
            assert resolutions[id] == "reduced"
            if id in (SERIES["float"].id, SERIES["integer"].id):
                values = [value for _, value in part]
                assert min(values) == min(value for _, value in inside)
                assert max(values) == max(value for _, value in inside)
            if points >= 4 or id in (SERIES["boolean"].id, SERIES["string"].id):
                assert (part[0][0], part[-1][0]) == (inside[0][0], inside[-1][0])


def exactly_at(reading: Reading) -> tuple[int, bytes]:
    return reading[0], exactly(reading[1])


async def test_too_few_points_are_refused(implementation: Implementation, tmp_path: Path) -> None:
    """One point cannot be a minimum and a maximum."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        with pytest.raises(ValueError, match="at least 2 points"):
            await store.query(Query(ALL, *EVER, 1))


NUMBERS = [SERIES["float"], SERIES["integer"]]
FINITE: dict[MetricType, st.SearchStrategy[Any]] = {
    "float": st.floats(-1e12, 1e12, allow_nan=False),
    "integer": st.integers(-(2**40), 2**40),
    "boolean": st.booleans(),
    "string": st.text("abc", max_size=3),
}


@st.composite
def finite_batches(draw: st.DrawFn) -> Batch:
    """All types at different times, with values whose sums are exact enough to compare."""
    times = draw(st.lists(st.integers(0, 200), min_size=1, max_size=12, unique=True))
    return batch(
        times, {one: draw(st.lists(FINITE[one.type], min_size=len(times), max_size=len(times))) for one in ALL}
    )


AGGREGATES: dict[Aggregate, Callable[[list[Reading]], Any]] = {
    "avg": lambda readings: math.fsum(value for _, value in readings) / len(readings),
    "min": lambda readings: min(value for _, value in readings),
    "max": lambda readings: max(value for _, value in readings),
    "first": lambda readings: readings[0][1],
    "last": lambda readings: readings[-1][1],
    "count": len,
}


@examples
@given(
    st.lists(finite_batches(), min_size=1, max_size=4),
    st.sampled_from(sorted(AGGREGATES)),
    st.integers(-100, 100),
    st.integers(0, 150),
    st.integers(MIN_POINTS, 30),
)
async def test_an_aggregate_is_one_value_an_interval(
    implementation: Implementation, given: list[Batch], aggregate: Aggregate, start: int, length: int, points: int
) -> None:
    """Equal intervals from the start of the range on; those with readings give one value at their begin."""
    # No time twice, across batches either: which of two readings of one time comes first is nobody's promise.
    for number, content in enumerate(given):
        content.times = [int(time) * len(given) + number for time in content.times]
    end = start + length
    width = max(1, math.ceil(length / points))
    asked = NUMBERS if aggregate in ("avg", "min", "max") else ALL
    async with new_store(implementation) as store:
        await write(store, given)
        history = await store.query(Query(asked, start, end, points, aggregate))
        found = plain(history)
        readings = implementation.readings_of(given)
        for series in asked:
            intervals: dict[int, list[Reading]] = {}
            for reading in readings[series.id]:
                if start <= reading[0] < end:
                    intervals.setdefault((reading[0] - start) // width, []).append(reading)
            expected = [(start + part * width, AGGREGATES[aggregate](inside)) for part, inside in intervals.items()]
            answer = found.get(series.id, [])
            assert len(answer) <= points
            if aggregate == "avg":
                assert [time for time, _ in answer] == [time for time, _ in expected]
                assert [value for _, value in answer] == pytest.approx([value for _, value in expected], abs=0.01)
            else:
                assert answer == expected
            assert [type(value) for _, value in answer] == [type(value) for _, value in expected]
        assert all(part.resolution == "reduced" for part in history.series if len(part.times_ns))


async def test_aggregates_of_texts_are_refused(implementation: Implementation, tmp_path: Path) -> None:
    """There is no average of strings: the error names the series, and says what to ask for."""
    numbers_only: tuple[Aggregate, ...] = ("avg", "min", "max")
    async with implementation.open(tmp_path) as store:
        await store.open()
        for aggregate in numbers_only:
            with pytest.raises(StoreError, match=r"device boolean.*device string.*ask for first"):
                await store.query(Query(ALL, 0, 100, 10, aggregate))


@examples
@given(
    st.lists(st.lists(batches(ALL, st.integers(0, 20)), min_size=1, max_size=5), min_size=1, max_size=3),
    st.integers(-5, 10),
    st.integers(10, 25),
)
async def test_a_scan_gives_every_reading(
    implementation: Implementation, writes: list[list[Batch]], start: int, end: int
) -> None:
    """One series after the other as asked, each in order of time, pieces within their bound, equal times all there."""
    writes = apart(implementation, writes)
    async with new_store(implementation) as store:
        first = 1
        for given in writes:
            await write(store, given, first=first)
            first += len(given)
        asked = list(reversed(ALL))
        found: dict[int, list[Reading]] = {}
        async for piece in store.scan(asked, start, end):
            assert 0 < len(piece.times_ns) == len(piece.values) <= SCAN_READINGS
            assert piece.resolution == "raw"
            assert list(found)[-1:] in ([], [piece.series.id]) or piece.series.id not in found
            values = piece.values if isinstance(piece.values, list) else piece.values.tolist()
            found.setdefault(piece.series.id, []).extend(zip(piece.times_ns.tolist(), values, strict=True))
        readings = implementation.readings_of([content for given in writes for content in given])
        inside = {id: [one for one in part if start <= one[0] < end] for id, part in readings.items()}
        assert list(found) == [series.id for series in asked if inside.get(series.id)]
        for id, part in found.items():
            assert [time for time, _ in part] == [time for time, _ in inside[id]]
            assert sorted(map(exactly_at, part)) == list(map(exactly_at, inside[id]))


@examples
@given(st.lists(st.lists(batches(ALL), min_size=1, max_size=3), min_size=1, max_size=5))
async def test_latest_is_the_newest_and_not_the_last(implementation: Implementation, writes: list[list[Batch]]) -> None:
    """A reading that comes late does not become the latest."""
    writes = apart(implementation, writes)
    async with new_store(implementation) as store:
        first = 1
        for given in writes:
            await write(store, given, first=first)
            first += len(given)
        readings = implementation.readings_of([content for given in writes for content in given])
        latest = await store.latest(ALL)
        assert {id: newest.time_ns for id, newest in latest.items()} == {
            id: part[-1][0] for id, part in readings.items()
        }
        for id, (time, value) in latest.items():
            assert exactly_at((time, value)) in map(exactly_at, readings[id])


async def test_latest_has_plain_values(implementation: Implementation, tmp_path: Path) -> None:
    """A latest value is a Python value, of its series' type."""
    async with implementation.open(tmp_path) as store:
        await store.open()
        values: list[Value] = [1.5, 2, True, "on"]
        await write(store, [batch([7], {series: [value] for series, value in zip(ALL, values, strict=True)})])
        latest = await store.latest(ALL)
        assert latest == {series.id: Latest(7, value) for series, value in zip(ALL, values, strict=True)}
        assert [type(latest[series.id].value) for series in ALL] == [type(value) for value in values]


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
            id: Counts(len(kept.get(id, [])), len(part) - len(kept.get(id, []))) for id, part in readings.items()
        }
        assert {id: newest.time_ns for id, newest in (await store.latest(ALL)).items()} == {
            id: part[-1][0] for id, part in kept.items()
        }
        assert await everything(store) == {id: list(map(exactly_at, part)) for id, part in kept.items()}
        assert store.cursor == Cursor(JOURNAL, len(given))
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
        assert await store.counts() == {integer.id: Counts(1, 2), string.id: Counts(0, 2)}
    async with implementation.open(tmp_path) as store:
        await store.open()
        assert await store.counts() == {integer.id: Counts(1, 2), string.id: Counts(0, 2)}
        await write(store, [batch([5], {string: ["c"]})], first=3)
        assert await store.delete_before(4) == 1
        assert await store.counts() == {integer.id: Counts(0, 3), string.id: Counts(1, 2)}


async def test_a_history_is_true_for_its_cursor(implementation: Implementation, tmp_path: Path) -> None:
    """While entries are written, every answer holds exactly those up to the offset that it names."""
    series = [Series(id, "device", f"m{id}", "integer") for id in range(8)]
    seen: dict[int | None, set[int]] = {None: set(), 6: set()}
    async with implementation.open(tmp_path) as store:
        await store.open()

        async def write_on() -> None:
            while min(map(len, seen.values())) < ENOUGH_ANSWERS:
                first = (await store.save()).offset + 1
                given = [
                    entry(offset, batch([offset], {series[offset % len(series)]: [offset]}))
                    for offset in range(first, first + 40)
                ]
                await store.write(given, Cursor(JOURNAL, given[-1].offset))

        async def query_on(points: int | None) -> None:
            while not writing.done():
                history = await store.query(Query(series, *EVER, points))
                offset = history.cursor.offset
                seen[points].add(offset)
                if points is None:
                    held = sorted(value for part in plain(history).values() for _, value in part)
                    assert held == list(range(1, offset + 1))
                for part in plain(history).values():
                    assert offset - len(series) < part[-1][1] <= offset

        writing = asyncio.ensure_future(write_on())
        await asyncio.gather(writing, query_on(None), query_on(None), query_on(6))
