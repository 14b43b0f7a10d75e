"""Tables: headers, units and the layouts of known programs."""

from __future__ import annotations

import pytest

from tests.formats.reading_of import at, read


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
    assert content.refusals[0].setting == 'no_value = ["broken"] or types.a = "string"'


def test_a_name_above_numbers_with_commas_is_one_column() -> None:
    """A number such as 1,234 is refused, and no two metrics; a table that has more cells is one."""
    content = read("v\n1,234\n5,678\n")
    assert (content.values, content.codes) == ([], [(2, "ambiguous"), (3, "ambiguous")])
    assert read("v\n1,234\n5,678\n", thousands=",").column("v") == [1234.0, 5678.0]
    assert read("v\n1,234\n5,67\n-\n").column("v") == [1.234, 5.67]
    assert read("v\n1,234\n5,678\n", delimiter=",").column("2") == [234.0, 678.0]
    assert read("log of today\n1,2,3\n4,5,6\n").column("3") == [3.0, 6.0]


def test_a_series_or_an_entity_can_be_the_metric() -> None:
    """Exports of dashboards have one reading in each line, and each series has its own type."""
    content = read(
        "entity_id,state,last_changed\nsensor.t,21.5,2026-01-31T12:00:00.000Z\nsensor.t,unavailable,2026-01-31T12:01:00.000Z\n"
        "binary_sensor.door,on,2026-01-31T12:01:00.000Z\n"
    )
    assert content.values == [{"sensor.t": 21.5}, {"binary_sensor.door": True}]
    assert content.reading.interpreter.no_values == 1


def test_the_first_column_without_a_header_can_be_the_time() -> None:
    """Its counts since 1970 look like nothing else."""
    content = read("1795878000000,0.5\n1795878001000,0.6\n")
    assert content.values == [{"2": 0.5}, {"2": 0.6}]
    assert content.times == [1_795_878_000 * 10**9, 1_795_878_001 * 10**9]
    assert read("1,0.5\n2,0.6\n").times == [None, None]


def test_lines_before_the_table_are_noted() -> None:
    """They do not vanish silently, and neither does the header."""
    notes = {
        note.code: note.sentence for note in read("Export of station 7\ntime,t\n2026-11-28T15:00:00Z,1\n").reading.notes
    }
    assert "1 line before the table: 'Export of station 7'" in notes["preamble"]
    assert "time, t" in notes["header"]


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


def test_extended_annotated_csv_has_constants_ignored_columns_and_types() -> None:
    """The names are those of line protocol: measurement, tags, field. The host is the device."""
    content = read(
        "#constant measurement,cpu\n#constant tag,host,box\n#datatype tag,ignored,long,dateTime:RFC3339\n"
        "core,note,load,time\n0,x,5,2026-11-28T15:00:00Z\n1,,6,2026-11-28T15:00:00Z\n"
    )
    assert [row.device for row in content.rows] == ["box", "box"]
    assert content.values == [{"cpu.0.load": 5}, {"cpu.1.load": 6}]
    assert content.refusals == []


