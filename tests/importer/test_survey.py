"""The first pass over a file finds all that it means, and the second one sends the same."""

from __future__ import annotations

import gzip
import tomllib
from pathlib import Path
from typing import Any

import pytest

from formats.rules import Rules, rules_text
from importer import batching, records
from importer.records import FileError, MappingError
from importer.survey import FileSurvey
from tests.importer.files import SECOND_NS, opened, reasons, rows_of, surveyed

LINES = "m,device=a x=1i 1700000000\nm,device=a x=2.5 1700000001\n"
NEW_YEAR_2024_NS = 1_704_067_200 * SECOND_NS
TABLE = "time,device,x,y\n2024-01-01T00:00:01Z,a,1.5,1\n{}\n2024-01-01T00:00:03Z,a,3.5,3\n"


def test_a_metric_that_has_both_kinds_of_numbers_is_float(tmp_path: Path) -> None:
    """Files that several programs wrote have them; other kinds do not go together, and the first one counts."""
    survey, rejected = surveyed(tmp_path / "a.lp", LINES + 'm,device=a x="no" 1700000002\nm,device=a x=t 1700000003\n')
    assert survey.types("a") == {"x": "float"}
    assert reasons(rejected) == [(3, "type"), (4, "type")]
    assert [row.values["x"] for row in rows_of(survey)] == [1, 2.5]


def test_given_types_and_units_are_used(tmp_path: Path) -> None:
    """A value of another type is rejected."""
    survey, rejected = surveyed(tmp_path / "a.lp", LINES, types={"x": "integer"}, units={"x": "m"})
    assert [(metric.name, metric.type, metric.unit) for metric in survey.metrics["a"]] == [("x", "integer", "m")]
    assert reasons(rejected) == [(2, "type")]


def test_a_file_does_not_change_the_types_of_the_hub(tmp_path: Path) -> None:
    """A value of another type is rejected alone, before it is sent."""
    content = "m,device=a x=1i,y=2 1700000000\nm,device=a x=2i,y=3 1700000001\n"
    survey, rejected = surveyed(tmp_path / "a.lp", content, lambda device, metric: "string" if metric == "y" else None)
    assert survey.types("a") == {"x": "integer"}, "a metric without a reading is not declared"
    assert [row.values for row in rows_of(survey)] == [{"x": 1}, {"x": 2}]
    assert reasons(rejected) == [(1, "type"), (2, "type")]
    assert "y is a text, and 2.0 is a number" in rejected[0].message
    words = "time,x\n2024-01-01T00:00:00Z,1.5\n2024-01-01T00:00:01Z,defect\n"
    _, rejected = surveyed(tmp_path / "b.csv", words, lambda device, metric: "float", device="a")
    assert 'set no_value = ["defect"] or run `hub metric retype a x string`' in rejected[0].message


def test_the_epoch_is_that_of_content_and_meaning(tmp_path: Path) -> None:
    """Under another name, or compressed, the same file is the same import; with one byte or one option changed it is
    not."""
    first, _ = surveyed(tmp_path / "a.lp", LINES)
    assert len(first.epoch) == 16
    assert surveyed(tmp_path / "b.lp", LINES)[0].epoch == first.epoch
    assert surveyed(tmp_path / "a.gz", gzip.compress(LINES.encode()))[0].epoch == first.epoch
    assert surveyed(tmp_path / "c.lp", LINES.replace("2.5", "2.6"))[0].epoch != first.epoch
    assert surveyed(tmp_path / "d.lp", LINES, device="b")[0].epoch != first.epoch
    other = surveyed(tmp_path / "e.lp", LINES, lambda device, metric: "boolean")[0]
    assert other.epoch != first.epoch


