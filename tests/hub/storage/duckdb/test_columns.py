from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.batch import Batch, EntryKind, Series
from hub.storage.duckdb.columns import SLICE_ROWS, collect_columns, series_stats
from hub.storage.query import DTYPES
from tests.hub.storage.readings import SERIES, TYPES, Reading, batch, batches, entries, entry, order, readings_of
from wire.model import MetricType, Value

MANY = [*SERIES.values(), Series(100, "other", "float", "float"), Series(7, "other", "integer", "integer")]


@given(st.lists(batches(MANY), max_size=12))
def test_columns_contain_every_reading(given: list[Batch]) -> None:
    """The columns contain exactly the readings of batches in any form, sorted by series and time."""
    found: dict[int, list[Reading]] = {}
    for type, rows in collect_columns(entries(given)).items():
        assert rows.series.dtype == np.int32
        assert rows.times_ns.dtype == np.int64
        assert rows.values.dtype == DTYPES[type]
        keys = list(zip(rows.series.tolist(), rows.times_ns.tolist(), strict=True))
        assert keys == sorted(keys)
        for (id, time), value in zip(keys, rows.values.tolist(), strict=True):
            found.setdefault(id, []).append((time, value))
    assert {id: sorted(readings, key=order) for id, readings in found.items()} == readings_of(given)


@given(st.lists(batches(MANY), max_size=12))
def test_series_stats_agree_with_the_rows(given: list[Batch]) -> None:
    """The count, ends and newest value of each series are those of its rows."""
    for rows in collect_columns(entries(given)).values():
        stats = series_stats(rows)
        expected = []
        for id, group in groupby(zip(*(column.tolist() for column in rows), strict=True), key=lambda row: row[0]):
            times = [(time, value) for _, time, value in group]
            expected.append((id, len(times), times[0][0], times[-1][0], times[-1][1]))
        assert list(zip(*(column.tolist() for column in stats), strict=True)) == expected


@pytest.mark.parametrize("type", TYPES)
def test_long_columns_are_joined_from_slices(type: MetricType) -> None:
    """A list longer than a slice gives the same column as a short one."""
    series = SERIES[type]
    values: dict[MetricType, Value] = {"float": 1.5, "integer": 3, "boolean": True, "string": "on"}
    value = values[type]
    count = 2 * SLICE_ROWS + 3
    rows = collect_columns([entry(1, batch(range(count), {series: [value] * count}))])[type]
    assert rows.times_ns.tolist() == list(range(count))
    assert rows.values.tolist() == [value] * count


def test_a_missing_float_in_a_late_slice_is_left_out() -> None:
    """None among floats is found at any position."""
    values = [1.0] * SLICE_ROWS + [None, 2.0]
    rows = collect_columns([entry(1, batch(range(len(values)), {SERIES["float"]: values}))])["float"]
    assert len(rows.values) == SLICE_ROWS + 1
    assert rows.times_ns[-1] == SLICE_ROWS + 1


def test_entries_without_readings_give_no_columns() -> None:
    """Gaps, quarantined batches and columns of missing values have nothing to store."""
    nothing = entry(3, batch([5, 6], {item: [None, None] for item in SERIES.values()}))
    assert collect_columns([entry(1, None, EntryKind.GAP), entry(2, None, EntryKind.QUARANTINE), nothing]) == {}


def test_a_batch_that_is_not_decoded_is_refused() -> None:
    """An entry that should have readings never counts as one without."""
    with pytest.raises(ValueError, match="entry 7 is not decoded"):
        collect_columns([entry(7, None)])
