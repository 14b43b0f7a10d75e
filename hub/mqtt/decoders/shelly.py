"""Shelly. Follows its API documentation: Gen1, "MQTT Support" and each device's "MQTT"; Gen2 and later, "MQTT",
"Notifications" and the pages of the components.

Gen1 publishes single values under shellies/<device>/. Later ones publish under <device>/ (or any prefix): changes in
events/rpc, whole components in status/<component>, and whether they are there in online.
"""

from __future__ import annotations

import re
from typing import Any

from hub.mqtt.decoders.formats import flat, parsed
from hub.mqtt.decoders.record import MAX_DEVICES, Preset, Scalar, bare, is_online, samples
from hub.mqtt.message import Decoded, DevicePresence, Message, Undecodable, legal_device
from wire.timestamp import time_parser

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
"""Units by the last part of a name that is no number."""

ENERGY_GEN1 = {"energy": "W·min", "returned_energy": "W·min", "total": "Wh", "total_returned": "Wh"}
ENERGY = dict.fromkeys(("total_act", "total_act_ret", "total_act_energy", "total_act_ret_energy"), "Wh")

SENSOR_TEMPERATURE = "sensor.temperature"
"""What battery devices of Gen1 measure, in the unit that they are set to."""

INVALID = {"ext_temperature": 999, "ext_temperature_f": 999, "ext_humidity": 999, "pos": -1, "concentration": -1}
"""What devices of Gen1 say in place of a value that they don't have, by the last part of a name that is no number."""

HOUSEKEEPING = frozenset(("announce", "command", "rpc", "set", "settings", "act_reasons"))
"""Levels of topics that say nothing of what a device measures."""

TWICE = frozenset(("ext_temperatures", "ext_temperatures_f", "ext_humidities"))
"""Topics of Gen1 that hold once more what others have one by one."""

KEPT = {"wifi": frozenset(("rssi",)), "sys": frozenset(("uptime",))}
"""What is taken of the components that only keep the device going; nothing of the others in OWN."""
OWN = frozenset(("wifi", "sys", "cloud", "mqtt", "ws", "ble", "bthome", "eth", "knx", "matter", "ht_ui", "plugs_ui"))

_COMPONENT = re.compile(r"[a-z][a-z0-9_]*(:\d+)?")
_UNSTEADY = re.compile(
    r"id|source|.*\b(by_minute\.\d+|minute_ts)|([abcn]_)?(errors|flags)\.\d+|user_calibrated_phase\.\d+|"
    r"(has_)?timer.*|move_.*|transition\..*"
)
"""Fields that are no measurement, or come and go."""
_PHASE = re.compile(r"([abcn]|total)_")
"""What stands before a quantity of one phase, of the neutral conductor, or of all of them."""
_read_time = time_parser("s")


