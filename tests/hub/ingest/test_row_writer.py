"""Rows become batches: grouped by their metrics, in the order of each metric, and packed where that is quicker."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.row_writer import PendingRow, batch_of, group_rows
from wire.columns import unpack_floats, unpack_times


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "ab", "ba", "c"]), st.booleans(), st.booleans()), max_size=40),
    st.integers(1, 4),
)
def test_grouped_rows_keep_the_order_of_each_metric(shapes: list[tuple[str, bool, bool]], limit: int) -> None:
    """The rows of a batch have the same metrics and origin, and a batch has at most `limit` of them."""
    rows = [
        PendingRow("", place, dict.fromkeys(names, float(place)), True, historical, relayed)
        for place, (names, historical, relayed) in enumerate(shapes)
    ]
    batches = group_rows(rows, limit)
    for metric in "abc":
        expected = [row.time_ns for row in rows if metric in row.values]
        assert [row.time_ns for batch in batches for row in batch if metric in row.values] == expected
    for batch in batches:
        assert len(batch) <= limit
        assert len({(tuple(row.values), row.historical, row.relayed) for row in batch}) == 1


@pytest.mark.parametrize("count", [1, 15, 16, 40])
def test_a_batch_has_the_values_of_its_rows(count: int) -> None:
    """It is packed from a number of rows, if all values are floats."""
    rows = [PendingRow("", place, {"b": place / 2, "a": 1.5}, True, False, False) for place in range(count)]
    batch = batch_of(rows)
    if count >= 16:
        assert isinstance(batch.time, bytes)
        assert unpack_times(batch.time) == [row.time_ns for row in rows]
        assert unpack_floats(cast("bytes", batch.values["b"])) == [place / 2 for place in range(count)]
    else:
        assert (batch.time, batch.values["b"]) == ([*range(count)], [place / 2 for place in range(count)])
    assert list(batch.values) == ["b", "a"]
    assert batch_of([*rows, rows[0]._replace(values={"b": True, "a": 1.5})]).values["b"] == [
        *(place / 2 for place in range(count)), True
    ]  # fmt: skip
