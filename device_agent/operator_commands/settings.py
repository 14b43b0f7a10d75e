"""Commands and settings of a device in agent.toml: a line to a source, a Modbus register, or a program. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from shutil import which
from typing import Annotated, Literal

from msgspec import Meta, Struct

from device_agent.operator_commands.handler import MAX_TIME_LIMIT_S, TIME_LIMIT_S
from device_agent.sources.settings import SourceSettings
from wire.command import CommandDeclaration, CommandName, CommandParameter, ParameterValue
from wire.limits import MAX_CHOICES, MAX_DESCRIPTION, MAX_PARAMETERS, MAX_UNIT
from wire.model import MetricType

MAX_LINE_CHARACTERS = 1024
"""Characters of a line before its parameters are put in."""

MAX_WORDS = 64
"""The program and its arguments, which a person writes."""

PLACE = re.compile(r"\{([A-Za-z0-9_.-]+)\}")
"""Place of a parameter in a line or in the arguments of a program. Other braces are text, such as those of JSON."""

ENDINGS = {"lf": "\n", "crlf": "\r\n", "cr": "\r", "none": ""}

SERIAL, TCP, MODBUS = "SerialSettings", "TcpSettings", "ModbusSettings"
"""Names of the settings of the kinds of sources that a command may use. Their modules are not imported for it."""


class ConfiguredCommand(Struct, frozen=True, kw_only=True):
    """A command and what it does: exactly one of `line`, `register` and `program` is set.

    `line` is sent to the port of `source`, with `{name}` for each parameter, and the `ending`. A line of the device
    that matches `answer` confirms it, and one that matches `refusal` rejects it. `register` is the field of a map of
    the Modbus `source`, of `slave` if several have it, to which `value` is written: a constant, or `{name}`
    of a parameter. `program` is a program and its arguments, of which `{name}` may be a whole one; it runs in
    `directory`. `device` is the device of a program, if there are several.
    """

    name: CommandName
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION)] = ""
    confirm: bool = False
    time_limit_s: Annotated[float, Meta(gt=0, le=MAX_TIME_LIMIT_S)] = TIME_LIMIT_S
    parameters: Annotated[tuple[CommandParameter, ...], Meta(max_length=MAX_PARAMETERS)] = ()
    source: str = ""
    line: Annotated[str, Meta(min_length=1, max_length=MAX_LINE_CHARACTERS)] | None = None
    ending: Literal["lf", "crlf", "cr", "none"] = "lf"
    answer: Annotated[str, Meta(max_length=MAX_LINE_CHARACTERS)] = ""
    refusal: Annotated[str, Meta(max_length=MAX_LINE_CHARACTERS)] = ""
    register: str = ""
    slave: int | None = None
    value: ParameterValue | None = None
    program: Annotated[tuple[str, ...], Meta(max_length=MAX_WORDS)] = ()
    directory: Path | None = None
    device: str = ""

    def __post_init__(self) -> None:
        actions = [bool(self.line), bool(self.register), bool(self.program)]
        if sum(actions) != 1:
            raise ValueError("set one of line, register and program: it is what the command does")
        self.declaration  # noqa: B018 - raises ValueError
        if self.program:
            _check_program(self)
        elif not self.source:
            raise ValueError("source is missing: the name of the [[source]] whose port it uses")
        if self.line is None and (self.answer or self.refusal):
            raise ValueError("answer and refusal belong to line")
        if self.refusal and not self.answer:
            raise ValueError("answer is missing: without it, a command that is not refused would never end")
        if not self.register and (self.value is not None or self.slave is not None):
            raise ValueError("value and slave belong to register")
        if not self.program and (self.directory is not None or self.device):
            raise ValueError("directory and device belong to program: a line and a register go to the device of source")
        _check_places(self)

    @property
    def declaration(self) -> CommandDeclaration:
        """The command as the hub gets it."""
        return CommandDeclaration(self.name, self.description, self.confirm, [*self.parameters])

    @property
    def written(self) -> ParameterValue:
        """The value for a register: a constant, or the place of a parameter."""
        if self.value is None and len(self.parameters) == 1:
            return f"{{{self.parameters[0].name}}}"
        assert self.value is not None
        return self.value

    @property
    def places(self) -> list[str]:
        """The names at the places of parameters."""
        if self.program:
            return [place[1] for word in self.program if (place := PLACE.fullmatch(word))]
        text = self.line or self.written
        return PLACE.findall(text) if isinstance(text, str) else []

    def source_problems(self, sources: Mapping[str, SourceSettings]) -> Iterator[tuple[str, str]]:
        """Yield what does not fit of the source, by its key; `sources` are all of the agent by their names."""
        if self.program:
            return
        source = sources.get(self.source)
        if source is None:
            yield "source", f"there is no source {self.source!r}: use one of {', '.join(sorted(sources))}"
            return
        kind = type(source).__name__
        if self.line is not None:
            if kind not in (SERIAL, TCP):
                yield "source", f"{self.source!r} takes no lines: use a source of the kind serial or tcp"
            elif getattr(source, "listen", False):
                yield "source", f"{self.source!r} listens for devices: a line needs a source that connects to one"
        elif kind != MODBUS:
            yield "source", f"{self.source!r} has no registers: use a source of the kind modbus"
        else:
            yield from _register_problems(self, source)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems that this computer shows now, each with its key; for `device-agent check`."""
        if self.program and which(self.program[0]) is None:
            yield "program", f"there is no program {self.program[0]!r} that can be run"
        if self.directory is not None and not self.directory.is_dir():
            yield "directory", f"there is no directory {self.directory}"