class ShellyDecoder:
    """Devices of all generations, Gen1 under a base topic.

    It remembers which devices notify, since a component's whole status would say the same a second time, and which
    of Gen1 measure in °F.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        ends = ("status/+", "events/rpc", "online")
        self.filters = [f"{base}/#", *(f"+/{end}" for end in ends)]
        self._notifying: set[str] = set()
        self._fahrenheit: set[str] = set()

    def takes(self, topic: str) -> bool:
        """All that it is subscribed to; what is not a Shelly's is passed over."""
        levels = topic.split("/")
        return (
            topic.startswith(f"{self._base}/")
            or (len(levels) == 3 and (levels[1] == "status" or levels[1:] == ["events", "rpc"]))
            or (len(levels) == 2 and levels[1] == "online")
        )

    def wants_retained(self, topic: str) -> bool:
        """Whether a device is there, and what Gen1 tells of itself."""
        return topic.endswith(("/online", "/info"))

    def decode(self, message: Message) -> list[Decoded]:
        """The values of a message, or whether the device is there. Raises Undecodable."""
        topic = message.topic.removeprefix(f"{self._base}/")
        name, _, rest = topic.partition("/")
        if not rest or not name or not message.payload:
            return []
        if topic == message.topic and rest != "events/rpc" and not name.lower().startswith("shelly"):
            return []
        device = legal_device(name)
        levels = rest.split("/")
        if rest == "online":
            online = is_online(message.payload, b"true", b"false")
            return [] if online is None else [DevicePresence(device, online)]
        if rest == "events/rpc":
            return self._notification(device, message.payload)
        if levels[0] == "status" and len(levels) == 2 and _COMPONENT.fullmatch(levels[1]):
            if device in self._notifying:
                return []
            return samples(device, _component(levels[1], parsed(message.payload)), _unit)
        if topic == message.topic or not HOUSEKEEPING.isdisjoint(levels) or levels[0] in TWICE:
            return []
        if rest == "info":
            self._told(device, message.payload)
            return []
        values = _single(levels, message.payload)
        return samples(device, values, lambda name: self._unit_gen1(device, name))

    def _told(self, device: str, payload: bytes) -> None:
        """The unit of the temperature, out of the whole status of a device of Gen1."""
        content = parsed(payload)
        measured = content.get("tmp") if isinstance(content, dict) else None
        unit = measured.get("units") if isinstance(measured, dict) else None
        if unit == "C":
            self._fahrenheit.discard(device)
        elif unit == "F":
            if len(self._fahrenheit) >= MAX_DEVICES:
                self._fahrenheit.clear()
            self._fahrenheit.add(device)

    def _unit_gen1(self, device: str, name: str) -> str:
        if name == SENSOR_TEMPERATURE and device in self._fahrenheit:
            return UNITS["temperature_f"]
        last = _last(name)
        return ENERGY_GEN1.get(last) or UNITS.get(last, "")

    def _notification(self, device: str, payload: bytes) -> list[Decoded]:
        content = parsed(payload)
        params = content.get("params") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(params, dict):
            raise Undecodable("shape", "a notification is an object with a method and params")
        if len(self._notifying) >= MAX_DEVICES:
            self._notifying.clear()
        self._notifying.add(device)
        time_ns = _time(params)
        match content.get("method"):
            case "NotifyStatus" | "NotifyFullStatus":
                values: dict[str, Scalar] = {}
                for component, status in params.items():
                    if component != "ts":
                        values.update(_component(component, status))
                return samples(device, values, _unit, time_ns)
            case "NotifyEvent":
                return _events(device, params.get("events"), time_ns)
        return []


def _component(name: str, status: object) -> dict[str, Scalar]:
    """What a component of a device of Gen2 or later measures."""
    if not isinstance(status, dict):
        return {}
    kept = KEPT.get(name, frozenset()) if name in OWN else None
    return {
        f"{name}.{field}": value
        for field, value in flat(status).items()
        if (not _UNSTEADY.fullmatch(field) if kept is None else field in kept)
    }


def _events(device: str, events: object, time_ns: int | None) -> list[Decoded]:
    """What happened to each component: a button that was pushed, and let go in the same message."""
    found: list[Decoded] = []
    for event in events if isinstance(events, list) else []:
        if isinstance(event, dict):
            component: Any = event.get("component")
            kind: Any = event.get("event")
            if isinstance(component, str) and isinstance(kind, str):
                happened_ns = _time(event)
                values: dict[str, Scalar] = {f"{component}.event": kind}
                found.extend(samples(device, values, _unit, time_ns if happened_ns is None else happened_ns))
    return found


def _time(content: dict[str, Any]) -> int | None:
    try:
        return _read_time(content["ts"]) if content.get("ts") is not None else None
    except ValueError as error:
        raise Undecodable("time", str(error)) from None


def _single(levels: list[str], payload: bytes) -> dict[str, Scalar]:
    """What is in a message of Gen1: the levels of its topic are the name."""
    name = ".".join(levels)
    if payload.lstrip().startswith(b"{"):
        content = parsed(payload)
        fields = flat(content).items() if isinstance(content, dict) else ()
        return {f"{name}.{field}": value for field, value in fields if not _UNSTEADY.fullmatch(field)}
    values = bare(name, payload)
    if levels[0] == "relay" and len(levels) == 2 and not isinstance(values.get(name), bool):
        # "overpower" in place of on and off, which is what the relay's own metric holds.
        return {}
    last = _last(name)
    return {} if last in INVALID and values.get(name) == INVALID[last] else values


def _unit(name: str) -> str:
    last = _last(name)
    if last == "total":
        # Of an energy; an input counts its pulses under the same name.
        return "Wh" if name.endswith("energy.total") else ""
    plain = _PHASE.sub("", last, count=1) if _PHASE.match(last) else last
    return next((units[each] for each in (last, plain) for units in (ENERGY, UNITS) if each in units), "")


def _last(name: str) -> str:
    return next((part for part in reversed(name.split(".")) if not part.isdecimal()), "")


PRESET = Preset("shellies", ShellyDecoder, reach=1)
