"""The mapping of a file: how its records become readings. It comes from options, a mapping file, or detection.

A mapping file is TOML with the fields below, `format` first:

    format = "csv"
    time = ["Datum", "Uhrzeit"]
    time_format = "%d.%m.%Y %H:%M"
    zone = "Europe/Berlin"
    device = "boiler-1"

    [columns]
    "Temperatur [°C]" = "temperature"

    [units]
    temperature = "°C"
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from importer.records import MappingError
from wire.limits import MAX_UNIT
from wire.model import MetricType, device_id_problem

LAYOUT = "telemetry-import-1"
"""Part of the epoch. Change it whenever the same file and mapping would be cut into other batches."""

Precision = Literal["ns", "us", "ms", "s"]

Ambiguous = Literal["order", "earlier", "later", "refuse"]
"""Meaning of a local time that occurs twice because clocks were put back. "order": in a series the first one is the
earlier time, until times decrease; for files in order of time."""


class LineMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="line"):
    """Mapping of InfluxDB line protocol. The device is `device`, or the value of the tag `device_tag`.

    `metric` is a template with {measurement}, {field} and {NAME OF A TAG}. With `measurements`, lines of others are
    rejected. `types` and `units` belong to metrics, by name; a metric without a type gets the type of its values.
    """

    precision: Precision = "ns"
    device: str = ""
    device_tag: str = ""
    metric: str = "{measurement}.{field}"
    measurements: tuple[str, ...] = ()
    types: dict[str, MetricType] = {}
    units: dict[str, str] = {}


class TableMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="csv"):
    """Mapping of a CSV table. The device is `device`, or the content of `device_column`.

    Columns are named by the header, or "1", "2", … without one. The cells of the columns `time` are joined by a space
    and parsed with `time_format`: "iso", "s", "ms", "us", "ns" (since 1970), or a format of strptime. Times without an
    offset are local times of `zone`.

    Either `columns` maps columns with values to metrics, or each record contains one reading, with the metric in
    `metric_column` and the value in `value_column`. `decimal` and `thousands` are the characters in numbers. An empty
    cell, or one in `no_value`, has no value.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    header: bool = True
    time: tuple[str, ...] = ()
    time_format: str = "iso"
    zone: str = ""
    ambiguous: Ambiguous = "order"
    device: str = ""
    device_column: str = ""
    columns: dict[str, str] = {}
    metric_column: str = ""
    value_column: str = ""
    decimal: Literal[".", ","] = "."
    thousands: str = ""
    no_value: tuple[str, ...] = ("NaN", "null", "NULL", "None", "-")
    types: dict[str, MetricType] = {}
    units: dict[str, str] = {}


Mapping: TypeAlias = LineMapping | TableMapping


def read_mapping_file(path: Path) -> dict[str, Any]:
    """Return the fields of a mapping file. Raises MappingError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path} is not TOML: {error}") from None


def mapping_of(fields: dict[str, Any]) -> Mapping:
    """Return the mapping with these fields. Raises MappingError for an unknown field or a wrong type."""
    try:
        return msgspec.convert(fields, Mapping)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise MappingError(f"the mapping is wrong: {error}") from None


def check_mapping(mapping: Mapping) -> None:
    """Raise MappingError if an option has to be set before the import; the message names the option."""
    if (problem := _problem(mapping)) is not None:
        raise MappingError(problem)
    if isinstance(mapping, TableMapping):
        check_form(mapping.delimiter, mapping.encoding)
        zone_of(mapping.zone)


def _problem(mapping: Mapping) -> str | None:
    if mapping.device and (problem := device_id_problem(mapping.device)) is not None:
        return problem
    for metric, unit in mapping.units.items():
        if len(unit) > MAX_UNIT:
            return f"the unit of {metric} is longer than {MAX_UNIT} characters"
    if isinstance(mapping, LineMapping):
        if not mapping.device and not mapping.device_tag:
            return "the device is unknown: set --device ID, or --device-tag TAG for one device per value of a tag"
        return None
    if not mapping.time:
        return "the column with the time is unknown: set --time COLUMN (two columns: --time DATE --time TIME)"
    if not mapping.device and not mapping.device_column:
        return "the device is unknown: set --device ID, or --device-column COLUMN for one device per value of a column"
    if bool(mapping.metric_column) != bool(mapping.value_column):
        return "--metric-column and --value-column must be set together"
    if not mapping.metric_column and not mapping.columns:
        return "the columns with values are unknown: set --column COLUMN=METRIC, or --metric-column and --value-column"
    if mapping.delimiter == mapping.decimal == ",":
        return "a comma cannot be both the delimiter and the decimal point"
    if mapping.thousands and (len(mapping.thousands) != 1 or mapping.thousands in (mapping.decimal, mapping.delimiter)):
        return "the thousands separator must be one character, and neither the decimal point nor the delimiter"
    return None


def check_form(delimiter: str, encoding: str) -> None:
    """Raise MappingError if no table can be read with these."""
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise MappingError(f"{delimiter!r} is not a delimiter: use one character, \\t for a tab")
    try:
        "".encode(encoding)
    except LookupError:
        raise MappingError(f"the encoding {encoding!r} is unknown; common ones are utf-8 and cp1252") from None


def zone_of(name: str) -> ZoneInfo | None:
    """Return the time zone of this name, None for no name. Raises MappingError."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MappingError(f"the time zone {name!r} is unknown; use a name like Europe/Berlin, or UTC") from None


def epoch_of(digest: bytes, mapping: Mapping) -> str:
    """Return the epoch of an import. Equal content with an equal mapping has the same epoch, so it is stored once."""
    meaning = json.dumps(msgspec.to_builtins(mapping), sort_keys=True).encode()
    return hashlib.sha256(b"\0".join((LAYOUT.encode(), digest, meaning))).hexdigest()[:16]


def mapping_text(mapping: Mapping) -> str:
    """Return the mapping as a TOML file that `read_mapping_file` and `mapping_of` can read."""
    fields = msgspec.to_builtins(mapping)
    lines = [f"format = {_toml(fields.pop('format'))}"]
    tables: list[str] = []
    defaults = msgspec.to_builtins(type(mapping)())
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            tables += ["", f"[{name}]", *(f"{_toml(key)} = {_toml(text)}" for key, text in value.items())]
        elif value != defaults[name]:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join([*lines, *tables, ""])


def _toml(value: object) -> str:
    """Return a string, a boolean or a list of strings in TOML, which differs from JSON in one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
