"""Detection of a mapping from the first lines of a file."""

from __future__ import annotations

from typing import Any

import pytest

from importer.guess import guess
from importer.mapping import LineMapping, TableMapping
from importer.records import MappingError
from tests.importer.files import lines


def table(content: str | bytes, **given: Any) -> TableMapping:
    mapping = guess(lines(content), given)
    assert isinstance(mapping, TableMapping)
    return mapping


def line(content: str, **given: Any) -> LineMapping:
    mapping = guess(lines(content), given)
    assert isinstance(mapping, LineMapping)
    return mapping


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_divides_most_records(delimiter: str) -> None:
    """A comma in numbers divides records unevenly, or less."""
    rows = [["time", "a", "b"], *([f"2024-01-01T00:00:0{second}Z", "1.5", "2"] for second in range(5))]
    assert table("\n".join(delimiter.join(row) for row in rows) + "\n").delimiter == delimiter


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2024-01-01T00:00:00Z", "2024-01-02T00:00:00+01:00"], "iso"),
        (["1700000000", "1700000001"], "s"),
        (["1700000000.5", "1700000001.5"], "s"),
        (["1700000000000", "1700000001000"], "ms"),
        (["1700000000000000"], "us"),
        (["1700000000000000000"], "ns"),
        (["31.12.2023 10:00", "01.01.2024 11:30"], "%d.%m.%Y %H:%M"),
        (["12/31/2023 10:00:00", "01/01/2024 11:30:00"], "%m/%d/%Y %H:%M:%S"),
        (["31/12/2023 10:00:00", "01/01/2024 11:30:00"], "%d/%m/%Y %H:%M:%S"),
        (["Mon, 01 Jan 2024 10:00:00 +0100"], "%a, %d %b %Y %H:%M:%S %z"),
    ],
)
def test_the_format_of_times(cells: list[str], expected: str) -> None:
    """Most of the cells have to fit one format."""
    content = "zone;time;x\n" + "".join(f"-;{cell};1\n" for cell in cells)
    mapping = table(content)
    assert (mapping.time, mapping.time_format) == (("time",), expected)


def test_an_ambiguous_date_has_no_format() -> None:
    """With the day or the month first, both fit: the user has to say which."""
    assert table("time;x\n01/02/2024 10:00;1\n03/04/2024 10:00;2\n").time_format in ("", "iso")


def test_date_and_time_in_two_columns_are_joined() -> None:
    """They are neighbours, and the first one has a usual name."""
    mapping = table("Datum;Uhrzeit;x\n31.12.2023;10:00:00;1\n01.01.2024;11:00:00;2\n")
    assert mapping.time == ("Datum", "Uhrzeit")
    assert mapping.time_format == "%d.%m.%Y %H:%M:%S"


def test_units_and_types_of_columns() -> None:
    """A unit is in brackets behind the name; a column with any number is one of numbers."""
    content = "time;T [°C];p (bar);on;state;mixed\n" + "".join(
        f"2024-01-01T00:00:0{second}Z;20.5;1;true;idle;{'error' if second else '1'}\n" for second in range(4)
    )
    mapping = table(content)
    assert mapping.columns == {"T [°C]": "T", "p (bar)": "p", "on": "on", "state": "state", "mixed": "mixed"}
    assert mapping.units == {"T": "°C", "p": "bar"}
    assert mapping.types == {"on": "boolean", "state": "string"}


def test_two_columns_of_one_name_keep_their_units_in_the_name() -> None:
    """One metric cannot have two columns."""
    mapping = table("time;T [°C];T [°F]\n2024-01-01T00:00:00Z;1;2\n")
    assert mapping.columns == {"T [°C]": "T", "T [°F]": "T [°F]"}


def test_numbers_of_a_country_with_decimal_commas() -> None:
    """Points then divide thousands."""
    assert table("time;x\n2024-01-01T00:00:00Z;1,5\n").decimal == ","
    mapping = table("time;x\n2024-01-01T00:00:00Z;1.234,5\n")
    assert (mapping.decimal, mapping.thousands) == (",", ".")
    assert table("time,x\n2024-01-01T00:00:00Z,1.5\n").decimal == "."


def test_a_reading_per_record() -> None:
    """One column names the metric and another has the value; a column of devices is found by its name."""
    mapping = table("time,host,metric,value\n2024-01-01T00:00:00Z,a,level,1\n")
    assert (mapping.device_column, mapping.metric_column, mapping.value_column) == ("host", "metric", "value")
    assert mapping.columns == {}


def test_given_fields_are_kept() -> None:
    """Detection fills only what was not given."""
    mapping = table("time,x\n1700000000,1\n", time_format="ms", delimiter=",", device="tank", columns={"x": "level"})
    assert (mapping.time_format, mapping.device, mapping.columns) == ("ms", "tank", {"x": "level"})
    assert isinstance(guess(lines("m x=1 1\n"), {"format": "csv", "header": False}), TableMapping)


def test_the_encoding_of_old_spreadsheets() -> None:
    """Bytes that are not UTF-8 are Windows-1252."""
    assert table("time;T [°C]\n2024-01-01T00:00:00Z;1\n".encode("cp1252")).encoding == "cp1252"
    assert table("time;T [°C]\n2024-01-01T00:00:00Z;1\n").encoding == "utf-8"


@pytest.mark.parametrize(("content", "message"), [(b"\n \n", "empty"), ("time\n".encode("utf-16"), "UTF-16")])
def test_a_file_that_cannot_be_a_table_is_an_error(content: bytes, message: str) -> None:
    """The message says what to do."""
    with pytest.raises(MappingError, match=message):
        guess(lines(content), {})


def test_line_protocol_with_tags_that_divide_series() -> None:
    """The device is the first usual tag that all lines have; a constant tag is no part of a name."""
    content = "".join(
        f"disk,host=a,os=x,path={path} used={number} 170000000{number}\n" for number, path in enumerate(("/", "/home"))
    )
    mapping = line("# a comment\n" + content)
    assert (mapping.device_tag, mapping.metric, mapping.precision) == ("host", "{path}.{field}", "s")
    assert mapping.measurements == ("disk",)


def test_line_protocol_of_several_measurements() -> None:
    """The measurement becomes part of the name, and no line is left out."""
    mapping = line("cpu,device=a value=1 1\nmem,device=a value=2 1\n")
    assert (mapping.metric, mapping.measurements) == ("{measurement}.{field}", ())
    assert line("level,device=a value=1 1\n").metric == "{measurement}.{field}"


@pytest.mark.parametrize(
    ("digits", "precision"),
    [("1700000000", "s"), ("1700000000000", "ms"), ("1700000000000000", "us"), ("1700000000000000000", "ns")],
)
def test_the_precision_of_line_protocol_follows_from_the_digits(digits: str, precision: str) -> None:
    """The longest time decides."""
    assert line(f"m,device=a x=1 {digits}\nm,device=a x=2 7\n").precision == precision
