"""Commands of ESPHome nodes, from their discovery messages or their states. Pure.

Source: its documentation, "MQTT Client Component": each component has a command topic, by default
<name>/<component>/<object id>/command, and the messages at <prefix>/<component>/<node>/<object id>/config describe it
as Home Assistant's "MQTT Discovery" specifies, usually with its abbreviations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hub.mqtt.decoders.command import declared_command, fits_text, is_set, parameter, plain_number
from hub.mqtt.decoders.fields import parse_object
from hub.mqtt.message import (
    CommandDelivery,
    Confirmation,
    Decoded,
    Message,
    Publish,
    ReportedOutcome,
    Undecodable,
)
from wire.command import CommandDeclaration, ParameterValue
from wire.device import Command

PREFIX = "homeassistant"
"""Default prefix of discovery messages."""

ABBREVIATIONS = {
    "cmd_t": "command_topic",
    "stat_t": "state_topic",
    "ops": "options",
    "unit_of_meas": "unit_of_measurement",
    "set_pos_t": "set_position_topic",
    "pos_t": "position_topic",
    "pct_cmd_t": "percentage_command_topic",
    "pct_stat_t": "percentage_state_topic",
    "spd_rng_max": "speed_range_max",
    "mode_cmd_t": "mode_command_topic",
    "mode_stat_t": "mode_state_topic",
    "temp_cmd_t": "temperature_command_topic",
    "temp_stat_t": "temperature_state_topic",
    "temp_lo_cmd_t": "temperature_low_command_topic",
    "temp_lo_stat_t": "temperature_low_state_topic",
    "temp_hi_cmd_t": "temperature_high_command_topic",
    "temp_hi_stat_t": "temperature_high_state_topic",
}
"""Short names of the fields that are used here (Home Assistant, "MQTT Discovery", "Supported abbreviations")."""

WORDS: dict[str, dict[str, str]] = {
    "lock": {"LOCK": "LOCKED", "UNLOCK": "UNLOCKED"},
    "cover": {"OPEN": "open", "CLOSE": "closed", "STOP": ""},
    "valve": {"OPEN": "open", "CLOSE": "closed", "STOP": ""},
}
"""Commands of components that take words, and the states that confirm them; "" for none."""

FIELDS = {
    "cover": (("position", "set_position_topic", "position_topic"),),
    "valve": (("position", "set_position_topic", "position_topic"),),
    "fan": (("speed_level", "percentage_command_topic", "percentage_state_topic"),),
    "climate": (
        ("mode", "mode_command_topic", "mode_state_topic"),
        ("target_temperature", "temperature_command_topic", "temperature_state_topic"),
        ("target_temperature_low", "temperature_low_command_topic", "temperature_low_state_topic"),
        ("target_temperature_high", "temperature_high_command_topic", "temperature_high_state_topic"),
    ),
}
"""Further values of components, with the fields that name their topics."""

PRESS = "PRESS"
"""Payload of a button."""


class NodeCommand(NamedTuple):
    """A command of a node. `words` are the states that confirm each payload, empty if the state is the value itself.

    The state of a light is JSON. Without a `state_topic` nothing confirms the command.
    """

    declaration: CommandDeclaration
    topic: str
    state_topic: str
    is_json: bool = False
    words: Mapping[str, str] = {}
    tolerance: float = 0.0

    def delivery(self, command: Command) -> CommandDelivery:
        """Return the message of a command."""
        parameters = command.parameters
        if self.is_json:
            content = {
                name: _switched(value) if isinstance(value, bool) else plain_number(value)
                for name, value in parameters.items()
            }
            payload = msgspec.json.encode(content)
        else:
            content, payload = {}, _text(next(iter(parameters.values()), PRESS)).encode()
        if not self.state_topic:
            return CommandDelivery(Publish(self.topic, payload, 1))

        def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
            if self.is_json:
                return _json_outcome(message.payload, content)
            state = message.payload.decode(errors="replace")
            wanted = next(iter(parameters.values()), None)
            return ReportedOutcome("succeeded", result=state) if self._shows(state, wanted) else None

        return CommandDelivery(
            Publish(self.topic, payload, 1), Confirmation(frozenset((self.state_topic,)), self.topic, outcome)
        )

    def _shows(self, state: str, wanted: ParameterValue | None) -> bool:
        if isinstance(wanted, bool):
            return state.upper() == _switched(wanted)
        if isinstance(wanted, str) and self.words:
            return bool(state) and state == self.words.get(wanted)
        return wanted is not None and is_set(wanted, state, self.tolerance)


def described_commands(component: str, name: str, config: Mapping[str, object]) -> list[NodeCommand]:
    """Return the commands of a component that its discovery message describes; `name` is its object id."""
    fields = {ABBREVIATIONS.get(key, key): value for key, value in config.items()}
    found = [_plain_command(component, name, fields, str(fields["command_topic"]), _topic(fields, "state_topic"))] if (
        _topic(fields, "command_topic")
    ) else []  # fmt: skip
    for inner, command_key, state_key in FIELDS.get(component, ()):
        topic = _topic(fields, command_key)
        if topic:
            described = _inner_parameter(inner, fields)
            declaration = declared_command(f"set_{name}.{inner}", "", [described])
            step = fields.get("temp_step") if inner.startswith("target") else None
            if declaration is not None:
                state_topic = _topic(fields, state_key)
                found.append(NodeCommand(declaration, topic, state_topic, tolerance=_step(step)))
    return [command for command in found if command is not None]


def command_of_state(component: str, name: str, state_topic: str) -> NodeCommand | None:
    """Return the command of a component of which only the state is known, None for one that cannot be set."""
    if component not in ("switch", "fan", "light", "lock", "number"):
        return None
    topic = state_topic.removesuffix("/state") + "/command"
    return _plain_command(component, name, {}, topic, state_topic)


def _plain_command(
    component: str, name: str, fields: Mapping[str, object], topic: str, state_topic: str
) -> NodeCommand | None:
    parameters, tolerance = [*_parameters(component, name, fields)], _step(fields.get("step"))
    if not parameters and component != "button":
        return None
    title = fields.get("name")
    about = title if isinstance(title, str) else ""
    if component == "button":
        about = f"{about}{' ' if about else ''}(not confirmed by the device)"
    declaration = declared_command(f"{'press' if component == 'button' else 'set'}_{name}", about, parameters)
    if declaration is None:
        return None
    is_silent = component == "button" or (component in ("cover", "valve") and not state_topic)
    return NodeCommand(
        declaration,
        topic,
        "" if is_silent else state_topic,
        is_json=component == "light",
        words=WORDS.get(component, {}),
        tolerance=tolerance,
    )


def _parameters(component: str, name: str, fields: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    match component:
        case "switch" | "fan":
            yield parameter(name, "boolean")
        case "light":
            yield parameter("state", "boolean")
            if not fields or fields.get("brightness") is True:
                yield parameter("brightness", "float", min=0, max=255, required=False)
        case "number":
            low, high, unit = fields.get("min"), fields.get("max"), fields.get("unit_of_measurement")
            yield parameter(name, "float", min=low, max=high, unit=unit)
        case "select":
            options = fields.get("options")
            choices = [option for option in options if fits_text(option)] if isinstance(options, list) else []
            yield parameter(name, "string", choices=choices)
        case "text":
            yield parameter(name, "string")
        case "lock" | "cover" | "valve":
            yield parameter(name, "string", choices=[*WORDS[component]])


def _inner_parameter(inner: str, fields: Mapping[str, object]) -> dict[str, Any]:
    match inner:
        case "position":
            return parameter(inner, "float", min=0, max=100, unit="%")
        case "speed_level":
            return parameter(inner, "float", min=0, max=fields.get("speed_range_max"))
        case "mode":
            modes = fields.get("modes")
            choices = [mode for mode in modes if fits_text(mode)] if isinstance(modes, list) else []
            return parameter(inner, "string", choices=choices)
    return parameter(inner, "float", min=fields.get("min_temp"), max=fields.get("max_temp"), unit="°C")


def _json_outcome(payload: bytes, content: Mapping[str, ParameterValue]) -> ReportedOutcome | None:
    try:
        state = parse_object(payload)
    except Undecodable:
        return None
    if not all(is_set(value, state.get(name), 1.0) for name, value in content.items()):
        return None
    return ReportedOutcome("succeeded", result={name: state[name] for name in content})


def _topic(fields: Mapping[str, object], key: str) -> str:
    topic = fields.get(key)
    return topic if isinstance(topic, str) and not any(character in topic for character in "+#\0") else ""


def _step(step: object) -> float:
    return float(step) if isinstance(step, int | float) and not isinstance(step, bool) and step >= 0 else 0.0


def _switched(value: ParameterValue) -> str:
    return "ON" if value else "OFF"


def _text(value: ParameterValue) -> str:
    return _switched(value) if isinstance(value, bool) else str(plain_number(value))
