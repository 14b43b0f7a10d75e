"""NMEA 0183 sentences."""

from __future__ import annotations

import pytest

from formats.nmea import checksum
from tests.formats.reading_of import Content, at, read


def sentence(body: str) -> str:
    return f"${body}*{checksum(body):02X}\r\n"


def values(*bodies: str) -> Content:
    return read("".join(map(sentence, bodies)), format="nmea")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "GPRMC,150000,A,5231.2000,S,01324.3000,W,5.5,54.7,281126,3.1,W",
            {"latitude": -52.52, "longitude": -13.405, "speed": 5.5, "course": 54.7, "magnetic_variation": -3.1},
        ),
        (
            "GNGGA,150000,0000.0000,N,18000.0000,E,2,12,0.6,-3.5,M,,,,",
            {
                "latitude": 0.0,
                "longitude": 180.0,
                "fix_quality": 2.0,
                "satellites": 12.0,
                "hdop": 0.6,
                "altitude": -3.5,
            },
        ),
        (
            "GPVTG,54.7,T,34.4,M,5.5,N,10.2,K",
            {"course": 54.7, "course_magnetic": 34.4, "speed": 5.5, "speed_kmh": 10.2},
        ),
        ("GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1", {"fix_type": 3.0, "pdop": 2.5, "hdop": 1.3, "vdop": 2.1}),
        ("GLGSV,2,1,08,01,40,083,46", {"satellites_in_view.GL": 8.0}),
        ("HEHDT,274.1,T", {"heading": 274.1}),
        ("WIMWV,214.8,R,10.0,K,A", {"wind_angle": 214.8, "wind_speed": 10.0}),
        ("WIMWV,214.8,T,10.0,M,A", {"wind_angle_true": 214.8, "wind_speed_true": 10.0}),
        ("SDDPT,4.2,0.5", {"depth": 4.2, "depth_offset": 0.5}),
        ("YXMTW,17.8,C", {"water_temperature": 17.8}),
    ],
)
def test_a_sentence_has_its_values(body: str, expected: dict[str, float]) -> None:
    """Positions are degrees with a sign; no speed is converted."""
    content = values(body)
    assert content.values == [expected]
    assert content.refusals == []


def test_a_wind_speed_has_the_unit_of_its_sentence() -> None:
    """Another unit later is refused alone, because a metric has one unit."""
    content = values("WIMWV,214.8,R,0.1,K,A", "WIMWV,214.9,R,5.0,N,A", "WIMWV,215.0,R,6.0,X,A")
    assert content.values == [
        {"wind_angle": 214.8, "wind_speed": 0.1}, {"wind_angle": 214.9}, {"wind_angle": 215.0},
    ]  # fmt: skip
    assert content.reading.interpreter.metrics[""]["wind_speed"].unit == "km/h"
    assert [(refusal.line, refusal.code) for refusal in content.refusals] == [(2, "unit"), (3, "type")]


def test_the_time_of_day_gets_the_date_of_the_last_rmc() -> None:
    """Before the first date a sentence has the time of its arrival."""
    gga = "GPGGA,150001.25,5231.2,N,01324.3,E,1,08,0.9,34.5,M,45.0,M,,"
    content = values(gga, "GPRMC,150000,A,5231.2,N,01324.3,E,5.5,54.7,281126,,", gga)
    start = at("2026-11-28T15:00:00Z")
    assert content.times == [None, start, start + 1_250_000_000]


def test_a_wrong_checksum_costs_its_sentence() -> None:
    """The reason has both checksums."""
    content = read(sentence("HEHDT,90.0,T").replace("90", "91") + sentence("HEHDT,92.0,T"), format="nmea")
    assert content.column("heading") == [92.0]
    assert content.codes == [(1, "checksum")]


def test_a_wrong_field_costs_itself() -> None:
    """The neighbours of a broken latitude are stored."""
    content = values("GPRMC,150000,A,9931.2000,N,01324.3000,E,5.5,54.7,281126,,")
    assert content.values == [{"longitude": 13.405, "speed": 5.5, "course": 54.7}]
    assert [(r.metric, r.code) for r in content.refusals] == [("latitude", "type")]


def test_without_a_fix_there_is_no_position() -> None:
    """Receivers repeat the last position, or send zeros."""
    content = values(
        "GPRMC,150000,V,5231.2,N,01324.3,E,0.0,0.0,281126,,", "GPGGA,150001,0000.0,N,00000.0,E,0,00,99.9,,,,,,"
    )
    assert content.values == [{"fix_quality": 0.0, "satellites": 0.0}]


def test_other_lines_are_refused() -> None:
    """An unknown sentence is named."""
    content = read(f"{sentence('GPXYZ,1')}garbage\n", format="nmea")
    assert [r.code for r in content.refusals] == ["format", "syntax"]
    assert "XYZ" in content.refusals[0].reason


def test_a_sentence_behind_other_text_needs_a_checksum() -> None:
    """Loggers write the time before each sentence."""
    content = read("0000011 $GPHDT,71.25,T*3F\n15:00 $GPHDT,72.5,T\n", format="nmea")
    assert [code for _, code in content.codes] == ["checksum", "syntax"]
    assert read("0000011 $GPHDT,71.25,T*34\n").values == [{"heading": 71.25}]
