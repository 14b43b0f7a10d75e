"""Values are refused one by one: whatever is wrong in a batch, its other values are accepted as they were sent."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ingest.partial_batch import (
    LooseBatch,
    count_readings,
    read_loosely,
    refused_values,
    row_ranges,
    separate,
)
from hub.ingest.validate import validate
from hub.model.batch import Series
from wire import limits
from wire.codec import Format
from wire.columns import pack_floats, pack_times
from wire.device import Reject
from wire.errors import Code, WireError
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES, MIN_INTEGER

TYPES = {"f": "float", "g": "float", "i": "integer", "b": "boolean", "s": "string"}
HUGE = 10**400


def series() -> dict[str, Series | WireError]:
    known: dict[str, Series | WireError] = {
        name: Series(id, "d", name, kind)  # type: ignore[arg-type]
        for id, (name, kind) in enumerate(TYPES.items(), start=1)
    }
    known["conflict"] = WireError(Code.TYPE_CONFLICT, "conflict is integer and was declared as float")
    return known


HEALTHY: dict[str, st.SearchStrategy[Any]] = {
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "g": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "i": st.integers(MIN_INTEGER, MAX_INTEGER),
    "b": st.booleans(),
    "s": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
}
NO_VALUE = st.sampled_from([[1], {"a": 1}, [], {}])
BROKEN: dict[str, st.SearchStrategy[Any]] = {
    "f": st.sampled_from([True, "1", math.nan, math.inf, -math.inf]) | NO_VALUE,
    "g": st.sampled_from([False, "", math.nan]) | NO_VALUE,
    "i": st.sampled_from([1.0, True, "1", MAX_INTEGER + 1, math.nan]) | NO_VALUE,
    "b": st.sampled_from([1, 0.0, "true"]) | NO_VALUE,
    "s": st.sampled_from([1, 1.5, False, "ä" * (MAX_STRING_VALUE_BYTES // 2 + 1)]) | NO_VALUE,
}
ONLY_IN_JSON: dict[str, list[Any]] = {"f": [HUGE], "s": ["\ud83d"]}
"""Values that cannot be written as msgpack."""


class Sent:
    """A batch as its agent sent it, and which of its values are healthy."""

    def __init__(self, batch: dict[str, Any], healthy: set[tuple[str, int]], format: Format) -> None:
        self.batch = batch
        self.healthy = healthy
        self.format = format

    @property
    def frame(self) -> bytes:
        return json.dumps(self.batch).encode() if self.format == "json" else msgspec.msgpack.encode(self.batch)


@st.composite
def sent_batches(draw: st.DrawFn) -> Sent:
    format: Format = draw(st.sampled_from(["json", "msgpack"]))
    rows = draw(st.integers(1, 20))
    values: dict[str, Any] = {}
    healthy = set()
    for name in draw(st.lists(st.sampled_from([*TYPES, "conflict", "unknown", " name"]), min_size=1, unique=True)):
        length = draw(st.sampled_from([rows] * 9 + [rows + 1]))
        broken = BROKEN.get(name, st.just(1.0))
        if format == "json" and name in ONLY_IN_JSON:
            broken |= st.sampled_from(ONLY_IN_JSON[name])
        kinds = draw(st.lists(st.sampled_from("hhhbn"), min_size=length, max_size=length))
        makers = {"h": HEALTHY.get(name, st.just(1.0)), "b": broken, "n": st.none()}
        values[name] = column = [draw(makers[kind]) for kind in kinds]
        if length == rows and name in TYPES:
            healthy |= {(name, row) for row, kind in enumerate(kinds) if kind == "h"}
        if name == "f" and format == "msgpack" and all(type(v) in (float, type(None)) for v in column):
            values[name] = pack_floats(column)
    times = list(range(1000, 1000 + rows))
    packed = format == "msgpack" and draw(st.booleans())
    batch = {"type": "data", "seq": 7, "time": pack_times(times) if packed else times, "values": values}
    return Sent(batch, healthy, format)


def shown(value: Any) -> Any:
    """Return a value in a form in which NaN equals itself, and 1, 1.0 and True differ."""
    return type(value).__name__, repr(value)


def cells(values: Mapping[str, Any], times: Any) -> dict[tuple[str, int], Any]:
    """Return the values of columns that have the length of the times, by name and row."""
    return {
        (refused.metric, refused.row): shown(refused.value)
        for refused in refused_values(LooseBatch("data", 1, times, dict(values)))
        if refused.row is not None
    }


@given(sent_batches())
@settings(max_examples=500)
def test_the_accepted_values_are_the_healthy_ones_and_all_others_are_refused(sent: Sent) -> None:
    """No value is lost, none is changed, and none is in both; the accepted ones pass the validation of every batch."""
    metrics = series()
    batch = read_loosely(sent.frame, sent.format)
    assert batch is not None
    separated = separate(batch, sent.format, metrics)
    if separated is None:
        assert cells(batch.values, batch.time) == {}
        return
    accepted = cells(separated.data.values, separated.data.time) if separated.data is not None else {}
    received = cells(batch.values, batch.time)
    assert accepted == {cell: received[cell] for cell in sent.healthy}
    if separated.data is not None:
        assert validate(separated.data, metrics).batch.readings == len(accepted)
    refused = 0
    for part in separated.parts:
        kept = read_loosely(part.payload, sent.format)
        assert kept is not None
        assert kept.rows is not None
        values = list(refused_values(kept))
        refused += len(values)
        assert count_readings(kept) == part.readings == len(values)
        if kept.rows:
            for value in values:
                assert value.row is not None
                assert shown(value.value) == received[value.metric, value.row]
                assert value.time_ns == 1000 + value.row
    assert count_readings(batch) == len(accepted) + refused
    assert {column.code for part in separated.parts for column in part.columns} == {p.code for p in separated.parts}


@given(sent_batches())
def test_a_part_is_refused_again_for_the_same_reason_and_accepted_without_it(sent: Sent) -> None:
    """A retry of a part changes nothing while the reason is there, and rows keep the numbers that they had."""
    batch = read_loosely(sent.frame, sent.format)
    assert batch is not None
    separated = separate(batch, sent.format, series())
    for part in separated.parts if separated is not None else ():
        kept = read_loosely(part.payload, sent.format)
        assert kept is not None
        again = separate(kept, sent.format, series())
        assert again is not None
        assert again.data is None
        assert again.parts == [part]


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"i": [1, "many", 2, "few"]}, Code.WRONG_TYPE, "i is declared integer but has str (rows 1, 3, first many)"),
        ({"i": [1, 2.5, 3, 4]}, Code.WRONG_TYPE, "i is declared integer but has float (row 1: 2.5)"),
        ({"x": [1, 2, 3, 4]}, Code.UNKNOWN_METRIC, "x was not declared (rows 0 to 3, first 1)"),
        ({"f": [1.0, math.nan, 2.0, 3.0]}, Code.NOT_FINITE, "f has a value that is not a finite number (row 1: NaN)"),
        ({"i": [2**63, 1, 2, 3]}, Code.OUT_OF_RANGE, f"i has an integer outside signed 64 bits (row 0: {2**63})"),
        ({"f": [1.0, [2], 3.0, 4.0]}, Code.BAD_MESSAGE, "f has a value of the type list (row 1: [2])"),
        ({"f": [1.0, 2.0]}, Code.LENGTH_MISMATCH, "f has 2 values for 4 times (first value 1.0)"),
        ({"f": 1.0}, Code.BAD_MESSAGE, "f has no list of values (first value 1.0)"),
        ({"a\nb": [1, 2, 3, 4]}, Code.BAD_MESSAGE, "a\\nb is no name of a metric (rows 0 to 3, first 1)"),
        (
            {"conflict": [1, None, None, None]},
            Code.TYPE_CONFLICT,
            "conflict is integer and was declared as float (row 0: 1)",
        ),
    ],
)
def test_a_reason_names_the_metric_the_rows_and_the_first_value(values: Any, code: Code, message: str) -> None:
    """A person finds the value in the message of the quarantine and of the agent's log."""
    batch = LooseBatch("data", 1, [1, 2, 3, 4], values)
    separated = separate(batch, "json", series())
    assert separated is not None
    (part,) = separated.parts
    assert (part.code, part.message) == (code, message)


