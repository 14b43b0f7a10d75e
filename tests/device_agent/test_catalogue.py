"""Tests of the checks before a reading reaches the spool."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.catalogue import MetricCatalogue, check_time
from device_agent.errors import ReadingError
from wire import limits
from wire.errors import Code
from wire.model import Metric

DECLARED = (
    Metric("float", unit="°C"),
    Metric("integer", "integer"),
    Metric("boolean", "boolean"),
    Metric("string", "string"),
)

anything: st.SearchStrategy[Any] = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.fractions()),
    *(st.text(), st.binary(), st.lists(st.integers())),
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(20, "float"), (20.5, "float"), (True, "boolean"), ("on", "string"), (numpy.float32(1), "float")],
)
def test_the_first_value_says_what_a_metric_is(value: Any, kind: str) -> None:
    """Integers are floats unless declared, because a sensor whose first value is 20 says 20.5 next."""
    catalogue = MetricCatalogue()
    catalogue.check_row({"x": value})
    assert catalogue.metrics["x"] == Metric("x", kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "travels"),
    [
        ("float", 20, 20.0),
        ("float", -0.0, -0.0),
        ("float", numpy.float64(1.5), 1.5),
        ("float", Fraction(1, 2), 0.5),
        ("integer", limits.MIN_INTEGER, limits.MIN_INTEGER),
        ("integer", numpy.int32(7), 7),
        ("boolean", False, False),
        ("string", "", ""),
        ("string", "µ" * (limits.MAX_STRING_VALUE_BYTES // 2), "µ" * (limits.MAX_STRING_VALUE_BYTES // 2)),
    ],
)
def test_a_value_travels_as_its_metrics_type(name: str, value: Any, travels: Any) -> None:
    """Numbers of any library become the plain ones of the wire."""
    row = MetricCatalogue(DECLARED).check_row({name: value})
    assert row == {name: travels}
    assert type(row[name]) is type(travels)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("float", math.nan, Code.NOT_FINITE),
        ("float", math.inf, Code.NOT_FINITE),
        ("float", numpy.float32(math.nan), Code.NOT_FINITE),
        ("float", 10**400, Code.OUT_OF_RANGE),
        ("float", True, Code.WRONG_TYPE),
        ("float", "20.5", Code.WRONG_TYPE),
        ("integer", 2**63, Code.OUT_OF_RANGE),
        ("integer", -(2**63) - 1, Code.OUT_OF_RANGE),
        ("integer", "20", Code.WRONG_TYPE),
        ("integer", math.nan, Code.NOT_FINITE),
        ("integer", False, Code.WRONG_TYPE),
        ("boolean", 1, Code.WRONG_TYPE),
        ("string", 1, Code.WRONG_TYPE),
        ("string", "\ud800", Code.BAD_MESSAGE),
        ("string", "x" * (limits.MAX_STRING_VALUE_BYTES + 1), Code.OUT_OF_RANGE),
        ("string", "µ" * (limits.MAX_STRING_VALUE_BYTES // 2 + 1), Code.OUT_OF_RANGE),
        ("new", math.nan, Code.NOT_FINITE),
        ("new", [1.0], Code.WRONG_TYPE),
        ("new", b"1", Code.WRONG_TYPE),
        ("new", {"x": 1}, Code.WRONG_TYPE),
        ("", 1.0, Code.BAD_MESSAGE),
        (" x", 1.0, Code.BAD_MESSAGE),
        ("a\nb", 1.0, Code.BAD_MESSAGE),
        ("\udfff", 1.0, Code.BAD_MESSAGE),
        ("x" * (limits.MAX_METRIC_NAME + 1), 1.0, Code.BAD_MESSAGE),
    ],
)
def test_a_bad_value_is_rejected_with_the_code_of_the_hub(name: str, value: Any, code: Code) -> None:
    """A bad value has the hub's own code, in a row and in a column, and makes no metric known."""
    catalogue = MetricCatalogue(DECLARED)
    with pytest.raises(ReadingError) as refused:
        catalogue.check_row({"float": 1.0, "fresh": 1.0, name: value})
    assert refused.value.code is code
    with pytest.raises(ReadingError) as refused:
        catalogue.check_columns({"float": [1.0, 2.0], "fresh": [1.0, 2.0], name: [None, value]}, 2)
    assert refused.value.code is code
    assert list(catalogue.metrics.values()) == list(DECLARED)


def test_none_is_no_value() -> None:
    """None is left out; a reading with nothing but None is empty."""
    catalogue = MetricCatalogue()
    assert catalogue.check_row({"a": None, "b": 1.0}) == {"b": 1.0}
    assert catalogue.check_columns({"a": [None, None], "b": [None, 1]}, 2) == {"b": [None, 1.0]}
    for empty in ({}, {"a": None}):
        with pytest.raises(ReadingError) as refused:
            catalogue.check_row(empty)
        assert refused.value.code is Code.EMPTY
    with pytest.raises(ReadingError):
        catalogue.check_columns({"a": [None]}, 1)


