"""Batches: the same for the same rows, none lost, none over the bounds."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.block import Block
from formats.record import Row
from importer import batching
from importer.batching import FileBatch, Numbering, encode, slices
from tests.importer.files import surveyed
from wire import device, limits
from wire.codec import AGENT_MESSAGES
from wire.columns import unpack_floats, unpack_times
from wire.model import MetricType, Value

NAMES = {"f": "float", "i": "integer", "b": "boolean", "s": "string"}
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "i": st.integers(limits.MIN_INTEGER, limits.MAX_INTEGER),
    "b": st.booleans(),
    "s": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
}
ROWS = st.lists(
    st.builds(
        Row,
        st.just(1),
        st.just(b"x" * 30),
        st.sampled_from(["a", "b"]),
        st.integers(0, 2**40) | st.integers(0, 3),
        st.fixed_dictionaries({}, optional=VALUES).filter(bool),
    ),
    max_size=60,
)


def batches_of(rows: list[Row]) -> list[FileBatch]:
    numbering = Numbering()
    return [batch for portion in slices(rows) for batches in numbering.cut(portion) for batch in batches]


def readings_of(batch: FileBatch) -> list[tuple[str, int, str, Value]]:
    """Return the message that a hub decodes."""
    message = AGENT_MESSAGES["msgpack"].decode(encode(batch, cast("dict[str, MetricType]", NAMES)))
    assert isinstance(message, device.Data)
    assert message.historical
    times = unpack_times(message.time) if isinstance(message.time, bytes) else message.time
    return [
        (batch.device, time, name, value)
        for name, column in message.values.items()
        for time, value in zip(times, unpack_floats(column) if isinstance(column, bytes) else column, strict=True)
        if value is not None
    ]


@given(ROWS)
def test_every_reading_is_in_one_batch_and_numbers_have_no_hole(rows: list[Row]) -> None:
    """Whatever is mixed in the file; and once more it gives the same."""
    batches = batches_of(rows)
    expected = [(row.device, row.time_ns, name, value) for row in rows for name, value in row.values.items()]
    found = [reading for batch in batches for reading in readings_of(batch)]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    for name in ("a", "b"):
        numbers = [batch.seq for batch in batches if batch.device == name]
        assert numbers == list(range(1, len(numbers) + 1))
    assert batches_of(rows) == batches


@given(st.lists(st.tuples(st.integers(0, 5), st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1))))
def test_only_a_second_reading_of_a_series_is_moved(content: list[tuple[int, dict[str, Value]]]) -> None:
    """The hub moves a row to the next free time if a series in the columns of its batch has a reading at its time. Such
    a row has the second reading of each of its series."""
    rows = [Row(line, b"", "a", time_ns, values) for line, (time_ns, values) in enumerate(content, 1)]
    stored: set[tuple[int, str]] = set()
    for batch in batches_of(rows):
        assert isinstance(batch.rows, list)
        columns = {name for row in batch.rows for name in row.values}
        given: set[tuple[int, str]] = set()
        for row in batch.rows:
            time_ns = row.time_ns or 0
            names = {(time_ns, name) for name in row.values}
            if {(time_ns, name) for name in columns} & stored or any(time == time_ns for time, _ in given):
                assert names <= stored | given
            given |= names
        stored |= given


def test_a_refused_row_names_the_lines_that_it_was_merged_from() -> None:
    """The rows of a message are those that still have a value."""
    rows = [Row(1, b"", "a", 5, {"x": 1.0, "y": 1.0}), Row(2, b"", "a", 7, {"x": 1.0}), Row(3, b"", "a", 7, {"y": 2.0})]
    (batch,) = batches_of([*rows, Row(4, b"one\ntwo", "a", 9, {"x": 1.0})])
    assert [time_ns for _, time_ns, name, _ in readings_of(batch) if name == "x"] == [5, 7, 9]
    assert batch.lines() == [(1, 1), (2, 1), (3, 1), (4, 2)]
    assert (batch.lines({1}), batch.lines({2})) == ([(2, 1), (3, 1)], [(4, 2)])


def test_rows_of_one_time_stay_in_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a bound, so that memory has one, too."""
    monkeypatch.setattr(batching, "SLICE_READINGS", 2)
    rows = [Row(line, b"", "a", line // 5, {f"m{line % 5}": 1.0}) for line in range(15)]
    assert [len(portion) for portion in slices(rows)] == [5, 5, 5]
    monkeypatch.setattr(batching, "MORE_ROWS", 1)
    assert [len(portion) for portion in slices(rows[:5])] == [3, 2]


def test_a_block_is_cut_into_batches_in_order_of_time() -> None:
    """Each batch knows its lines, also where the file has the newest reading first."""
    count = 2_000
    raw = b"".join(b"%d,0.5\n" % number for number in range(count))
    block = Block(11, raw, "a", {"f": [float(number) for number in range(count)]}, list(range(count, 0, -1)))
    (batches,) = Numbering().cut([block])
    assert len(batches) == 1
    (batch,) = batches
    assert (batch.readings, batch.lines()[0], batch.lines()[-1]) == (count, (10 + count, 1), (11, 1))
    assert batch.lines({1, 3}) == [(9 + count, 1), (7 + count, 1)]
    readings = readings_of(batch)
    assert readings[0] == ("a", 1, "f", float(count - 1))
    assert [time_ns for _, time_ns, _, _ in readings] == list(range(1, count + 1))


def test_no_frame_is_larger_than_what_a_hub_takes() -> None:
    """Not for a device of a thousand metrics with the longest names, nor for the longest texts."""
    wide: dict[str, Value] = {f"{number:04}{'€' * 124}": 1.5 for number in range(limits.MAX_METRICS)}
    texts: dict[str, Value] = {f"t{number}": "ä" * (limits.MAX_STRING_VALUE_BYTES // 2) for number in range(9)}
    types: dict[str, MetricType] = {**dict.fromkeys(wide, "float"), **dict.fromkeys(texts, "string")}
    rows = [Row(1, b"", "a", time, wide if time % 2 else texts) for time in range(20)]
    batches = batches_of(rows)
    assert sum(batch.readings for batch in batches) == 10 * (len(wide) + len(texts))
    assert max(len(encode(batch, types)) for batch in batches) <= limits.MAX_BATCH_BYTES


@given(st.integers(1, 3000), st.integers(1, 12))
def test_batches_are_filled(rows: int, metrics: int) -> None:
    """All but the last one of a slice are nearly as large as meant, and none is larger."""
    values: dict[str, Value] = {f"m{number}": 0.5 for number in range(metrics)}
    types: dict[str, MetricType] = dict.fromkeys(values, "float")
    batches = batches_of([Row(1, b"", "a", time, values) for time in range(rows)])
    sizes = [len(encode(batch, types)) for batch in batches]
    assert max(sizes) <= batching.BATCH_BYTES
    assert all(size > batching.BATCH_BYTES * 0.8 for size in sizes[:-1])


def test_the_first_reading_counts_what_the_second_sends(tmp_path: Path) -> None:
    """In a file with several slices, many devices and lines that are refused."""
    lines = [
        f"m,device=d{number % 7} a={number},b={number}i {1_700_000_000 + number}\n" if number % 50 else "bad\n"
        for number in range(60_000)
    ]
    survey, refused = surveyed(tmp_path / "a.lp", "".join(lines))
    batches = [batch for portion in survey.batches() for one in portion for batch in one]
    assert len(refused) == 1_200
    assert len(batches) > 7
    assert sum(batch.readings for batch in batches) == survey.readings == 2 * (60_000 - 1_200)
    last = {batch.device: batch.seq for batch in batches}
    assert last == survey.numbering.batches