def test_everything_that_an_agent_is_told_has_a_bound() -> None:
    """However many metrics, rows and characters are refused, the reject is a small message that its codec accepts."""
    names = [f"{number:03}\ud83d" + "n" * 200 for number in range(100)]
    values: dict[str, Any] = {name: ["v" * 5_000] * 100 for name in names}
    values["f"] = [1.0 if row % 2 else "x" for row in range(100)]
    separated = separate(LooseBatch("data", 1, list(range(100)), values), "json", series())
    assert separated is not None
    columns = [column for part in separated.parts for column in part.columns]
    for part in separated.parts:
        reject = Reject(1, part.code, part.message, True, part.readings, columns[-limits.MAX_REFUSED_COLUMNS :])
        assert msgspec.json.decode(msgspec.json.encode(reject), type=Reject) == reject
    assert len(columns[-1].rows) == limits.MAX_ROW_RANGES
    assert columns[-1].readings == 50


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"{", "no JSON"),
        (b"[]", "no object"),
        (b'{"type":"gap","from":1,"to":1,"reason":""}', "another message"),
        (b'{"type":"data","seq":0,"time":[1],"values":{"f":[1]}}', "a number that is none"),
        (b'{"type":"data","seq":1,"time":["now"],"values":{"f":[1]}}', "a time that is none"),
        (b'{"type":"data","seq":1,"time":[-1],"values":{"f":[1]}}', "a time before 1970"),
        (b'{"type":"data","seq":1,"time":[1],"values":{"f":[1]},"colour":"red"}', "an unknown field"),
        (b'{"type":"data","seq":1,"time":[1],"values":[]}', "no columns"),
    ],
)
def test_a_message_that_is_wrong_as_a_whole_is_not_separated(frame: bytes, why: str) -> None:
    """Its values cannot be trusted, since nobody knows what it means."""
    assert read_loosely(frame, "json") is None, why


def test_a_column_without_a_value_is_no_reason() -> None:
    """An undeclared metric that has no value loses nothing: the batch is accepted without the column."""
    separated = separate(LooseBatch("data", 1, [1, 2], {"f": [1.0, 2.0], "x": [None, None]}), "json", series())
    assert separated is not None
    assert separated.data is not None
    assert (separated.data.values, separated.parts) == ({"f": [1.0, 2.0]}, [])


def test_times_that_are_wrong_concern_every_value() -> None:
    """Without valid times there is nothing to accept."""
    wrong: list[list[int] | bytes] = [[], b"1234567", pack_times([-1])]
    for time in wrong:
        assert separate(LooseBatch("data", 1, time, {"f": [1.0], "x": [1]}), "msgpack", series()) is None


@given(st.sets(st.integers(0, 60)))
def test_ranges_are_the_rows_in_order_and_as_few_as_possible(rows: set[int]) -> None:
    """Both ends belong to a range, and there is a row between two ranges that is in none."""
    ranges = row_ranges(sorted(rows))
    assert [row for first, last in ranges for row in range(first, last + 1)] == sorted(rows)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(ranges))
