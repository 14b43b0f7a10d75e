"""Options of a Modbus bus for the command line, and the file with its maps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
from typer import Option

from agent_client.rule_files import toml_fields
from device_agent.settings import value_problem
from device_agent.sources.modbus.settings import ModbusSettings, Table
from device_agent.toml_lines import place_text
from formats.modbus import RegisterType
from formats.rules import RulesError

_REGISTER = re.compile(
    r"(?:(?P<name>[^=]+)=)?(?P<first>[0-9]+)(?:-(?P<last>[0-9]+))?(?::(?P<type>\w+))?(?::(?P<scale>[-+0-9.eE]+))?"
    r"(?::(?P<unit>.+))?"
)


@dataclass(frozen=True)
class BusOptions:
    """Options of a bus, except its port and its baud rate."""

    map: Annotated[
        Path | None, Option("--map", metavar="FILE", help="TOML file with [[maps]], as in the documentation of Modbus.")
    ] = None
    register: Annotated[
        list[str] | None,
        Option(
            metavar="[NAME=]ADDRESS[:TYPE[:SCALE[:UNIT]]]",
            help="Register to poll without a file (repeatable), such as voltage=0:f32:1:V, or a range such as 0-9.",
        ),
    ] = None
    slave: Annotated[int, Option(min=0, max=255, help="Slave of the --register options.")] = 1
    table: Annotated[Table, Option(help="Table of the --register options.")] = "holding"
    poll: Annotated[float, Option(min=0.01, help="Seconds between two polls of the --register options.")] = 1.0
    timeout: Annotated[float | None, Option(help="Longest wait for an answer in seconds. Default: 1.")] = None

    @property
    def is_given(self) -> bool:
        """Return whether the options describe a bus."""
        return self.map is not None or bool(self.register)

    def settings(self, *, port: str, baud: int | None = None, frame: str | None = None) -> ModbusSettings:
        """Return the settings of the file and of the options, which win. Raises RulesError."""
        fields = {} if self.map is None else toml_fields(self.map)
        given = {"port": port or None, "baud": baud, "frame": frame, "timeout_s": self.timeout}
        fields |= {name: value for name, value in given.items() if value is not None}
        if self.register:
            registers = dict(pair for text in self.register for pair in _registers(text))
            own = {"slave": self.slave, "table": self.table, "interval_s": self.poll, "fields": registers}
            fields["maps"] = [*fields.get("maps", ()), own]
        if "port" not in fields:
            raise RulesError("the port is missing: write a serial port, tcp://HOST or socket://HOST:PORT")
        if "maps" not in fields:
            raise RulesError("there is nothing to poll: give --map FILE, or --register such as voltage=0:f32:1:V")
        try:
            return msgspec.convert(fields, ModbusSettings)
        except msgspec.ValidationError as error:
            key, problem = value_problem(ModbusSettings, fields, error)
            raise RulesError(f"the settings of the bus are wrong: {place_text(key, fields)}: {problem}") from None


def _registers(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the fields of one --register option."""
    match = _REGISTER.fullmatch(text)
    if match is None:
        raise RulesError(f"{text!r} is no register: write voltage=0:f32:1:V, or 0-9 for a range")
    name, first, last, type, scale, unit = match.group("name", "first", "last", "type", "scale", "unit")
    if type is not None and type not in get_args(RegisterType):
        raise RulesError(f"{text!r}: {type!r} is no type of a register: use one of {', '.join(get_args(RegisterType))}")
    field: dict[str, Any] = {"type": type or "u16"}
    if scale is not None:
        try:
            field["scale"] = float(scale)
        except ValueError:
            raise RulesError(f"{text!r}: {scale!r} is no scale, which is a number such as 0.1") from None
    if unit is not None:
        field["unit"] = unit
    if last is None:
        return [(name or f"r{first}", {"address": int(first), **field})]
    if name is not None or not 0 <= int(last) - int(first) < 1000:
        raise RulesError(f"{text!r}: a range is FIRST-LAST without a name, of at most 1,000 registers")
    return [(f"r{number}", {"address": number, **field}) for number in range(int(first), int(last) + 1)]
