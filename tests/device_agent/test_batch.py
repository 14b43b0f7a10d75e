"""Batches: rows, columns, bytes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.batch import (
    ENVELOPE_BYTES,
    PACK_FROM_ROWS,
    ReadingColumns,
    columns_of_rows,
    decode_batch,
    encode_batch,
    encode_frame,
    encode_row,
    encode_within,
    split,
)
from wire.codec import AGENT_MESSAGES, Format
from wire.device import Data
from wire.limits import MAX_INTEGER, MAX_SEQ, MAX_TIME_NS, MIN_INTEGER
from wire.model import Metric, Value

METRICS = {
    "float": Metric("float"),
    "integer": Metric("integer", "integer"),
    "boolean": Metric("boolean", "boolean"),
    "string": Metric("string", "string"),
}
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "integer": st.integers(MIN_INTEGER, MAX_INTEGER),
    "boolean": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
}
FORMATS: tuple[Format, ...] = ("json", "msgpack")

times = st.integers(0, MAX_TIME_NS)
seqs = st.integers(1, MAX_SEQ)
rows = st.fixed_dictionaries({}, optional=VALUES).filter(bool)
tables = st.lists(st.tuples(times, rows), min_size=1, max_size=3 * PACK_FROM_ROWS)


@pytest.mark.parametrize("value", ["n/a", True])
def test_values_of_an_earlier_type_stay_as_they_are(value: Value) -> None:
    """A batch that waits is encoded again after its metric was declared as float: no value is converted."""
    columns = ReadingColumns(list(range(PACK_FROM_ROWS)), {"float": [value] * PACK_FROM_ROWS})
    found = decode_batch(encode_batch(columns, METRICS, "msgpack")).values["float"]
    assert [(type(item), item) for item in found] == [(type(value), value)] * PACK_FROM_ROWS


def readings_of(parts: list[ReadingColumns]) -> list[tuple[int, str, Value]]:
    """Each value with its time and name, sorted; what must never change on the way."""
    return sorted(
        (
            (time_ns, name, value)
            for columns in parts
            for name, column in columns.values.items()
            for time_ns, value in zip(columns.times, column, strict=True)
            if value is not None
        ),
        key=repr,
    )


@pytest.mark.parametrize("format", FORMATS)
@given(tables, st.booleans(), seqs)
def test_a_frame_is_what_the_protocol_says(
    format: Format, table: list[tuple[int, dict[str, Value]]], historical: bool, seq: int
) -> None:
    """A batch under any number is, byte for byte, the data message that the wire's own codec makes."""
    columns = columns_of_rows(table, historical=historical)
    batch = encode_batch(columns, METRICS, format)
    message = AGENT_MESSAGES[format].decode(encode_frame(seq, batch))
    assert isinstance(message, Data)
    assert (message.seq, message.historical, batch.historical) == (seq, historical, historical)
    assert AGENT_MESSAGES[format].encode(message) == encode_frame(seq, batch)
    assert len(encode_frame(seq, batch)) <= batch.size + ENVELOPE_BYTES
    assert batch.readings == sum(len(row) for _, row in table)


@pytest.mark.parametrize("format", FORMATS)
@given(tables, st.booleans())
def test_columns_come_back_as_they_were(
    format: Format, table: list[tuple[int, dict[str, Value]]], historical: bool
) -> None:
    """Encoding and decoding a batch changes nothing, packed or not."""
    columns = columns_of_rows(table, historical=historical)
    assert decode_batch(encode_batch(columns, METRICS, format)) == columns


@pytest.mark.parametrize("format", FORMATS)
@given(times, rows, st.booleans())
def test_a_row_is_a_batch_of_one_row(format: Format, time_ns: int, row: dict[str, Value], historical: bool) -> None:
    """The short way for a single row makes the same bytes as the long one."""
    columns = columns_of_rows([(time_ns, row)], historical=historical)
    assert encode_row(time_ns, row, historical=historical, format=format) == encode_batch(columns, METRICS, format)


def test_long_float_columns_are_packed_in_msgpack_only() -> None:
    """From PACK_FROM_ROWS rows on times and floats are packed; JSON stays readable; other types are lists."""
    rows = PACK_FROM_ROWS
    columns = ReadingColumns(list(range(rows)), {"float": [0.5] * rows, "boolean": [True] * rows})
    message = AGENT_MESSAGES["msgpack"].decode(encode_frame(1, encode_batch(columns, METRICS, "msgpack")))
    assert isinstance(message, Data)
    assert isinstance(message.time, bytes)
    assert isinstance(message.values["float"], bytes)
    assert message.values["boolean"] == [True] * rows
    message = AGENT_MESSAGES["json"].decode(encode_frame(1, encode_batch(columns, METRICS, "json")))
    assert isinstance(message, Data)
    assert message.time == columns.times
    assert message.values["float"] == columns.values["float"]


@given(tables)
def test_a_split_keeps_every_reading(table: list[tuple[int, dict[str, Value]]]) -> None:
    """Both parts together hold the same readings, and neither is empty; only one value is indivisible."""
    columns = columns_of_rows(table, historical=False)
    parts = split(columns)
    if parts is None:
        assert (len(columns.times), len(columns.values)) == (1, 1)
        return
    assert readings_of(list(parts)) == readings_of([columns])
    for part in parts:
        assert part.values
        assert all(len(column) == len(part.times) for column in part.values.values())


@pytest.mark.parametrize("format", FORMATS)
@given(tables, st.integers(300, 600), st.integers(1, 10))
def test_batches_keep_to_the_bounds(
    format: Format, table: list[tuple[int, dict[str, Value]]], max_bytes: int, max_rows: int
) -> None:
    """However small the bounds, every reading is in one of the batches, and each frame is within them."""
    columns = columns_of_rows(table, historical=False)
    batches = encode_within(columns, METRICS, format, max_bytes=max_bytes, max_rows=max_rows)
    assert all(len(encode_frame(MAX_SEQ, batch)) <= max_bytes for batch in batches)
    parts = [decode_batch(batch) for batch in batches]
    assert all(len(part.times) <= max_rows for part in parts)
    assert readings_of(parts) == readings_of([columns])
    assert next(time for part in parts for time in part.times) == columns.times[0]


def test_a_value_over_the_bound_is_left_out_and_the_others_are_not() -> None:
    """A value too large for any frame does not hold up the rest of its row."""
    columns = ReadingColumns([1], {"float": [1.5], "string": ["x" * 500]})
    (batch,) = encode_within(columns, METRICS, "msgpack", max_bytes=200, max_rows=10)
    assert decode_batch(batch) == ReadingColumns([1], {"float": [1.5]})


def test_a_missing_value_is_none_and_not_nan() -> None:
    """Rows without a metric have None in its column."""
    columns = columns_of_rows([(1, {"float": 1.0}), (2, {"integer": 2})], historical=False)
    assert columns == ReadingColumns([1, 2], {"float": [1.0, None], "integer": [None, 2]})
    assert not any(isinstance(value, float) and math.isnan(value) for value in columns.values["float"])
