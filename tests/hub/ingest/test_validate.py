"""Rules of acceptance: what is stored, what is refused and why, and that no two readings of a series share a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.validate import decode, metrics_to_widen, validate
from hub.model.batch import Series
from wire.columns import pack_floats, pack_times
from wire.device import Column, Data
from wire.errors import Code, WireError
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES, MAX_TIME_NS, MAX_TIMES, MIN_INTEGER
from wire.model import Metric, MetricType

METRICS = {"f": "float", "i": "integer", "b": "boolean", "s": "string"}


def series() -> dict[str, Series | WireError]:
    known: dict[str, Series | WireError] = {
        name: Series(id, "d", name, kind)  # type: ignore[arg-type]
        for id, (name, kind) in enumerate(METRICS.items(), start=1)
    }
    known["conflict"] = WireError(Code.TYPE_CONFLICT, "declared with another type")
    return known


def rows(batch: Any) -> list[tuple[str, int, Any]]:
    return [
        (series.metric, int(time), value.item() if hasattr(value, "item") else value)
        for series, values in batch.columns
        for time, value in zip(batch.times, values, strict=True)
        if value is not None and value == value
    ]


VALUES = {
    "f": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "i": st.integers(MIN_INTEGER, MAX_INTEGER),
    "b": st.booleans(),
    "s": st.text(max_size=20),
}


@st.composite
def data(draw: st.DrawFn) -> Data:
    times = draw(st.lists(st.integers(0, 50), min_size=1, max_size=40))
    names = draw(st.lists(st.sampled_from(sorted(METRICS)), min_size=1, unique=True))
    values: dict[str, Any] = {
        name: draw(st.lists(st.none() | VALUES[name], min_size=len(times), max_size=len(times))) for name in names
    }
    return Data(1, times, values)


@given(st.lists(data(), min_size=1, max_size=4))
def test_every_value_is_kept_under_a_time_of_its_own(batches: list[Data]) -> None:
    """Each value of an accepted batch is there once, with its own time or one moved on by few ns, and no time of a
    series repeats while batches bring new times only."""
    metrics = series()
    for batch in batches:
        present = [(name, value) for name, column in batch.values.items() for value in column if value is not None]
        try:
            accepted = validate(batch, metrics)
        except WireError as refusal:
            assert refusal.code is Code.EMPTY
            assert not present
            continue
        kept = rows(accepted.batch)
        assert sorted((name, repr(float(v) if name == "f" else v)) for name, _, v in kept) == sorted(
            (name, repr(float(v) if name == "f" else v)) for name, v in present
        )
        assert accepted.batch.readings == len(present)
        assert len({(name, time) for name, time, _ in kept}) == len(kept)


@given(data())
def test_the_stored_payload_decodes_to_the_accepted_batch(batch: Data) -> None:
    """Reading an accepted batch back from the journal gives the very readings that were accepted, moved times
    included."""
    metrics = series()
    try:
        accepted = validate(batch, metrics)
    except WireError:
        return
    assert rows(decode(accepted.data, metrics)) == rows(accepted.batch)


@given(st.lists(st.none() | VALUES["f"], min_size=1, max_size=60))
def test_packed_columns_mean_the_same_as_lists(values: list[float | None]) -> None:
    """A packed batch is accepted like the same batch in lists, and refused like it."""
    times = list(range(1000, 1000 + len(values)))
    outcomes: list[Any] = []
    columns: list[tuple[Any, Any]] = [(times, list(values)), (pack_times(times), pack_floats(values))]
    for time, column in columns:
        try:
            batch = validate(Data(1, time, {"f": column}), series()).batch
            outcomes.append([(n, t, float(v)) for n, t, v in rows(batch)])
        except WireError as refusal:
            outcomes.append(refusal.code)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("time", "values", "code"),
    [
        ([], {"f": []}, Code.EMPTY),
        (b"", {"f": b""}, Code.EMPTY),
        ([1], {}, Code.EMPTY),
        ([1], {"f": [None]}, Code.EMPTY),
        ([1], {"unknown": [1.0]}, Code.UNKNOWN_METRIC),
        ([1], {"conflict": [1.0]}, Code.TYPE_CONFLICT),
        ([1], {"f": [True]}, Code.WRONG_TYPE),
        ([1], {"f": ["1"]}, Code.WRONG_TYPE),
        ([1], {"i": [1.0]}, Code.WRONG_TYPE),
        ([1], {"i": [True]}, Code.WRONG_TYPE),
        ([1], {"b": [1]}, Code.WRONG_TYPE),
        ([1], {"s": [1]}, Code.WRONG_TYPE),
        ([1, 2], {"i": pack_floats([1, 2])}, Code.WRONG_TYPE),
        ([1], {"i": [MAX_INTEGER + 1]}, Code.OUT_OF_RANGE),
        ([1], {"i": [MIN_INTEGER - 1]}, Code.OUT_OF_RANGE),
        ([1], {"s": ["x" * (MAX_STRING_VALUE_BYTES + 1)]}, Code.OUT_OF_RANGE),
        ([1], {"s": ["ä" * (MAX_STRING_VALUE_BYTES // 2 + 1)]}, Code.OUT_OF_RANGE),
        (pack_times([-1]), {"f": [1.0]}, Code.OUT_OF_RANGE),
        ([MAX_TIME_NS, MAX_TIME_NS], {"f": [1.0, 2.0]}, Code.OUT_OF_RANGE),
        ([1], {"f": [math.nan]}, Code.NOT_FINITE),
        ([1], {"f": [math.inf]}, Code.NOT_FINITE),
        ([1], {"f": [10**400]}, Code.OUT_OF_RANGE),
        ([1, 2], {"f": [1.0, -(10**400)]}, Code.OUT_OF_RANGE),
        ([1, 2], {"f": [1.0, math.nan]}, Code.NOT_FINITE),
        ([1, 2], {"f": pack_floats([1.0, -math.inf])}, Code.NOT_FINITE),
        ([1, 2], {"f": [1.0]}, Code.LENGTH_MISMATCH),
        ([1], {"f": [1.0, 2.0]}, Code.LENGTH_MISMATCH),
        ([1], {"f": b"1234567"}, Code.LENGTH_MISMATCH),
        (b"1234567", {"f": [1.0]}, Code.LENGTH_MISMATCH),
    ],
)
def test_a_bad_batch_is_refused_whole_with_its_seq(time: Any, values: Any, code: Code) -> None:
    """Each kind of bad content has its stable code, and carries the seq under which the batch goes to quarantine."""
    with pytest.raises(WireError) as refusal:
        validate(Data(7, time, values), series())
    assert (refusal.value.code, refusal.value.seq) == (code, 7)


def test_the_second_reading_of_a_time_is_moved_by_one_nanosecond_and_counted() -> None:
    """Across batches and within one, the later of two readings with the same time moves on, and only it is counted."""
    metrics = series()
    assert validate(Data(1, [100], {"f": [1.0]}), metrics).moved == 0
    second = validate(Data(2, [100], {"f": [2.0]}), metrics)
    assert (rows(second.batch), second.moved, second.data.time) == ([("f", 101, 2.0)], 1, [101])
    third = validate(Data(3, [200, 200, 200], {"f": [1.0, None, 3.0], "i": [1, 2, None]}), metrics)
    assert rows(third.batch) == [("f", 200, 1.0), ("f", 201, 3.0), ("i", 200, 1), ("i", 201, 2)]
    assert third.moved == 2


def test_rows_of_one_time_without_a_common_series_keep_it() -> None:
    """So do sentences of a receiver about one moment. A row of both series moves behind the readings of both."""
    metrics = series()
    apart = validate(Data(1, [100, 100], {"f": [1.0, None], "i": [None, 2]}), metrics)
    assert (rows(apart.batch), apart.moved) == ([("f", 100, 1.0), ("i", 100, 2)], 0)
    values: dict[str, Column] = {"f": [1.0, None, None, 4.0], "i": [None, 1, 2, 3]}
    both = validate(Data(2, [200, 200, 200, 200], values), metrics)
    assert rows(both.batch) == [("f", 200, 1.0), ("f", 202, 4.0), ("i", 200, 1), ("i", 201, 2), ("i", 202, 3)]
    assert both.moved == 3


@given(data())
def test_a_reading_moves_only_if_its_row_must(batch: Data) -> None:
    """With a time of its own in each of its series, a row keeps it."""
    try:
        accepted = validate(batch, series())
    except WireError:
        return
    taken: set[tuple[str, int]] = set()
    for row, (given_ns, kept_ns) in enumerate(zip(batch.time, accepted.batch.times, strict=True)):
        names = [name for name, column in batch.values.items() if column[row] is not None]
        if names and not any((name, given_ns) in taken for name in names):
            assert kept_ns == given_ns
        taken |= {(name, int(kept_ns)) for name in names}


def test_times_that_two_series_take_in_turn_are_not_searched_for_ever() -> None:
    """Rows of both series would find each time taken by one of them. Whole rows then move as far as the batch goes."""
    count = MAX_TIMES // 3
    times = [*range(0, 2 * count, 2), *range(1, 2 * count, 2), *[0] * count]
    values: dict[str, Column] = {
        "f": [*[1.0] * count, *[None] * count, *[1.0] * count],
        "i": [*[None] * count, *[1] * count, *[1] * count],
    }
    accepted = validate(Data(1, times, values), series())
    assert len({(name, time) for name, time, _ in rows(accepted.batch)}) == 4 * count


@pytest.mark.parametrize("rows_each", [1, 2, 20])
def test_any_number_of_readings_of_one_time_are_all_kept_apart(rows_each: int) -> None:
    """A sensor whose clock has whole seconds sends several a second, in one batch or in several."""
    metrics = series()
    seen: list[int] = []
    for _ in range(5):
        batch = validate(Data(1, [7] * rows_each, {"f": [1.0] * rows_each}), metrics).batch
        seen += [time for _, time, _ in rows(batch)]
    assert seen == list(range(7, 7 + 5 * rows_each))


def test_equal_times_cost_no_more_than_rising_times() -> None:
    """As many rows of one time as a batch may have; stepping up from each would take minutes."""
    times = [0] * MAX_TIMES
    accepted = validate(Data(1, times, {"f": [1.0] * len(times)}), series())
    assert [int(time) for time in accepted.batch.times] == list(range(len(times)))
    assert accepted.moved == len(times) - 1


def test_a_series_without_a_value_has_not_reached_the_time() -> None:
    """Its first reading of that time keeps it, in the next batch."""
    metrics = series()
    assert validate(Data(1, [100], {"f": [1.0], "i": [None]}), metrics).moved == 0
    assert validate(Data(2, [100], {"i": [5]}), metrics).moved == 0
    assert validate(Data(3, [100], {"i": [6]}), metrics).moved == 1


def test_an_older_reading_keeps_its_time() -> None:
    """A late reading is stored under the time of its measurement."""
    metrics = series()
    validate(Data(1, [100], {"f": [1.0]}), metrics)
    late = validate(Data(2, [50], {"f": [2.0]}), metrics)
    assert (rows(late.batch), late.moved) == ([("f", 50, 2.0)], 0)


def test_long_float_columns_become_arrays_at_once() -> None:
    """From the frame on, long columns stay arrays up to the store."""
    times = list(range(64))
    batch = validate(Data(1, times, {"f": [float(t) for t in times]}), series()).batch
    assert isinstance(batch.columns[0][1], np.ndarray)
    assert isinstance(batch.times, np.ndarray)


def parts(*types: MetricType) -> tuple[Series, ...]:
    """Return the objects of a series that had these types one after the other."""
    made = tuple(Series(9, "d", "m", type) for type in types)
    for part in made:
        part.parts = made
    return made


def renamed(*names: str) -> dict[str, Series | WireError]:
    """Return the metrics of a device whose metric had these names one after the other; the last one is current."""
    series = Series(1, "d", names[-1], "float")
    series.names = names
    return dict.fromkeys(names, series)


@pytest.mark.parametrize("column", [[1.5], [1, None, 2.5], pack_floats([1.0]), [1.0, math.nan], ["x", 0.5]])
def test_floats_of_an_integer_metric_widen_it(column: Any) -> None:
    """The metric keeps its unit and its description. One finite float is enough, whatever is beside it."""
    metrics = {"level": Series(1, "d", "level", "integer", "cm", "of the tank")}
    assert metrics_to_widen({"level": column}, metrics) == [Metric("level", "float", "cm", "of the tank")]


@pytest.mark.parametrize("column", [[1], [None], [math.nan], pack_floats([math.inf]), ["1.5"], [True], 1.5])
def test_nothing_else_widens_a_metric(column: Any) -> None:
    """Integers, texts, and what no metric accepts leave the type as it is; so does a metric of another type."""
    assert metrics_to_widen({"i": column}, series()) == []
    assert metrics_to_widen({"f": [1.5], "b": [1.5], "s": [1.5], "conflict": [1.5], "unknown": [1.5]}, series()) == []


@pytest.mark.parametrize(
    ("types", "column", "type"),
    [
        (("integer", "float"), [1, 2], "float"),
        (("integer", "float"), [1.5, None], "float"),
        (("string", "float"), ["12", "n/a"], "string"),
        (("string", "float"), [12, None], "float"),
        (("float", "integer"), [1.5, 2], "float"),
        (("float", "integer"), [1, 2], "integer"),
        (("float", "boolean"), pack_floats([1.0, 2.0]), "float"),
        (("string", "float"), [None, None], "float"),
    ],
)
def test_an_accepted_batch_is_decoded_with_the_type_that_it_had(
    types: tuple[MetricType, ...], column: Any, type: MetricType
) -> None:
    """Whatever the type is by now: the newest of the metric's types that the values have."""
    made = parts(*types)
    batch = decode(Data(1, [1, 2], {"m": column, "other": [True, False]}), {"m": made[-1], "other": series()["b"]})
    assert [(column_series.id, column_series.type) for column_series, _ in batch.columns] == [(9, type), (3, "boolean")]
    assert batch.columns[0][0] in made