def test_columns_are_as_long_as_the_times() -> None:
    """A column of another length is refused under its name."""
    with pytest.raises(ReadingError, match="'a': 1 values for 2 times") as refused:
        MetricCatalogue().check_columns({"a": [1.0]}, 2)
    assert refused.value.code is Code.LENGTH_MISMATCH


@pytest.mark.parametrize("value", [20.5, 20.0, numpy.float32(20.5)])
def test_a_float_widens_an_integer_metric(value: Any) -> None:
    """In a row, in a column among integers, and by a declaration. Another declaration as integer does not undo that."""
    count = Metric("n", "integer", "kg")
    ways: list[Callable[[MetricCatalogue], object]] = [
        lambda catalogue: catalogue.check_row({"n": value}),
        lambda catalogue: catalogue.check_columns({"n": [1, None, value]}, 3),
        lambda catalogue: catalogue.declare(Metric("n", "float", "kg")),
    ]
    for widen in ways:
        catalogue = MetricCatalogue([count])
        assert catalogue.check_row({"n": 1}) == {"n": 1}
        before = catalogue.revision
        widen(catalogue)
        assert (catalogue.metrics["n"], catalogue.revision) == (Metric("n", "float", "kg"), before + 1)
        assert catalogue.check_row({"n": 2}) == {"n": 2.0}
        catalogue.declare(count)
        assert (catalogue.metrics["n"].type, catalogue.revision) == ("float", before + 1)


def test_a_definition_can_change_but_not_its_type() -> None:
    """Unit and description may be declared again, which changes the revision; other types are permanent."""
    catalogue = MetricCatalogue(DECLARED)
    before = catalogue.revision
    catalogue.declare(DECLARED[0])
    assert catalogue.revision == before
    catalogue.declare(Metric("float", unit="K"))
    assert catalogue.revision > before
    assert catalogue.metrics["float"].unit == "K"
    with pytest.raises(ReadingError) as refused:
        catalogue.declare(Metric("float", "string"))
    assert refused.value.code is Code.TYPE_CONFLICT


@pytest.mark.parametrize(
    "metric",
    [Metric("x", "double"), Metric("x", unit="x" * 33), Metric("x", description="\ud800"), Metric("")],  # type: ignore[arg-type]
)
def test_an_invalid_definition_is_refused(metric: Metric) -> None:
    """A struct can be made with anything in it; the catalogue takes only what would decode."""
    with pytest.raises(ReadingError):
        MetricCatalogue([metric])


def test_metrics_are_bounded() -> None:
    """The first metric beyond the limit is rejected; known metrics still work."""
    catalogue = MetricCatalogue(Metric(f"m{number}") for number in range(limits.MAX_METRICS))
    with pytest.raises(ReadingError) as refused:
        catalogue.check_row({"one more": 1.0})
    assert refused.value.code is Code.TOO_MANY
    assert catalogue.check_row({"m0": 1.0}) == {"m0": 1.0}


@given(st.dictionaries(st.text(max_size=5), anything, max_size=4))
def test_any_row_is_taken_or_refused(values: dict[str, Any]) -> None:
    """Whatever a caller gives, it is either ready to travel or a ReadingError, and taking it again gives the same."""
    catalogue = MetricCatalogue()
    try:
        row = catalogue.check_row(values)
    except ReadingError:
        return
    assert catalogue.check_row(row) == row
    assert all(type(value) in (float, bool, str) for value in row.values())


@given(st.lists(anything, min_size=1, max_size=6))
def test_a_column_is_checked_like_its_rows(column: list[Any]) -> None:
    """A column is taken exactly when each of its values is, and gives the same values."""
    by_row, by_column = MetricCatalogue(), MetricCatalogue()
    try:
        rows = [by_row.check_row({"x": value})["x"] if value is not None else None for value in column]
    except ReadingError:
        rows = []
    try:
        columns = by_column.check_columns({"x": column}, len(column))["x"]
    except ReadingError:
        columns = []
    assert columns == (rows if any(value is not None for value in rows) else [])


@pytest.mark.parametrize("time_ns", [0, limits.MAX_TIME_NS, numpy.int64(5)])
def test_a_time_is_nanoseconds_since_1970(time_ns: Any) -> None:
    """Integers in the range of 64 bits are times."""
    assert check_time(time_ns) == time_ns
    assert type(check_time(time_ns)) is int


@pytest.mark.parametrize("time_ns", [-1, limits.MAX_TIME_NS + 1, 1.5, True, "1", None])
def test_an_invalid_time_is_rejected(time_ns: Any) -> None:
    """Anything else is not, a float least of all: it cannot hold nanoseconds."""
    with pytest.raises(ReadingError):
        check_time(time_ns)
