"""Preset for Tasmota. Follows its documentation, "MQTT", "JSON Status Responses" and the pages of its sensors.

Topics are tele/<topic>/SENSOR, /STATE and /LWT, and stat/<topic>/RESULT: a relay reports a switch there at once and in
STATE only every few minutes. Times are those of a local clock, unless the device is configured to send an offset
(SetOption52) or seconds since 1970 (Time 2 and 3). Local times are ignored; readings then have the hub's time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from formats.names import legal_device
from hub.mqtt.decoders.formats import flatten, parse_object
from hub.mqtt.decoders.record import Scalar, parse_on_off, presence_of, readings_of, time_reader
from hub.mqtt.message import Decoded, Decoder, Message
from hub.mqtt.topics import TopicTemplate
from wire.timestamp import has_offset, looks_like_time

TELEMETRY, RESULTS = "tele", "stat"
"""Topic prefixes of measurements and of command results."""

TIMES = ("Epoch", "Time")
"""Fields with the time, the most reliable first. `Time 2` sends Epoch beside Time."""

UNIT_SETTINGS = {"TempUnit": "Temperature", "PressureUnit": "Pressure", "SpeedUnit": "Speed"}
"""Fields that contain the unit of others."""

UNITS = {
    "Humidity": "%",
    "Moisture": "%",
    "Battery": "%",
    "Illuminance": "lx",
    "Ambient": "lx",
    "CarbonDioxide": "ppm",
    "eCO2": "ppm",
    "TVOC": "ppb",
    "Gas": "kΩ",
    **dict.fromkeys(("PM1", "PM2.5", "PM10", "CF1", "CF2.5", "CF10"), "µg/m³"),
    **dict.fromkeys(("Power", "ActivePower"), "W"),
    "ApparentPower": "VA",
    "ReactivePower": "var",
    **dict.fromkeys(("Voltage", "Vcc"), "V"),
    **dict.fromkeys(("Current", "CurrentNeutral"), "A"),
    "Frequency": "Hz",
    **dict.fromkeys(("Total", "TotalTariff", "Today", "Yesterday", "Energy"), "kWh"),
    **dict.fromkeys(("ImportActive", "ExportActive", "ExportTariff"), "kWh"),
    **dict.fromkeys(("ImportReactive", "ExportReactive"), "kvarh"),
    "Period": "Wh",
    **dict.fromkeys(("PhaseAngle", "Deg"), "°"),
    "Distance": "cm",
    "Weight": "kg",
    "Signal": "dBm",
    "UptimeSec": "s",
}
"""Units by field name. A name may contain a "."."""

_SAME_UNIT = {"DewPoint": "Temperature", "HeatIndex": "Temperature", "SeaPressure": "Pressure"}
_RELAY = re.compile(r"POWER\d*")
_read_time = time_reader()


class TasmotaDecoder(Decoder):
    """Decoder for devices whose topics are a template with {device}, followed by SENSOR, STATE or LWT.

    If a level of the template is "tele", RESULT is read from the topic with "stat" in its place.
    """

    retained = ("/LWT",)

    def __init__(self, base: str) -> None:
        text = base if "{device}" in base else f"{base}/{{device}}"
        levels = text.split("/")
        self._topics = [TopicTemplate.parse(f"{text}/{{kind}}")]
        plain = TopicTemplate.parse(text).filter
        self.filters = [f"{plain}/{kind}" for kind in ("SENSOR", "STATE", "LWT")]
        if TELEMETRY in levels:
            levels[levels.index(TELEMETRY)] = RESULTS
            self._topics.append(TopicTemplate.parse("/".join((*levels, "RESULT"))))
            self.filters.append(self._topics[1].filter)

    def takes(self, topic: str) -> bool:
        """Return whether the topic is a sensor, a state, a last will or a command result."""
        names = self._names(topic)
        return names is not None and names.get("kind", "RESULT") in ("SENSOR", "STATE", "LWT", "RESULT")

    def decode(self, message: Message) -> list[Decoded]:
        """Return the values of a message or the presence of a device. Raises Undecodable."""
        names = self._names(message.topic)
        if names is None or not message.payload:
            return []
        device = legal_device(names["device"])
        if names.get("kind") == "LWT":
            return presence_of(device, message.payload)
        content = parse_object(message.payload)
        if "kind" not in names:
            # The topic has the results of all commands. Only those of relays are states of the device.
            content = {name: value for name, value in content.items() if _RELAY.fullmatch(name)}
        values = flatten(content)
        times = [_time(values.pop(name, None)) for name in TIMES]
        units = dict(UNITS)
        for setting, quantity in UNIT_SETTINGS.items():
            unit = values.pop(setting, None)
            if isinstance(unit, str):
                units[quantity] = f"°{unit}" if unit in ("C", "F") else unit
        return readings_of(
            device,
            {name: parse_on_off(value) for name, value in values.items()},
            lambda name: _unit(name, units),
            next((time_ns for time_ns in times if time_ns is not None), None),
        )

    def _names(self, topic: str) -> dict[str, str] | None:
        found = (template.match(topic) for template in reversed(self._topics))
        return next((names for names in found if names is not None), None)


def _unit(name: str, units: Mapping[str, str]) -> str:
    """Return the unit of the innermost part of a name that has one.

    Examples: "ENERGY.Power.0" for one of several phases, "TX23.Speed.Max" for the greatest wind speed.
    """
    parts = name.split(".")
    while parts:
        for quantity in (".".join(parts[-2:]), parts[-1]):
            unit = units.get(_SAME_UNIT.get(quantity, quantity))
            if unit is not None:
                return unit
        parts.pop()
    return ""


def _time(value: Scalar | None) -> int | None:
    """Return the time, or None for a local time without an offset."""
    if value is None or (isinstance(value, str) and not has_offset(value)) or not looks_like_time(value):
        return None
    return _read_time(value)
