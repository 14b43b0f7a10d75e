"""Messages of rtl_433 and OpenMQTTGateway: device, time and units."""

from __future__ import annotations

import json
from typing import Any

import pytest

from formats.rtl_433 import is_rtl_433, unit_of
from tests.formats.reading_of import at, read

THERMOMETER = {
    "time": "2026-11-28 16:05:42", "model": "Nexus-TH", "id": 144, "channel": 2, "battery_ok": 1,
    "temperature_C": 16.4, "humidity": 40, "mic": "CRC", "mod": "ASK", "freq": 433.921, "rssi": -0.11, "snr": 26.5,
}  # fmt: skip


def lines(*messages: dict[str, Any]) -> str:
    return "".join(json.dumps(message) + "\n" for message in messages)


def test_a_message_has_its_device_time_and_units() -> None:
    """The time is local; the descriptions of the device and the transmission are no readings."""
    content = read(lines(THERMOMETER), zone="Europe/Berlin")
    assert content.reading.detection is not None
    assert content.reading.detection.format == "rtl_433"
    assert content.rows[0].device == "Nexus-TH-144-2"
    assert content.times == [at("2026-11-28T15:05:42Z")]
    assert content.values == [
        {"battery_ok": 1.0, "temperature_C": 16.4, "humidity": 40.0, "freq": 433.921, "rssi": -0.11, "snr": 26.5}
    ]
    known = content.reading.interpreter.metrics["Nexus-TH-144-2"].values()
    units = {series.metric: series.unit for series in known if series.type is not None}
    assert units == {
        "battery_ok": "", "temperature_C": "°C", "humidity": "%", "freq": "MHz", "rssi": "dB", "snr": "dB",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identity", "device"),
    [
        ({"model": "Prologue-TH", "id": 9}, "Prologue-TH-9"),
        ({"model": "Acurite-Tower", "id": 12115, "channel": "A"}, "Acurite-Tower-12115-A"),
        ({"model": "Generic-Remote", "channel": 3}, "Generic-Remote-3"),
        ({"model": "LYWSD03MMC", "id": "a4:c1:38:00:00:01"}, "A4C138000001"),
    ],
)
def test_the_device_is_model_id_and_channel(identity: dict[str, Any], device: str) -> None:
    """A Bluetooth address is unique without them."""
    assert read(lines({**identity, "battery_ok": 1, "temperature_C": 5.5})).rows[0].device == device


def test_a_rule_names_the_device_from_the_same_fields() -> None:
    """Two sensors on one topic are two devices by default, and by a template."""
    content = read(lines(THERMOMETER, {**THERMOMETER, "id": 145}), device="{model}-{id}")
    assert [row.device for row in content.rows] == ["Nexus-TH-144", "Nexus-TH-145"]


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-28T15:05:42Z", at("2026-11-28T15:05:42Z")),
        ("2026-11-28 15:05:42.500000", at("2026-11-28T15:05:42Z") + 500_000_000),
        ("1795881942.5", at("2026-11-28T16:05:42Z") + 500_000_000),
        ("@1.375s", None),
    ],
)
def test_every_form_of_the_time_is_read(time: str, expected: int | None) -> None:
    """The position in a replayed recording is no time: the message has that of its arrival."""
    content = read(lines({**THERMOMETER, "time": time}))
    assert content.times == [expected]
    assert "time" not in content.values[0]


def test_codes_stay_texts() -> None:
    """Hexadecimal digits can look like a number."""
    content = read(lines({"model": "Generic-Remote", "id": 5, "mic": "CRC", "data": "12340000", "code": "1234"}))
    assert content.values == [{"data": "12340000", "code": "1234"}]


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        ("temperature_1_C", "°C"), ("wind_avg_km_h", "km/h"), ("wind_avg_m_s", "m/s"), ("rain_rate_mm_h", "mm/h"),
        ("pressure_hPa", "hPa"), ("pm2_5_ug_m3", "µg/m³"), ("battery_mV", "mV"), ("total_kWh", "kWh"), ("tempc", "°C"),
        ("battery_ok", ""), ("wind_dir_deg", "°"), ("_C", ""), ("counter", ""),
    ],
)  # fmt: skip
def test_the_end_of_a_name_is_the_unit(field: str, unit: str) -> None:
    """The longest end counts: km/h, not an hour."""
    assert unit_of(field) == unit


@pytest.mark.parametrize(
    "content",
    [
        [THERMOMETER],
        {"model": "SNSW-001", "id": "shelly-1", "gen": 2, "apower": 5.5},
        {"model": "X", "temperature_C": 5.5},
        {"model": 5, "id": 5, "temperature_C": 5.5},
        {"id": 5, "temperature_C": 5.5},
        {"model": "X", "id": 5, "note_C": "text"},
    ],
)
def test_other_json_is_no_message(content: object) -> None:
    """A model and an id alone are in many messages."""
    assert not is_rtl_433(content)


def test_one_message_of_another_kind_costs_nothing() -> None:
    """A declared format reads what has no model, too; what is no object is refused."""
    content = read(lines({"temperature_C": 5.5}) + "21.5\n", format="rtl_433")
    assert content.values == [{"temperature_C": 5.5}]
    assert content.codes == [(2, "syntax")]
