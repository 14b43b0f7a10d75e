"""Tests of CSV, line protocol and Arrow: the written readings can be read back unchanged."""

from __future__ import annotations

import csv
import io
import sys
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from hub.http.tables import UTC, ArrowWriter, CsvWriter, Layout, LineWriter, Writer, read_export
from hub.model.batch import Series
from hub.model.store import SeriesHistory
from tests.hub.storage.readings import retyped
from wire.limits import MAX_INTEGER, MAX_TIME_NS, MIN_INTEGER
from wire.model import MetricType

DTYPES: dict[MetricType, Any] = {"float": np.float64, "integer": np.int64, "boolean": np.bool_}
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati", "Africa/Monrovia"]

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\\"), min_size=1, max_size=8
)
values: dict[MetricType, st.SearchStrategy[Any]] = {
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "integer": st.integers(MIN_INTEGER, MAX_INTEGER),
    "boolean": st.booleans(),
    "string": texts,
}


@st.composite
def histories(draw: st.DrawFn) -> list[SeriesHistory]:
    """Return some series with their readings, in order of time."""
    parts = []
    for id in range(draw(st.integers(1, 4))):
        type: MetricType = draw(st.sampled_from(sorted(values)))
        series = Series(id, f"d{draw(st.integers(0, 2))}", f"{id}{draw(names)}", type, draw(texts))
        readings = draw(st.lists(st.tuples(st.integers(0, MAX_TIME_NS), values[type]), max_size=6))
        times_ns = sorted(time_ns for time_ns, _ in readings)
        column: Any = [value for _, value in readings]
        if type != "string":
            column = np.array(column, DTYPES[type])
        parts.append(SeriesHistory(series, np.array(times_ns, np.int64), column, "raw"))
    return parts


def written(writer: Writer, layout: Layout, parts: list[SeriesHistory]) -> bytes:
    return writer.begin() + b"".join(writer.rows(layout.table(part)) for part in parts) + writer.end()


def rows_of(parts: list[SeriesHistory]) -> list[tuple[Series, int, Any]]:
    return [
        (part.series, time_ns, value)
        for part in parts
        for time_ns, value in zip(
            part.times_ns.tolist(), part.values if isinstance(part.values, list) else part.values.tolist(), strict=True
        )
    ]


@given(histories(), st.sampled_from(ZONES))
@settings(max_examples=60)
def test_csv_is_read_back_the_same(parts: list[SeriesHistory], zone: str) -> None:
    """Every value is exact in raw CSV; the time column is the same moment in the zone."""
    layout = Layout([part.series for part in parts], zone=zone, raw=True)
    text = written(CsvWriter(layout), layout, parts).decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(found) == len(rows_of(parts))
    for row, (series, time_ns, value) in zip(found, rows_of(parts), strict=True):
        assert (row["device"], row["metric"], row["unit"]) == (series.device, series.metric, series.unit)
        assert int(row["time_ns"]) == time_ns
        assert row["time"] == shown(time_ns, zone)
        match series.type:
            case "float":
                assert float(row["value"]) == value
            case "integer":
                assert int(row["value"]) == value
            case "boolean":
                assert row["value"] == str(value).lower()
            case "string":
                assert row["value"] == value


RUN = "=+-@\t\r\n＝＋－＠"
"""Characters that begin what spreadsheets run (OWASP, CSV injection)."""


@given(histories(), st.sampled_from(RUN))
@settings(max_examples=60)
def test_no_text_of_a_csv_file_begins_like_a_formula(parts: list[SeriesHistory], begin: str) -> None:
    """Such a text gets an apostrophe in front, and is otherwise unchanged; numbers stay numbers."""
    for part in parts:
        if isinstance(part.values, list):
            part.values[:1] = [f"{begin}{value}" for value in part.values[:1]]
        part.series.unit = begin + part.series.unit
    layout = Layout([part.series for part in parts])
    text = written(CsvWriter(layout), layout, parts).decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    for row, (series, time_ns, value) in zip(found, rows_of(parts), strict=True):
        cells = [(row["device"], series.device), (row["metric"], series.metric), (row["unit"], series.unit)]
        if series.type == "string":
            cells.append((row["value"], value))
        else:
            assert row["value"] == str(value).lower() or float(row["value"]) == value
        assert int(row["time_ns"]) == time_ns
        for cell, original in cells:
            begun = original.lstrip("'")[:1]
            assert cell == (f"'{original}" if begun and begun in RUN else original)


