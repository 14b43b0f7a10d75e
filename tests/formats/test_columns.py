"""Columns of a table: cells, delimiters, and units in headers."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.columns import cells_of, delimiter_of, name_and_unit
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
