from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import given, settings

from hub.model.batch import Series
from hub.storage.influxdb.client import PointsRefused, RequestTooLarge, WriteAccepted, WriteAnswer
from hub.storage.influxdb.line_protocol import Cell, Point, plan_write, request_points
from hub.storage.influxdb.refused_points import find_refused, refusals
from hub.storage.influxdb.series_naming import SeriesNames, SeriesNaming
from tests.hub.storage.readings import batch, entries

SERIES = [Series(id, f"device-{id % 3}", f"m{id}", "float") for id in range(6)]
CONFLICT = "partial write: field type conflict: {} dropped={}"


class Server:
    """Possible behaviour of a server: it leaves out points with a bad reading, or all of a request, and counts
    arbitrarily."""

    def __init__(self, bad: set[tuple[int, int]], *, whole: bool, miscounts: bool, max_points: int) -> None:
        self.bad = bad
        self.stored: set[tuple[int, int]] = set()
        self.asked = 0
        self._whole = whole
        self._miscounts = miscounts
        self._max_points = max_points

    async def send(self, points: Sequence[Point]) -> WriteAnswer:
        self.asked += 1
        if len(points) > self._max_points:
            return RequestTooLarge("too large")
        refused = [point for point in points if self._is_bad(point)]
        if not (refused and self._whole):
            self.stored |= {key(cell) for point in points if not self._is_bad(point) for cell in point}
        if not refused:
            return WriteAccepted()
        cell = next(cell for cell in refused[0] if key(cell) in self.bad)
        count = max(1, len(refused) - 1) if self._miscounts else len(refused)
        words = CONFLICT.format(cell.series.metric, count)
        return PointsRefused(words, None if self._whole else count, True)

    def _is_bad(self, point: Point) -> bool:
        return any(key(cell) in self.bad for cell in point)


def key(cell: Cell) -> tuple[int, int]:
    return cell.series.id, cell.time_ns


class Case(NamedTuple):
    """Points, the keys of their bad readings, and the series that are known to be refused."""

    points: list[Point]
    bad: set[tuple[int, int]]
    known: set[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Generate entries of some series each, some of whose readings are bad."""
    names = SeriesNames(SeriesNaming(tags_of=lambda _: {}), max_series_per_device=100, known={})
    chosen = draw(st.lists(st.sets(st.sampled_from(SERIES), min_size=1), min_size=1, max_size=8))
    made = entries(
        batch([10 * number, 10 * number + 1], {item: [0.5, 1.5] for item in sorted(series, key=lambda item: item.id)})
        for number, series in enumerate(chosen)
    )
    (request,) = plan_write(made, names, ()).requests
    points = request_points(request.contents, names)
    keys = sorted({key(cell) for point in points for cell in point})
    bad = draw(st.sets(st.sampled_from(keys)))
    return Case(points, bad, draw(st.sets(st.sampled_from([id for id, _ in keys]))))


@settings(max_examples=60)
@given(cases(), st.booleans(), st.booleans(), st.sampled_from([1, 3, 40]))
async def test_exactly_the_bad_readings_are_found(case: Case, whole: bool, miscounts: bool, max_points: int) -> None:
    """Whatever the server leaves out and counts, all other readings are stored, and none is refused twice."""
    points, bad, known = case
    keys = {key(cell) for point in points for cell in point}
    server = Server(bad, whole=whole, miscounts=miscounts, max_points=max_points)
    words = {id: f"its words of m{id}" for id in known}
    found, has_stored = await find_refused(points, server.send, words)
    refused = [cell for item in found for cell in item.cells]
    assert sorted(map(key, refused)) == sorted(bad)
    assert server.stored == keys - bad
    assert has_stored == bool(server.stored)
    for item in found:
        (id,) = {cell.series.id for cell in item.cells}
        assert item.reason.code == "field_conflict"
        assert f"m{id}" in item.reason.message
    made = refusals((cell, item.reason) for item in found for cell in item.cells)
    assert sum(item.batch.readings for item in made) == len(bad)
    assert len({(item.entry.offset, item.code) for item in made}) == len(made)


async def test_few_requests_find_one_bad_reading_among_many() -> None:
    """The search halves requests, and repeats nothing of a series that is known."""
    names = SeriesNames(SeriesNaming(tags_of=lambda _: {}), max_series_per_device=100, known={})
    made = entries([batch([time], {item: [0.5] for item in SERIES[::3]}) for time in range(4096)])
    points = [
        point for request in plan_write(made, names, ()).requests for point in request_points(request.contents, names)
    ]
    server = Server({(0, 1234)}, whole=False, miscounts=False, max_points=10_000)
    await find_refused(points, server.send, {})
    assert server.asked <= 2 * 12 + 4
    server = Server({(0, time) for time in range(4096)}, whole=False, miscounts=False, max_points=10_000)
    words = {0: "as before"}
    plan = plan_write(made, names, words)
    assert len(plan.suspects) == 4096
    await find_refused(plan.suspects, server.send, words)
    assert server.asked == 1