def test_negative_numbers_stay_numbers_in_csv() -> None:
    """A device whose name begins with a hyphen is a text."""
    series = [Series(1, "-a", "=m", "integer", "@"), Series(2, "b", "x", "float")]
    layout = Layout(series)
    parts = [
        SeriesHistory(series[0], np.array([1]), np.array([-5]), "raw"),
        SeriesHistory(series[1], np.array([2]), np.array([-1.5]), "raw"),
    ]
    rows = CsvWriter(layout).rows(layout.in_order_of_time(parts)).decode().split()
    assert [row.split(",", 1)[1] for row in rows] == ["1,'-a,'=m,'@,-5", "2,b,x,,-1.5"]


@given(histories())
@settings(max_examples=60)
def test_arrow_is_read_back_the_same_and_becomes_the_other_formats(parts: list[SeriesHistory]) -> None:
    """A record batch of an export has the same CSV rows as the original readings."""
    parts = [part for part in parts if len(part.times_ns)]
    layout = Layout([part.series for part in parts], zone="Asia/Kolkata")
    stream = pa.ipc.open_stream(written(ArrowWriter(layout), layout, parts))
    batches = list(stream)
    assert len(batches) == len(parts)
    for batch, part in zip(batches, parts, strict=True):
        batch.validate(full=True)
        read, table = read_export(batch)
        assert CsvWriter(read).rows(table) == CsvWriter(layout).rows(layout.table(part))


@given(histories())
@settings(max_examples=60)
def test_line_protocol_is_read_back_the_same(parts: list[SeriesHistory]) -> None:
    """Each reading has a line, with the metric as its field."""
    layout = Layout([part.series for part in parts])
    for part in parts:
        table = layout.table(part)
        for row, (series, time_ns, value) in enumerate(rows_of([part])):
            line = LineWriter(layout).rows(table.slice(row, 1)).decode()
            # The parser takes the last nanosecond of all, and floats that are next to nothing, for an overflow.
            readable = time_ns < MAX_TIME_NS and not (type(value) is float and 0 < abs(value) < sys.float_info.min)
            parsed = parse_line(line.removesuffix("\n")) if readable else None
            assert parsed is None or parsed == {
                "measurement": "telemetry",
                "tags": {"device": series.device},
                "fields": {series.metric: value},
                "time": time_ns,
            }
            assert parsed is None or type(parsed["fields"][series.metric]) is type(value)


def shown(time_ns: int, zone: str) -> str:
    """Return the expected text, made with Python's time zones. Python's years end at 9999, after all times here."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    local = datetime.fromtimestamp(0, ZoneInfo("UTC")) + timedelta(seconds=seconds)
    text = local.astimezone(ZoneInfo(zone)).isoformat()
    text = text.replace("+00:00", "Z") if zone == UTC else text
    split = len("2026-01-31T12:00:00")
    return f"{text[:split]}.{fraction:09d}{text[split:]}"


def test_rows_of_all_series_are_in_order_of_time() -> None:
    """Rows of one time are in order of series."""
    a, b = Series(7, "a", "x", "integer"), Series(3, "b", "y", "boolean")
    layout = Layout([a, b])
    parts = [
        SeriesHistory(a, np.array([1, 5, 9]), np.array([10, 50, 90]), "raw"),
        SeriesHistory(b, np.array([1, 2, 9]), np.array([True, False, True]), "raw"),
    ]
    rows = CsvWriter(layout).rows(layout.in_order_of_time(parts)).decode().split()
    assert [row.split(",", 1)[1] for row in rows] == [
        "1,a,x,,10", "1,b,y,,true", "2,b,y,,false", "5,a,x,,50", "9,a,x,,90", "9,b,y,,true"
    ]  # fmt: skip


def test_every_type_that_a_metric_ever_had_is_a_column() -> None:
    """Texts from before its type was changed are rows like the numbers; integers are among the floats."""
    text, _, number = retyped("string", "integer", "float")
    layout = Layout([number])
    parts = [
        SeriesHistory(number, np.array([2]), np.array([1.5]), "raw"),
        SeriesHistory(text, np.array([1]), ["n/a"], "raw"),
    ]
    assert layout.types == ["float", "string"]
    for writer in (CsvWriter, LineWriter):
        rows = writer(layout).rows(layout.in_order_of_time(parts)).decode().splitlines()
        assert [value in row for row, value in zip(rows, ('"n/a"', "1.5"), strict=True)] == [True, True]
    for batch in pa.ipc.open_stream(written(ArrowWriter(layout), layout, parts)):
        read, table = read_export(batch)
        assert len(CsvWriter(read).rows(table).splitlines()) == 1
    assert Layout([number], aggregate="avg").types == ["float"]


def test_a_metric_that_line_protocol_cannot_name_is_an_error() -> None:
    """Its backslash would escape the equals sign."""
    with pytest.raises(ValueError, match="ends in a backslash: leave it out"):
        LineWriter(Layout([Series(1, "a", "x\\", "float")]))