def test_new_values_must_have_the_current_type() -> None:
    """An earlier type is for what is stored already."""
    with pytest.raises(WireError) as refused:
        validate(Data(1, [1], {"m": ["12"]}), {"m": parts("string", "float")[-1]})
    assert refused.value.code is Code.WRONG_TYPE


@pytest.mark.parametrize("name", ["t", "temp", "temperature"])
@pytest.mark.parametrize("column", [[1.0], [1.0, 2.0], pack_floats([1.0] * 20)])
def test_a_renamed_metric_is_accepted_under_each_name(name: str, column: Any) -> None:
    """The reading belongs to the metric under its current name."""
    times = list(range(len(column) // 8 if isinstance(column, bytes) else len(column)))
    batch = validate(Data(1, times, {name: column}), renamed("t", "temp", "temperature")).batch
    assert [column_series.metric for column_series, _ in batch.columns] == ["temperature"]


@pytest.mark.parametrize(("names", "kept"), [(("t", "temperature"), "temperature"), (("temp", "t"), "t")])
@pytest.mark.parametrize("rows", [1, 20])
def test_two_names_of_a_metric_cannot_be_in_one_batch(names: tuple[str, ...], kept: str, rows: int) -> None:
    """Otherwise two readings of a series would have one time. The message names both."""
    column = pack_floats([1.0] * rows)
    with pytest.raises(WireError) as refused:
        validate(Data(1, list(range(rows)), dict.fromkeys(names, column)), renamed("t", "temp", "temperature"))
    assert refused.value.code is Code.UNKNOWN_METRIC
    assert f"has {kept} as well" in refused.value.message
