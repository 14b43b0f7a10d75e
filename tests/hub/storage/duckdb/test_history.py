from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.model.store import HistoryQuery, StoreCursor, StoreError
from hub.storage.duckdb.database import Database
from hub.storage.duckdb.history import read_history, scan_history
from hub.storage.duckdb.summary import Span
from hub.storage.duckdb.tables import Tables
from hub.storage.query import MIN_POINTS_WITH_ENDS, clip_range
from tests.hub.storage.implementations import plain
from tests.hub.storage.readings import REGISTRY, Reading, batch, entries, entry
from wire.model import MetricType

TIMES = st.integers(0, 1000) | st.sampled_from([0, 2**62, 2**63 - 1])
POINTS = st.integers(2, 40)


class Histories:
    """A database to which examples add their own series."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._tables = Tables(database.writer, registry=REGISTRY)
        self._ids = itertools.count(1)

    def series(self, type: MetricType) -> Series:
        return Series(next(self._ids), "device", "metric", type)

    def write(self, series: Series, readings: list[Reading]) -> None:
        """Write the readings in two writes, so that the order on disk is arbitrary."""
        half = len(readings) // 2
        for piece in (readings[half:], readings[:half]):
            after = self._tables.cursor.offset
            times, values = [time for time, _ in piece], [value for _, value in piece]
            if piece:
                self._tables.append(
                    entries([batch(times, {series: values})], after + 1), StoreCursor("journal", after + 1)
                )

    def query(self, query: HistoryQuery, spans: dict[int, Span] | None = None) -> tuple[list[Reading], str]:
        """Return the answer for the query's only series."""
        if spans is None:
            spans = self._tables.summaries[query.series[0].type].spans(query.series)
        with self.database.reader() as reader:
            history = read_history(reader, query, spans)
        return plain(history).get(query.series[0].id, []), history.series[0].resolution


@contextmanager
def open_histories(tmp_path: Path) -> Iterator[Histories]:
    with closing(Database(tmp_path / "history.duckdb", memory_limit="200MB", threads=1)) as database:
        yield Histories(database)


