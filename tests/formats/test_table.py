"""Tables: cells, headers, units and the layouts of known programs."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.record import FrameRefused
from formats.table import cells_of, delimiter_of, name_and_unit
from tests.formats.reading_of import at, read

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


def test_a_preamble_and_a_repeated_header_are_no_data() -> None:
    """Loggers write a title before the table, and the header again after a restart."""
    content = read("Export of station 7\n\ntime,t\n2026-11-28T15:00:00Z,1\ntime,t\n2026-11-28T15:01:00Z,2\n")
    assert content.column("t") == [1.0, 2.0]
    assert content.refusals == []


def test_a_value_of_another_type_costs_itself() -> None:
    """The other cells of the line are stored."""
    rows = "".join(f"2026-11-28T15:0{minute}:00Z,{minute}.5,{minute}\n" for minute in range(5))
    content = read(f"time,a,b\n{rows}2026-11-28T15:06:00Z,broken,6\n")
    assert content.values[-1] == {"b": 6.0}
    assert [(r.line, r.metric, r.value, r.code) for r in content.refusals] == [(7, "a", "broken", "type")]
    assert content.refusals[0].setting == 'types.a = "string"'


def test_a_column_that_is_not_there_is_named() -> None:
    """The note lists the columns."""
    content = read("time,t\n2026-11-28T15:00:00Z,1\n", time="stamp")
    assert any("'stamp'" in note.sentence and "time, t" in note.sentence for note in content.reading.notes)


def test_columns_are_chosen_and_named() -> None:
    """Only the listed ones are stored."""
    content = read("time,T 1,T 2\n2026-11-28T15:00:00Z,1,2\n", columns={"T 2": "flow"})
    assert content.values == [{"flow": 2.0}]


def test_a_pivoted_annotated_table_has_the_types_of_its_header() -> None:
    """A long is an integer, and a tag is the device."""
    content = read(
        "#datatype,string,long,dateTime:RFC3339,string,long,boolean,string\n#group,false,false,false,true,false,false,false\n"
        "#default,_result,,,,,,\n,result,table,_time,host,n,ok,s\n,,0,2026-11-28T15:00:00Z,a,3,true,21.5\n"
    )
    assert content.rows[0].values == {"n": 3, "ok": True, "s": "21.5"}
    assert (content.rows[0].device, content.rows[0].time_ns) == ("a", at("2026-11-28T15:00:00Z"))


def test_two_measurements_of_one_field_are_never_mixed() -> None:
    """Behind the first lines a second measurement is refused, and the setting keeps both apart."""
    header = (
        "#datatype,string,long,dateTime:RFC3339,double,string,string\n,result,table,_time,_value,_field,_measurement\n"
    )
    rows = "".join(f",,0,2026-11-28T15:00:{second:02}Z,1,t,air\n" for second in range(9))
    content = read(f"{header}{rows},,0,2026-11-28T15:01:00Z,2,t,water\n", window=5)
    assert content.codes == [(12, "ambiguous")]
    assert content.refusals[0].setting == 'metric = "{_measurement}.{field}"'
