"""JSON of rtl_433 and OpenMQTTGateway: messages of radio sensors, after rtl_433's document "JSON Data fields".

The device is the model, the id and the channel of a message, and units are the ends of the names, as in
`temperature_C`. OpenMQTTGateway sends the same fields, and those of Bluetooth sensors with their address as the id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from formats.json_text import documents, flat_values
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of
from wire.limits import MAX_METRIC_NAME
from wire.model import MetricType

IDENTITY = ("model", "id", "channel")
"""Fields that identify the device, in the order of its name."""

_NAMES = frozenset((*IDENTITY, "type", "subtype", "mic", "mod", "protocol", "brand", "model_id", "mac", "mac_type"))
"""Fields that describe the device or the transmission; they are no readings."""

_UNIT_SUFFIXES = {
    "km_h": "km/h", "mi_h": "mph", "m_s": "m/s", "mm_h": "mm/h", "in_h": "in/h", "ug_m3": "µg/m³", "inHg": "inHg",
    "C": "°C", "F": "°F", "hPa": "hPa", "kPa": "kPa", "PSI": "psi", "psi": "psi", "mm": "mm", "cm": "cm", "m": "m",
    "km": "km", "in": "in", "m3": "m³", "ft3": "ft³", "deg": "°", "V": "V", "mV": "mV", "A": "A", "mA": "mA",
    "W": "W", "kW": "kW", "VA": "VA", "Wh": "Wh", "kWh": "kWh", "Hz": "Hz", "MHz": "MHz", "dB": "dB", "lux": "lx",
    "ppm": "ppm", "ppb": "ppb", "pct": "%", "s": "s", "ms": "ms", "kg": "kg",
}  # fmt: skip
"""Units by the last words of a field."""

_UNITS = {
    "humidity": "%", "moisture": "%", "freq": "MHz", "freq1": "MHz", "freq2": "MHz", "snr": "dB", "noise": "dB",
    "tempc": "°C", "tempf": "°F", "hum": "%", "batt": "%", "volt": "V", "pres": "hPa", "lux": "lx", "moi": "%",
    "fer": "µS/cm", "co2": "ppm", "pm25": "µg/m³", "pm10": "µg/m³",
    "distance": "m", "txpower": "dBm",
}  # fmt: skip
"""Units of fields without one in their name: those from the second line on are of Bluetooth sensors."""

_TYPES: dict[str, MetricType] = dict.fromkeys(
    ("code", "codes", "data", "msg", "raw_msg", "servicedata", "servicedatauuid", "manufacturerdata", "mfid", "uuid"),
    "string",
)
"""Texts of hexadecimal digits, some of which look like numbers."""

_MARKS = frozenset(("mic", "battery_ok", "mod"))
"""Fields that only this JSON has beside a model."""

_BLUETOOTH_MARKS = frozenset(("servicedata", "manufacturerdata", "model_id", "mac_type", "tempc"))
"""Fields that only this JSON has beside an address and the strength of its signal."""

_ADDRESS = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_SUFFIX = re.compile(r".+?_(" + "|".join(sorted(_UNIT_SUFFIXES, key=len, reverse=True)) + ")")


def is_rtl_433(content: object) -> bool:
    """Return whether JSON is a message of a radio sensor.

    It has a model with an id or a channel, or a Bluetooth address with a strength, and a field of these programs.
    """
    if not isinstance(content, dict):
        return False
    if isinstance(id := content.get("id"), str) and "rssi" in content and _ADDRESS.fullmatch(id):
        return not _BLUETOOTH_MARKS.isdisjoint(content)
    if not isinstance(content.get("model"), str):
        return False
    if not any(isinstance(content.get(name), str | int) for name in ("id", "channel")):
        return False
    return not _MARKS.isdisjoint(content) or any(
        isinstance(value, int | float) and len(name) <= MAX_METRIC_NAME and _SUFFIX.fullmatch(name)
        for name, value in content.items()
    )


def read_rtl_433(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record for each message in the frames, or the refusal of a frame."""
    for frame in frames:
        try:
            for content in documents(frame.raw, keeps_repeated=True):
                for item in content if isinstance(content, list) else [content]:
                    yield _record(frame, item)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def _record(frame: TextFrame, content: object) -> InputRecord:
    if not isinstance(content, dict):
        raise FrameRefused("syntax", "the JSON is not an object, as each message of rtl_433 is")
    names = {name: str(value) for name in _NAMES if isinstance(value := content.get(name), str | int)}
    values, refused = flat_values(content)
    values = {name: value for name, value in values.items() if name not in names}
    if str(values.get("time", "")).startswith("@"):
        # rtl_433 replays a recording: the position in the recording is no time.
        del values["time"]
    units = {name: unit for name in values if len(name) <= MAX_METRIC_NAME and (unit := unit_of(name))}
    if "rssi" in values:
        # rtl_433 measures against full scale, and reports the ratio to the noise beside it; the others report power.
        units["rssi"] = "dB" if "snr" in values else "dBm"
    schema = Schema(units, _TYPES, device=_device(names))
    return InputRecord(frame.line, frame.raw, values, schema, names=names, refused=refused)


def _device(names: dict[str, str]) -> str:
    """Return the name of the device. A Bluetooth address is unique, and some messages of a device have no model."""
    id = names.get("id", "")
    if _ADDRESS.fullmatch(id):
        return id.replace(":", "").upper()
    return "-".join(names[name] for name in IDENTITY if names.get(name))


@lru_cache(maxsize=4096)
def unit_of(name: str) -> str:
    """Return the unit of a field, "" for none."""
    found = _SUFFIX.fullmatch(name)
    return _UNIT_SUFFIXES[found[1]] if found else _UNITS.get(name, "")
