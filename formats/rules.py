"""The settings that decide how foreign data is read. Every input has the same settings under the same names."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from formats.modbus import RegisterMap
from formats.pattern import bounded_pattern
from wire.limits import MAX_METRICS, MAX_UNIT
from wire.model import MetricType

Format = Literal[
    "auto", "json", "senml", "signalk", "rtl_433", "gpsd", "line", "csv", "pairs", "plotter", "nmea", "value",
    "regex", "modbus", "function",
]  # fmt: skip

TIME_WORDS = (
    "auto", "iso8601", "s", "ms", "us", "ns", "since_2000", "excel", "uptime_s", "uptime_ms", "uptime_us",
    "day_first", "month_first", "year_first",
)  # fmt: skip
"""Values of `time_format`, besides a pattern of strptime."""

Ambiguous = Literal["order", "earlier", "later", "refuse"]
"""Meaning of a local time that occurs twice because clocks were put back. "order": the order of the records decides."""

MAX_PATTERN = 2000
"""Characters of a regular expression. It is the user's own, so this only stops a file pasted by mistake."""

_PLACE = re.compile(r"\{([^{}]*)\}")


class RulesError(ValueError):
    """Settings of foreign data that cannot be applied; the message says which one to change."""


class Rules(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of one input. An empty setting is decided by evidence in the data.

    `time` are the fields or columns with the time, joined by a space. `time_format` is one of TIME_WORDS, or a pattern
    of strptime; a word of `time_format` in `time` is accepted, too, and then means the usual field. `device` and
    `metric` are templates such as "{model}-{id}" or "{measurement}.{field}"; "{host|location}" is the first of them
    that exists. With `measurements`, lines of others in line protocol are refused. `columns` are the columns or fields
    that are stored, with their metrics; empty: all. `no_value` words extend the built-in list. `numbers = "text"` keeps
    a number in a text of JSON as text. `modbus` is the map of the format modbus.
    """

    format: Format = "auto"
    encoding: str = "auto"
    delimiter: Annotated[str, Meta(max_length=1)] = ""
    header: bool | None = None
    pattern: Annotated[str, Meta(max_length=MAX_PATTERN)] = ""
    device: str = ""
    metric: str = ""
    measurements: tuple[str, ...] = ()
    metric_column: str = ""
    value_column: str = ""
    columns: dict[str, str] = {}
    time: tuple[str, ...] = ()
    time_format: str = "auto"
    zone: str = ""
    ambiguous: Ambiguous = "order"
    no_value: tuple[str, ...] = ()
    decimal: Literal["", ".", ","] = ""
    thousands: Literal["", ".", ",", " ", "'"] = ""
    numbers: Literal["auto", "text"] = "auto"
    types: dict[str, MetricType] = {}
    units: dict[str, str] = {}
    modbus: RegisterMap | None = None


DEFAULT_RULES = Rules()


def rules_of(fields: dict[str, Any]) -> Rules:
    """Return the rules with these fields. Raises RulesError for an unknown field, a wrong type or a contradiction."""
    if isinstance(fields.get("time"), str):
        fields = {**fields, "time": [fields["time"]]}
    try:
        rules = msgspec.convert(fields, Rules)
    except msgspec.ValidationError as error:
        raise RulesError(f"the rules are wrong: {error}") from None
    if len(rules.time) == 1 and rules.time[0] in TIME_WORDS[1:] and rules.time_format == "auto":
        rules = msgspec.structs.replace(rules, time=(), time_format=rules.time[0])
    if (problem := _problem(rules)) is not None:
        raise RulesError(problem)
    return rules


def _problem(rules: Rules) -> str | None:
    if rules.time_format not in TIME_WORDS and "%" not in rules.time_format:
        words = ", ".join(TIME_WORDS)
        return f"time_format {rules.time_format!r} is unknown: use {words}, or a pattern such as '%d.%m.%Y %H:%M'"
    if rules.thousands and rules.thousands == rules.decimal:
        return "decimal and thousands are the same character"
    if rules.delimiter and rules.delimiter in '"\r\n':
        return f"{rules.delimiter!r} is not a delimiter: use one character, \\t for a tab"
    if bool(rules.metric_column) != bool(rules.value_column):
        return "metric_column and value_column must be set together"
    if len(rules.columns) > MAX_METRICS:
        return f"columns has more than {MAX_METRICS} entries"
    if any(len(unit) > MAX_UNIT for unit in rules.units.values()):
        return f"a unit is longer than {MAX_UNIT} characters"
    if (rules.format == "modbus") != (rules.modbus is not None):
        return 'format = "modbus" and the table [modbus] must be set together'
    if (rules.format == "regex") != bool(rules.pattern):
        return 'format = "regex" and pattern must be set together'
    if rules.pattern:
        try:
            if not bounded_pattern(rules.pattern).names:
                return "pattern has no named group: write (?P<temperature>[0-9.]+)"
        except ValueError as error:
            return str(error)
    return (
        _encoding_problem(rules.encoding)
        or _template_problem("device", rules.device)
        or (_template_problem("metric", rules.metric))
    )


def _encoding_problem(encoding: str) -> str | None:
    try:
        if encoding == "auto":
            return None
        # Some codecs are no encodings of text, and one cannot decode a text in parts.
        sample = "a;é\n".encode(encoding, "replace")
        decode = codecs.getincrementaldecoder(encoding)().decode
        parts = "".join(decode(sample[place : place + 1]) for place in range(len(sample))) + decode(b"", True)
        if parts == sample.decode(encoding) and parts.startswith("a;"):
            return None
    except (LookupError, UnicodeError):
        pass
    return f"the encoding {encoding!r} is unknown; common ones are utf-8, cp1252 and utf-16"


def _template_problem(name: str, template: str) -> str | None:
    if "{" in _PLACE.sub("", template) or "}" in _PLACE.sub("", template) or "{}" in template:
        return f"{name} {template!r} is not a template: write for example {{model}}-{{id}}"
    return None


def rules_text(rules: Rules) -> str:
    """Return the rules as TOML that `rules_of` reads; defaults are left out."""
    return "\n".join([*_toml_lines(msgspec.to_builtins(rules), ""), ""]).lstrip("\n")


def _toml_lines(fields: dict[str, Any], table: str) -> Iterator[str]:
    """Yield the lines of a table and of the tables in it, whose names begin with its own."""
    if table:
        yield from ("", f"[{table}]")
    for name, value in fields.items():
        if not isinstance(value, dict):
            yield f"{toml_key(name)} = {toml_value(value)}"
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _toml_lines(value, f"{table}.{toml_key(name)}" if table else toml_key(name))


def toml_key(name: str) -> str:
    """Return a name as a key of TOML."""
    is_bare = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    return name if is_bare else toml_value(name)


def toml_value(value: object) -> str:
    """Return a string, a number, a boolean or a list of strings in TOML, which differs from JSON in one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
