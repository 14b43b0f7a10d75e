"""Preset for Zigbee2MQTT. Follows its documentation, "MQTT Topics and Messages" and "Exposes".

A device publishes its state under its friendly name, which may contain "/". Its metrics and units are described in
bridge/devices, its presence in <name>/availability.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from formats.names import legal_device, legal_metric
from formats.record import Note
from hub.mqtt.decoders.command import bounded
from hub.mqtt.decoders.fields import (
    DEFAULT_CONTEXT,
    MAX_DEVICES,
    WORDS,
    DecoderContext,
    PresetFields,
    flat,
    object_at,
    parse_json,
    parse_object,
    presence_of,
    text_of,
)
from hub.mqtt.decoders.zigbee2mqtt_commands import MAX_FEATURES_DEPTH, PUBLISHED, FeatureCommand, settable
from hub.mqtt.message import AvailabilityChange, CommandDelivery, Decoded, Decoder, DeviceCommands, Message, Undecodable
from wire.device import Command
from wire.limits import MAX_DESCRIPTION, MAX_METRICS, MAX_TAG_VALUE, MAX_UNIT
from wire.model import Metric, MetricType

AVAILABILITY = "/availability"
BRIDGE = "bridge/"
LAST_SEEN = "last_seen"


class Zigbee2MqttDecoder(Decoder):
    """Decoder for devices below a base topic. It remembers their names: when the bridge stops, all are offline."""

    def __init__(self, base: str, context: DecoderContext = DEFAULT_CONTEXT) -> None:
        self._fields = PresetFields(context)
        self.filters = [f"{base}/#"]
        self._base = base
        self._prefix = f"{base}/"
        self._has_commands = bool(context.commands_from)
        self._commands: dict[str, tuple[str, dict[str, FeatureCommand]]] = {}
        self._names: set[str] = set()

    def takes(self, topic: str) -> bool:
        """Return whether the topic is below the base topic."""
        return topic.startswith(self._prefix)

    def wants_retained(self, topic: str) -> bool:
        """Return whether the topic describes the devices or reports a presence."""
        rest = topic.removeprefix(self._prefix)
        return rest in ("bridge/devices", "bridge/state") or rest.endswith(AVAILABILITY)

    def device_of(self, topic: str) -> str:
        """Return the device whose state or presence the topic has."""
        return legal_device(topic.removeprefix(self._prefix).removesuffix(AVAILABILITY))

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return a device's state as a row, its description, or its presence. Raises Undecodable."""
        name = message.topic.removeprefix(self._prefix)
        if not name or not message.payload:
            return []
        if name == "bridge/devices":
            return self._declare_devices(message.payload)
        if name == "bridge/state":
            if presence_of("", _state_word(message.payload)) == [AvailabilityChange("", True)]:
                return []
            return [AvailabilityChange(legal_device(known), False) for known in sorted(self._names)]
        if name.startswith(BRIDGE):
            return []
        if name not in self._names:
            if name.endswith(AVAILABILITY):
                return presence_of(legal_device(name.removesuffix(AVAILABILITY)), _state_word(message.payload))
            if not {"set", "get"}.isdisjoint(name.split("/")[1:]):
                # A command to a device is not a state.
                return []
            owner, _, attribute = name.rpartition("/")
            if owner in self._names:
                # A value with its own topic, as Zigbee2MQTT publishes with `output` "attribute".
                values = {attribute: text_of(message.payload)} if attribute != LAST_SEEN else {}
                return self._fields.read(legal_device(owner), values, message, truths=WORDS)
        values = flat(parse_object(message.payload))
        if len(self._names) < MAX_DEVICES:
            self._names.add(name)
        time = values.pop(LAST_SEEN, None)
        return self._fields.read(legal_device(name), values, message, time=time)

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the message that sets a property of a device."""
        name, commands = self._commands.get(device, ("", {}))
        known = commands.get(command.name)
        return None if known is None else known.delivery(self._base, name, command)

    def _declare_devices(self, payload: bytes) -> list[Decoded]:
        content = parse_json(payload)
        if not isinstance(content, list):
            raise Undecodable("shape", "bridge/devices must be a list of devices")
        found: list[Decoded] = []
        names: set[str] = set()
        self._commands = {}
        for device in content[:MAX_DEVICES]:
            if not isinstance(device, dict) or device.get("type") == "Coordinator":
                continue
            name, definition = device.get("friendly_name"), object_at(device, "definition") or {}
            if not isinstance(name, str) or not name:
                continue
            names.add(name)
            described = {**definition, "ieee_address": device.get("ieee_address")}
            tags = {
                key: value[:MAX_TAG_VALUE]
                for key in ("ieee_address", "model", "vendor")
                if isinstance(value := described.get(key), str) and value
            }
            metrics = {metric.name: metric for metric in _exposed(definition.get("exposes"), "", 1)}
            metrics = dict(list(metrics.items())[:MAX_METRICS])
            found.append(self._fields.declare(legal_device(name), metrics, tags))
            if self._has_commands:
                commands = {command.declaration.name: command for command in settable(definition.get("exposes"))}
                self._commands[legal_device(name)] = name, commands
                declared = bounded([command.declaration for command in commands.values()])
                found.append(DeviceCommands(legal_device(name), declared, is_complete=True))
        self._names = names
        return found


def _state_word(payload: bytes) -> bytes:
    """Return the word of a presence: {"state": "online"}, or the bare word that older versions send."""
    if not payload.lstrip().startswith(b"{"):
        return payload
    state = parse_object(payload).get("state")
    return state.encode(errors="replace") if isinstance(state, str) else b"?"


def _exposed(exposes: object, before: str, depth: int) -> Iterator[Metric]:
    """Return the metrics of a device's `exposes`. Features of composites have the names that the state uses."""
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
        access, metric_type, unit = expose.get("access"), _metric_type(expose), expose.get("unit")
        if (
            metric_type is None
            or not path
            or not isinstance(access, int)
            or not access & PUBLISHED
            or path == LAST_SEEN
        ):
            continue
        description = expose.get("description")
        yield Metric(
            legal_metric(before + path),
            metric_type,
            unit[:MAX_UNIT] if isinstance(unit, str) else "",
            description[:MAX_DESCRIPTION] if isinstance(description, str) else "",
        )


def _metric_type(expose: dict[str, object]) -> MetricType | None:
    """Return the type of the values, or None if it is not a single value. An enumeration of ON and OFF is text."""
    match expose.get("type"):
        case "numeric":
            return "float"
        case "binary":
            on = expose.get("value_on")
            return "boolean" if isinstance(on, bool) or on == "ON" else "string" if isinstance(on, str) else None
        case "enum" | "text":
            return "string"
    return None
