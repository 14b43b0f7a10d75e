"""CSV: what spreadsheets and loggers write becomes rows, and invalid records are rejected with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from importer.mapping import TableMapping, check_mapping
from importer.records import MappingError
from tests.importer.files import SECOND_NS, reasons, rows_of, surveyed

NEW_YEAR_2024_NS = 1_704_067_200 * SECOND_NS


def test_a_spreadsheet_of_a_country_with_decimal_commas(tmp_path: Path) -> None:
    """Semicolons, decimal commas, dots between thousands, date and time apart, units in the header, BOM, CRLF."""
    content = (
        "\ufeffDatum;Uhrzeit;Temperatur [°C];Energie (kWh);Pumpe;Bemerkung\r\n"
        "01.01.2024;01:00;21,5;1.234,5;true;alles gut\r\n"
        "01.01.2024;01:10;-0,5;;false;\r\n"
    )
    survey, refused = surveyed(tmp_path / "a.csv", content, device="boiler-1", zone="Europe/Berlin")
    first, second = rows_of(survey)
    assert refused == []
    assert first.time_ns == NEW_YEAR_2024_NS
    assert first.values == {"Temperatur": 21.5, "Energie": 1234.5, "Pumpe": True, "Bemerkung": "alles gut"}
    assert second.values == {"Temperatur": -0.5, "Pumpe": False}
    assert {metric.name: (metric.type, metric.unit) for metric in survey.catalogue.metrics("boiler-1")} == {
        "Temperatur": ("float", "°C"),
        "Energie": ("float", "kWh"),
        "Pumpe": ("boolean", ""),
        "Bemerkung": ("string", ""),
    }


def test_a_reading_per_line(tmp_path: Path) -> None:
    """The metric in one column, the value in another; a metric's first value decides what it is."""
    content = "time,device,metric,value\n1704067200,a,t,1\n1704067200,a,state,open\n1704067201.5,b,t,2\n"
    survey, refused = surveyed(tmp_path / "a.csv", content)
    assert refused == []
    assert [(row.device, row.time_ns - NEW_YEAR_2024_NS, row.values) for row in rows_of(survey)] == [
        ("a", 0, {"t": 1.0}),
        ("a", 0, {"state": "open"}),
        ("b", 1_500_000_000, {"t": 2.0}),
    ]


def test_cells_may_have_line_breaks_in_quotes(tmp_path: Path) -> None:
    """The record counts from its first line; so do those after it."""
    content = 'time,device,note,x\n2024-01-01T00:00:00Z,a,"one\ntwo ""three""",1\n2024-01-01T00:00:01Z,a,z,oops\n'
    survey, refused = surveyed(
        tmp_path / "a.csv", content, columns={"note": "note", "x": "x"}, types={"note": "string"}
    )
    (row,) = rows_of(survey)
    assert row.values == {"note": 'one\ntwo "three"', "x": 1.0}
    assert reasons(refused) == [(4, "value")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2024-01-01T00:00:02Z,a", "syntax"),
        ("2024-01-01T00:00:02Z,a,1,2", "syntax"),
        ("yesterday,a,1", "time"),
        ("1969-12-31T00:00:00Z,a,1", "time"),
        ("2024-01-01T00:00:02Z,,1", "device"),
        ("2024-01-01T00:00:02Z,a b,1", "device"),
        ("2024-01-01T00:00:02Z,a,oops", "value"),
        ("2024-01-01T00:00:02Z,a,1_000", "value"),
        ("2024-01-01T00:00:02Z,a,1e999", "value"),
        ('2024-01-01T00:00:02Z,a,"1"2', "syntax"),
        (b"2024-01-01T00:00:02Z,a,\xe4", "encoding"),
    ],
)
def test_a_bad_record_is_rejected_alone(tmp_path: Path, line: str | bytes, why: str) -> None:
    """One bad record costs itself: those around it are taken."""
    bad = line if isinstance(line, bytes) else line.encode()
    content = b"time,device,x\n2024-01-01T00:00:01Z,a,1\n" + bad + b"\n2024-01-01T00:00:03Z,a,3\n"
    survey, refused = surveyed(tmp_path / "a.csv", content, encoding="utf-8")
    assert [row.values["x"] for row in rows_of(survey)] == [1.0, 3.0]
    assert reasons(refused) == [(3, why)]
    assert refused[0].raw == bad + b"\n"


def test_a_last_line_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """It has too few cells, or a quote that is not closed."""
    for end in ("2024-01-01T00:00:02Z,a", '2024-01-01T00:00:02Z,a,"'):
        content = f"time,device,x\n2024-01-01T00:00:01Z,a,1\n{end}"
        survey, refused = surveyed(tmp_path / "a.csv", content)
        assert (len(rows_of(survey)), reasons(refused)) == (1, [(3, "syntax")])


def test_cells_that_say_no_value_are_none(tmp_path: Path) -> None:
    """Empty ones, those that many programs write, and those of the options."""
    content = (
        "time,device,x,y\n2024-01-01T00:00:01Z,a,NaN,1\n2024-01-01T00:00:02Z,a,n/a,\n2024-01-01T00:00:03Z,a,-,ERR\n"
    )
    survey, refused = surveyed(tmp_path / "a.csv", content, no_value=["NaN", "-", "n/a", "ERR"])
    assert ([row.values for row in rows_of(survey)], refused) == ([{"y": 1.0}], [])


def test_without_a_header_columns_have_numbers(tmp_path: Path) -> None:
    """From 1 on, as people count."""
    content = "1704067200;a;1\n1704067201;a;2\n"
    survey, _ = surveyed(tmp_path / "a.csv", content, header=False, time=["1"], device_column="2", columns={"3": "x"})
    assert [row.values for row in rows_of(survey)] == [{"x": 1.0}, {"x": 2.0}]


def test_day_and_month_are_not_guessed_where_both_fit(tmp_path: Path) -> None:
    """01/02/2024 needs a format, or the times are rejected; a later day decides it."""
    content = "time,x\n01/02/2024 10:00,1\n{}/02/2024 10:00,1\n"
    survey, _ = surveyed(tmp_path / "a.csv", content.format("13"), device="a")
    assert isinstance(survey.mapping, TableMapping)
    assert survey.mapping.time_format == "%d/%m/%Y %H:%M"
    survey, _ = surveyed(tmp_path / "b.csv", content.format("02"), device="a")
    with pytest.raises(MappingError, match="time"):
        check_mapping(survey.mapping)


def test_an_unknown_column_or_option_is_an_error(tmp_path: Path) -> None:
    """A device, and a column that exists."""
    survey, _ = surveyed(tmp_path / "a.csv", "time,x\n2024-01-01T00:00:00Z,1\n", device="a")
    check_mapping(survey.mapping)
    with pytest.raises(MappingError, match="no column 'y'; the columns are time, x"):
        surveyed(tmp_path / "a.csv", "time,x\n2024-01-01T00:00:00Z,1\n", device="a", columns={"y": "y"})
    with pytest.raises(MappingError, match="zoen"):
        surveyed(tmp_path / "a.csv", "time,x\n2024-01-01T00:00:00Z,1\n", device="a", zoen="UTC")
