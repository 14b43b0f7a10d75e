"""Tasmota. Follows its documentation, "MQTT", "JSON Status Responses" and the pages of its sensors.

tele/<topic>/SENSOR, /STATE and /LWT; and stat/<topic>/RESULT, since a relay that is switched says so there at once and
in STATE only every few minutes. Its times are of a local clock unless it was told to write an offset (SetOption52) or
seconds since 1970 (Time 2 and 3): without them they are left out, and readings have the time at which the hub
received them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hub.mqtt.decoders.formats import flat, parsed
from hub.mqtt.decoders.record import Preset, Scalar, is_online, samples, switched
from hub.mqtt.message import Decoded, DevicePresence, Message, Undecodable, legal_device
from hub.mqtt.topics import TopicTemplate
from wire.timestamp import has_offset, looks_like_time, time_parser

TELEMETRY, RESULTS = "tele", "stat"
"""The prefixes that Tasmota has in the topics of what it measures and of what it was told to do."""

TIMES = ("Epoch", "Time")
"""Where the time is, the surest one first: Epoch stands beside Time with `Time 2`."""

UNIT_SETTINGS = {"TempUnit": "Temperature", "PressureUnit": "Pressure", "SpeedUnit": "Speed"}
"""Fields that tell the unit of others."""

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
"""Units by the name of a field, which may have a "." in it."""

_SAME_UNIT = {"DewPoint": "Temperature", "HeatIndex": "Temperature", "SeaPressure": "Pressure"}
_RELAY = re.compile(r"POWER\d*")
_read_time = time_parser()


class TasmotaDecoder:
    """Devices whose topics are a template with {device}, to which SENSOR, STATE and LWT are added.

    Where a level of the template is "tele", RESULT is taken of the topic that has "stat" in its place.
    """

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
        """Sensors, states, last wills, and results of commands."""
        names = self._names(topic)
        return names is not None and names.get("kind", "RESULT") in ("SENSOR", "STATE", "LWT", "RESULT")

    def wants_retained(self, topic: str) -> bool:
        """Whether a device is there."""
        return topic.endswith("/LWT")

    def decode(self, message: Message) -> list[Decoded]:
        """The values of a message, or whether the device is there. Raises Undecodable."""
        names = self._names(message.topic)
        if names is None or not message.payload:
            return []
        device = legal_device(names["device"])
        if names.get("kind") == "LWT":
            online = is_online(message.payload, b"online", b"offline")
            return [] if online is None else [DevicePresence(device, online)]
        content = parsed(message.payload)
        if not isinstance(content, dict):
            raise Undecodable("shape", "what a device says is an object of values")
        if "kind" not in names:
            # The answers to all commands come here; those that switched a relay are of what the device does.
            content = {name: value for name, value in content.items() if _RELAY.fullmatch(name)}
        values = flat(content)
        times = [_time(values.pop(name, None)) for name in TIMES]
        units = dict(UNITS)
        for setting, quantity in UNIT_SETTINGS.items():
            unit = values.pop(setting, None)
            if isinstance(unit, str):
                units[quantity] = f"°{unit}" if unit in ("C", "F") else unit
        return samples(
            device,
            {name: switched(value) for name, value in values.items()},
            lambda name: _unit(name, units),
            next((time_ns for time_ns in times if time_ns is not None), None),
        )

    def _names(self, topic: str) -> dict[str, str] | None:
        for template in reversed(self._topics):
            names = template.match(topic)
            if names is not None:
                return names
        return None


def _unit(name: str, units: Mapping[str, str]) -> str:
    """By the innermost part of a name that has one: of several phases ("ENERGY.Power.0"), of a wind's least and
    greatest speed ("TX23.Speed.Max")."""
    parts = name.split(".")
    while parts:
        for quantity in (".".join(parts[-2:]), parts[-1]):
            unit = units.get(_SAME_UNIT.get(quantity, quantity))
            if unit is not None:
                return unit
        parts.pop()
    return ""


def _time(value: Scalar | None) -> int | None:
    """The time where it is one of the whole world's, and not of a clock on a wall somewhere."""
    if value is None or (isinstance(value, str) and not has_offset(value)) or not looks_like_time(value):
        return None
    try:
        return _read_time(value)
    except ValueError as error:
        raise Undecodable("time", str(error)) from None


PRESET = Preset("tele", TasmotaDecoder)
