"""Preset for ESPHome. Follows its documentation, "MQTT Client Component".

Topics are <name>/<component>/<object id>/state and <name>/status. A component with several states (a climate device,
a cover with positions, a fan with speeds) has one more level, which names the state:
<name>/climate/<object id>/target_temperature/state.
"""

from __future__ import annotations

from collections.abc import Sequence

from formats.names import legal_device
from formats.record import Note
from hub.mqtt.decoders.command import KnownCommands
from hub.mqtt.decoders.esphome_commands import PREFIX, NodeCommand, command_of_state, described_commands
from hub.mqtt.decoders.fields import (
    DEFAULT_CONTEXT,
    DecoderContext,
    PresetFields,
    Remembered,
    flat,
    parse_object,
    presence_of,
    text_of,
)
from hub.mqtt.message import CommandDelivery, Decoded, Decoder, Message
from hub.mqtt.topics import TopicTemplate
from wire.device import Command
from wire.model import MetricType

COMPONENTS: dict[str, MetricType | None] = {
    "sensor": "float",
    "number": "float",
    "binary_sensor": "boolean",
    "switch": "boolean",
    "text_sensor": "string",
    "text": "string",
    "select": "string",
    "lock": "string",
    "alarm_control_panel": "string",
    "cover": "string",
    "valve": "string",
    "fan": "boolean",
    "light": None,
    "event": None,
}
"""Components and the types of their states. None means a JSON object of values."""

TEMPERATURE, SHARE = "°C", "%"

STATES: dict[str, dict[str, tuple[MetricType, str]]] = {
    "climate": {
        **dict.fromkeys(("mode", "action", "fan_mode", "swing_mode", "preset"), ("string", "")),
        "away": ("boolean", ""),
        "current_temperature": ("float", TEMPERATURE),
        "target_temperature": ("float", TEMPERATURE),
        "target_temperature_low": ("float", TEMPERATURE),
        "target_temperature_high": ("float", TEMPERATURE),
        "current_humidity": ("float", SHARE),
        "target_humidity": ("float", SHARE),
    },
    "cover": {"position": ("float", SHARE), "tilt": ("float", SHARE)},
    "valve": {"position": ("float", SHARE)},
    "fan": {"speed_level": ("float", ""), "oscillation": ("string", ""), "direction": ("string", "")},
}
"""Components with several states, and the types and units of these. All temperatures are in °C."""

FOREIGN = "homeassistant"
"""First level of Home Assistant's topics, which have the same form."""


class EspHomeDecoder(Decoder):
    """Decoder for nodes that publish below their name, or below a base topic and their name.

    Any program may publish <name>/status. It counts as presence only for nodes that have published a state.
    """

    retained = ("/status", "/config")

    def __init__(self, base: str, context: DecoderContext = DEFAULT_CONTEXT) -> None:
        self._fields = PresetFields(context)
        text = base if "{device}" in base else f"{base}/{{device}}"
        self._state = TopicTemplate.parse(f"{text}/{{component}}/{{object}}/state")
        self._inner = TopicTemplate.parse(f"{text}/{{component}}/{{object}}/{{inner}}/state")
        self._status = TopicTemplate.parse(f"{text}/status")
        self.filters = [self._state.filter, self._inner.filter, self._status.filter]
        self._commands: KnownCommands[NodeCommand] = KnownCommands()
        self._has_commands = bool(context.commands_from)
        self._plain = TopicTemplate.parse(text)
        self._config = TopicTemplate.parse(f"{PREFIX}/{{component}}/{{node}}/{{object}}/config")
        if self._has_commands:
            self.filters.append(self._config.filter)
        self._nodes: Remembered[bool] = Remembered()
        self._statuses: Remembered[bytes] = Remembered()

    def takes(self, topic: str) -> bool:
        """Return whether the topic has the form of ESPHome. `decode` ignores messages of other programs."""
        return self._names(topic) is not None or self._status.match(topic) is not None or self._is_config(topic)

    def device_of(self, topic: str) -> str:
        """Return the node that the topic names."""
        names = self._names(topic) or self._status.match(topic)
        return "" if names is None else legal_device(names["device"])

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the message to a component of a node."""
        known = self._commands.get(device, command.name)
        return None if known is None else known.delivery(command)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return a component's state or a node's presence. Raises Undecodable."""
        names = self._names(message.topic)
        if names is None:
            return self._describe(message) if self._is_config(message.topic) else self._presence(message)
        component, object_id = names["component"], names["object"]
        known = STATES.get(component, {}) if "inner" in names else COMPONENTS
        if names["device"] == FOREIGN or names.get("inner", component) not in known:
            return []
        device = legal_device(names["device"])
        found = self._register(device)
        is_known = self._commands.get(device, f"set_{object_id}") is not None
        if self._has_commands and not is_known and "inner" not in names:
            command = command_of_state(component, object_id, message.topic)
            found += self._commands.add(device, [command] if command is not None else [], replace=False)
        if not message.payload:
            return found
        name, metric_type, unit = object_id, COMPONENTS.get(component), ""
        if "inner" in names:
            name = f"{object_id}.{names['inner']}"
            metric_type, unit = STATES[component][names["inner"]]
        if metric_type is None:
            values = {f"{name}.{key}": value for key, value in flat(parse_object(message.payload)).items()}
            return [*found, *self._fields.read(device, values, message)]
        state = {name: text_of(message.payload)}
        return [*found, *self._fields.read(device, state, message, units={name: unit}, types={name: metric_type})]

    def _names(self, topic: str) -> dict[str, str] | None:
        return self._state.match(topic) or self._inner.match(topic)

    def _is_config(self, topic: str) -> bool:
        return self._has_commands and self._config.match(topic) is not None

    def _describe(self, message: Message) -> list[Decoded]:
        """Return the commands of a component. The discovery messages of other programs name other topics."""
        names = self._config.match(message.topic)
        config = parse_object(message.payload) if names is not None and message.payload else {}
        component, name = (names["component"], names["object"]) if names is not None else ("", "")
        found: list[Decoded] = []
        for command in described_commands(component, name, config):
            prefix, is_own, _ = command.topic.partition(f"/{component}/{name}/")
            node = self._plain.match(prefix) if is_own else None
            if node is not None and command.topic.endswith("/command"):
                device = legal_device(node["device"])
                found += [*self._register(device), *self._commands.add(device, [command])]
        return found

    def _register(self, device: str) -> list[Decoded]:
        """Remember a node and return its presence if a status arrived before the first state."""
        if device in self._nodes:
            return []
        self._nodes[device] = True
        return presence_of(device, self._statuses.pop(device, b""))

    def _presence(self, message: Message) -> list[Decoded]:
        names = self._status.match(message.topic)
        if names is None or names["device"] == FOREIGN or message.payload.lower() not in (b"online", b"offline"):
            # The status of another program.
            return []
        device = legal_device(names["device"])
        if device in self._nodes:
            return presence_of(device, message.payload)
        self._statuses[device] = message.payload
        return []
