"""Preset for Shelly. Follows its API documentation: for Gen1 "MQTT Support" and each device's "MQTT"; for Gen2 and
later "MQTT", "Notifications" and the pages of the components.

Gen1 publishes single values below shellies/<device>/. Later generations publish below their id or a prefix of their
own, which is the device here: changes in events/rpc, whole components in status/<component>, the presence in online. A
prefix that does not begin with "shelly" is recognised by a notification or by the status of a component.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from formats.names import legal_device
from formats.record import Note
from hub.mqtt.decoders.command import KnownCommands
from hub.mqtt.decoders.fields import (
    DEFAULT_CONTEXT,
    WORDS,
    DecoderContext,
    PresetFields,
    Remembered,
    flat,
    object_at,
    parse_json,
    presence_of,
    text_of,
)
from hub.mqtt.decoders.shelly_commands import ShellyCommand, answer_of, component_commands, gen1_commands
from hub.mqtt.message import CommandAnswer, CommandDelivery, Decoded, Decoder, Message, Undecodable
from wire.device import Command
from wire.model import MetricType

UNITS = {
    **dict.fromkeys(("power", "apower", "act_power", "overpower_value"), "W"),
    "aprt_power": "VA",
    "reactive_power": "var",
    **dict.fromkeys(("voltage", "V", "adc"), "V"),
    "current": "A",
    "freq": "Hz",
    **dict.fromkeys(("temperature", "ext_temperature", "tC"), "°C"),
    **dict.fromkeys(("temperature_f", "ext_temperature_f", "tF"), "°F"),
    **dict.fromkeys(("humidity", "ext_humidity", "rh"), "%"),
    **dict.fromkeys(("battery", "percent", "brightness", "pos", "current_pos", "target_pos"), "%"),
    "lux": "lx",
    "tilt": "°",
    "concentration": "ppm",
    "rssi": "dBm",
    "uptime": "s",
}
"""Units by the last part of a name that is not a number."""

ENERGY_GEN1 = {"energy": "W·min", "returned_energy": "W·min", "total": "Wh", "total_returned": "Wh"}
ENERGY = dict.fromkeys(("total_act", "total_act_ret", "total_act_energy", "total_act_ret_energy"), "Wh")

SENSOR_TEMPERATURE = "sensor.temperature"
"""Metric of Gen1 battery devices. Its unit is a setting of the device."""

TEXTS: dict[str, MetricType] = {"sensor.gas": "string"}
"""Metrics of Gen1 with words, of which "none" is one."""

INVALID = {"ext_temperature": 999, "ext_temperature_f": 999, "ext_humidity": 999, "pos": -1, "concentration": -1}
"""Values that Gen1 devices send instead of a missing value, by the last part of a name that is not a number."""

HOUSEKEEPING = frozenset(("announce", "command", "rpc", "set", "settings", "act_reasons"))
"""Topic levels that contain no measurement."""

TWICE = frozenset(("ext_temperatures", "ext_temperatures_f", "ext_humidities"))
"""Gen1 topics that repeat the values of other topics."""

KEPT = {"wifi": frozenset(("rssi",)), "sys": frozenset(("uptime",))}
"""Fields that are read from components for housekeeping. All other fields and components of OWN are ignored."""
OWN = frozenset(("wifi", "sys", "cloud", "mqtt", "ws", "ble", "bthome", "eth", "knx", "matter", "ht_ui", "plugs_ui"))

_COMPONENT = re.compile(r"[a-z][a-z0-9_]*(:\d+)?")
_UNSTEADY = re.compile(
    r"id|source|.*\b(by_minute\.\d+|minute_ts)|([abcn]_)?(errors|flags)\.\d+|user_calibrated_phase\.\d+|"
    r"(has_)?timer.*|move_.*|transition\..*"
)
"""Fields that are not measurements, or that are not always present."""
_PHASE = re.compile(r"([abcn]|total)_")
"""Prefix of a quantity of one phase, of the neutral conductor, or of all phases."""


class ShellyDecoder(Decoder):
    """Decoder for devices of all generations, Gen1 below a base topic.

    It remembers which devices send notifications, because their component status repeats the same values, which Gen1
    devices measure in °F, which other prefixes belong to devices, and the presence of those that may be one.
    """

    retained = ("/online", "/info")

    def __init__(self, base: str, context: DecoderContext = DEFAULT_CONTEXT) -> None:
        self._fields = PresetFields(context)
        self._base = base
        self._prefixes: Remembered[bool] = Remembered()
        self._presences: Remembered[bytes] = Remembered()
        self.filters = [f"{base}/#", "+/status/+", "+/events/rpc", "+/online"]
        self._source = context.commands_from
        if self._source:
            self.filters.append(f"{self._source}/+/rpc")
        self._commands: KnownCommands[ShellyCommand] = KnownCommands()
        self._prefix_of: Remembered[str] = Remembered()
        self._notifying: Remembered[bool] = Remembered()
        self._units: Remembered[str] = Remembered()

    def takes(self, topic: str) -> bool:
        """Return whether the topic has the form of Shelly. `decode` ignores messages of other programs."""
        levels = topic.split("/")
        return (
            topic.startswith(f"{self._base}/")
            or (len(levels) == 3 and (levels[1] == "status" or levels[1:] == ["events", "rpc"]))
            or (len(levels) == 2 and levels[1] == "online")
            or self._is_answer(levels)
        )

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the request to a device, which answers below the hub's own topic."""
        known, prefix = self._commands.get(device, command.name), self._prefix_of.get(device)
        return None if known is None or prefix is None else known.delivery(prefix, f"{self._source}/{device}", command)

    def _is_answer(self, levels: Sequence[str]) -> bool:
        return bool(self._source) and len(levels) == 3 and (levels[0], levels[2]) == (self._source, "rpc")

    def _learn(self, device: str, prefix: str, commands: Sequence[ShellyCommand]) -> list[Decoded]:
        """Return the commands of a device with this prefix of its topics that are new."""
        if not self._source or not commands:
            return []
        if self._prefix_of.get(device) != prefix:
            self._prefix_of[device] = prefix
        return self._commands.add(device, commands)

    def device_of(self, topic: str) -> str:
        """Return the device that the topic names."""
        return legal_device(topic.removeprefix(f"{self._base}/").partition("/")[0])

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return the values of a message or the presence of a device. Raises Undecodable."""
        levels = message.topic.split("/")
        if self._is_answer(levels):
            answer = answer_of(message.payload)
            return [] if answer is None else [CommandAnswer(levels[1], *answer)]
        topic = message.topic.removeprefix(f"{self._base}/")
        name, _, rest = topic.partition("/")
        if not rest or not name or not message.payload:
            return []
        prefix = message.topic.removesuffix(f"/{rest}")
        device = legal_device(name)
        levels = rest.split("/")
        is_own = topic != message.topic or name.lower().startswith("shelly")
        if rest == "online":
            return self._presence(device, message.payload, is_known=is_own or device in self._prefixes)
        if rest == "events/rpc":
            found = self._notification(device, message)
            params = object_at(parse_json(message.payload), "params") or {} if self._source else {}
            found += self._learn(device, prefix, component_commands(params))
            return found if is_own else [*self._register(device), *found]
        if levels[0] == "status" and len(levels) == 2 and _COMPONENT.fullmatch(levels[1]):
            if not is_own and device not in self._prefixes and not _is_component(levels[1], message.payload):
                return []
            found = [] if is_own else self._register(device)
            found += self._learn(device, prefix, component_commands([levels[1]]))
            if device not in self._notifying:
                found += self._read(device, _component(levels[1], parse_json(message.payload)), message)
            return found
        if topic == message.topic or not HOUSEKEEPING.isdisjoint(levels) or levels[0] in TWICE:
            return []
        if rest == "info":
            # The status of a Gen1 device contains the unit of its temperature.
            measured = object_at(parse_json(message.payload), "tmp") or {}
            if measured.get("units") in ("C", "F"):
                self._units[device] = measured["units"]
            return []
        values = _single(levels, message.payload)
        units = {name: self._unit_gen1(device, name) for name in values}
        return [
            *self._learn(device, prefix, gen1_commands(levels)),
            *self._fields.read(device, values, message, units=units, types=TEXTS, truths=WORDS),
        ]

    def _read(self, device: str, values: dict[str, Any], message: Message, time: object = None) -> list[Decoded]:
        units = {name: _unit(name) for name in values}
        return self._fields.read(device, values, message, units=units, truths={}, time=time)

    def _register(self, device: str) -> list[Decoded]:
        """Remember a device with a prefix of its own, and return the presence that arrived before."""
        if device in self._prefixes:
            return []
        self._prefixes[device] = True
        return presence_of(device, self._presences.pop(device, b""), "true", "false")

    def _presence(self, device: str, payload: bytes, *, is_known: bool) -> list[Decoded]:
        """Return the presence of a known device. Other programs may publish such a topic, too."""
        if is_known:
            return presence_of(device, payload, "true", "false")
        if payload in (b"true", b"false"):
            self._presences[device] = payload
        return []

    def _unit_gen1(self, device: str, name: str) -> str:
        if name == SENSOR_TEMPERATURE and self._units.get(device) == "F":
            return UNITS["temperature_f"]
        last = _last(name)
        return ENERGY_GEN1.get(last) or UNITS.get(last, "")

    def _notification(self, device: str, message: Message) -> list[Decoded]:
        content: Any = parse_json(message.payload)
        params = object_at(content, "params")
        if params is None:
            raise Undecodable("shape", "a notification must be an object with a method and params")
        self._notifying[device] = True
        time = params.get("ts")
        match content.get("method"):
            case "NotifyStatus" | "NotifyFullStatus":
                values: dict[str, Any] = {}
                for component, status in params.items():
                    if component != "ts":
                        values.update(_component(component, status))
                return self._read(device, values, message, time)
            case "NotifyEvent":
                return self._events(device, params.get("events"), message, time)
        return []

    def _events(self, device: str, events: object, message: Message, time: object) -> list[Decoded]:
        """Return the events of each component. One message may contain the push and the release of a button."""
        found: list[Decoded] = []
        for event in events if isinstance(events, list) else []:
            match event:
                case {"component": str(component), "event": str(kind)}:
                    happened = time if event.get("ts") is None else event["ts"]
                    found += self._read(device, {f"{component}.event": kind}, message, happened)
        return found


def _is_component(name: str, payload: bytes) -> bool:
    """Return whether a payload is the status of a component with a number: other programs have no such object."""
    kind, _, number = name.partition(":")
    content = object_at(parse_json(payload)) if payload.lstrip().startswith(b"{") else None
    return bool(kind and number) and content is not None and str(content.get("id")) == number


def _component(name: str, status: object) -> dict[str, Any]:
    """Return the measurements of a component (Gen2 and later)."""
    if not isinstance(status, dict):
        return {}
    kept = KEPT.get(name, frozenset()) if name in OWN else None
    return {
        f"{name}.{field}": value
        for field, value in flat(status).items()
        if (not _UNSTEADY.fullmatch(field) if kept is None else field in kept)
    }


def _single(levels: list[str], payload: bytes) -> dict[str, Any]:
    """Return the values of a Gen1 message. The levels of its topic are the name."""
    name = ".".join(levels)
    if payload.lstrip().startswith(b"{"):
        content = parse_json(payload)
        fields = flat(content).items() if isinstance(content, dict) else ()
        return {f"{name}.{field}": value for field, value in fields if not _UNSTEADY.fullmatch(field)}
    text = text_of(payload).strip()
    if levels[0] == "relay" and len(levels) == 2 and text not in WORDS:
        # "overpower" instead of on or off. The relay's metric is a boolean.
        return {}
    return {} if text == str(INVALID.get(_last(name))) else {name: text}


def _unit(name: str) -> str:
    last = _last(name)
    if last == "total":
        # An energy. An input counts its pulses under the same name.
        return "Wh" if name.endswith("energy.total") else ""
    plain = _PHASE.sub("", last, count=1) if _PHASE.match(last) else last
    return next((units[part] for part in (last, plain) for units in (ENERGY, UNITS) if part in units), "")


def _last(name: str) -> str:
    return next((part for part in reversed(name.split(".")) if not part.isdecimal()), "")