def test_an_import_that_is_cut_into_other_batches_has_another_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub resumes by the number of a batch, so each number has to mean the same rows."""
    content = "".join(f"m,device=a x={number} {1_700_000_000 + number % 7}\n" for number in range(100))
    first, _ = surveyed(tmp_path / "a.lp", content)
    monkeypatch.setattr(batching, "SLICE_READINGS", 90)
    assert surveyed(tmp_path / "a.lp", content)[0].epoch != first.epoch


def test_a_truncated_gzip_file_is_rejected_from_its_end(tmp_path: Path) -> None:
    """The complete lines are imported."""
    text = "".join(f"m,device=a x={number} {1_700_000_000 + number}\n" for number in range(50_000))
    survey, rejected = surveyed(tmp_path / "a.gz", gzip.compress(text.encode())[:-5000])
    assert rejected[-1].why == "cut off"
    assert 0 < survey.readings < 50_000


def test_a_last_line_whose_time_is_cut_off_is_rejected(tmp_path: Path) -> None:
    """It would be a reading of 1970."""
    survey, rejected = surveyed(tmp_path / "a.lp", "m,device=a x=1 1700000000\nm,device=a x=2 17000")
    assert (survey.readings, reasons(rejected)) == (1, [(2, "cut off")])
    survey, rejected = surveyed(tmp_path / "b.lp", "m,device=a x=1 1700000000\nm,device=a x=2 1700000001")
    assert (survey.readings, rejected) == (2, [])


def test_an_interrupted_second_pass_does_not_make_the_last_line_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of a stopped import is about the whole file."""
    monkeypatch.setattr(records, "PIECE_BYTES", 10)
    survey, _ = surveyed(tmp_path / "a.lp", LINES)
    batches = survey.batches()
    next(batches)
    batches.close()
    assert not survey.last_line_is_open
    assert surveyed(tmp_path / "b.lp", LINES.rstrip("\n"))[0].last_line_is_open


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    """Its batches would not be those that were counted."""
    survey, _ = surveyed(tmp_path / "a.lp", LINES)
    (tmp_path / "a.lp").write_text(LINES.replace("2.5", "2.6"))
    with pytest.raises(FileError, match="changed"):
        rows_of(survey)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_an_empty_file_is_a_mapping_error(tmp_path: Path, content: bytes) -> None:
    """A file that is missing is a file error."""
    with pytest.raises(MappingError, match="empty"):
        opened(tmp_path / "a.csv", content).check()
    with pytest.raises(FileError, match="cannot be read"):
        FileSurvey(tmp_path / "none.csv", Rules())


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("time,x\n2024-01-01T00:00:00Z,1\n", {}, "--device ID for one device"),
        ("time,x,site\n2024-01-01T00:00:00Z,1,north\n", {}, "--device-column COLUMN .* one of: x, site|site"),
        ("m,domain=light x=1 1700000000\n", {}, "--device-tag TAG .* one of: domain, measurement"),
        ("time,x\n2024-01-01T00:00:00Z,1\n", {"device": "a", "columns": {"y": "y"}}, "no column 'y'; .* time, x"),
        ("time,x\n2024-01-01T00:00:00Z,1\n", {"device": "a", "time": ["when"]}, "no column 'when'"),
        ("time,x\n2024-01-01T00:00:00Z,1\n", {"device": "{y}"}, "no column 'y'"),
        ("a,b\n1.5,2.5\n", {"device": "a"}, "--time COLUMN .* the columns are a, b"),
        ("m,device=a x=1\n", {}, "--time"),
        ("time,x\n2024-01-01 00:00:00,1\n", {"device": "a"}, "--zone"),
        ("time,x\n01/02/2024 10:00,1\n03/02/2024 10:00,1\n", {"device": "a", "zone": "UTC"}, "Line 2.*day_first"),
        ("time;p\n2024-01-01T00:00:00Z;1,234\n", {"device": "a"}, "Line 2.*`decimal` or `thousands`"),
    ],
)
def test_what_has_to_be_set_is_said_before_the_import(
    tmp_path: Path, content: str, options: dict[str, Any], message: str
) -> None:
    """The sentence names the option."""
    with pytest.raises(MappingError, match=message):
        opened(tmp_path / "a.csv", content, **options).check()