def reduced_one_by_one(readings: list[Reading], start: int, end: int, points: int, *, peaks: bool) -> list[Reading]:
    """Return a reduced history computed in plain Python. No two readings have the same time, and no two numbers are
    equal."""
    inside = sorted(reading for reading in readings if start <= reading[0] < end)
    if len(inside) <= points:
        return inside
    ends = peaks and points >= MIN_POINTS_WITH_ENDS
    intervals = (points - 2) // 2 if ends else points // 2
    # The intervals divide the part of the range in which the series has readings, also those outside the range.
    first = max(start, min(time for time, _ in readings))
    last = min(end - 1, max(time for time, _ in readings))
    width = (last - first) // intervals + 1
    found = {inside[0], inside[-1]} if ends else set()
    for _, group in itertools.groupby(inside, key=lambda reading: (reading[0] - first) // width):
        piece = list(group)
        found |= {min(piece, key=value_of), max(piece, key=value_of)} if peaks else {piece[0], piece[-1]}
    return sorted(found)


def value_of(reading: Reading) -> float:
    value: float = reading[1]
    return value


def test_reduced_history_equals_a_plain_computation(tmp_path: Path) -> None:
    """The answer is correct for any readings, range and number of points."""
    with open_histories(tmp_path) as histories:

        @given(
            st.sampled_from(["float", "integer", "boolean", "string"]),
            st.lists(TIMES, min_size=1, max_size=120, unique=True),
            st.integers(0, 1001),
            st.integers(0, 1001) | st.just(2**63),
            POINTS,
            st.randoms(use_true_random=False),
        )
        def check(type: MetricType, times: list[int], start: int, end: int, points: int, chance: random.Random) -> None:
            series = histories.series(type)
            # In any order, all different: floats with and without a fraction, strings of different lengths.
            numbers = chance.sample(range(-len(times), len(times)), len(times))
            made: dict[MetricType, list[Any]] = {
                "float": [number / 4 for number in numbers],
                "integer": numbers,
                "boolean": [number % 2 == 0 for number in numbers],
                "string": [str(number) for number in numbers],
            }
            readings: list[Reading] = list(zip(times, made[type], strict=True))
            histories.write(series, readings)
            peaks = type in ("float", "integer")
            expected = reduced_one_by_one(readings, start, end, points, peaks=peaks)
            assert histories.query(HistoryQuery([series], start, end, points))[0] == expected

        check()


def test_outdated_spans_lose_no_reading(tmp_path: Path) -> None:
    """The known span of a series may be old or new. The ends and peaks of the answer are correct anyway."""
    spans = st.none() | st.builds(
        lambda readings, ends: Span(readings, min(ends), max(ends)),
        st.integers(1, 10**9),
        st.tuples(st.integers(0, 2**63 - 1) | st.integers(0, 1000), st.integers(0, 2**63 - 1) | st.integers(0, 1000)),
    )
    with open_histories(tmp_path) as histories:

        @given(st.lists(TIMES, min_size=1, max_size=60, unique=True), POINTS, spans, st.integers(0, 900))
        def check(times: list[int], points: int, span: Span | None, start: int) -> None:
            series = histories.series("integer")
            readings = [(time, (time * 7919) % 1009) for time in times]
            histories.write(series, readings)
            inside = sorted(reading for reading in readings if start <= reading[0])
            answer, resolution = histories.query(
                HistoryQuery([series], start, 2**63, points), {} if span is None else {series.id: span}
            )
            assert len(answer) <= points
            assert set(answer) <= set(inside)
            if len(inside) <= points:
                assert (answer, resolution) == (inside, "raw")
                return
            assert resolution == "reduced"
            values = [value for _, value in answer]
            assert (min(values), max(values)) == (min(map(value_of, inside)), max(map(value_of, inside)))
            if points >= MIN_POINTS_WITH_ENDS:
                assert (answer[0], answer[-1]) == (inside[0], inside[-1])

        check()


def test_equal_readings_are_points_once(tmp_path: Path) -> None:
    """In an interval with one value only, the minimum and the maximum may be the same reading."""
    with open_histories(tmp_path) as histories:
        series = histories.series("float")
        histories.write(series, [(time, 1.0) for time in range(100)])
        answer, resolution = histories.query(HistoryQuery([series], 0, 100, 12))
        assert resolution == "reduced"
        assert len(answer) == len(set(answer)) <= 12
        assert (answer[0], answer[-1]) == ((0, 1.0), (99, 1.0))


def test_an_answer_has_a_limit(tmp_path: Path) -> None:
    """A query for all readings that needs too much memory is rejected, and the error names alternatives."""
    with open_histories(tmp_path) as histories:
        series = histories.series("string")
        histories.write(series, [(time, "on") for time in range(11)])
        query = HistoryQuery([series], 0, 100, None)
        with histories.database.reader() as reader:
            assert len(read_history(reader, query, {}, max_readings=11).series[0].times_ns) == 11
            with pytest.raises(StoreError, match="more than 10 readings: ask for a shorter range"):
                read_history(reader, query, {}, max_readings=10)


def test_two_readings_at_one_time_are_both_kept(tmp_path: Path) -> None:
    """A minimum and a maximum of the same moment are two points."""
    with open_histories(tmp_path) as histories:
        series = histories.series("integer")
        histories.write(series, [(5, -1), (5, 1), *((time, 0) for time in range(6, 30))])
        assert {(5, -1), (5, 1)} <= set(histories.query(HistoryQuery([series], 0, 100, 4))[0])


def test_series_with_few_and_with_many_readings_share_a_query(tmp_path: Path) -> None:
    """Each series is raw or reduced according to its own number of readings in the range."""
    with open_histories(tmp_path) as histories:
        queried = [histories.series(type) for type in ("float", "float", "integer", "string", "boolean")]
        for series, count in zip(queried, (5, 500, 500, 500, 3), strict=True):
            made = {"float": 0.5, "integer": 7, "string": "on", "boolean": True}[series.type]
            histories.write(series, [(time, made) for time in range(count)])
        spans = {series.id: Span(10, 0, 10) for series in queried}
        with histories.database.reader() as reader:
            parts = read_history(reader, HistoryQuery(queried, 0, 1000, 10), spans).series
        assert [piece.resolution for piece in parts] == ["raw", "reduced", "reduced", "reduced", "raw"]
        assert all(2 <= len(piece.times_ns) <= 10 for piece in parts)


SERIES = [Series(id, "device", f"m{id}", "string" if id % 3 == 0 else "integer") for id in range(8)]


def test_a_scan_does_not_depend_on_the_memory_limit(database: Database) -> None:
    """Series read together, alone or in pages give the same readings in the same order, also with equal times."""
    tables = Tables(database.writer, registry=REGISTRY)
    expected: dict[int, list[Reading]] = {}
    for offset in range(1, 60):
        series = SERIES[(offset * 5) % 7]
        times = [(offset * 37) % 11, (offset * 53) % 11, 5]
        values = [f"{offset}" * (offset % 9) if series.type == "string" else offset * 10 + place for place in range(3)]
        tables.append([entry(offset, batch(times, {series: values}))], StoreCursor("journal", offset))
        # The readings of one write are in time order.
        brought = sorted(zip(times, values, strict=True), key=lambda reading: reading[0])
        expected.setdefault(series.id, []).extend(brought)
    ordered = {id: sorted(readings, key=lambda reading: reading[0]) for id, readings in expected.items()}

    @settings(max_examples=20)
    @given(st.integers(1, 2000), st.integers(1, 20), st.permutations(SERIES), st.integers(0, 4), st.integers(5, 12))
    def check(max_bytes: int, piece_readings: int, queried: list[Series], start: int, end: int) -> None:
        found: dict[int, list[Reading]] = {}
        with database.reader() as reader:
            for piece in scan_history(
                reader, queried, clip_range(start, end), max_bytes=max_bytes, piece_readings=piece_readings
            ):
                assert 0 < len(piece.times_ns) <= piece_readings
                values: list[Any] = list(piece.values)
                found.setdefault(piece.series.id, []).extend(zip(piece.times_ns.tolist(), values, strict=True))
        inside = {id: [item for item in readings if start <= item[0] < end] for id, readings in ordered.items()}
        assert found == {id: readings for id, readings in inside.items() if readings}
        assert list(found) == [series.id for series in queried if series.id in found]

    check()
