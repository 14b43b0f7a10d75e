"""The CSV files of a hub say more than other tables."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.http.tables import CsvWriter, Layout, LineWriter, Writer
from hub.model.batch import Series
from hub.model.store import SeriesHistory
from tests.formats.reading_of import read
from wire.model import MetricType

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
    """Another one is, also before the formula."""
    own = read(HEADER + line("\"''=1\"") + line("\"'a'\""))
    assert own.values == [{"m": "'=1"}, {"m": "'a'"}]
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


CHARACTERS = "ab1 ,\"'\n;=\\{}#+-@.°é\t|%"
"""No carriage return: within a text it is read as a line feed."""

DTYPES: dict[MetricType, Any] = {"float": np.float64, "integer": np.int64, "boolean": np.bool_}
TYPES: tuple[MetricType, ...] = ("float", "integer", "boolean", "string")


class Draws:
    """Values that are made of bytes: one draw of Hypothesis is a tenth of the cost of many."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count].ljust(count, b"\0")
        self._place += count
        return taken

    def number(self, below: int) -> int:
        return self.take(1)[0] % below

    def text(self, *, is_name: bool = False) -> str:
        text = "".join(CHARACTERS[byte % len(CHARACTERS)] for byte in self.take(self.number(9)))
        # Line protocol cannot distinguish a backslash of a name before a space, a comma or an equals sign from its own.
        return "m" + re.sub(r"[\n\t\\]", "", text).rstrip(" ") if is_name else text

    def value(self, type: MetricType, *, raw: bool) -> Any:
        if type == "string":
            # In a raw export the apostrophe before a formula is one of the text, and an import cannot know that.
            if not raw:
                return self.text()
            return re.sub(r"^'+(?=[=+@\t\r\n-])", "", self.text())
        if type == "boolean":
            return bool(self.number(2))
        if type == "integer":
            return int.from_bytes(self.take(8), "big", signed=True)
        (value,) = struct.unpack(">d", self.take(8))
        return value if math.isfinite(value) else 0.5


@given(st.binary(max_size=64), st.booleans())
@settings(max_examples=10_000, deadline=None)
def test_an_export_is_read_back_the_same(data: bytes, raw: bool) -> None:
    """Devices, metrics, units, times and values, as CSV and as line protocol. An empty text is no value."""
    draws = Draws(data)
    type = TYPES[draws.number(4)]
    series = Series(0, "d-1", draws.text(is_name=True), type, "°C" if draws.number(2) else "")
    times = sorted({int.from_bytes(draws.take(7), "big") for _ in range(draws.number(4))})
    values = [draws.value(type, raw=raw) for _ in times]
    column: Any = values if type == "string" else np.array(values, DTYPES[type])
    part = SeriesHistory(series, np.array(times, np.int64), column, "raw")
    layout = Layout([series], zone="Europe/Berlin", raw=raw)
    writer: Writer = LineWriter(layout) if draws.number(2) else CsvWriter(layout)
    written = writer.begin() + writer.rows(layout.table(part)) + writer.end()
    rules: dict[str, Any] = {"format": "line", "metric": "{field}"} if isinstance(writer, LineWriter) else {}
    content = read(written, types={series.metric: type}, **rules)
    expected = [(time, value) for time, value in zip(times, values, strict=True) if value != ""]
    assert content.refusals == []
    assert list(zip(content.times, content.column(series.metric), strict=True)) == expected
    assert {row.device for row in content.rows} <= {"d-1"}
    if expected and isinstance(writer, CsvWriter):
        assert content.reading.interpreter.metrics["d-1"][series.metric].unit == series.unit