class ConfiguredSetting(Struct, frozen=True, kw_only=True):
    """A setting of the device, and what sets it: exactly one of `line`, `register` and `program`.

    They are those of a command whose only parameter is `{value}`. A line needs an `answer`: without one, nobody knows
    whether the value is in force.
    """

    name: CommandName
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION)] = ""
    type: MetricType = "float"
    unit: Annotated[str, Meta(max_length=MAX_UNIT)] = ""
    min: float | int | None = None
    max: float | int | None = None
    choices: Annotated[tuple[ParameterValue, ...], Meta(max_length=MAX_CHOICES)] = ()
    time_limit_s: Annotated[float, Meta(gt=0, le=MAX_TIME_LIMIT_S)] = TIME_LIMIT_S
    source: str = ""
    line: Annotated[str, Meta(min_length=1, max_length=MAX_LINE_CHARACTERS)] | None = None
    ending: Literal["lf", "crlf", "cr", "none"] = "lf"
    answer: Annotated[str, Meta(max_length=MAX_LINE_CHARACTERS)] = ""
    refusal: Annotated[str, Meta(max_length=MAX_LINE_CHARACTERS)] = ""
    register: str = ""
    slave: int | None = None
    program: Annotated[tuple[str, ...], Meta(max_length=MAX_WORDS)] = ()
    directory: Path | None = None
    device: str = ""

    def __post_init__(self) -> None:
        if self.line is not None and not self.answer:
            raise ValueError("answer is missing: a line of the device that says that the value is in force")
        if any(place != "{value}" for place in self._places()):
            raise ValueError("only {value} is replaced in a setting")
        self.declaration, self.action  # noqa: B018 - raise ValueError

    def _places(self) -> list[str]:
        words = [self.line or "", *self.program]
        return [match[0] for word in words for match in PLACE.finditer(word)]

    @property
    def declaration(self) -> CommandParameter:
        """The setting as the hub gets it."""
        return self._parameter(self.name)

    def _parameter(self, name: str) -> CommandParameter:
        return CommandParameter(
            name, self.type, self.unit, self.min, self.max, [*self.choices], description=self.description
        )

    @property
    def action(self) -> ConfiguredCommand:
        """The command that sets the value. Raises ValueError."""
        return ConfiguredCommand(
            name=self.name,
            time_limit_s=self.time_limit_s,
            parameters=(self._parameter("value"),),
            source=self.source,
            line=self.line,
            ending=self.ending,
            answer=self.answer,
            refusal=self.refusal,
            register=self.register,
            slave=self.slave,
            program=self.program,
            directory=self.directory,
            device=self.device,
        )

    def source_problems(self, sources: Mapping[str, SourceSettings]) -> Iterator[tuple[str, str]]:
        """Yield what does not fit of the source, as a command does."""
        return self.action.source_problems(sources)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems that this computer shows now, as a command does."""
        return self.action.problems()


def line_of_command(command: ConfiguredCommand, parameters: Mapping[str, ParameterValue]) -> bytes:
    """Return the line of a command with the values of its parameters. Raises ValueError for a text that is not safe."""
    assert command.line is not None
    return (_filled(command.line, parameters) + ENDINGS[command.ending]).encode()


def _filled(line: str, parameters: Mapping[str, ParameterValue]) -> str:
    return PLACE.sub(lambda place: line_text(place[1], parameters[place[1]]), line)


def line_text(name: str, value: ParameterValue) -> str:
    """Return a value as it is written into a line. Raises ValueError for a text that could be more than a value."""
    if isinstance(value, str):
        if not value.isprintable() or '"' in value or "\\" in value:
            raise ValueError(f'{name}: a text in a line has no control characters, no " and no \\')
        return value
    return number_text(value)


def number_text(value: ParameterValue) -> str:
    """Return a number as the shortest decimal text without an exponent where that is usual; `true` and `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and math.fabs(value) < 1e15:
        return str(int(value))
    return str(value)


def arguments_of_program(command: ConfiguredCommand, parameters: Mapping[str, ParameterValue]) -> list[str]:
    """Return the program and its arguments; one whose parameter has no value is left out.

    Raises ValueError for a text that a program could take for an option.
    """
    arguments: list[str] = []
    free_texts = {parameter.name for parameter in command.parameters if not parameter.choices}
    for word in command.program:
        place = PLACE.fullmatch(word)
        if place is None:
            arguments.append(word)
            continue
        value = parameters.get(place[1])
        if value is None:
            continue
        if isinstance(value, str) and ("\0" in value or (value.startswith("-") and place[1] in free_texts)):
            raise ValueError(f"{place[1]}: a text for a program does not begin with - and has no NUL")
        arguments.append(value if isinstance(value, str) else number_text(value))
    return arguments


def _check_places(command: ConfiguredCommand) -> None:
    declared = [parameter.name for parameter in command.parameters]
    if command.register and command.value is None and len(declared) != 1:
        raise ValueError("value is missing: what is written to the register, such as a number or {name} of a parameter")
    used = command.places
    if unknown := [name for name in used if name not in declared]:
        raise ValueError(f"{{{unknown[0]}}} is no parameter of the command: declare it in [[command.parameters]]")
    if unused := [name for name in declared if name not in used]:
        raise ValueError(f"the parameter {unused[0]} is used nowhere: write {{{unused[0]}}} where its value goes")
    if not command.program:
        for parameter in command.parameters:
            if not parameter.required and parameter.default is None:
                raise ValueError(f"the parameter {parameter.name} always needs a value here: give it a default")
    if command.register and isinstance(command.written, str) and not PLACE.fullmatch(command.written):
        raise ValueError("value is a number, a boolean, or {name} of one parameter")


def _check_program(command: ConfiguredCommand) -> None:
    if command.source or command.line or command.register:
        raise ValueError("a program has no source")
    if not command.program[0] or any("\0" in word for word in command.program):
        raise ValueError("program is the name of a program and its arguments")
    if PLACE.fullmatch(command.program[0]):
        raise ValueError("the program itself cannot be a parameter")
    declared = [parameter.name for parameter in command.parameters]
    for word in command.program[1:]:
        if not PLACE.fullmatch(word) and (inside := [name for name in PLACE.findall(word) if name in declared]):
            raise ValueError(f"{word!r}: a parameter is a whole argument, such as '{{{inside[0]}}}'")


def _register_problems(command: ConfiguredCommand, source: SourceSettings) -> Iterator[tuple[str, str]]:
    # The module of the settings is imported already, because there is a source of this kind.
    from device_agent.sources.modbus.settings import ModbusSettings

    assert isinstance(source, ModbusSettings)
    found = [
        polled
        for polled in source.maps
        for name in polled.fields
        if command.register in (name, polled.metric(name)) and command.slave in (None, polled.slave)
    ]
    if not found:
        of_slave = "" if command.slave is None else f" of slave {command.slave}"
        yield "register", f"no map of {command.source!r} has the field {command.register!r}{of_slave}"
    elif len(found) > 1:
        yield (
            "register",
            f"several maps have the field {command.register!r}: set slave, or write the name of the metric",
        )
    elif found[0].table in ("input", "discrete"):
        yield "register", f"{command.register!r} is in the table {found[0].table!r}, which is read only"
