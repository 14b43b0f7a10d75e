from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from hub.model.store import Aggregate, HistoryQuery, SeriesHistory, StoreCursor
from hub.storage.duckdb import schema
from hub.storage.duckdb.database import Database
from hub.storage.duckdb.history import read_history
from hub.storage.duckdb.query_plan import RollupBacklog
from hub.storage.duckdb.summary import Span
from hub.storage.duckdb.tables import Tables
from tests.hub.storage.readings import REGISTRY, SERIES, Reading, batch, entry, retyped
from wire.model import MetricType

SECOND, MINUTE, HOUR = 1_000_000_000, 60_000_000_000, 3_600_000_000_000

EXACT: dict[Aggregate, Callable[[list[Any]], Any]] = {
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "count": len,
}


class Tiers:
    """A database, its readings, and the raw ones among them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tables = Tables(database.writer, registry=REGISTRY)
        self.given: dict[MetricType, list[Reading]] = {type: [] for type in SERIES}

    def write(self, type: MetricType, readings: list[Reading]) -> None:
        self.given[type] = sorted([*self.given[type], *readings])
        times, values = [time for time, _ in readings], [value for _, value in readings]
        offset = self.tables.cursor.offset + 1
        self.tables.append([entry(offset, batch(times, {SERIES[type]: values}))], StoreCursor("journal", offset))

    def query(
        self, type: MetricType, start: int, end: int, points: int, aggregate: Aggregate = "minmax"
    ) -> tuple[SeriesHistory, list[Reading]]:
        """Return the answer as it is, and as readings."""
        series = SERIES[type]
        spans: dict[int, Span] = self.tables.summaries[type].spans([series])
        with self.database.reader() as reader:
            (answer,) = read_history(reader, HistoryQuery([series], start, end, points, aggregate), spans).series
        return answer, list(zip(answer.times_ns.tolist(), list(answer.values), strict=True))

    def inside(self, type: MetricType, start: int, end: int) -> list[Reading]:
        return [reading for reading in self.given[type] if start <= reading[0] < end]


@contextmanager
def open_tiers() -> Iterator[Tiers]:
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(Database(Path(directory) / "history.duckdb", memory_limit="200MB", threads=1)) as database,
    ):
        yield Tiers(database)


VALUES: dict[MetricType, Callable[[int], Any]] = {
    "float": lambda number: (number * 7919 % 1009) / 8,
    "integer": lambda number: number * 7919 % 1009 - 500,
    "boolean": lambda number: number % 3 == 0,
    "string": lambda number: f"s{number % 17}",
}

# A time in some five hours, mostly in one of a few minutes.
TIMES = st.builds(
    lambda minute, second: minute * MINUTE + second * SECOND,
    st.sampled_from([*range(8), 59, 60, 61, 119, 299]),
    st.integers(0, 59),
)
STEPS = st.lists(
    st.tuples(st.just("write"), st.lists(TIMES, min_size=1, max_size=25))
    | st.tuples(st.just("roll up"), st.integers(1, 40))
    | st.tuples(st.just("fold"), st.integers(1, 20)),
    min_size=2,
    max_size=14,
)


def apply_steps(tiers: Tiers, type: MetricType, steps: list[tuple[str, Any]]) -> None:
    """Write readings of new times and values, and roll up in between."""
    numbers = itertools.count()
    taken: set[int] = set()
    for what, how_much in steps:
        if what == "write":
            readings = []
            for time in how_much:
                number = next(numbers)
                free = next(moment for moment in itertools.count(time) if moment not in taken)
                taken.add(free)
                readings.append((free, VALUES[type](number)))
            tiers.write(type, readings)
        elif what == "roll up":
            tiers.tables.rollups.roll_up(type, how_much)
        else:
            tiers.tables.rollups.fold(type, how_much)


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(SERIES)),
    STEPS,
    st.integers(0, 30),
    st.sampled_from([(MINUTE, 60), (HOUR, 3), (7 * MINUTE, 20), (HOUR, 5), (2 * HOUR, 2)]),
    st.booleans(),
)
def test_rollups_answer_like_the_readings(
    type: MetricType, steps: list[tuple[str, Any]], start: int, intervals: tuple[int, int], reload: bool
) -> None:
    """Aligned intervals have exactly their values, however far rolling up is and however late readings arrived."""
    width, points = intervals
    begin = start * MINUTE if width % HOUR else (start // 10) * HOUR
    end = begin + width * points
    with open_tiers() as tiers:
        apply_steps(tiers, type, steps)
        if reload:
            tiers.tables.load()
        aggregates = EXACT if type in schema.SUM_TYPES else {name: EXACT[name] for name in ("first", "last", "count")}
        for aggregate, value_of in aggregates.items():
            expected = [
                (begin + number * width, value_of([value for _, value in group]))
                for number, group in itertools.groupby(
                    tiers.inside(type, begin, end), key=lambda reading: (reading[0] - begin) // width
                )
            ]
            assert tiers.query(type, begin, end, points, aggregate)[1] == [
                (time, pytest.approx(value) if aggregate == "avg" else value) for time, value in expected
            ]


@settings(max_examples=40)
@given(st.sampled_from(sorted(SERIES)), STEPS, st.integers(0, 5 * 3600), st.integers(0, 5 * 3600), st.integers(4, 40))
def test_peaks_from_rollups_are_true(
    type: MetricType, steps: list[tuple[str, Any]], start: int, length: int, points: int
) -> None:
    """Points from any tier are readings at their own times, with the ends and extremes of the range among them."""
    begin, end = start * SECOND, (start + length) * SECOND
    with open_tiers() as tiers:
        apply_steps(tiers, type, steps)
        _, found = tiers.query(type, begin, end, points)
        inside = tiers.inside(type, begin, end)
        assert len(found) <= points
        assert set(found) <= set(inside)
        if len(inside) <= points:
            assert len(found) == len(inside) or tiers.query(type, begin, end, points)[0].resolution != "raw"
        if inside:
            assert (found[0], found[-1]) == (inside[0], inside[-1])
            if type in schema.SUM_TYPES:
                values, all_values = [value for _, value in found], [value for _, value in inside]
                assert (min(values), max(values)) == (min(all_values), max(all_values))


def hours_of_readings(tiers: Tiers, type: MetricType = "float") -> None:
    """Return six hours with a reading every 10 s, rolled up and folded."""
    tiers.write(type, [(number * 10 * SECOND, VALUES[type](number)) for number in range(6 * 360)])
    while tiers.tables.rollups.roll_up(type, 500):
        pass
    while tiers.tables.rollups.fold(type, 100):
        pass


def test_a_query_reads_the_tier_that_fits_its_points() -> None:
    """Narrow intervals come from raw readings, wide ones from minutes and hours; the answer says which."""
    with open_tiers() as tiers:
        hours_of_readings(tiers)
        assert tiers.query("float", 0, 6 * HOUR, 4000)[0].resolution == "raw"
        assert tiers.query("float", 0, 6 * HOUR, 2000)[0].resolution == "reduced"
        assert tiers.query("float", 0, 6 * HOUR, 400)[0].resolution == "minute"
        assert tiers.query("float", 0, 6 * HOUR, 8)[0].resolution == "hour"
        # Buckets that the intervals cut would belong to two intervals.
        assert tiers.query("float", 30 * SECOND, 6 * HOUR, 300, "count")[0].resolution == "reduced"
        assert tiers.query("float", 0, 6 * HOUR, 360, "count")[0].resolution == "minute"
        assert tiers.query("float", 0, 6 * HOUR, 6, "count")[0].resolution == "hour"


@pytest.mark.parametrize("type", sorted(SERIES))
def test_rollups_outlive_their_readings(type: MetricType) -> None:
    """Rollups answer after raw readings are deleted, and hours after minutes are deleted; counts stay correct."""
    with open_tiers() as tiers:
        hours_of_readings(tiers, type)
        cut = 3 * HOUR + 17 * MINUTE + 5 * SECOND
        assert tiers.tables.delete_before(cut) == math.ceil(cut / (10 * SECOND))
        answer, found = tiers.query(type, 0, 6 * HOUR, 720)
        assert answer.resolution == "minute"
        assert set(found) <= set(tiers.given[type])
        assert (found[0], found[-1]) == (tiers.given[type][0], tiers.given[type][-1])
        assert tiers.query(type, 0, 6 * HOUR, 6, "count")[1] == [(hour * HOUR, 360) for hour in range(6)]
        tiers.tables.delete_rollups_before("minute", 2 * HOUR)
        assert tiers.query(type, 0, 6 * HOUR, 6, "count")[1] == [(hour * HOUR, 360) for hour in range(6)]
        assert tiers.query(type, 2 * HOUR, 3 * HOUR, 60, "count")[1] == [
            (2 * HOUR + minute * MINUTE, 6) for minute in range(60)
        ]
        # A reading that arrives long after its time still counts.
        tiers.write(type, [(HOUR + 1, VALUES[type](0)), (2 * HOUR + 1, VALUES[type](0))])
        assert [count for _, count in tiers.query(type, 0, 6 * HOUR, 6, "count")[1]] == [
            360,
            361,
            361,
            360,
            360,
            360,
        ]
        tiers.tables.delete_rollups_before("hour", HOUR)
        assert [count for _, count in tiers.query(type, 0, 6 * HOUR, 6, "count")[1]] == [361, 361, 360, 360, 360]


def test_a_step_that_fails_leaves_nothing() -> None:
    """A step is complete or absent, and the next one repeats it."""
    with open_tiers() as tiers:
        tiers.write("float", [(number * SECOND, float(number)) for number in range(100)])
        tiers.database.writer.execute("ALTER TABLE rollup RENAME made TO gone")
        with pytest.raises(duckdb.Error):
            tiers.tables.rollups.roll_up("float", 1000)
        tiers.database.writer.execute("ALTER TABLE rollup RENAME gone TO made")
        tiers.tables.load()
        assert tiers.tables.rollups.backlog["float"] == RollupBacklog(100, 0)
        assert tiers.tables.rollups.roll_up("float", 1000) == 100
        assert tiers.tables.rollups.backlog["float"] == RollupBacklog(0, 2)
        assert tiers.query("float", 0, 2 * MINUTE, 2, "count")[1] == [(0, 60), (MINUTE, 40)]


def test_a_series_that_began_after_the_deletion_is_complete(tmp_path: Path) -> None:
    """A query that begins before the raw readings also returns a series with fewer raw readings than points."""
    with closing(Database(tmp_path / "history.duckdb", memory_limit="400MB", threads=1)) as database:
        tables = Tables(database.writer, registry=REGISTRY)
        old, new = SERIES["float"], SERIES["integer"]
        hours = [hour * HOUR for hour in range(100)]
        recent = [99 * HOUR + second * SECOND for second in range(20)]
        contents = [batch(hours, {old: [float(time) for time in hours]}), batch(recent, {new: recent})]
        tables.append([entry(offset, content) for offset, content in enumerate(contents, 1)], StoreCursor("journal", 2))
        tables.delete_before(50 * HOUR)
        with database.reader() as reader:
            history = read_history(reader, HistoryQuery([old, new], 0, 200 * HOUR, 500), {})
        assert history.series[1].times_ns.tolist() == recent


def test_rollups_of_two_types_are_one_history(tmp_path: Path) -> None:
    """The integers of a metric that became float count beside its floats, in peaks, sums and ends."""
    integer, float_ = retyped("integer", "float")
    with closing(Database(tmp_path / "history.duckdb", memory_limit="400MB", threads=1)) as database:
        tables = Tables(database.writer, registry=REGISTRY)
        before, after = ([hour * HOUR for hour in hours] for hours in (range(100), range(100, 200)))
        contents = [batch(before, {integer: [*range(100)]}), batch(after, {float_: [0.5 + n for n in range(100)]})]
        tables.append([entry(offset, content) for offset, content in enumerate(contents, 1)], StoreCursor("journal", 2))
        tables.delete_before(50 * HOUR)
        with database.reader() as reader:
            for aggregate, expected in (("count", [100, 100]), ("max", [99.0, 99.5]), ("avg", [49.5, 50.0])):
                query = HistoryQuery([float_], 0, 200 * HOUR, 2, aggregate)  # type: ignore[arg-type]
                (answer,) = read_history(reader, query, {}).series
                assert (answer.series, [*answer.values]) == (float_, expected)
            (answer,) = read_history(reader, HistoryQuery([float_], 0, 200 * HOUR, 50), {}).series
            assert (min(answer.values), max(answer.values)) == (0.0, 99.5)