def test_lines_about_the_logger_do_not_hide_a_short_table() -> None:
    """The header of the last lines begins the table; a ragged line within a table does not."""
    about = "Logger,X-1\nSerial,0042\nFirmware,1.2\nInterval,60\nMode,auto\n"
    assert read(f"{about}a,b,c\n1,2,3\n4,5,6\n").values == [
        {"a": 1.0, "b": 2.0, "c": 3.0},
        {"a": 4.0, "b": 5.0, "c": 6.0},
    ]
    ragged = read("a,b,c\n1,2,3\n4,5\n7,8,9\n")
    assert ragged.values == [{"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 7.0, "b": 8.0, "c": 9.0}]
    assert ragged.codes == [(3, "cells")]


def test_lines_of_dashes_in_a_table_are_skipped() -> None:
    """They separate the header from the data, or blocks of it."""
    content = read("a,b\n------\n1,2\n======\n3,4\n")
    assert (content.values, content.refusals) == ([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}], [])


def test_a_column_unit_has_the_unit_of_each_reading() -> None:
    """A reading with another unit than its metric is refused alone."""
    lines = ["time,device,metric,value,unit"]
    lines += [
        f"2026-01-31T12:00:0{n}Z,d,{m},{n},{u}" for n, (m, u) in enumerate([("t", "degC"), ("p", "hPa"), ("t", "K")])
    ]
    content = read("\n".join(lines))
    assert content.values == [{"t": 0.0}, {"p": 1.0}]
    assert content.codes == [(4, "unit")]
    assert {name: found.unit for name, found in content.reading.interpreter.metrics["d"].items()} == {
        "t": "°C",
        "p": "hPa",
    }


def test_the_unit_may_be_the_first_column() -> None:
    """The order of the columns of a long table changes nothing."""
    content = read("unit,time,device,metric,value\ndegC,2026-01-31T12:00:00Z,d,t,1\n")
    assert content.values == [{"t": 1.0}]
    assert content.reading.interpreter.metrics["d"]["t"].unit == "°C"


@pytest.mark.parametrize("name", ["time", "Datum", "timestamp"])
def test_a_first_line_without_a_time_is_refused(name: str) -> None:
    """A column with the name of a time is one, whatever its first cell is; `columns` can store it."""
    assert read(f"{name},v\nsoon,1\n2026-01-31T12:00:00Z,2\n").values == [{"v": 2.0}]
    content = read(f"{name},v\nsoon,1\n")
    assert (content.rows, content.codes) == ([], [(2, "time")])
    stored = read(f"{name},v\nsoon,1\n", columns={name: "phase", "v": "v"})
    assert stored.values == [{"phase": "soon", "v": 1.0}]


def test_headers_that_occur_again_get_a_number_and_keep_their_unit() -> None:
    """The number is no unit, also where a program wrote it."""
    content = read("time,device,temp [°C],temp [°C],ch (2)\n2026-01-31T12:00:00Z,d,1,2,3\n")
    assert content.values == [{"temp": 1.0, "temp [°C] (2)": 2.0, "ch (2)": 3.0}]
    units = {name: series.unit for name, series in content.reading.interpreter.metrics["d"].items()}
    assert units == {"temp": "°C", "temp [°C] (2)": "°C", "ch (2)": ""}
    plain = read("time,device,temp,temp\n2026-01-31T12:00:00Z,d,1,2\n")
    assert {name: series.unit for name, series in plain.reading.interpreter.metrics["d"].items()} == {
        "temp": "", "temp (2)": "",
    }  # fmt: skip


@pytest.mark.parametrize("byte", [b"\x81", b"\x8d", b"\x9d"])
def test_bytes_that_cp1252_does_not_have_refuse_their_line(byte: bytes) -> None:
    """No other character takes their place. Lines around them are read."""
    lines = [b"time,device,note", b"2026-01-31T12:00:00Z,d,Gr\xfc\xdfe", b"2026-01-31T12:00:01Z,d,x" + byte]
    content = read(b"\n".join(lines))
    assert (content.values, content.codes) == ([{"note": "Grüße"}], [(3, "encoding")])
    declared = read(b"\n".join(lines), encoding="cp1252")
    assert (declared.values, declared.codes) == ([{"note": "Grüße"}], [(3, "encoding")])


def test_bytes_that_a_declared_encoding_does_not_have_refuse_their_record() -> None:
    """In every format."""
    content = read(b'{"s":"\xfc","v":1}\n{"s":"\x81","v":2}\n', encoding="cp1252")
    assert (content.values, content.codes) == ([{"s": "ü", "v": 1.0}], [(2, "encoding")])
    pairs = read(b"s=\xfc v=1\ns=\x81 v=2\n", encoding="cp1252", format="pairs")
    assert (pairs.values, pairs.codes) == ([{"s": "ü", "v": 1.0}], [(2, "encoding")])
