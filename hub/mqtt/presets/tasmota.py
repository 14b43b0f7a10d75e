"""Tasmota. Follows its documentation, "MQTT" and "Commands": tele/<topic>/SENSOR, /STATE and /LWT.

Its times are of a local clock unless it was told to write an offset (command Time): without one they are left out, and
readings have the time at which the hub received them.
"""

from __future__ import annotations

from hub.mqtt.payload.json import flat, parsed
from hub.mqtt.payload.moment import has_offset, looks_like_time, time_reader
from hub.mqtt.payload.record import Scalar
from hub.mqtt.presets.preset import Preset, is_online, samples, switched
from hub.mqtt.reading import Found, Message, Presence, Undecodable, legal_device
from hub.mqtt.topics import TopicTemplate

TIME = "Time"
UNIT_SETTINGS = {"TempUnit": "Temperature", "PressureUnit": "Pressure", "SpeedUnit": "Speed", "MassUnit": "Weight"}
"""Fields that tell the unit of others."""

UNITS = {
    "Humidity": "%",
    "Illuminance": "lx",
    "CarbonDioxide": "ppm",
    "eCO2": "ppm",
    "TVOC": "ppb",
    "Power": "W",
    "ApparentPower": "VA",
    "ReactivePower": "var",
    "Voltage": "V",
    "Current": "A",
    "Frequency": "Hz",
    "Total": "kWh",
    "Today": "kWh",
    "Yesterday": "kWh",
    "Distance": "cm",
    "Signal": "dBm",
    "UptimeSec": "s",
}
"""Units by the last part of a name."""

_SAME_UNIT = {"DewPoint": "Temperature", "SeaPressure": "Pressure"}
_read_time = time_reader()


class TasmotaDecoder:
    """Devices whose topics are a template with {device}, to which SENSOR, STATE and LWT are added."""

    def __init__(self, base: str) -> None:
        text = base if "{device}" in base else f"{base}/{{device}}"
        self._topic = TopicTemplate.parse(f"{text}/{{kind}}")
        plain = TopicTemplate.parse(text).filter
        self.filters = [f"{plain}/{kind}" for kind in ("SENSOR", "STATE", "LWT")]

    def takes(self, topic: str) -> bool:
        """Sensors, states and last wills."""
        return topic.endswith(("/SENSOR", "/STATE", "/LWT")) and self._topic.match(topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """Whether a device is there."""
        return topic.endswith("/LWT")

    def decode(self, message: Message) -> list[Found]:
        """The values of a message, or whether the device is there. Raises Undecodable."""
        names = self._topic.match(message.topic)
        if names is None or not message.payload:
            return []
        device = legal_device(names["device"])
        if names["kind"] == "LWT":
            online = is_online(message.payload, b"online", b"offline")
            return [] if online is None else [Presence(device, online)]
        content = parsed(message.payload)
        if not isinstance(content, dict):
            raise Undecodable("shape", "a device's telemetry is an object of values")
        values = flat(content)
        time_ns = _time(values.pop(TIME, None))
        units = dict(UNITS)
        for setting, quantity in UNIT_SETTINGS.items():
            unit = values.pop(setting, None)
            if isinstance(unit, str):
                units[quantity] = f"°{unit}" if unit in ("C", "F") else unit

        def unit_of(name: str) -> str:
            last = name.rpartition(".")[2]
            return units.get(_SAME_UNIT.get(last, last), "")

        return samples(device, {name: switched(value) for name, value in values.items()}, unit_of, time_ns)


def _time(value: Scalar | None) -> int | None:
    """The time where it is one of the whole world's, and not of a clock on a wall somewhere."""
    if value is None or (isinstance(value, str) and not has_offset(value)) or not looks_like_time(value):
        return None
    try:
        return _read_time(value)
    except ValueError as error:
        raise Undecodable("time", str(error)) from None


PRESET = Preset("tele", TasmotaDecoder)
