"""Zigbee2MQTT. Follows its documentation, "MQTT Topics and Messages" and "Exposes".

A device publishes its state under its friendly name, which may have "/" in it. What it can measure, with units, stands
in bridge/devices; whether it is there in <name>/availability.
"""

from __future__ import annotations

from collections.abc import Iterator

from hub.mqtt.decoders.formats import flat, parsed
from hub.mqtt.decoders.record import MAX_DEVICES, Preset, Scalar, bare, is_online, row, switched, under
from hub.mqtt.message import (
    Decoded,
    DeviceDeclaration,
    DevicePresence,
    Message,
    Undecodable,
    legal_device,
    legal_metric,
)
from wire.limits import MAX_DESCRIPTION, MAX_METRICS, MAX_TAG_VALUE, MAX_UNIT
from wire.model import Metric, MetricType
from wire.timestamp import time_parser

AVAILABILITY = "/availability"
BRIDGE = "bridge/"
LAST_SEEN = "last_seen"
PUBLISHED = 1
"""The bit of `access` of what stands in a device's state."""

MAX_FEATURES_DEPTH = 8
"""Features within features; devices have two levels."""

_read_time = time_parser()


class Zigbee2MqttDecoder:
    """Devices under a base topic. It remembers their names, so that a bridge that goes takes them with it."""

    def __init__(self, base: str) -> None:
        self.filters = [f"{base}/#"]
        self._base = base
        self._names: set[str] = set()

    def takes(self, topic: str) -> bool:
        """All that is below the base topic."""
        return under(self._base, topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """The description of the devices, and whether they are there."""
        rest = under(self._base, topic) or ""
        return rest in ("bridge/devices", "bridge/state") or rest.endswith(AVAILABILITY)

    def decode(self, message: Message) -> list[Decoded]:
        """A device's state as a row, its description, or whether it is there. Raises Undecodable."""
        name = under(self._base, message.topic)
        if not name or not message.payload:
            return []
        if name == "bridge/devices":
            return self._described(message.payload)
        if name == "bridge/state":
            if _state(message.payload):
                return []
            return [DevicePresence(legal_device(known), False) for known in sorted(self._names)]
        if name.startswith(BRIDGE):
            return []
        if name not in self._names:
            if name.endswith(AVAILABILITY):
                online = _state(message.payload)
                return [] if online is None else [DevicePresence(legal_device(name.removesuffix(AVAILABILITY)), online)]
            if not {"set", "get"}.isdisjoint(name.split("/")[1:]):
                # What others ask of a device is nothing that it says.
                return []
            owner, _, attribute = name.rpartition("/")
            if owner in self._names:
                return self._attribute(owner, attribute, message.payload)
        content = parsed(message.payload)
        if not isinstance(content, dict):
            raise Undecodable("shape", "a device's state is an object of values")
        return self._state_of(name, flat(content))

    def _state_of(self, name: str, values: dict[str, Scalar]) -> list[Decoded]:
        if len(self._names) < MAX_DEVICES:
            self._names.add(name)
        time_ns = None
        if LAST_SEEN in values:
            try:
                time_ns = _read_time(values.pop(LAST_SEEN))
            except ValueError as error:
                raise Undecodable("time", str(error)) from None
        return row(legal_device(name), {metric: switched(value) for metric, value in values.items()}, time_ns)

    def _attribute(self, name: str, attribute: str, payload: bytes) -> list[Decoded]:
        """One value of its own topic, as Zigbee2MQTT publishes where its `output` is "attribute"."""
        if attribute == LAST_SEEN:
            return []
        return row(legal_device(name), bare(attribute, payload))

    def _described(self, payload: bytes) -> list[Decoded]:
        content = parsed(payload)
        if not isinstance(content, list):
            raise Undecodable("shape", "bridge/devices is a list of devices")
        found: list[Decoded] = []
        names: set[str] = set()
        for device in content[:MAX_DEVICES]:
            if not isinstance(device, dict) or device.get("type") == "Coordinator":
                continue
            name, definition = device.get("friendly_name"), device.get("definition")
            if not isinstance(name, str) or not name:
                continue
            names.add(name)
            definition = definition if isinstance(definition, dict) else {}
            tags = {
                key: value[:MAX_TAG_VALUE]
                for key, value in (
                    ("ieee_address", device.get("ieee_address")),
                    ("model", definition.get("model")),
                    ("vendor", definition.get("vendor")),
                )
                if isinstance(value, str) and value
            }
            metrics = {metric.name: metric for metric in _exposed(definition.get("exposes"), "", 1)}
            found.append(DeviceDeclaration(legal_device(name), list(metrics.values())[:MAX_METRICS], tags))
        self._names = names
        return found


def _state(payload: bytes) -> bool | None:
    """Whether something is online: {"state": "online"}, or the bare word as older versions say."""
    if payload.lstrip().startswith(b"{"):
        content = parsed(payload)
        state = content.get("state") if isinstance(content, dict) else None
        payload = state.encode(errors="replace") if isinstance(state, str) else b"?"
    return is_online(payload, b"online", b"offline")


def _exposed(exposes: object, before: str, depth: int) -> Iterator[Metric]:
    """The metrics of a device's `exposes`, features of composites under their names in the state."""
    if not isinstance(exposes, list) or depth > MAX_FEATURES_DEPTH:
        return
    for expose in exposes:
        if not isinstance(expose, dict):
            continue
        path = expose.get("property")
        path = path if isinstance(path, str) else ""
        if "features" in expose:
            inner = f"{before}{path}." if expose.get("type") == "composite" and path else before
            yield from _exposed(expose["features"], inner, depth + 1)
            continue
        access, type, unit = expose.get("access"), _type(expose), expose.get("unit")
        if type is None or not path or not isinstance(access, int) or not access & PUBLISHED or path == LAST_SEEN:
            continue
        description = expose.get("description")
        yield Metric(
            legal_metric(before + path),
            type,
            unit[:MAX_UNIT] if isinstance(unit, str) else "",
            description[:MAX_DESCRIPTION] if isinstance(description, str) else "",
        )


def _type(expose: dict[str, object]) -> MetricType | None:
    """What `switched` and the hub make of a value of this kind; None where it is no single value."""
    match expose.get("type"):
        case "numeric":
            return "float"
        case "binary":
            on = expose.get("value_on")
            return "boolean" if isinstance(on, bool) or on == "ON" else "string" if isinstance(on, str) else None
        case "enum" | "text":
            return "string"
    return None


PRESET = Preset("zigbee2mqtt", Zigbee2MqttDecoder)
