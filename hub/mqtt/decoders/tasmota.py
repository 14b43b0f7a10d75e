"""Preset for Tasmota. Follows its documentation, "MQTT", "JSON Status Responses" and the pages of its sensors.

Topics are tele/<topic>/SENSOR, /STATE and /LWT, and stat/<topic>/RESULT: a relay reports a switch there at once and in
STATE only every few minutes. Times are those of a local clock, unless the device is configured to send an offset
(SetOption52) or seconds since 1970 (Time 2 and 3). A local time is used if the settings of the bridge state its zone;
otherwise readings have the hub's time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from formats.names import legal_device
from formats.record import Note
from hub.mqtt.decoders.command import KnownCommands
from hub.mqtt.decoders.fields import (
    DEFAULT_CONTEXT,
    DecoderContext,
    PresetFields,
    Remembered,
    flat,
    parse_object,
    presence_of,
)
from hub.mqtt.decoders.tasmota_commands import COMMANDS, TasmotaCommand, tasmota_commands
from hub.mqtt.message import CommandDelivery, Decoded, Decoder, Message
from hub.mqtt.topics import TopicTemplate
from wire.device import Command
from wire.timestamp import has_offset

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


class TasmotaDecoder(Decoder):
    """Decoder for devices whose topics are a template with {device}, followed by SENSOR, STATE or LWT.

    If a level of the template is "tele", RESULT is read from the topic with "stat" in its place.
    """

    retained = ("/LWT",)

    def __init__(self, base: str, context: DecoderContext = DEFAULT_CONTEXT) -> None:
        self._fields = PresetFields(context)
        text = base if "{device}" in base else f"{base}/{{device}}"
        levels = text.split("/")
        self._topics = [TopicTemplate.parse(f"{text}/{{kind}}")]
        plain = TopicTemplate.parse(text).filter
        self.filters = [f"{plain}/{kind}" for kind in ("SENSOR", "STATE", "LWT")]
        self._commands: KnownCommands[TasmotaCommand] = KnownCommands()
        self._names_of: Remembered[str] = Remembered()
        self._command_topic: TopicTemplate | None = None
        if TELEMETRY in levels:
            place = levels.index(TELEMETRY)
            if context.commands_from:
                self._command_topic = TopicTemplate.parse("/".join((*levels[:place], COMMANDS, *levels[place + 1 :])))
            levels[place] = RESULTS
            self._topics.append(TopicTemplate.parse("/".join((*levels, "RESULT"))))
            self.filters.append(self._topics[1].filter)

    def takes(self, topic: str) -> bool:
        """Return whether the topic is a sensor, a state, a last will or a command result."""
        names = self._names(topic)
        return names is not None and names.get("kind", "RESULT") in ("SENSOR", "STATE", "LWT", "RESULT")

    def device_of(self, topic: str) -> str:
        """Return the device that the topic names."""
        names = self._names(topic)
        return "" if names is None else legal_device(names["device"])

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return the values of a message or the presence of a device. Raises Undecodable."""
        names = self._names(message.topic)
        if names is None or not message.payload:
            return []
        device = legal_device(names["device"])
        if names.get("kind") == "LWT":
            return presence_of(device, message.payload)
        content = parse_object(message.payload)
        found = self._learn(device, names["device"], content)
        if "kind" not in names:
            # The topic has the results of all commands. Only those of relays are states of the device.
            content = {name: value for name, value in content.items() if _RELAY.fullmatch(name)}
        values = flat(content)
        times = [values.pop(name, None) for name in TIMES]
        time = next((time for time in times if self._is_time(time)), None)
        units = dict(UNITS)
        for setting, quantity in UNIT_SETTINGS.items():
            unit = values.pop(setting, None)
            if isinstance(unit, str):
                units[quantity] = f"°{unit}" if unit in ("C", "F") else unit
        found += self._fields.read(
            device, values, message, units={name: _unit(name, units) for name in values}, time=time
        )
        return found

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the message that sets a value of a device."""
        known, name = self._commands.get(device, command.name), self._names_of.get(device)
        if known is None or name is None or self._command_topic is None:
            return None
        names = {"device": name}
        return known.delivery(self._command_topic.fill(names), self._topics[1].fill(names), command)

    def _learn(self, device: str, name: str, content: Mapping[str, object]) -> list[Decoded]:
        """Return the commands that a device has because it reports these fields, those that are new."""
        if self._command_topic is None:
            return []
        if self._names_of.get(device) != name:
            self._names_of[device] = name
        unknown = [field for field in content if self._commands.get(device, f"set_{field}") is None]
        return self._commands.add(device, tasmota_commands(unknown)) if unknown else []

    def _is_time(self, time: object) -> bool:
        """Return whether it is a time with an offset, or a local time of a known zone."""
        if isinstance(time, str):
            return has_offset(time) or (self._fields.has_zone and ":" in time)
        return isinstance(time, int) and not isinstance(time, bool)

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
