"""Commands of Zigbee2MQTT devices, from their `exposes`. Pure.

Source: its documentation, "Exposes" (bit 2 of `access`: the value can be set) and "MQTT Topics and Messages" (a value
is set at <name>/set, and the new state is published at <name>; an error is a message at bridge/logging).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hub.mqtt.decoders.command import command_name, declared_command, fits_text, is_set, parameter, plain_number
from hub.mqtt.decoders.fields import parse_object, text_of
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

PUBLISHED, SETTABLE = 1, 2
"""Bits of `access`."""

MAX_FEATURES_DEPTH = 8
"""Levels of nested features. Devices have two."""

COLOR_TOLERANCE = 0.01
"""Difference of a value of a composite, such as the x of a color, that the device may round away, by its size."""

LOGGING = "bridge/logging"

_FAILED = re.compile(r"Publish 'set' '(?P<property>[^']*)' to '(?P<name>.*)' failed: '(?P<error>.*)'", re.DOTALL)


class Feature(NamedTuple):
    """A value of a device that can be set. `path` is its place in the state, `words` are the device's true and false,
    empty if the value is none of them."""

    path: tuple[str, ...]
    words: Mapping[bool, ParameterValue]
    tolerance: float
    is_published: bool

    def encode(self, value: ParameterValue) -> ParameterValue:
        """Return the value as the device reads it."""
        return self.words[value] if isinstance(value, bool) and self.words else plain_number(value)


class FeatureCommand(NamedTuple):
    """A command that sets one property of a device; its features by the names of the parameters."""

    declaration: CommandDeclaration
    property: str
    features: Mapping[str, Feature]

    def delivery(self, base: str, name: str, command: Command) -> CommandDelivery:
        """Return the message that sets the property of the device with this friendly name."""
        wanted = {self.features[key].path: self.features[key] for key in command.parameters if key in self.features}
        values = {self.features[key].path: self.features[key].encode(value)
                  for key, value in command.parameters.items() if key in self.features}  # fmt: skip
        content: dict[str, Any] = {}
        for path, value in values.items():
            if len(path) == 1:
                content[path[0]] = value
            else:
                content.setdefault(path[0], {})[path[-1]] = value
        state, attribute, logging = f"{base}/{name}", f"{base}/{name}/{self.property}", f"{base}/{LOGGING}"

        def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
            if message.topic == logging:
                return _failure(message.payload, name, self.property)
            reported = _reported(message, self.property, is_attribute=message.topic == attribute)
            for path, value in values.items():
                found = _at(reported, path)
                if not wanted[path].is_published or not is_set(value, found, wanted[path].tolerance):
                    return None
            return ReportedOutcome("succeeded", result={self.property: reported.get(self.property)})

        publish = Publish(f"{base}/{name}/set", msgspec.json.encode(content), 1)
        return CommandDelivery(publish, Confirmation(frozenset((state, attribute, logging)), self.property, outcome))


def settable(exposes: object) -> list[FeatureCommand]:
    """Return the commands of a device, in the order of its description."""
    parts: dict[str, dict[str, tuple[Feature, dict[str, Any]]]] = {}
    for property, name, feature, described in _features(exposes, (), 1):
        features = parts.setdefault(property, {})
        # A property is a value or an object. A description with both is wrong: its first one is used.
        if all(len(known.path) == len(feature.path) for known, _ in features.values()):
            features.setdefault(name, (feature, described))
    found = []
    for property, features in parts.items():
        parameters = [described for _, described in features.values()]
        if len(parameters) > 1:
            parameters = [{**described, "required": False} for described in parameters]
        declaration = declared_command(f"set_{property}", _about(parameters, features), parameters)
        if declaration is not None:
            by_name = {name: feature for name, (feature, _) in features.items()}
            found.append(FeatureCommand(declaration, property, by_name))
    return found


def _about(parameters: Sequence[Mapping[str, Any]], features: Mapping[str, tuple[Feature, object]]) -> str:
    text = str(parameters[0]["description"]) if len(parameters) == 1 else ""
    if all(feature.is_published for feature, _ in features.values()):
        return text
    return f"{text}{' ' if text else ''}(not confirmed by the device)"


def _features(
    exposes: object, before: tuple[str, ...], depth: int
) -> Iterator[tuple[str, str, Feature, dict[str, Any]]]:
    """Return the property, the parameter's name, the feature and the parameter of each value that can be set."""
    if not isinstance(exposes, list) or depth > MAX_FEATURES_DEPTH:
        return
    for expose in exposes:
        if not isinstance(expose, dict):
            continue
        path = expose.get("property")
        path = path if isinstance(path, str) else ""
        if "features" in expose:
            inner = (*before, path) if expose.get("type") == "composite" and path else before
            if len(inner) <= 1:
                yield from _features(expose["features"], inner, depth + 1)
            continue
        access = expose.get("access")
        if not path or isinstance(access, bool) or not isinstance(access, int) or not access & SETTABLE:
            continue
        described = _parameter(expose, path)
        if described is None:
            continue
        step = expose.get("value_step")
        tolerance = float(step) if isinstance(step, int | float) and not isinstance(step, bool) else 0.0
        words = _words(expose) if described["type"] == "boolean" else {}
        feature = Feature((*before, path), words, COLOR_TOLERANCE if before else tolerance, bool(access & PUBLISHED))
        yield (before or (path,))[0], command_name(path), feature, described


def _parameter(expose: Mapping[str, object], path: str) -> dict[str, Any] | None:
    """Return the parameter of a value, None for one that is not a single value."""
    about, unit = expose.get("description"), expose.get("unit")
    match expose.get("type"):
        case "numeric":
            low, high = expose.get("value_min"), expose.get("value_max")
            return parameter(path, "float", min=low, max=high, unit=unit, description=about)
        case "binary":
            if _words(expose):
                return parameter(path, "boolean", description=about)
            choices = [expose.get(key) for key in ("value_on", "value_off") if fits_text(expose.get(key))]
            return parameter(path, "string", choices=choices, description=about) if choices else None
        case "enum":
            values = expose.get("values")
            choices = [value for value in values if fits_text(value)] if isinstance(values, list) else []
            return parameter(path, "string", choices=choices, description=about)
        case "text":
            return parameter(path, "string", description=about)
    return None


def _words(expose: Mapping[str, object]) -> dict[bool, ParameterValue]:
    """Return the device's words for true and false where its readings are booleans, see `_metric_type`."""
    on, off = expose.get("value_on"), expose.get("value_off")
    if isinstance(on, bool) and isinstance(off, bool):
        return {True: on, False: off}
    return {True: "ON", False: "OFF"} if (on, off) == ("ON", "OFF") else {}


def _reported(message: Message, property: str, *, is_attribute: bool) -> dict[str, Any]:
    try:
        return {property: text_of(message.payload)} if is_attribute else parse_object(message.payload)
    except Undecodable:
        return {}


def _at(content: object, path: Sequence[str]) -> object:
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _failure(payload: bytes, name: str, property: str) -> ReportedOutcome | None:
    """Return the failure that the bridge has logged about this property of this device."""
    try:
        sentence = parse_object(payload).get("message")
    except Undecodable:
        return None
    found = _FAILED.search(sentence) if isinstance(sentence, str) else None
    if found is None or (found["property"], found["name"]) != (property, name):
        return None
    return ReportedOutcome("failed", "device_error", found["error"])
