"""Contract tests of every store for metrics whose type was changed: all readings stay readable under the metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch, Series
from hub.model.store import Aggregate, HistoryQuery, NewestReading, StoreCursor
from tests.hub.storage.contract import EVER, JOURNAL, examples, new_store, write, write_all
from tests.hub.storage.implementations import Implementation
from tests.hub.storage.readings import batch, entries, retyped, stored

INTEGER, FLOAT = WIDENED = retyped("integer", "float")

Numbers = dict[int, int | float]


@st.composite
def number_writes(draw: st.DrawFn) -> list[Numbers]:
    """Generate writes of numbers at distinct times; the numbers of each are integers, or floats."""
    times = iter(draw(st.lists(st.integers(0, 300), min_size=4, max_size=40, unique=True)))
    writes: list[Numbers] = []
    for is_float in draw(st.lists(st.booleans(), min_size=2, max_size=5)):
        values = st.floats(-1e9, 1e9, allow_nan=False) if is_float else st.integers(-(2**40), 2**40)
        writes.append({time: draw(values) for _, time in zip(range(10), times, strict=False)})
    return [given for given in writes if given]


def batch_of(numbers: Numbers) -> Batch:
    series = FLOAT if isinstance(next(iter(numbers.values())), float) else INTEGER
    return batch([*numbers], {series: [*numbers.values()]})


def together(writes: list[Numbers]) -> list[tuple[int, float]]:
    return sorted((time, float(value)) for given in writes for time, value in given.items())


async def rows(store: Any, series: Series, query: HistoryQuery) -> list[tuple[int, Any]]:
    (part,) = (await store.query(query)).series
    assert (part.series.id, part.series.type) == (series.id, series.type)
    return [*zip(part.times_ns.tolist(), map(float, part.values), strict=True)]


@examples
@given(number_writes())
async def test_integers_and_floats_are_one_history(implementation: Implementation, writes: list[Numbers]) -> None:
    """Old integers are numbers among the floats, in raw answers, scans, counts and as the newest reading."""
    async with new_store(implementation) as store:
        await write_all(store, [[batch_of(given)] for given in writes])
        expected = together(writes)
        assert await rows(store, FLOAT, HistoryQuery([FLOAT], *EVER, None)) == expected
        assert await rows(store, FLOAT, HistoryQuery([FLOAT], *EVER, 1_000)) == expected
        scanned = [piece async for piece in store.scan([FLOAT], 0, 2**63 - 1)]
        assert [
            reading for piece in scanned for reading in zip(piece.times_ns.tolist(), piece.values, strict=True)
        ] == expected
        assert {piece.series for piece in scanned} == {FLOAT}
        assert await store.latest([FLOAT]) == {FLOAT.id: NewestReading(*expected[-1])}
        assert await stored(store) == {FLOAT.id: len(expected)}


@examples
@given(number_writes(), st.integers(4, 12))
async def test_reduced_points_have_the_peaks_of_both(
    implementation: Implementation, writes: list[Numbers], points: int
) -> None:
    """At most so many points, the lowest and the highest of all readings among them, and both ends."""
    async with new_store(implementation) as store:
        await write_all(store, [[batch_of(given)] for given in writes])
        readings = together(writes)
        found = await rows(store, FLOAT, HistoryQuery([FLOAT], *EVER, points))
        assert len(found) <= points
        assert set(found) <= set(readings)
        assert {found[0], found[-1]} == {readings[0], readings[-1]}
        for extreme in (min, max):
            assert extreme(value for _, value in found) == extreme(value for _, value in readings)


@examples
@given(number_writes(), st.sampled_from(["avg", "min", "max", "first", "last", "count"]), st.integers(2, 9))
async def test_aggregates_count_both(
    implementation: Implementation, writes: list[Numbers], aggregate: Aggregate, points: int
) -> None:
    """Each interval has the aggregate of all of its readings."""
    width = math.ceil(301 / points)
    intervals: dict[int, list[float]] = {}
    for time, value in together(writes):
        intervals.setdefault(time // width, []).append(value)
    compute: dict[str, Any] = {
        "avg": lambda values: math.fsum(values) / len(values),
        "min": min,
        "max": max,
        "first": lambda values: values[0],
        "last": lambda values: values[-1],
        "count": len,
    }
    async with new_store(implementation) as store:
        await write_all(store, [[batch_of(given)] for given in writes])
        found = await rows(store, FLOAT, HistoryQuery([FLOAT], 0, 301, points, aggregate))
        assert [time for time, _ in found] == [number * width for number in intervals]
        assert [value for _, value in found] == pytest.approx(
            [compute[aggregate](values) for values in intervals.values()], abs=0.01
        )


async def test_no_integer_is_missing_that_is_read_as_float_now(implementation: Implementation) -> None:
    """Old entries are decoded with the new type: the store has their readings all the same, and writes none again."""
    async with new_store(implementation) as store:
        await write_all(store, [[batch([1, 2], {INTEGER: [10, 20]})]])
        again = entries([batch([1, 2, 3], {FLOAT: [10, 20, 30.5]})])
        assert [(part.series.id, part.times_ns.tolist()) for part in await store.find_missing(again)] == [(9, [3])]
        assert (await store.rewrite(again)).readings == 1
        assert await rows(store, FLOAT, HistoryQuery([FLOAT], *EVER, None)) == [(1, 10.0), (2, 20.0), (3, 30.5)]


async def test_texts_stay_beside_the_numbers(implementation: Implementation, tmp_path: Path) -> None:
    """Values of a type that is no number are a part of their own after the current type's, also when reopened."""
    text, number = retyped("string", "float", id=8)
    async with implementation.open(tmp_path) as store:
        await store.open()
        await write(store, [batch([1, 3], {text: ["n/a", "off"]}), batch([2, 4], {number: [1.5, 2.5]})])
    async with implementation.open(tmp_path) as store:
        assert await store.open() == StoreCursor(JOURNAL, 2)
        for points, aggregate in ((None, "minmax"), (10, "minmax"), (10, "last")):
            parts = (await store.query(HistoryQuery([number], 0, 10, points, aggregate))).series  # type: ignore[arg-type]
            assert [(part.series.type, [*part.values]) for part in parts] == [
                ("float", [1.5, 2.5]),
                ("string", ["n/a", "off"]),
            ]
        (averages,) = (await store.query(HistoryQuery([number], 0, 10, 2, "avg"))).series
        assert (averages.series.type, averages.values.tolist()) == ("float", [2.0])  # type: ignore[union-attr]
        scanned = [(piece.series.type, [*piece.values]) async for piece in store.scan([number], 0, 10)]
        assert scanned == [("float", [1.5, 2.5]), ("string", ["n/a", "off"])]
        assert await store.latest([number]) == {8: NewestReading(4, 2.5)}
        assert await stored(store) == {8: 4}
