"""Shelly. Follows its API documentation: Gen1, "MQTT support"; Gen2 and later, "MQTT" and "Notifications".

Gen1 publishes single values under shellies/<device>/. Later ones publish under <device>/ (or any prefix): changes in
events/rpc, whole components in status/<component>, and whether they are there in online.
"""

from __future__ import annotations

import re
from typing import Any

from hub.mqtt.payload.json import flat, parsed
from hub.mqtt.payload.moment import time_reader
from hub.mqtt.payload.record import Scalar
from hub.mqtt.presets.preset import MAX_DEVICES, Preset, bare, is_online, samples
from hub.mqtt.reading import Found, Message, Presence, Undecodable, legal_device

UNITS = {
    "power": "W",
    "apower": "W",
    "act_power": "W",
    "total_act_power": "W",
    "aprt_power": "VA",
    "voltage": "V",
    "V": "V",
    "current": "A",
    "freq": "Hz",
    "temperature": "°C",
    "ext_temperature": "°C",
    "temperature_f": "°F",
    "ext_temperature_f": "°F",
    "tC": "°C",
    "tF": "°F",
    "humidity": "%",
    "ext_humidity": "%",
    "rh": "%",
    "battery": "%",
    "percent": "%",
    "lux": "lx",
    "rssi": "dBm",
}
"""Units by the last part of a name that is no number."""

ENERGY_GEN1 = {"energy": "W·min", "returned_energy": "W·min", "total": "Wh", "total_returned": "Wh"}
ENERGY = {"total": "Wh", "total_act": "Wh", "total_act_ret": "Wh"}

HOUSEKEEPING = frozenset(("announce", "info", "command", "rpc"))
"""Levels of topics that say nothing of what a device measures."""

KEPT = {"wifi": frozenset(("rssi",)), "sys": frozenset(("uptime",))}
"""What is taken of the components that only keep the device going; nothing of the others in OWN."""
OWN = frozenset(("wifi", "sys", "cloud", "mqtt", "ws", "ble", "bthome", "eth", "knx", "matter", "ht_ui", "plugs_ui"))

_COMPONENT = re.compile(r"[a-z][a-z0-9_]*(:\d+)?")
_UNSTEADY = re.compile(r"id|source|.*\b(by_minute\.\d+|minute_ts)|errors\.\d+|timer_.*|transition\..*")
"""Fields of a component that are no measurement, or come and go."""
_read_time = time_reader("s")


class ShellyDecoder:
    """Devices of all generations, Gen1 under a base topic.

    It remembers which devices notify, since a component's whole status would say the same a second time.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        ends = ("status/+", "events/rpc", "online")
        self.filters = [f"{base}/#", *(f"+/{end}" for end in ends)]
        self._notifying: set[str] = set()

    def takes(self, topic: str) -> bool:
        """All that it is subscribed to; what is not a Shelly's is passed over."""
        levels = topic.split("/")
        return (
            topic.startswith(f"{self._base}/")
            or (len(levels) == 3 and (levels[1] == "status" or levels[1:] == ["events", "rpc"]))
            or (len(levels) == 2 and levels[1] == "online")
        )

    def wants_retained(self, topic: str) -> bool:
        """Whether a device is there."""
        return topic.endswith("/online")

    def decode(self, message: Message) -> list[Found]:
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
            return [] if online is None else [Presence(device, online)]
        if rest == "events/rpc":
            return self._notification(device, message.payload)
        if levels[0] == "status" and len(levels) == 2 and _COMPONENT.fullmatch(levels[1]):
            if device in self._notifying:
                return []
            return samples(device, _component(levels[1], parsed(message.payload)), _unit)
        if HOUSEKEEPING.isdisjoint(levels) and topic != message.topic:
            return _single(device, levels, message.payload)
        return []

    def _notification(self, device: str, payload: bytes) -> list[Found]:
        content = parsed(payload)
        params = content.get("params") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(params, dict):
            raise Undecodable("shape", "a notification is an object with a method and params")
        if len(self._notifying) >= MAX_DEVICES:
            self._notifying.clear()
        self._notifying.add(device)
        try:
            time_ns = _read_time(params["ts"]) if params.get("ts") is not None else None
        except ValueError as error:
            raise Undecodable("time", str(error)) from None
        values: dict[str, Scalar] = {}
        match content.get("method"):
            case "NotifyStatus" | "NotifyFullStatus":
                for component, status in params.items():
                    if component != "ts":
                        values.update(_component(component, status))
            case "NotifyEvent":
                values.update(_events(params.get("events")))
        return samples(device, values, _unit, time_ns)


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


def _events(events: object) -> dict[str, Scalar]:
    """What happened to each component: a button that was pushed."""
    found: dict[str, Scalar] = {}
    for event in events if isinstance(events, list) else []:
        if isinstance(event, dict):
            component: Any = event.get("component")
            kind: Any = event.get("event")
            if isinstance(component, str) and isinstance(kind, str):
                found[f"{component}.event"] = kind
    return found


def _single(device: str, levels: list[str], payload: bytes) -> list[Found]:
    """A value of Gen1: the levels of its topic are its name."""
    name = ".".join(levels)
    if payload.lstrip().startswith(b"{"):
        content = parsed(payload)
        values = (
            {f"{name}.{field}": value for field, value in flat(content).items()} if isinstance(content, dict) else {}
        )
    else:
        values = bare(name, payload)
        if levels[0] == "relay" and len(levels) == 2 and not isinstance(values.get(name), bool):
            # "overpower" in place of on and off, which is what the relay's own metric holds.
            return []
    return samples(device, values, _unit_gen1)


def _unit(name: str) -> str:
    last = _last(name)
    return ENERGY.get(last) or UNITS.get(last, "")


def _unit_gen1(name: str) -> str:
    last = _last(name)
    return ENERGY_GEN1.get(last) or UNITS.get(last, "")


def _last(name: str) -> str:
    return next((part for part in reversed(name.split(".")) if not part.isdecimal()), "")


PRESET = Preset("shellies", ShellyDecoder)
