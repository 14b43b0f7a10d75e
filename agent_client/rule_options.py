"""Options of the commands that read foreign data: one option for each rule, and the files that options name."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
from typer import Option

from agent_client.rule_files import load_user_function, toml_fields, zone_of
from formats.custom import UserFunction
from formats.rules import Format, Rules, RulesError, rules_of
from wire.model import MetricType

_PAIRS = {"type": "types", "unit": "units", "column": "columns"}
"""Options whose values are NAME=VALUE, and the rules that they set."""

_LISTS = {"measurement": "measurements"}
"""Options that can be repeated, and the rules that they set, if these have another name."""

Device = Annotated[str | None, Option(metavar="TEMPLATE", help="Device: an id, or like {model}-{id}.")]


@dataclass(frozen=True)
class RuleOptions:
    """Options for the rules, except the device; None for one that was not given."""

    rules: Annotated[
        Path | None, Option(metavar="FILE", help="TOML file with rules, as the commands `try` print them.")
    ] = None
    format: Annotated[
        str | None,
        Option(metavar="FORMAT", help=f"One of {', '.join(get_args(Format))}."),
    ] = None
    metric: Annotated[str | None, Option(metavar="TEMPLATE", help="Metric, like {measurement}.{field}.")] = None
    time: Annotated[list[str] | None, Option(metavar="FIELD", help="Field with the time; twice for date and time.")] = (
        None
    )
    time_format: Annotated[
        str | None,
        Option(metavar="FORMAT", help="s, ms, us, ns, since_2000, uptime_ms, day_first, … or like %d.%m.%Y %H:%M."),
    ] = None
    zone: Annotated[str | None, Option(metavar="ZONE", help="Zone of times without an offset: Europe/Berlin.")] = None
    ambiguous: Annotated[
        str | None, Option(metavar="WORD", help="Local times that occur twice: order, earlier, later or refuse.")
    ] = None
    decimal: Annotated[str | None, Option(metavar="MARK", help="Decimal mark: . or ,")] = None
    thousands: Annotated[str | None, Option(metavar="MARK", help="Mark between thousands.")] = None
    numbers: Annotated[str | None, Option(metavar="WORD", help="text: numbers in texts of JSON stay texts.")] = None
    delimiter: Annotated[str | None, Option(metavar="CHARACTER", help="csv: character between cells.")] = None
    header: Annotated[
        bool | None, Option("--header/--no-header", help="csv: whether the first line has the names.")
    ] = None
    metric_column: Annotated[
        str | None, Option(metavar="NAME", help="csv: column with the metric, if each line has one reading.")
    ] = None
    value_column: Annotated[
        str | None, Option(metavar="NAME", help="csv: column with the value, if each line has one reading.")
    ] = None
    column: Annotated[
        list[str] | None,
        Option(metavar="FIELD[=METRIC]", help="Field or column to store, and its metric (repeatable). Default: all."),
    ] = None
    measurement: Annotated[
        list[str] | None, Option(metavar="NAME", help="line: refuse lines of other measurements (repeatable).")
    ] = None
    encoding: Annotated[str | None, Option(metavar="NAME", help="Encoding, for example cp1252 or utf-16.")] = None
    pattern: Annotated[str | None, Option(metavar="REGEX", help="regex: with named groups, (?P<temp>[0-9.]+).")] = None
    function: Annotated[
        Path | None, Option(metavar="FILE", help="function: Python file with decode(frame) and its SAMPLES.")
    ] = None
    type: Annotated[list[str] | None, Option(metavar="METRIC=TYPE", help="Type of a metric (repeatable).")] = None
    unit: Annotated[list[str] | None, Option(metavar="METRIC=UNIT", help="Unit of a metric (repeatable).")] = None
    no_value: Annotated[list[str] | None, Option(metavar="WORD", help="Word without a value (repeatable).")] = None

    def to_rules(self, **fixed: str) -> Rules:
        """Return the rules of the file, these options, which win, and `fixed`, which win over both.

        Raises RulesError.
        """
        rules = rules_of({**self.fields(), **fixed})
        zone_of(rules.zone)
        if rules.format == "function" and self.function is None:
            raise RulesError('format = "function" needs --function FILE')
        return rules

    def fields(self) -> dict[str, Any]:
        """Return the settings in the file and these options, which win. Raises RulesError."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        path = given.pop("rules", None)
        fields = {} if path is None else toml_fields(path)
        given.pop("function", None)
        for option, name in _PAIRS.items():
            pairs = dict(_pair(option, text) for text in given.pop(option, ()))
            if pairs:
                fields[name] = {**fields.get(name, {}), **pairs}
        given = {_LISTS.get(name, name): value for name, value in given.items()}
        if given.get("delimiter") in ("\\t", "tab"):
            given["delimiter"] = "\t"
        if "pattern" in given:
            given.setdefault("format", "regex")
        if self.function is not None:
            given.setdefault("format", "function")
        for kind in fields.get("types", {}).values():
            if kind not in get_args(MetricType):
                raise RulesError(f"{kind!r} is not a type: use {', '.join(get_args(MetricType))}")
        return {**fields, **given}

    def load_function(self) -> UserFunction | None:
        """Return the function of the user's Python file, which runs with all rights of this command; None without one.

        Raises RulesError.
        """
        return load_user_function(self.function)


@dataclass(frozen=True)
class InputOptions(RuleOptions):
    """Options for all rules, for an input that can have several devices."""

    device: Device = None


def options_text(rules: Rules, given: RuleOptions | None = None) -> str:
    """Return the options that set these rules, for a shell.

    Tables, which have no option, need a file of rules: that of the options that were given, as for the function.
    """
    rules_file, function = (given and given.rules) or "FILE", (given and given.function) or "FILE"
    words = []
    by_rule = {name: option for option, name in (_PAIRS | _LISTS).items()}
    for name, value in msgspec.to_builtins(rules).items():
        if name == "modbus":
            words += ["--rules", str(rules_file)]
            continue
        option = f"--{by_rule.get(name, name).replace('_', '-')}"
        match value:
            case bool():
                words.append(option if value else f"--no-{name}")
            case dict():
                words += [word for key, text in value.items() for word in (option, f"{key}={text}")]
            case list() | tuple():
                words += [word for text in value for word in (option, text)]
            case _:
                words += [option, "tab" if value == "\t" else str(value)]
    if rules.format == "function":
        words += ["--function", str(function)]
    return shlex.join(words)


def _pair(option: str, text: str) -> tuple[str, str]:
    """Return a pair of NAME=VALUE. The last = separates, because names may contain one."""
    name, separator, value = text.rpartition("=")
    if not separator and option == "column" and text:
        return text, text
    if not separator or not name or not value:
        raise RulesError(f"--{option} {text!r}: write NAME=VALUE")
    return name, value
