"""Contract tests of queries that request fewer points than there are readings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch
from hub.model.store import MIN_POINTS, Aggregate, HistoryQuery, StoreError
from tests.hub.storage.contract import ALL, EVER, exactly_at, examples, new_store, write
from tests.hub.storage.implementations import Implementation, plain
from tests.hub.storage.readings import SERIES, Reading, batch, batches
from wire.model import MetricType


@examples
@given(st.lists(batches(ALL, st.integers(0, 200)), min_size=1, max_size=30), st.integers(MIN_POINTS, 30), st.data())
async def test_reduced_history_keeps_the_peaks(
    implementation: Implementation, given: list[Batch], points: int, data: st.DataObject
) -> None:
    """The answer has at most the requested points, only true readings, with the lowest and the highest of the range
    among them."""
    start = data.draw(st.integers(0, 100))
    end = data.draw(st.integers(start, 201))
    given = implementation.without_collisions(given)
    async with new_store(implementation) as store:
        await write(store, given)
        history = await store.query(HistoryQuery(ALL, start, end, points))
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


async def test_too_few_points_are_refused(implementation: Implementation) -> None:
    """One point cannot be a minimum and a maximum."""
    async with new_store(implementation) as store:
        with pytest.raises(ValueError, match="at least 2 points"):
            await store.query(HistoryQuery(ALL, *EVER, 1))


NUMBERS = [SERIES["float"], SERIES["integer"]]
FINITE: dict[MetricType, st.SearchStrategy[Any]] = {
    "float": st.floats(-1e12, 1e12, allow_nan=False),
    "integer": st.integers(-(2**40), 2**40),
    "boolean": st.booleans(),
    "string": st.text("abc", max_size=3),
}


@st.composite
def finite_batches(draw: st.DrawFn) -> Batch:
    """Generate batches of all types at different times, with values whose sums are exact enough to compare."""
    times = draw(st.lists(st.integers(0, 200), min_size=1, max_size=12, unique=True))
    return batch(
        times, {item: draw(st.lists(FINITE[item.type], min_size=len(times), max_size=len(times))) for item in ALL}
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
async def test_an_aggregate_is_one_value_for_each_interval(
    implementation: Implementation, given: list[Batch], aggregate: Aggregate, start: int, length: int, points: int
) -> None:
    """Equal intervals begin at the start of the range; those with readings return one value at their begin."""
    # No time occurs twice, also across batches: the order of two readings of one time is undefined.
    for number, content in enumerate(given):
        content.times = [int(time) * len(given) + number for time in content.times]
    end = start + length
    width = max(1, math.ceil(length / points))
    asked = NUMBERS if aggregate in ("avg", "min", "max") else ALL
    async with new_store(implementation) as store:
        await write(store, given)
        history = await store.query(HistoryQuery(asked, start, end, points, aggregate))
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


async def test_aggregates_of_texts_are_refused(implementation: Implementation) -> None:
    """Strings have no average: the error names the series, and says what to request."""
    numbers_only: tuple[Aggregate, ...] = ("avg", "min", "max")
    async with new_store(implementation) as store:
        for aggregate in numbers_only:
            with pytest.raises(StoreError, match=r"device boolean.*device string.*ask for first"):
                await store.query(HistoryQuery(ALL, 0, 100, 10, aggregate))