@pytest.mark.parametrize("window", [1 << 20, 100])
def test_the_shown_mapping_means_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """As a file it is the same import, also where the pieces of the file are small."""
    monkeypatch.setattr(records, "PIECE_BYTES", window)
    content = 'time;"T ""x"" [°C]";b\n2024-01-01 10:00;1,5;true\n2024-01-01 10:01;2,5;false\n'
    survey, _ = surveyed(tmp_path / "a.csv", content, device="a", zone="UTC")
    fields = tomllib.loads(rules_text(survey.settings))
    assert fields["columns"] == {'T "x" [°C]': 'T "x"', "b": "b"}
    assert surveyed(tmp_path / "a.csv", content, **fields)[0].epoch == survey.epoch


def test_a_zone_that_nobody_set_is_not_shown_as_a_setting(tmp_path: Path) -> None:
    """The user decides before the import."""
    survey, _ = surveyed(tmp_path / "a.csv", "time,x\n2024-01-01 10:00:00,1\n", device="a")
    assert survey.needs_zone
    assert survey.settings.zone == ""


def test_a_spreadsheet_of_a_country_with_decimal_commas(tmp_path: Path) -> None:
    """Semicolons, decimal commas, dots between thousands, date and time apart, units in the header, BOM, CRLF."""
    content = (
        "\ufeffDatum;Uhrzeit;Temperatur [°C];Energie (kWh);Pumpe;Bemerkung\r\n"
        "01.01.2024;01:00;21,5;1.234,5;true;alles gut\r\n"
        "01.01.2024;01:10;-0,5;;false;\r\n"
    )
    survey, rejected = surveyed(tmp_path / "a.csv", content, device="boiler-1", zone="Europe/Berlin")
    first, second = rows_of(survey)
    assert rejected == []
    assert first.time_ns == NEW_YEAR_2024_NS
    assert first.values == {"Temperatur": 21.5, "Energie": 1234.5, "Pumpe": True, "Bemerkung": "alles gut"}
    assert second.values == {"Temperatur": -0.5, "Pumpe": False}
    assert {metric.name: (metric.type, metric.unit) for metric in survey.metrics["boiler-1"]} == {
        "Temperatur": ("float", "°C"),
        "Energie": ("float", "kWh"),
        "Pumpe": ("boolean", ""),
        "Bemerkung": ("string", ""),
    }


def test_a_reading_per_line(tmp_path: Path) -> None:
    """The metric in one column, the value in another; a metric's first value decides what it is."""
    content = "time,device,metric,value\n1704067200,a,t,1\n1704067200,a,state,idle\n1704067201.5,b,t,2\n"
    survey, rejected = surveyed(tmp_path / "a.csv", content)
    assert rejected == []
    assert [(row.device, (row.time_ns or 0) - NEW_YEAR_2024_NS, row.values) for row in rows_of(survey)] == [
        ("a", 0, {"t": 1.0}),
        ("a", 0, {"state": "idle"}),
        ("b", 1_500_000_000, {"t": 2.0}),
    ]


