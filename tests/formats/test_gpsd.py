"""Reports of gpsd: metrics with units, times, and what has no readings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from formats.gpsd import MAX_RECEIVERS, GpsdReader, is_gpsd
from formats.record import TextFrame
from tests.formats.reading_of import at, read

VERSION = {"class": "VERSION", "release": "3.25", "rev": "3.25", "proto_major": 3, "proto_minor": 15}
DEVICES = {"class": "DEVICES", "devices": [{"class": "DEVICE", "path": "/dev/ttyACM0", "activated": "2026-11-28T"}]}
POSITION = {
    "class": "TPV", "device": "/dev/ttyACM0", "mode": 3, "time": "2026-11-28T15:05:42.000Z", "leapseconds": 18,
    "ept": 0.005, "lat": 59.4372, "lon": 24.7454, "altHAE": 37.2, "altMSL": 19.1, "alt": 19.1, "epx": 6.003,
    "epy": 6.508, "epv": 27.37, "track": 92.5, "magvar": 9.1, "speed": 1.25, "climb": 0.009, "eps": 13.02,
    "geoidSep": 18.1, "eph": 12.73, "sep": 26.03,
}  # fmt: skip
SKY = {
    "class": "SKY", "device": "/dev/ttyACM0", "hdop": 0.67, "vdop": 1.19, "pdop": 1.37, "nSat": 3, "uSat": 2,
    "satellites": [{"PRN": 2, "el": 60, "az": 130, "ss": 41, "used": True}, {"PRN": 5, "used": True}, {"PRN": 7}],
}  # fmt: skip


def lines(*reports: dict[str, Any]) -> str:
    return "".join(json.dumps(report) + "\r\n" for report in reports)


def test_a_position_has_its_time_and_units() -> None:
    """The format is detected although the first reports have no readings; names are those of NMEA 0183."""
    content = read(lines(VERSION, DEVICES, POSITION, SKY), device="boat")
    assert content.reading.detection is not None
    assert content.reading.detection.format == "gpsd"
    assert content.refusals == []
    assert content.values == [
        {
            "latitude": 59.4372, "longitude": 24.7454, "altitude": 19.1, "altitude_ellipsoid": 37.2,
            "geoid_separation": 18.1, "speed": 1.25, "course": 92.5, "climb": 0.009, "magnetic_variation": 9.1,
            "latitude_error": 6.508, "longitude_error": 6.003, "altitude_error": 27.37, "position_error": 12.73,
            "position_error_3d": 26.03, "speed_error": 13.02, "time_error": 0.005, "fix_type": 3.0,
        },
        {"satellites_in_view": 3.0, "satellites": 2.0, "hdop": 0.67, "vdop": 1.19, "pdop": 1.37},
    ]  # fmt: skip
    assert content.times == [at("2026-11-28T15:05:42Z")] * 2
    units = {series.metric: series.unit for series in content.reading.interpreter.metrics["boat"].values()}
    assert (units["latitude"], units["speed"], units["course"], units["altitude"], units["hdop"]) == (
        "°", "m/s", "°", "m", "",
    )  # fmt: skip


@pytest.mark.parametrize("mode", [{}, {"mode": 0}, {"mode": 1}, {"mode": "3"}])
def test_a_receiver_without_a_position_has_no_time(mode: dict[str, Any]) -> None:
    """Its clock may be wrong: the time is that of the arrival, also of the sky, until there is a position again."""
    lost = {"class": "TPV", "device": "/dev/ttyACM0", "time": "2006-04-08T00:00:00Z", "epx": 900.0, **mode}
    sky = {**SKY, "time": "2006-04-08T00:00:00Z"}
    content = read(lines(sky, POSITION, SKY, lost, sky, POSITION, SKY), device="boat")
    now = at("2026-11-28T15:05:42Z")
    assert content.times == [None, now, now, None, None, now, now]


def test_older_versions_have_other_fields() -> None:
    """Before 3.20 the altitude is `alt`, and before 3.22 nothing counts the satellites."""
    old = {"class": "TPV", "mode": 3, "time": "2026-11-28T15:05:42Z", "alt": 19.1}
    sky = {"class": "SKY", "time": "2026-11-28T15:05:43Z", "satellites": SKY["satellites"]}
    content = read(lines(old, sky), device="boat")
    assert content.values == [
        {"fix_type": 3.0, "altitude": 19.1},
        {"satellites_in_view": 3.0, "satellites": 2.0},
    ]
    assert content.times == [at("2026-11-28T15:05:42Z"), at("2026-11-28T15:05:43Z")]


def test_what_is_no_report_is_refused() -> None:
    """A wrong value costs itself; another class has no readings and is no refusal."""
    pulse = {"class": "PPS", "device": "/dev/ttyACM0", "real_sec": 1, "clock_sec": 1}
    wrong = {**POSITION, "lat": "north"}
    text = lines(pulse, wrong) + '{"lat": 1}\n[1]\n{"class": 3}\nnoise\n'
    content = read(text, format="gpsd", device="boat")
    assert [(refusal.code, refusal.metric) for refusal in content.refusals] == [
        ("type", "latitude"), ("syntax", ""), ("syntax", ""), ("syntax", ""), ("syntax", ""),
    ]  # fmt: skip
    assert content.column("longitude") == [24.7454]


def test_receivers_are_bounded() -> None:
    """A sender of reports of ever new receivers costs no memory."""
    reader = GpsdReader()
    for number in range(MAX_RECEIVERS * 10):
        report = json.dumps({**POSITION, "device": f"/dev/{number}"}).encode()
        assert len(list(reader.feed([TextFrame(1, report)]))) == 1
    assert len(reader._times) <= MAX_RECEIVERS


def test_other_json_is_not_of_gpsd() -> None:
    """A class alone is not enough: it is one of gpsd's."""
    assert is_gpsd(POSITION)
    assert not any(is_gpsd(content) for content in ({"class": "kitchen", "t": 1}, {"t": 1}, [POSITION], "TPV"))
