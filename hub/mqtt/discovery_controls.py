"""Controls of Home Assistant for the commands and settings that devices declare: buttons, switches, numbers, selections
and texts. Pure. Follows the documentation of Home Assistant's MQTT integration.

A command without a required value is a button. One with a single value is a switch, a number, a selection or a text. A
command with several required values has no control, nor one that asks for a confirmation: Home Assistant cannot ask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hub.mqtt.command_topic import is_required, plain_parameter
from wire.command import CommandDeclaration, CommandParameter
from wire.model import MetricType

PLATFORMS = frozenset({"button", "switch", "number", "select", "text"})
"""Platforms of Home Assistant that the controls use. The hub describes nothing else with them."""

WIDEST = 1e9
"""Bound of a number without a bound of its own: Home Assistant would otherwise accept 1 to 100 only."""

MAX_SLIDER_STEPS = 1_000
"""A number with at most so many steps is a slider, and otherwise a box to type into."""

STEPS = 100
MIN_STEP = 0.001
"""A step of a fractional number is the power of ten next below a hundredth of its range. Home Assistant takes no
smaller one."""

_SETTER = "set_"


def control_of(declaration: CommandDeclaration, command_topic: str) -> dict[str, Any] | None:
    """Return the control of a command without its state and its id, or None if it has none."""
    if declaration.confirm:
        return None
    control = {"name": declaration.name, "command_topic": command_topic}
    parameter = plain_parameter(declaration)
    if parameter is None:
        if any(map(is_required, declaration.parameters)):
            return None
        return {"platform": "button", **control, "payload_press": "{}"}
    value = _value_control(parameter)
    if value is None:
        return None
    # As a plain value, a text that begins with a brace would be JSON.
    template = {"command_template": _template_of(parameter)} if parameter.type == "string" else {}
    return value | control | template


def setting_control_of(setting: CommandParameter, topic: str, state_topic: str) -> dict[str, Any] | None:
    """Return the control of a setting without its id, or None if it has none. Its state is what the device reports."""
    value = _value_control(setting)
    if value is None:
        return None
    return value | {"name": setting.name, "command_topic": topic, "state_topic": state_topic}


def _value_control(parameter: CommandParameter) -> dict[str, Any] | None:
    """Return the platform and the options for a value, or None if Home Assistant has no platform for it."""
    if parameter.type == "boolean":
        return {"platform": "switch", "payload_on": "true", "payload_off": "false"}
    if parameter.choices:
        return {"platform": "select", "options": [_option(choice) for choice in parameter.choices]}
    if parameter.type == "string":
        return {"platform": "text"}
    number = _number(parameter)
    return None if number is None else {"platform": "number", **number}


def state_names(declaration: CommandDeclaration) -> Sequence[str]:
    """Return the metrics that may show what a command has set, the best one first."""
    parameter = plain_parameter(declaration)
    names = [declaration.name, declaration.name.removeprefix(_SETTER), parameter.name if parameter is not None else ""]
    return [*dict.fromkeys(filter(None, names))]


def shows_state(control: Mapping[str, Any], type: MetricType) -> bool:
    """Return whether a metric of this type can be the state of a control."""
    match control["platform"]:
        case "switch":
            return type == "boolean"
        case "number":
            return type in ("float", "integer")
        case "select":
            # A number has several forms as a text, of which only one is an option.
            return type == "string" and "command_template" in control
        case "text":
            return type == "string"
    return False


def _template_of(parameter: CommandParameter) -> str:
    name = msgspec.json.encode(parameter.name).decode()
    return f'{{{{ {{"parameters": {{{name}: value}}}} | to_json }}}}'


def _option(choice: float | int | bool | str) -> str:
    return choice if isinstance(choice, str) else msgspec.json.encode(choice).decode()


def _number(parameter: CommandParameter) -> dict[str, Any] | None:
    """Return the bounds, the step and the unit of a number, or None if it can have one value only."""
    low = parameter.min if parameter.min is not None else min(-WIDEST, parameter.max or 0)
    high = parameter.max if parameter.max is not None else max(WIDEST, low)
    if low >= high:
        return None
    step = 1.0 if parameter.type == "integer" else step_of(min(high - low, WIDEST))
    described: dict[str, Any] = {"min": low, "max": high, "step": step}
    described["mode"] = "slider" if (high - low) / step <= MAX_SLIDER_STEPS else "box"
    if parameter.unit:
        described["unit_of_measurement"] = parameter.unit
    return described


def step_of(span: float) -> float:
    """Return the step of a number with this range."""
    return max(MIN_STEP, min(1.0, 10.0 ** math.floor(math.log10(span / STEPS))))
