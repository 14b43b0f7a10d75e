"""The CSV files of a hub say more than other tables."""

from __future__ import annotations

from tests.formats.reading_of import read

HEADER = "time,time_ns,device,metric,unit,value\r\n"


def line(value: str, *, metric: str = "m", unit: str = "", time: str = "1700000000123456789") -> str:
    return f"2023-11-14 22:13:20,{time},d-1,{metric},{unit},{value}\r\n"


def test_the_time_has_nanoseconds_and_the_value_its_kind() -> None:
    """A value in quotes is a text, also if it looks like a number."""
    content = read(HEADER + line("21.5", metric="t", unit="°C") + line('"21.5"', metric="s") + line("true", metric="b"))
    assert content.values == [{"t": 21.5}, {"s": "21.5"}, {"b": True}]
    assert set(content.times) == {1_700_000_000_123_456_789}
    assert {row.device for row in content.rows} == {"d-1"}
    assert content.reading.interpreter.metrics["d-1"]["t"].unit == "°C"


def test_an_apostrophe_before_a_formula_is_no_part_of_a_text() -> None:
    """Another one is."""
    content = read(HEADER + line('"\'=1+1"') + line("\"'quoted'\"") + line("1", metric="'-x"))
    assert content.values == [{"m": "=1+1"}, {"m": "'quoted'"}, {"-x": 1.0}]


def test_a_text_may_have_line_ends_and_commas() -> None:
    """A quote that is not closed costs its own line."""
    content = read(HEADER + line('"a,\n\n""b"""') + line('"open') + line('"c"'))
    assert content.values == [{"m": 'a,\n\n"b"'}, {"m": "c"}]
    assert content.codes == [(5, "quote")]


def test_a_bad_line_costs_itself() -> None:
    """Too few cells, a time that is none, a value that is none of the kinds, and no metric."""
    bad = [line("1", time="yesterday"), "1,2,3\r\n", line("oops"), line("1", metric="")]
    content = read(HEADER + "".join(bad) + line("1") + HEADER + line("2"))
    assert content.codes == [(2, "time"), (3, "cells"), (4, "type"), (5, "metric")]
    assert content.column("m") == [1.0, 2.0]


def test_a_large_integer_keeps_its_digits_in_a_metric_of_integers() -> None:
    """A metric without a type becomes float."""
    content = read(HEADER + line("9007199254740993"), types={"m": "integer"})
    assert content.column("m") == [9_007_199_254_740_993]
    assert read(HEADER + line("3")).column("m") == [3.0]
