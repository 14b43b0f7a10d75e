"""Commands of a device: what an agent declares, and the check of parameters against it. Pure; both ends use it.

The hub checks parameters before a command is recorded, and the agent again before its handler runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from wire import limits
from wire.model import MetricType
from wire.text import has_control, plural

CommandName = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9_.-]{{1,{limits.MAX_COMMAND_NAME}}}\Z")]
"""Name of a command or of a parameter."""
CommandId = Annotated[str, Meta(pattern=r"^[0-9a-f]{16,32}\Z")]
"""Random bits in hexadecimal, drawn by the hub: the same id is the same command, and is executed once."""
ParameterValue = float | int | bool | str


class CommandParameter(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A parameter of a command: its type and unit, and the values that the device accepts.

    `min` and `max` are inclusive, and `choices` are the only accepted values if there are any. A parameter with a
    `default` is never required.
    """

    name: CommandName
    type: MetricType = "float"
    unit: Annotated[str, Meta(max_length=limits.MAX_UNIT)] = ""
    min: float | int | None = None
    max: float | int | None = None
    choices: Annotated[list[ParameterValue], Meta(max_length=limits.MAX_CHOICES)] = []
    required: bool = True
    default: ParameterValue | None = None
    description: Annotated[str, Meta(max_length=limits.MAX_DESCRIPTION)] = ""

    def __post_init__(self) -> None:
        if has_control(self.unit) or has_control(self.description):
            raise ValueError(f"a text of the parameter {self.name} has control or bidirectional characters")
        if self.type not in ("float", "integer") and (self.min is not None or self.max is not None):
            raise ValueError(f"the parameter {self.name} is {self.type} and has no min and max")
        if not all(math.isfinite(bound) for bound in (self.min, self.max) if bound is not None):
            raise ValueError(f"a bound of the parameter {self.name} is no finite number")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"the parameter {self.name} has a min of {self.min} above its max of {self.max}")
        for value in (*self.choices, *(() if self.default is None else (self.default,))):
            problem = self._type_problem(value) or self._range_problem(value)
            if problem is not None:
                raise ValueError(f"a choice or the default of the parameter {self.name} is not valid: {problem}")
        if self.default is not None and self.choices and self.default not in self.choices:
            raise ValueError(f"the default of the parameter {self.name} is none of its choices")

    def problem(self, value: object) -> str | None:
        """Return the reason why the device does not accept this value, as a sentence; None if it does."""
        problem = self._type_problem(value) or self._range_problem(value)
        if problem is None and self.choices and value not in self.choices:
            problem = f"{shown(value)} is none of {', '.join(map(shown, self.choices))}"
        return None if problem is None else f"{self.name}: {problem}"

    def _type_problem(self, value: object) -> str | None:
        kind = type(value)
        match self.type:
            case "float" if kind in (float, int):
                return None if -_LARGEST <= value <= _LARGEST else f"{shown(value)} is no finite number"  # type: ignore[operator]
            case "integer" if kind is int or (kind is float and value.is_integer()):  # type: ignore[attr-defined]
                inside = limits.MIN_INTEGER <= value <= limits.MAX_INTEGER  # type: ignore[operator]
                return None if inside else f"{shown(value)} has more than 64 bits"
            case "boolean" if kind is bool:
                return None
            case "string" if isinstance(value, str):
                too_long = len(value) > limits.MAX_PARAMETER_TEXT
                return f"the text is longer than {limits.MAX_PARAMETER_TEXT:,} characters" if too_long else None
        return f"{shown(value)} is not of the type {self.type}"

    def _range_problem(self, value: Any) -> str | None:
        unit = f" {self.unit}" if self.unit else ""
        if self.min is not None and value < self.min:
            return f"{shown(value)}{unit} is below {self.min}{unit}"
        if self.max is not None and value > self.max:
            return f"{shown(value)}{unit} is above {self.max}{unit}"
        return None


