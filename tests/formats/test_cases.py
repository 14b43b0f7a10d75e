"""Inputs that people really send, and what is right."""

from __future__ import annotations

import gzip
import json

import pytest

from formats.container import unpacked
from tests.formats.reading_of import at, read, read_case


def test_local_json_times_belong_to_the_zone() -> None:
    """A receiver in Berlin sends 16:05:42, which is 15:05:42 UTC; without a zone the reading says that it took UTC."""
    line = '{"time":"2026-11-28 16:05:42","model":"WH1080","id":144,"temperature_C":16.4}\n'
    assert read(line, zone="Europe/Berlin").times == [at("2026-11-28T15:05:42Z")]
    without = read(line)
    assert without.times == [at("2026-11-28T16:05:42Z")]
    assert any(note.code == "zone" and 'zone = "UTC"' in note.setting for note in without.reading.notes)


def test_serial_times_are_seconds_or_milliseconds_by_their_size() -> None:
    """Counts outside of 1990 to tomorrow are kept, marked and counted."""
    content = read_case("serial-times.jsonl")
    assert content.times == [
        123_456 * 10**9,
        at("2026-11-28T15:00:00Z"),
        at("2026-11-28T15:00:00Z") + 123_000_000,
        580_219_289 * 10**9,
        None,
    ]
    assert [row.is_time_odd for row in content.rows] == [True, False, False, True, False]
    assert content.reading.interpreter.times.odd == 2
    assert content.refusals == []


def test_a_time_is_seconds_since_2000_or_an_uptime_where_the_rules_say_so() -> None:
    """The word can stand in `time`, too."""
    assert read('{"time":580219289,"temp":21.75}', time="since_2000").times == [
        946_684_800 * 10**9 + 580_219_289 * 10**9
    ]
    uptime = read('{"time":123456,"temp":21.5}\n{"time":124456,"temp":21.6}', time="uptime_ms")
    first, second = uptime.times
    assert first is not None
    assert second is not None
    assert second - first == 10**9
    assert uptime.reading.interpreter.times.odd == 0


def test_no_serial_line_vanishes() -> None:
    """Lists, numbers in quotes, float times, local times and nan are read; the neighbours of nan are stored."""
    content = read_case("serial-lost.jsonl")
    assert content.values == [
        {"temp": 20.5, "hum": 39.0},
        {"type": "accelerometer", "data.0": 0.1, "data.1": 0.9, "data.2": 0.2},
        {"temp": 22.3, "hum": 40.0},
        {"temp": 22.2},
        {"temp": 22.1},
        {"hum": 41.0},
        {"temp": 22.8, "hum": 42.0},
    ]
    assert content.times[3:5] == [at("2026-11-28T15:00:00Z") + 500_000_000, at("2026-11-28T15:00:00Z")]
    assert content.reading.interpreter.no_values == 1
    assert content.refusals == []


@pytest.mark.parametrize("word", ["-nan", "inf", "None", "unavailable", "N/A", "nan"])
@pytest.mark.parametrize("shape", ["{}\n21.5\n", "temp={}\ntemp=21.5\n", '{{"temp":"{}"}}\n{{"temp":"21.5"}}\n'])
def test_a_first_word_without_a_value_does_not_make_a_metric_text(word: str, shape: str) -> None:
    """The first real value decides the type."""
    content = read(shape.format(word), window=1, format="value" if shape[0] == "{" and shape[1] == "}" else "auto")
    assert [list(row.values.values()) for row in content.rows] == [[21.5]]
    assert content.refusals == []


def test_one_bad_value_costs_itself() -> None:
    """A boolean as text where booleans are declared is one; bare nan in JSON is no value."""
    content = read(
        '{"presence":true,"occupancy":"true","illuminance":12}\n{"presence":false,"occupancy":"maybe","illuminance":13}\n',
        types={"occupancy": "boolean"},
    )
    assert content.values == [
        {"presence": True, "occupancy": True, "illuminance": 12.0},
        {"presence": False, "illuminance": 13.0},
    ]
    assert [(r.metric, r.value, r.code) for r in content.refusals] == [("occupancy", "maybe", "type")]
    sensor = read(
        '{"Time":"2026-11-28T11:57:31","A":{"Temperature":16.4},"B":{"Temperature":nan,"Humidity":nan},"TempUnit":"C"}'
    )
    assert sensor.values == [{"A.Temperature": 16.4, "TempUnit": "C"}]
    assert sensor.reading.interpreter.no_values == 2


def test_a_line_with_nan_costs_that_field_only() -> None:
    """Two of three lines with one field are stored."""
    content = read(
        "m a=1 1795878000000000000\nm a=NaN 1795878001000000000\nm a=3 1795878002000000000\n", device="multi"
    )
    assert content.column("m.a") == [1.0, 3.0]
    assert content.refusals == []
    both = read("m a=NaN,b=2 1795878001000000000\n", format="line")
    assert both.values == [{"m.b": 2.0}]


