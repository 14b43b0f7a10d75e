"""Columns of a table: cells, delimiters, and units in headers."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.columns import cells_of, delimiter_of, header_texts, name_and_unit, time_columns
from formats.record import FrameRefused

CELL = st.text(alphabet="ab1,; \"'", max_size=6)


@given(st.lists(CELL, min_size=1, max_size=5))
def test_written_cells_are_read_back(cells: list[str]) -> None:
    """Quotes are those of RFC 4180."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerow(cells)
    assert cells_of(file.getvalue().removesuffix("\r\n"), ",") == cells


def test_quotes_in_the_middle_of_a_cell_are_text() -> None:
    """A quote that is not closed is refused."""
    assert cells_of('a,5" pipe,c', ",") == ["a", '5" pipe', "c"]
    assert cells_of('a, "b" ,c', ",") == ["a", "b", "c"]
    with pytest.raises(FrameRefused) as refused:
        cells_of('a,"b,c', ",")
    assert refused.value.code == "quote"


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a;b", "1,5;2,5"], ";"),
        (["a,b,c", "1,2,3"], ","),
        (["a\tb", "1,5\t2"], "\t"),
        (["sep=|", "a|b"], "|"),
        (["x"], ","),
    ],
)
def test_the_delimiter_gives_all_lines_the_same_cells(lines: list[str], delimiter: str) -> None:
    """A line sep= decides."""
    assert delimiter_of(lines) == delimiter


def test_units_in_headers() -> None:
    """They stand in brackets."""
    assert name_and_unit("Temperature [°C]") == ("Temperature", "°C")
    assert name_and_unit("Flow (m³/h)") == ("Flow", "m³/h")
    assert name_and_unit("Temperature") == ("Temperature", "")


def test_a_mark_of_a_comment_is_no_part_of_a_header() -> None:
    """A header of this mark alone has no other name, and an empty one has the number of its column."""
    assert header_texts(["# time", "a  b", ""]) == ["time", "a b", "3"]
    assert header_texts(["#", "#b"]) == ["#", "#b"]
    assert header_texts(["a", ""], keep_empty=True) == ["a", ""]


TIMES = ["2026-11-28 10:00:00", "2026-11-28 10:00:01"]
DAYS, HOURS = ["2026-11-28", "2026-11-28"], ["10:00:00", "10:00:01"]


@pytest.mark.parametrize(
    ("columns", "stored", "found"),
    [
        ({"t": ["1", "2"], "time": TIMES}, (), ["time"]),
        ({"date": DAYS, "time": HOURS, "t": ["1", "2"]}, (), ["date", "time"]),
        ({"date": DAYS, "time": HOURS, "zone": ["UTC", "+01:00"]}, (), ["date", "time", "zone"]),
        ({"date": DAYS, "time": HOURS, "zone": ["UTC", "Mars"]}, (), ["date", "time"]),
        ({"date": DAYS, "time": HOURS, "zone": []}, (), ["date", "time"]),
        ({"date": DAYS, "t": ["1", "2"]}, (), ["date"]),
        ({"a": ["1", "2"], "when": TIMES}, (), ["when"]),
        ({"a": ["1", "2"], "b": ["3", "4"]}, (), []),
        ({"time": ["x", "y"], "a": ["1", "2"]}, (), ["time"]),
        ({"time": ["x", "y"], "a": ["1", "2"]}, ("time",), []),
        ({"time": ["", ""], "a": ["1", "2"]}, (), []),
        ({"time": [], "a": []}, ("time",), ["time"]),
    ],
)
def test_the_columns_of_the_time(columns: dict[str, list[str]], stored: tuple[str, ...], found: list[str]) -> None:
    """The content decides, then the name: a column that is stored is the time only if nothing contradicts it."""
    assert time_columns(columns, stored) == found