class CommandDeclaration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A command that a device executes. `confirm` asks the operator for a confirmation before it is sent."""

    name: CommandName
    description: Annotated[str, Meta(max_length=limits.MAX_DESCRIPTION)] = ""
    confirm: bool = False
    parameters: Annotated[list[CommandParameter], Meta(max_length=limits.MAX_PARAMETERS)] = []

    def __post_init__(self) -> None:
        if has_control(self.description):
            raise ValueError(f"the description of the command {self.name} has control or bidirectional characters")
        if len({parameter.name for parameter in self.parameters}) < len(self.parameters):
            raise ValueError(f"two parameters of the command {self.name} have the same name")

    def accepted(self, parameters: Mapping[str, object]) -> dict[str, ParameterValue]:
        """Return the parameters to send, in the order of the declaration: converted, and with the defaults.

        A whole number for a float parameter becomes float, and a float without a fraction for an integer one integer.
        Raises ParametersRefused with every problem.
        """
        declared = {parameter.name: parameter for parameter in self.parameters}
        unknown = [name for name in parameters if name not in declared]
        problems = [f"{shown(name)} is no parameter of {self.name}" for name in unknown[: limits.MAX_PARAMETERS]]
        accepted: dict[str, ParameterValue] = {}
        for name, parameter in declared.items():
            value = parameters.get(name)
            if value is None:
                value = parameter.default
            if value is None:
                if parameter.required:
                    problems.append(f"{name}: a value is missing")
                continue
            problem = parameter.problem(value)
            if problem is not None:
                problems.append(problem)
            else:
                accepted[name] = converted(value, parameter.type)
        if not problems and json_size(accepted) > limits.MAX_COMMAND_BYTES:
            problems.append(f"the parameters have more than {limits.MAX_COMMAND_BYTES:,} bytes")
        if problems:
            raise ParametersRefused(problems)
        return accepted

    def signature(self) -> str:
        """Return the command as one line for people, such as `set_speed speed=FLOAT m/s (0 to 30)`."""
        return " ".join((self.name, *map(parameter_signature, self.parameters)))


class ParametersRefused(ValueError):
    """Parameters that a declaration does not accept. `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


def json_size(value: object) -> int:
    """Return the number of bytes of a value as JSON. Raises ValueError for one that JSON does not have."""
    try:
        return len(msgspec.json.encode(value))
    except (TypeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from None


_LARGEST = math.nextafter(math.inf, 0)

_SHOWN = 64


def shown(value: object) -> str:
    """Return a value as JSON for people, cut to 64 characters."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, UnicodeError, RecursionError):
        text = f"a value of the type {type(value).__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        text = str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def converted(value: Any, type: MetricType) -> ParameterValue:
    """Return a value that a declaration of this type accepts as a value of the type."""
    if type == "float":
        return float(value)
    return int(value) if type == "integer" else value


def parameter_signature(parameter: CommandParameter) -> str:
    """Return a parameter or a setting as one word for people, such as `speed=FLOAT m/s (0 to 30)`."""
    value = "|".join(map(shown, parameter.choices)) if parameter.choices else parameter.type.upper()
    text = f"{parameter.name}={value}{f' {parameter.unit}' if parameter.unit else ''}"
    low, high = parameter.min, parameter.max
    if low is not None or high is not None:
        bounds = f"{low} to {high}" if None not in (low, high) else f"from {low}" if high is None else f"up to {high}"
        text += f" ({bounds})"
    return text if parameter.required and parameter.default is None else f"[{text}]"


def unknown_command(name: str, existing: Sequence[str]) -> str:
    """Return the sentence about a command that the device does not have, with those that it has."""
    has = f"it has {', '.join(sorted(existing))}" if existing else "it declares no command"
    return f"the device has no command {shown(name)}: {has} ({plural(len(existing), 'command')})"


def result_problem(result: object) -> str:
    """Return why the result of a command is not kept: its size, its depth, or that it is no JSON value; else ""."""
    try:
        size = json_size(result)
    except ValueError as error:
        return str(error)
    if size > limits.MAX_COMMAND_BYTES:
        return f"it has {size:,} bytes as JSON: at most {limits.MAX_COMMAND_BYTES:,} are kept"
    return _fault(result, limits.MAX_RESULT_DEPTH)


def _fault(value: object, levels: int) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "it has a number that JSON does not have"
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    if parts is None:
        return ""
    if levels <= 0:
        return f"it has more than {limits.MAX_RESULT_DEPTH} levels of lists and objects"
    return next(filter(None, (_fault(part, levels - 1) for part in parts)), "")
