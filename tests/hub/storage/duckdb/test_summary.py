from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.model.store import NewestReading, ReadingCounts
from hub.storage.duckdb.columns import SeriesStats
from hub.storage.duckdb.summary import FIRST_SIZE, Span, Summary

IDS = st.sampled_from([0, 1, 5, FIRST_SIZE - 1, FIRST_SIZE, 3 * FIRST_SIZE])
TIMES = st.integers(0, 2**63 - 1)


def series(*ids: int) -> list[Series]:
    return [Series(id, "device", f"metric{id}", "integer") for id in ids]


def stats(readings: dict[int, list[int]]) -> SeriesStats:
    ids = sorted(readings)
    return SeriesStats(
        np.array(ids, np.int32),
        np.array([len(readings[id]) for id in ids], np.int64),
        np.array([min(readings[id]) for id in ids], np.int64),
        np.array([max(readings[id]) for id in ids], np.int64),
        np.array([max(readings[id]) // 2 for id in ids], np.int64),
    )


@given(st.lists(st.dictionaries(IDS, st.lists(TIMES, min_size=1, max_size=5), max_size=4), max_size=8))
def test_a_summary_is_the_sum_of_its_readings(writes: list[dict[int, list[int]]]) -> None:
    """Counts, ends and newest values are those of all readings together, in any order of arrival."""
    summary = Summary("integer")
    all_times: dict[int, list[int]] = {}
    for write in writes:
        summary.add(stats(write))
        for id, times in write.items():
            all_times.setdefault(id, []).extend(times)
    asked = series(0, 1, 5, FIRST_SIZE - 1, FIRST_SIZE, 3 * FIRST_SIZE, 10**6)
    assert summary.counts() == {id: ReadingCounts(len(times), 0) for id, times in all_times.items()}
    assert summary.latest(asked) == {id: NewestReading(max(times), max(times) // 2) for id, times in all_times.items()}
    assert summary.spans(asked) == {id: Span(len(times), min(times), max(times)) for id, times in all_times.items()}
    again = Summary("integer")
    again.restore(summary.export())
    assert again.spans(asked) == summary.spans(asked)


def test_deletion_reduces_the_counts() -> None:
    """A series without readings looks as if it never had any; of another series only the older end moves."""
    summary = Summary("integer")
    summary.add(stats({1: [10, 20], 2: [10, 20, 30]}))
    summary.delete(np.array([1, 2], np.int32), np.array([2, 2], np.int64), 25)
    assert summary.spans(series(1, 2)) == {2: Span(1, 25, 30)}
    assert summary.counts() == {1: ReadingCounts(0, 2), 2: ReadingCounts(1, 2)}
    again = Summary("integer")
    again.restore(summary.export())
    assert again.counts() == summary.counts()
    assert again.spans(series(1, 2)) == summary.spans(series(1, 2))
    summary.add(stats({1: [5]}))
    assert summary.counts()[1] == ReadingCounts(1, 2)
    assert summary.spans(series(1)) == {1: Span(1, 5, 5)}
    assert summary.latest(series(1)) == {1: NewestReading(5, 2)}
