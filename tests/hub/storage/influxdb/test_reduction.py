"""Points of a chart, combined from several measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from hub.model.store import Aggregate
from hub.storage.influxdb.influxql import MeasurementRows
from hub.storage.influxdb.reduction import (
    combine_measurements,
    interval_ends,
    interval_maxima,
    interval_minima,
    join_rows,
)
from hub.storage.query import Intervals, Points

Readings = dict[int, int]

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1])

PLACES = st.lists(
    st.dictionaries(st.integers(0, 60), NUMBERS, min_size=1, max_size=20),
    min_size=1,
    max_size=3,
).map(lambda places: [{time * 3 + place: value for time, value in part.items()} for place, part in enumerate(places)])
"""Readings of up to three measurements; no time is in two of them."""

INTERVALS = st.builds(Intervals, st.integers(-20, 20), st.integers(1, 50))


def rows(place: int, readings: Mapping[int, int]) -> MeasurementRows:
    return MeasurementRows(f"m{place}", np.array(list(readings), np.int64), np.array(list(readings.values()), np.int64))


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
    """Rows of all measurements are joined in time order."""
    parts = [rows(place, dict(sorted(part.items()))) for place, part in enumerate(places)]
    assert listed(join_rows(parts)) == sorted(together(places).items())


@given(PLACES, INTERVALS)
def test_extremes_cover_all_measurements(places: list[Readings], intervals: Intervals) -> None:
    """The lowest and the highest of each interval come at their own times, also at the ends of 64 bits."""
    found: list[list[MeasurementRows]] = [[], []]
    for place, part in enumerate(places):
        inside = by_part(part, intervals).values()
        for end, choose in enumerate((min, max)):
            chosen = [choose(item.items(), key=lambda pair: (pair[1], 0)) for item in inside]
            found[end].append(rows(place, dict(chosen)))
    expected = by_part(together(places), intervals).values()
    assert [value for _, value in listed(interval_minima(found[0], intervals))] == [
        min(item.values()) for item in expected
    ]
    assert [value for _, value in listed(interval_maxima(found[1], intervals))] == [
        max(item.values()) for item in expected
    ]
    for points in (interval_minima(found[0], intervals), interval_maxima(found[1], intervals)):
        assert set(listed(points)) <= set(together(places).items())


@given(PLACES, INTERVALS)
def test_ends_cover_all_measurements(places: list[Readings], intervals: Intervals) -> None:
    """Values of each interval, and moments of all but the first reading, give the first and last of each interval."""
    begin, values, moments = [], ([], []), ([], [])  # type: ignore[var-annotated]
    for place, part in enumerate(places):
        first_ns = min(part)
        begin.append(rows(place, {first_ns: part[first_ns]}))
        of = by_part(part, intervals)
        for end in (0, 1):
            chosen = {number: list(item.items())[-end] for number, item in of.items()}
            starts = {intervals.from_ns + number * intervals.width_ns: pair[1] for number, pair in chosen.items()}
            values[end].append(rows(place, starts))
            later = [[time for time in item if time != first_ns][-end:][:1] for item in of.values()]
            moments[end].append(rows(place, {time: 0 for times in later for time in times}))
    ends = interval_ends(begin, *values, *moments, intervals=intervals)
    expected = by_part(together(places), intervals).values()
    assert listed(ends.first) == [min(item.items()) for item in expected]
    assert listed(ends.last) == [max(item.items()) for item in expected]


@pytest.mark.parametrize(("aggregate", "result"), [("min", [1, 4]), ("max", [9, 4]), ("count", [10, 4])])
def test_intervals_of_several_measurements_are_combined(aggregate: Aggregate, result: list[int]) -> None:
    """An interval that only one measurement has is kept as it is."""
    assert listed(combine_measurements([rows(0, {0: 1, 10: 4}), rows(1, {0: 9})], aggregate)) == [
        (0, result[0]),
        (10, result[1]),
    ]


def test_an_average_weighs_the_measurements() -> None:
    """Three readings with average 2 and one of 6 have the average 3."""
    averages = [rows(0, {0: 2, 10: 5}), rows(1, {0: 6})]
    assert listed(combine_measurements(averages, "avg", [rows(0, {0: 3, 10: 1}), rows(1, {0: 1})])) == [
        (0, 3.0),
        (10, 5.0),
    ]