def test_records_over_several_lines_are_counted_from_their_first_one(tmp_path: Path) -> None:
    """Blank lines in a text stay; a rejected value names all lines of its record."""
    content = 'time,device,note,x\n2024-01-01T00:00:00Z,a,"one\n\ntwo ""three""",oops\n2024-01-01T00:00:01Z,a,z,1\n'
    survey, rejected = surveyed(tmp_path / "a.csv", content, types={"note": "string", "x": "float"})
    first, _ = rows_of(survey)
    assert first.values == {"note": 'one\n\ntwo "three"'}
    assert [(lines.line, lines.lines, lines.why) for lines in rejected] == [(2, 3, "type")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("2024-01-01T00:00:02Z,a,1", "cells"),
        ("2024-01-01T00:00:02Z,a,1,2,3", "cells"),
        ("yesterday,a,1,2", "time"),
        ("1969-12-31T00:00:00Z,a,1,2", "time"),
        ("2024-01-01T00:00:02Z,,1,2", "device"),
        ('2024-01-01T00:00:02Z,a,"1"2,2', "syntax"),
        ('2024-01-01T00:00:02Z,a,"1,2', "quote"),
        (b"2024-01-01T00:00:02Z,a,1,\xe4", "encoding"),
    ],
)
def test_a_bad_line_is_rejected_alone(tmp_path: Path, line: str | bytes, why: str) -> None:
    """It costs itself: those around it are imported."""
    bad = line if isinstance(line, bytes) else line.encode()
    survey, rejected = surveyed(tmp_path / "a.csv", TABLE.encode().replace(b"{}", bad), encoding="utf-8")
    assert [row.values["x"] for row in rows_of(survey)] == [1.5, 3.5]
    assert reasons(rejected) == [(3, why)]


@pytest.mark.parametrize(("cell", "why"), [("oops", "type"), ("1_000", "type"), ("1e999", "number")])
def test_a_bad_value_is_rejected_alone(tmp_path: Path, cell: str, why: str) -> None:
    """Its neighbours in the line are imported."""
    survey, rejected = surveyed(tmp_path / "a.csv", TABLE.format(f"2024-01-01T00:00:02Z,a,{cell},2"))
    assert [row.values for row in rows_of(survey)] == [{"x": 1.5, "y": 1.0}, {"y": 2.0}, {"x": 3.5, "y": 3.0}]
    assert reasons(rejected) == [(3, why)]


def test_lines_without_a_device_or_a_time_are_rejected(tmp_path: Path) -> None:
    """History needs both; other lines are imported."""
    survey, rejected = surveyed(tmp_path / "a.lp", "m,host=a x=1 5\nm x=1 5\nm,host=a x=1\nm,host=a x=2 6\n")
    assert (survey.readings, reasons(rejected)) == (2, [(2, "device"), (3, "time")])


def test_a_measurement_that_comes_late_is_not_mixed_with_the_first(tmp_path: Path) -> None:
    """The beginning had one measurement, so its name was left out; the sentence says how to import the others."""
    content = "cpu,host=a user=1 1700000000\n" * 3000 + "mem,host=a user=2 1700000000\n"
    _, rejected = surveyed(tmp_path / "a.lp", content)
    assert reasons(rejected) == [(3001, "metric")]
    assert "{measurement}.{field}" in rejected[0].message


def test_repaired_names_keep_the_original_as_description(tmp_path: Path) -> None:
    """Spaces and umlauts of a device, and a control character of a metric."""
    survey, _ = surveyed(tmp_path / "a.csv", 'time,device,"a\tb"\n1704067200,Küche 1,1\n')
    ((device, (metric,)),) = survey.metrics.items()
    assert device.startswith("K_che_1-")
    assert (metric.name.startswith("a"), metric.description) == (True, "" if metric.name == "a b" else "a\tb")


@pytest.mark.parametrize("piece", [1 << 20, 97])
def test_blocks_and_lines_are_the_same_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """A table of numbers behind the first lines is read in blocks where the pieces are large."""
    lines = [f"2024-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z,{n}.5,-{n}e-1\n" for n in range(5_000)]
    lines[4_000] = "2024-01-01T01:06:40Z,oops,1\n"
    monkeypatch.setattr(records, "PIECE_BYTES", piece)
    survey, rejected = surveyed(tmp_path / "a.csv", "time,x,y\n" + "".join(lines), device="a")
    assert reasons(rejected) == [(4_002, "type")]
    assert survey.readings == 9_999
    rows = rows_of(survey)
    assert [row.time_ns for row in rows] == [NEW_YEAR_2024_NS + n * SECOND_NS for n in range(5_000)]
    assert rows[4_999].values == {"x": 4999.5, "y": -499.9}