@pytest.mark.parametrize(
    ("data", "value"), [(b"12.5\0", 12.5), (b'{"value":21.5}\0', 21.5), (b"\xef\xbb\xbf12.6", 12.6)]
)
def test_bytes_around_a_value_are_removed(data: bytes, value: float) -> None:
    """A NUL behind a value and a byte order mark before it mean nothing."""
    assert read(data).column("value") == [value]


def test_numbers_in_json_texts_become_numbers() -> None:
    """Words stay text unless they are declared, and a rule keeps numbers as text."""
    line = '{"selFlowTemp":"47","outdoorTemp":"19.6","burnGas":"off"}'
    assert read(line).values == [{"selFlowTemp": 47.0, "outdoorTemp": 19.6, "burnGas": "off"}]
    assert read(line, types={"burnGas": "boolean"}).column("burnGas") == [False]
    assert read(line, numbers="text").column("selFlowTemp") == ["47"]


def test_identity_comes_from_fields_of_the_payload() -> None:
    """Two sensors on one topic are two devices."""
    lines = '{"model":"WH1080","id":144,"temperature_C":16.4}\n{"model":"Prologue-TH","id":9,"temperature_C":-3.2}\n'
    content = read(lines, device="{model}-{id}")
    assert [(row.device, row.values) for row in content.rows] == [
        ("WH1080-144", {"temperature_C": 16.4}),
        ("Prologue-TH-9", {"temperature_C": -3.2}),
    ]


def test_an_unclosed_quote_costs_one_line() -> None:
    """The next line that reads as a full record ends it."""
    lines = [f"2024-05-01T{minute // 60:02}:{minute % 60:02}:00Z,{20 + minute % 10 / 10},\n" for minute in range(1200)]
    lines[100] = '2024-05-01T01:40:00Z,20.2,"cal\n'
    content = read("time,temperature,note\n" + "".join(lines))
    assert content.codes == [(102, "quote")]
    assert len(content.rows) == 1199
    assert content.refusals[0].raw == b'2024-05-01T01:40:00Z,20.2,"cal'


def test_annotated_tables_have_their_own_headers() -> None:
    """Each table is read by its own header: the device from `host`, the metric from `_field`."""
    content = read_case("annotated-tables.csv")
    assert content.column("temperature", "kitchen") == [21.0, 21.1, 21.2, 21.3, 21.4]
    assert content.column("pH", "") == [7.0, 7.1, 7.2, 7.3, 7.4]
    assert content.column("co2", "kitchen") == [5.0, 5.1, 5.2, 5.3, 5.4]
    assert content.refusals == []


def test_measurements_of_one_field_are_series_of_their_own() -> None:
    """The measurement is a part of the name where the field alone is not enough."""
    content = read_case("annotated-measurements.csv")
    assert content.column("air.temperature") == [21.5, 21.6]
    assert content.column("water.temperature") == [55.6]


