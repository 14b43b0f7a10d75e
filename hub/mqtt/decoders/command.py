"""Commands of presets: valid declarations from what a device describes, and the comparison of a state with what a
command has set. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from hub.mqtt.decoders.fields import Remembered
from hub.mqtt.message import Decoded, DeviceCommands
from wire.command import CommandDeclaration, ParameterValue
from wire.limits import (
    MAX_CHOICES,
    MAX_COMMAND_NAME,
    MAX_COMMANDS,
    MAX_DESCRIPTION,
    MAX_PARAMETER_TEXT,
    MAX_PARAMETERS,
    MAX_UNIT,
)
from wire.text import has_control

RELATIVE_TOLERANCE = 1e-6
"""Difference that the way of a number through a device's text may cause."""


class Declared(Protocol):
    """Command of a preset with its declaration."""

    @property
    def declaration(self) -> CommandDeclaration:
        """The declaration of the command."""


C = TypeVar("C", bound=Declared)

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]")


def command_name(text: str) -> str:
    """Return the name of a command or a parameter for a name of the device: other characters become "_"."""
    return _NOT_IN_NAME.sub("_", text)[:MAX_COMMAND_NAME]


def parameter(name: str, type: str, **details: object) -> dict[str, Any]:
    """Return a parameter for `declared_command`, without the details that are None, empty or too long.

    Bounds that are no finite numbers, or the wrong way round, are left out: a device may describe itself wrongly.
    """
    found: dict[str, Any] = {"name": command_name(name), "type": type}
    low, high = (_finite(details.pop(key, None)) for key in ("min", "max"))
    if type in ("float", "integer") and (low is None or high is None or low <= high):
        found |= {key: value for key, value in (("min", low), ("max", high)) if value is not None}
    unit = details.pop("unit", None)
    if isinstance(unit, str) and len(unit) <= MAX_UNIT and not has_control(unit):
        found["unit"] = unit
    choices = details.pop("choices", None)
    if isinstance(choices, Sequence) and 0 < len(choices) <= MAX_CHOICES:
        found["choices"] = [*choices]
    found["description"] = _description(details.pop("description", ""))
    return found | {key: value for key, value in details.items() if value is not None}


def declared_command(
    name: str, description: object = "", parameters: Sequence[Mapping[str, Any]] = ()
) -> CommandDeclaration | None:
    """Return a command, None if its description by the device is not valid."""
    content = {
        "name": command_name(name),
        "description": _description(description),
        "parameters": [*parameters],
    }
    if len(parameters) > MAX_PARAMETERS:
        return None
    try:
        return msgspec.convert(content, CommandDeclaration)
    except msgspec.ValidationError:
        return None


def bounded(declared: Sequence[CommandDeclaration]) -> list[CommandDeclaration]:
    """Return the commands that the hub keeps of a device, one of each name."""
    return [*{declaration.name: declaration for declaration in declared}.values()][:MAX_COMMANDS]


class KnownCommands(Generic[C]):
    """Commands of devices that a decoder learns one by one, by device and name; bounded as Remembered."""

    def __init__(self) -> None:
        self._known: Remembered[dict[str, C]] = Remembered()

    def get(self, device: str, name: str) -> C | None:
        """Return a command of a device, None if it is not known."""
        return self._known.get(device, {}).get(name)

    def add(self, device: str, commands: Iterable[C], *, replace: bool = True) -> list[Decoded]:
        """Remember commands; return the declaration of those that are new. Without `replace` known ones stay."""
        known = self._known.get(device)
        if known is None:
            known = self._known[device] = {}
        news = []
        for command in commands:
            name = command.declaration.name
            if known.get(name) == command or (name in known and not replace):
                continue
            if name in known or len(known) < MAX_COMMANDS:
                known[name] = command
                news.append(command.declaration)
        return [DeviceCommands(device, news)] if news else []

    def discard(self, device: str, name: str) -> None:
        """Discard a command: the device does not have it any more."""
        self._known.get(device, {}).pop(name, None)


def is_set(wanted: ParameterValue, reported: object, tolerance: float = 0.0) -> bool:
    """Return whether a reported value is the one that was set. Numbers may differ by the tolerance."""
    if isinstance(wanted, bool) or isinstance(reported, bool):
        return wanted is reported
    if isinstance(wanted, int | float):
        try:
            number = float(reported)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return False
        return math.isclose(number, wanted, rel_tol=RELATIVE_TOLERANCE, abs_tol=max(tolerance, RELATIVE_TOLERANCE))
    return wanted == reported


def plain_number(value: ParameterValue) -> ParameterValue:
    """Return a whole float as an integer: many devices do not read "5.0"."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _finite(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _description(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return "".join(character for character in text if not has_control(character))[:MAX_DESCRIPTION]


def fits_text(value: object) -> bool:
    """Return whether a value can be a choice of a text parameter."""
    return isinstance(value, str) and 0 < len(value) <= MAX_PARAMETER_TEXT
