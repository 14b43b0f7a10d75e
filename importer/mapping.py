"""What a file means: how its records become readings of devices. Given by options, a mapping file, or a guess.

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

from importer.errors import MappingError
from wire.limits import MAX_UNIT
from wire.model import MetricType, device_id_problem

LAYOUT = "telemetry-import-1"
"""Changes whenever the same file and mapping would be cut into other batches: it is part of the epoch."""

Precision = Literal["ns", "us", "ms", "s"]

Ambiguous = Literal["order", "earlier", "later", "refuse"]
"""What a local time means that came twice, when clocks were put back. "order": of the times of one series the first is
the earlier one, until they go back; for files that are in order of time."""


class LineMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="line"):
    """InfluxDB line protocol. The device is `device`, or else the value of the tag `device_tag`.

    `metric` is a template in which {measurement}, {field} and {NAME OF A TAG} are filled in. With `measurements`, lines
    of others are refused. `types` and `units` are those of metrics, by their names; what has no type here gets that of
    its values.
    """

    precision: Precision = "ns"
    device: str = ""
    device_tag: str = ""
    metric: str = "{measurement}.{field}"
    measurements: tuple[str, ...] = ()
    types: dict[str, MetricType] = {}
    units: dict[str, str] = {}


class TableMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="csv"):
    """A table as CSV. The device is `device`, or else what stands in `device_column`.

    Columns are named as in the header; without one they are "1", "2", …. The cells of the columns `time` are joined by
    a space and read as `time_format` says: "iso", "s", "ms", "us", "ns" (since 1970), or a pattern of strptime. Times
    that carry no offset are local times of `zone`.

    Either `columns` names the columns that hold values and their metrics, or each record holds one reading, the name of
    its metric in `metric_column` and its value in `value_column`. `decimal` and `thousands` say how numbers are
    written; a cell that is empty or in `no_value` holds none.
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
    """The fields of a mapping file, as given. Raises MappingError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path} is not TOML: {error}") from None


def mapping_of(fields: dict[str, Any]) -> Mapping:
    """The mapping with these fields. Raises MappingError for a field that does not exist or has a wrong type."""
    try:
        return msgspec.convert(fields, Mapping)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise MappingError(f"the mapping is wrong: {error}") from None


def check_mapping(mapping: Mapping) -> None:
    """Raises MappingError where something has to be told before anything can be imported; it says by which option."""
    if mapping.device and (problem := device_id_problem(mapping.device)) is not None:
        raise MappingError(problem)
    for metric, unit in mapping.units.items():
        if len(unit) > MAX_UNIT:
            raise MappingError(f"the unit of {metric} is longer than {MAX_UNIT} characters")
    if isinstance(mapping, LineMapping):
        if not mapping.device and not mapping.device_tag:
            raise MappingError("which device? Say --device ID, or --device-tag TAG for one per value of a tag")
        return
    if not mapping.time:
        raise MappingError("which column holds the time? Say --time COLUMN (two columns: --time DATE --time TIME)")
    if not mapping.device and not mapping.device_column:
        raise MappingError("which device? Say --device ID, or --device-column COLUMN for one per value of a column")
    if bool(mapping.metric_column) != bool(mapping.value_column):
        raise MappingError("--metric-column and --value-column belong together")
    if not mapping.metric_column and not mapping.columns:
        raise MappingError(
            "which columns hold values? Say --column COLUMN=METRIC, or --metric-column and --value-column"
        )
    check_form(mapping.delimiter, mapping.encoding)
    if mapping.delimiter == mapping.decimal == ",":
        raise MappingError("a comma cannot separate cells and be the decimal point as well")
    if mapping.thousands and (len(mapping.thousands) != 1 or mapping.thousands in (mapping.decimal, mapping.delimiter)):
        raise MappingError("what separates thousands is one character, and neither the decimal point nor the delimiter")
    zone_of(mapping.zone)


def check_form(delimiter: str, encoding: str) -> None:
    """Raises MappingError where no table can be read with these."""
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise MappingError(f"{delimiter!r} separates nothing: a delimiter is one character; a tab is written \\t")
    try:
        "".encode(encoding)
    except LookupError:
        raise MappingError(f"there is no encoding {encoding!r}; common ones are utf-8 and cp1252") from None


def zone_of(name: str) -> ZoneInfo | None:
    """The time zone of this name, None for no name. Raises MappingError."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MappingError(f"there is no time zone {name!r}; one is called like Europe/Berlin, or UTC") from None


def epoch_of(digest: bytes, mapping: Mapping) -> str:
    """The epoch of an import: the same content with the same meaning always has the same, so it is stored once."""
    meaning = json.dumps(msgspec.to_builtins(mapping), sort_keys=True).encode()
    return hashlib.sha256(b"\0".join((LAYOUT.encode(), digest, meaning))).hexdigest()[:16]


def mapping_text(mapping: Mapping) -> str:
    """The mapping as a TOML file that read_mapping_file and mapping_of take back."""
    fields = msgspec.to_builtins(mapping)
    lines = [f"format = {_toml(fields.pop('format'))}"]
    defaults = msgspec.to_builtins(type(mapping)())
    tables = {name: value for name, value in fields.items() if isinstance(value, dict) and value}
    lines += [
        f"{name} = {_toml(value)}"
        for name, value in fields.items()
        if not isinstance(value, dict) and value != defaults[name]
    ]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{_toml(key)} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A text, a truth value or a list of texts: TOML writes them as JSON does, but for the one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