@pytest.mark.parametrize(
    ("case", "metric", "expected"),
    [
        ("thousands-tab.csv", "power", [1234.5, 900.25, 12345.0]),
        ("quoted-decimal-comma.csv", "temp", [21.5, 21.75]),
        ("quoted-decimal-comma.csv", "power", [1234.5, 900.25]),
        ("quoted-thousands.csv", "power", [1234.5, 900.25, 12345.75]),
        ("units-in-cells.csv", "Boiler", [40.25, 40.5, 41.0]),
        ("space-groups.csv", "power", [1234.5, 1900.25, 12345.75]),
        ("apostrophe.csv", "Current", [-0.125, -0.25, 0.005]),
        ("quoted-comma-text.csv", "temp", [21.5, 21.75]),
        ("sep-line.csv", "Current", [-0.125, -0.25, 0.005]),
        ("sep-line.csv", "Voltage", [1.5, 1.75, 2.0]),
        ("no-value-words.csv", "a", [21.5, 21.6]),
        ("no-value-words.csv", "b", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
        ("hour-24.csv", "Wirkleistung", [1.25, 1.5, 1.75, 1.0, 2.0]),
        ("toa5.dat", "AirTC_Avg", [5.31, 4.9]),
        ("toa5.dat", "RH", [88.2, 88.9, 89.4]),
        ("hobo.csv", "Temp", [8.81, 8.94, 9.03]),
    ],
)
def test_numbers_are_read_by_the_evidence_of_their_column(case: str, metric: str, expected: list[float]) -> None:
    """No value is refused, and none becomes text."""
    content = read_case(case)
    assert content.refusals == []
    assert content.column(metric) == expected


def test_an_even_evidence_is_asked_for() -> None:
    """Without a deciding value the unclear ones are refused alone, and the reason names both settings."""
    content = read_case("thousands-semicolon.csv")
    assert content.column("power") == [900.0]
    assert content.codes == [(2, "ambiguous"), (4, "ambiguous")]
    assert "`decimal` or `thousands`" in content.refusals[0].reason
    assert read_case("thousands-semicolon.csv", thousands=",").column("power") == [1234.0, 900.0, 12345.0]
    assert read_case("thousands-semicolon.csv", decimal=",").column("power") == [1.234, 900.0, 12.345]


def test_units_come_from_the_cells_the_header_or_the_units_row() -> None:
    """TOA5 and HOBO files name their device, too, and HOBO's header has the zone."""
    assert read_case("units-in-cells.csv").reading.interpreter.metrics[""]["Boiler"].unit == "°C"
    assert read_case("hour-24.csv").reading.interpreter.metrics[""]["Wirkleistung"].unit == "kW"
    toa5 = read_case("toa5.dat")
    assert {row.device for row in toa5.rows} == {"Meadow"}
    assert toa5.reading.interpreter.metrics["Meadow"]["AirTC_Avg"].unit == "°C"
    assert "RECORD" not in toa5.reading.interpreter.metrics["Meadow"]
    hobo = read_case("hobo.csv")
    assert {row.device for row in hobo.rows} == {"creek"}
    assert hobo.times[0] == at("2021-03-14T15:45:40Z")
    assert hobo.reading.interpreter.metrics["creek"]["Temp"].unit == "°C"


def test_names_are_repaired_and_the_original_is_the_label() -> None:
    """Spaces, umlauts and slashes get the same id at every input."""
    content = read_case("device-names.csv")
    labels = content.reading.interpreter.labels
    assert sorted(labels.values()) == ["Küche", "Living Room", "attic/north"]
    assert [labels[row.device] for row in content.rows] == ["Living Room", "Küche", "attic/north"]
    assert content.column("temperature") == [21.5, 19.5, 17.0]
    lines = read_case("device-names.lp")
    assert [labels[row.device] for row in lines.rows] == ["Living Room", "Küche"]
    assert lines.column("weather.temp") == [21.5, 20.0]


def test_24_00_is_the_next_day() -> None:
    """The last interval of a day ends at the beginning of the next one."""
    assert read_case("hour-24.csv").times == [
        at(f"{time}Z")
        for time in (
            "2019-12-30T23:30:00",
            "2019-12-30T23:45:00",
            "2019-12-31T00:00:00",
            "2019-12-31T00:15:00",
            "2020-01-01T00:00:00",
        )
    ]


@pytest.mark.parametrize(("case", "name"), [("dry-run-message.csv", "Station-id"), ("dry-run-message.lp", "entity_id")])
def test_a_device_that_is_not_named_is_asked_for(case: str, name: str) -> None:
    """The note says how to name it, and lists the columns or tags that can."""
    note = next(note for note in read_case(case).reading.notes if note.code == "device")
    assert 'device = "ID"' in note.sentence
    assert name in note.sentence


def test_date_time_and_zone_can_be_three_columns() -> None:
    """An hour with AM or PM belongs to the date before it and the zone behind it."""
    assert read_case("dry-run-message.csv").times == [
        at("2023-02-13T11:00:00Z"),
        at("2023-02-13T12:00:00Z"),
        at("2023-02-13T13:00:00Z"),
    ]


@pytest.mark.parametrize("before", ["", "# a logger\n", "# a logger\n# made it\n", "a logger\n# made it\n"])
def test_a_commented_header_is_the_header(before: str) -> None:
    """A header that begins with # is no comment where its cells match those of the data. Comments before it cost no
    line of data."""
    content = read(before + "#time,temp,hum\n2026-11-28T15:00:00Z,21.5,40\n2026-11-28T15:01:00Z,21.6,41\n")
    assert content.values == [{"temp": 21.5, "hum": 40.0}, {"temp": 21.6, "hum": 41.0}]


def test_utf_16_and_other_encodings_are_decoded() -> None:
    """A byte order mark or a rule names the encoding; cp1252 is the fallback of tables."""
    text = "time;Küche\n2026-11-28 15:00:00;21,5\n2026-11-28 15:01:00;21,6\n"
    for used, rule in (("utf-16", "auto"), ("cp1252", "auto"), ("utf-16-le", "utf-16-le"), ("cp850", "cp850")):
        assert read(text.encode(used), encoding=rule).column("Küche") == [21.5, 21.6]


def test_a_compressed_payload_is_opened() -> None:
    """Several JSON objects in one message are several rows."""
    data, kind = unpacked(gzip.compress(b'{"t":1}{"t":2}\n[{"t":3},{"t":4}]'))
    assert kind == "gzip"
    assert read(data).column("t") == [1.0, 2.0, 3.0, 4.0]
    assert read(json.dumps({"a": {"b": [{"id": "x", "t": 1}, {"id": "y", "t": 2}]}}, indent=2)).values == [
        {"a.b.x.t": 1.0, "a.b.y.t": 2.0}
    ]
