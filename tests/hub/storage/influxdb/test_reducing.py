"""Points of a chart, put together from several measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hub.model.store import Aggregate
from hub.storage.influxdb.influxql import Intervals
from hub.storage.influxdb.reducing import Ends, Points, combined, ends_of, highest, joined, lowest, woven
from hub.storage.influxdb.rows import Rows

Readings = dict[int, int]

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1])

PLACES = st.lists(
    st.dictionaries(st.integers(0, 60), NUMBERS, min_size=1, max_size=20),
    min_size=1,
    max_size=3,
).map(lambda places: [{time * 3 + place: value for time, value in part.items()} for place, part in enumerate(places)])
"""Readings of up to three measurements; no time is in two of them."""

INTERVALS = st.builds(Intervals, st.integers(-20, 20), st.integers(1, 50))


def rows(place: int, readings: Mapping[int, int]) -> Rows:
    return Rows(f"m{place}", np.array(list(readings), np.int64), np.array(list(readings.values()), np.int64))


def listed(points: Points) -> list[tuple[int, int]]:
    return list(zip(points.times_ns.tolist(), points.values.tolist(), strict=True))


def by_part(readings: Mapping[int, int], intervals: Intervals) -> dict[int, Readings]:
    found: dict[int, Readings] = {}
    for time, value in sorted(readings.items()):
        found.setdefault((time - intervals.from_ns) // intervals.width_ns, {})[time] = value
    return found


def together(places: Sequence[Readings]) -> Readings:
    return {time: value for part in places for time, value in part.items()}


@given(PLACES)
def test_rows_are_joined_in_order_of_time(places: list[Readings]) -> None:
    """Whatever measurement they were in."""
    parts = [rows(place, dict(sorted(part.items()))) for place, part in enumerate(places)]
    assert listed(joined(parts)) == sorted(together(places).items())


@given(PLACES, INTERVALS)
def test_extremes_are_those_of_all_places(places: list[Readings], intervals: Intervals) -> None:
    """The least and the greatest of each interval at their own times, also at the ends of 64 bits."""
    found: list[list[Rows]] = [[], []]
    for place, part in enumerate(places):
        inside = by_part(part, intervals).values()
        for end, choose in enumerate((min, max)):
            chosen = [choose(one.items(), key=lambda pair: (pair[1], 0)) for one in inside]
            found[end].append(rows(place, dict(chosen)))
    expected = by_part(together(places), intervals).values()
    assert [value for _, value in listed(lowest(found[0], intervals))] == [min(one.values()) for one in expected]
    assert [value for _, value in listed(highest(found[1], intervals))] == [max(one.values()) for one in expected]
    for points in (lowest(found[0], intervals), highest(found[1], intervals)):
        assert set(listed(points)) <= set(together(places).items())


@given(PLACES, INTERVALS)
def test_ends_are_those_of_all_places(places: list[Readings], intervals: Intervals) -> None:
    """Values by interval and moments of all but the first reading come to the first and last of each interval."""
    begin, values, moments = [], ([], []), ([], [])  # type: ignore[var-annotated]
    for place, part in enumerate(places):
        first_ns = min(part)
        begin.append(rows(place, {first_ns: part[first_ns]}))
        of = by_part(part, intervals)
        for end in (0, 1):
            chosen = {number: list(one.items())[-end] for number, one in of.items()}
            starts = {intervals.from_ns + number * intervals.width_ns: pair[1] for number, pair in chosen.items()}
            values[end].append(rows(place, starts))
            later = [[time for time in one if time != first_ns][-end:][:1] for one in of.values()]
            moments[end].append(rows(place, {time: 0 for times in later for time in times}))
    ends = ends_of(begin, values=values, moments=moments, intervals=intervals)
    expected = by_part(together(places), intervals).values()
    assert listed(ends.first) == [min(one.items()) for one in expected]
    assert listed(ends.last) == [max(one.items()) for one in expected]


@pytest.mark.parametrize(("aggregate", "result"), [("min", [1, 4]), ("max", [9, 4]), ("count", [10, 4])])
def test_intervals_of_several_places_become_one(aggregate: Aggregate, result: list[int]) -> None:
    """An interval that only one measurement has is taken as it is."""
    assert listed(combined([rows(0, {0: 1, 10: 4}), rows(1, {0: 9})], aggregate)) == [(0, result[0]), (10, result[1])]


def test_an_average_weighs_the_places() -> None:
    """Three readings of 2 and one of 6 are 3 on average."""
    averages = [rows(0, {0: 2, 10: 5}), rows(1, {0: 6})]
    assert listed(combined(averages, "avg", [rows(0, {0: 3, 10: 1}), rows(1, {0: 1})])) == [(0, 3.0), (10, 5.0)]


def test_one_reading_is_one_point() -> None:
    """It may be an interval's minimum and its maximum, and an end of the range besides."""
    low = Points(np.array([1, 8]), np.array([1, 2]))
    high = Points(np.array([3, 8]), np.array([7, 2]))
    ends = Ends(Points(np.array([1]), np.array([1])), Points(np.array([9]), np.array([5])))
    assert listed(woven(high, low, ends)) == [(1, 1), (3, 7), (8, 2), (9, 5)]
