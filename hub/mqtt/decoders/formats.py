"""Payload formats: a bare value, JSON, SenML, InfluxDB line protocol, and a Python function of the user.

Each reader returns records. SenML follows RFC 8428, line protocol InfluxDB's reference of the format. The function
`decode(topic, payload)` runs in the hub's process and event loop: it has all rights of the hub, and everything else
waits while it runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from line_protocol_parser import LineFormatError, parse_line

from formats.custom import SAMPLES, check_samples
from hub.mqtt.decoders.record import (
    MAX_DEPTH,
    NO_VALUE,
    VALUE,
    PayloadRecord,
    Scalar,
    check_count,
    checked_value,
    decode_text,
    parse_scalar,
    time_reader,
)
from hub.mqtt.message import PYTHON_TYPES, Undecodable
from wire.limits import MAX_TIME_NS
from wire.model import MetricType
from wire.timestamp import NS_PER_UNIT, looks_like_time

TIME_FIELDS = ("ts", "time", "timestamp")
"""Fields of a JSON object that may contain its time, unless the settings name the field."""

SENML_VERSION = 10
"""Supported version of SenML. A newer one must be rejected (RFC 8428, section 4.4)."""

ABSOLUTE_FROM_SECONDS = 2**28
"""Smaller times of SenML are relative to now (RFC 8428, section 4.5.3)."""

SENML_UNITS = {"Cel": "°C", "%RH": "%", "%EL": "%", "Ohm": "Ω", "deg": "°", "/": "", "count": ""}
"""Units of SenML whose symbols differ from the displayed ones."""

_SENML_VALUES = ("v", "vs", "vb", "vd")
_SENML_BASE = ("bn", "bt", "bu", "bv", "bs", "bver")
_SENML_LABELS = frozenset((*_SENML_BASE, "n", "u", "s", "t", "ut", *_SENML_VALUES))

MEASUREMENT = "measurement"
"""Name of the measurement of line protocol in a record; tags keep their names."""

MAX_STRING_LINES = 64
"""Lines that a quoted text may span. It limits the work for a quote that is never closed."""

FUNCTION = "decode"
"""Name of the user's function."""

MAX_SHAPE_DEPTH = 32
"""Levels checked in the result of a function. It is more than MAX_DEPTH, so that deep results fail like deep JSON."""

UserFunction = Callable[[str, bytes], object]
"""Function of a topic and a payload that returns a dict like a JSON object, a list of dicts, or None."""

_decode_json = msgspec.json.Decoder().decode
_read_seconds = time_reader("s")


class TimeField(NamedTuple):
    """Field of an object that contains its time. Without a `name`, the first of TIME_FIELDS is used."""

    name: str = ""
    read: Callable[[object], int] = time_reader()


ANY_TIME = TimeField()


def read_value(payload: bytes, type: MetricType | None = None) -> list[PayloadRecord]:
    """Return one record with the value, or none for a payload without a value. `type` None derives it from the text.

    Raises Undecodable.
    """
    text = decode_text(payload)
    if type == "string":
        return [PayloadRecord({VALUE: checked_value(VALUE, text)})] if text else []
    text = text.strip()
    if text.lower() in NO_VALUE:
        return []
    value = parse_scalar(text)
    if type == "boolean" and value in (0.0, 1.0):
        value = bool(value)
    if type == "integer" and isinstance(value, float) and value.is_integer():
        # Parse digits directly: a float cannot represent all integers of 64 bits.
        value = int(text) if text.lstrip("+-").isdecimal() else int(value)
    if type is not None and PYTHON_TYPES[type] is not value.__class__:
        shown = text if len(text) <= 80 else text[:77] + "..."
        raise Undecodable("type", f"{shown!r} is not of type {type}")
    is_integer = type == "integer"
    return [PayloadRecord({VALUE: checked_value(VALUE, value, typed=is_integer)}, typed=is_integer)]


def single_value(name: str, payload: bytes, type: MetricType | None = None) -> dict[str, Scalar]:
    """Return the payload's value under a name, or an empty dict for no value. Raises Undecodable."""
    records = read_value(payload, type)
    return {name: records[0].values[VALUE]} if records else {}


def read_json(payload: bytes, time: TimeField = ANY_TIME) -> list[PayloadRecord]:
    """Return a record for each JSON object. Raises Undecodable."""
    return json_records(parse_json(payload), time)


def parse_json(payload: bytes) -> object:
    """Return the parsed JSON of a payload. Raises Undecodable."""
    try:
        return _decode_json(payload)
    except RecursionError:
        raise Undecodable("depth", f"the JSON has more than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Undecodable("syntax", f"the payload is not JSON: {error}") from None


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the parsed JSON object of a payload. Raises Undecodable."""
    content = parse_json(payload)
    if not isinstance(content, dict):
        raise Undecodable("shape", "the payload is not a JSON object of values")
    return content


def object_at(content: object, *names: str) -> dict[str, Any] | None:
    """Return the object below these names in parsed JSON, or None."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else None


def json_records(content: object, time: TimeField = ANY_TIME) -> list[PayloadRecord]:
    """Return the records of an object or of a list of objects. Raises Undecodable."""
    objects = content if isinstance(content, list) else [content]
    found = []
    count = 0
    for item in objects:
        if not isinstance(item, dict):
            raise Undecodable("shape", "the JSON is neither an object of values nor a list of such objects")
        values = flatten(item)
        count += len(values)
        check_count(count)
        time_ns = _extract_time(values, time)
        if values:
            found.append(PayloadRecord(values, time_ns))
    return found


def flatten(content: dict[str, object]) -> dict[str, Scalar]:
    """Return all values of an object. Nested names are joined by ".", list items are numbered, null is no value.

    Raises Undecodable for deep nesting and for two values with the same name.
    """
    values: dict[str, Scalar] = {}
    for name, value in content.items():
        if isinstance(value, str | int | float):
            if name in values:
                raise _ambiguous(name)
            values[name] = value
        elif value is not None:
            for path, inner in _flatten_nested(name, value, 2):
                if path in values:
                    raise _ambiguous(path)
                values[path] = inner
    return values


def _ambiguous(path: str) -> Undecodable:
    return Undecodable("ambiguous", f"two values have the name {path[:80]!r}")


def _flatten_nested(path: str, value: object, depth: int) -> Iterator[tuple[str, Scalar]]:
    if depth > MAX_DEPTH:
        raise Undecodable("depth", f"the JSON has more than {MAX_DEPTH} levels")
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for name, inner in items:
        if isinstance(inner, str | int | float):
            yield f"{path}.{name}", inner
        elif inner is not None:
            yield from _flatten_nested(f"{path}.{name}", inner, depth + 1)


def _extract_time(values: dict[str, Scalar], time: TimeField) -> int | None:
    """Remove the time from the values and return it, or None. Raises Undecodable if the named field is not a time."""
    if time.name:
        if time.name not in values:
            raise Undecodable("time", f"the time field {time.name!r} is missing")
        return time.read(values.pop(time.name))
    for name in TIME_FIELDS:
        if name in values and looks_like_time(values[name]):
            try:
                time_ns = time.read(values[name])
            except Undecodable:
                continue
            del values[name]
            return time_ns
    return None


def read_senml(payload: bytes, received_ns: int) -> list[PayloadRecord]:
    """Return a record for each SenML record, with the device's part of the name as `base` among its names.

    A name consists of the base name and the record's own name. If both are present, the base name is the device and
    the other the metric. A single name is split at its last "/", or is a device with one value. Relative times count
    from `received_ns`. Raises Undecodable.
    """
    pack = parse_json(payload)
    if not isinstance(pack, list):
        raise Undecodable("shape", "SenML is a list of records")
    check_count(len(pack))
    found: list[PayloadRecord] = []
    base: dict[str, Any] = {}
    for record in pack:
        if not isinstance(record, dict):
            raise Undecodable("shape", "SenML is a list of records, each of them an object")
        for label in record:
            # A label that ends with "_" changes the meaning of the record (RFC 8428, section 4.4).
            if label.endswith("_") and label not in _SENML_LABELS:
                raise Undecodable("label", f"the mandatory label {label[:80]!r} is not supported")
        base.update({label: value for label, value in record.items() if label in _SENML_BASE})
        if base.get("bver", SENML_VERSION) != SENML_VERSION and _senml_number(base, "bver") > SENML_VERSION:
            raise Undecodable("version", f"SenML version {base['bver']} is newer than {SENML_VERSION}")
        found.extend(_resolve_senml(record, base, received_ns))
    return found


def _resolve_senml(record: dict[str, Any], base: dict[str, Any], received_ns: int) -> list[PayloadRecord]:
    values = _senml_values(record, base)
    if not values:
        return []
    device, metric = _split_name(_senml_text(base, "bn"), _senml_text(record, "n"))
    seconds = _senml_number(base, "bt") + _senml_number(record, "t")
    time_ns: int | None = None
    try:
        if seconds >= ABSOLUTE_FROM_SECONDS:
            time_ns = _read_seconds(seconds)
        elif seconds:
            time_ns = received_ns + int(seconds * 1_000_000_000)
            if time_ns < 0:
                raise ValueError(f"{seconds} seconds from now is before 1970")
    except (ValueError, OverflowError) as error:
        raise Undecodable("time", str(error)) from None
    unit = _senml_text(record, "u") or _senml_text(base, "bu")
    return [
        PayloadRecord(
            {metric + suffix: value}, time_ns, {"base": device}, "" if suffix else SENML_UNITS.get(unit, unit)
        )
        for suffix, value in values.items()
    ]


def _senml_values(record: dict[str, Any], base: dict[str, Any]) -> dict[str, Scalar]:
    """Return the value and the sum of a record, by the suffix of their metric names."""
    kinds = [kind for kind in _SENML_VALUES if kind in record]
    if len(kinds) > 1:
        raise Undecodable("shape", f"a record has more than one value: {', '.join(kinds)}")
    values: dict[str, Scalar] = {}
    if kinds == ["v"]:
        values[""] = _senml_number(base, "bv") + _senml_number(record, "v")
    elif kinds == ["vb"]:
        if not isinstance(record["vb"], bool):
            raise Undecodable("type", "vb is neither true nor false")
        values[""] = record["vb"]
    elif kinds:
        values[""] = _senml_text(record, kinds[0])
    if "s" in record:
        values[".sum"] = _senml_number(base, "bs") + _senml_number(record, "s")
    return values


def _split_name(base: str, name: str) -> tuple[str, str]:
    """Return the device's part of a name and the metric's part."""
    if base and name:
        return base, name
    whole = base or name
    if not whole:
        raise Undecodable("name", "a record has neither a name nor a base name")
    device, _, metric = whole.rpartition("/")
    return (device, metric) if device and metric else (whole, VALUE)


def _senml_number(record: dict[str, Any], label: str) -> float | int:
    value = record.get(label, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Undecodable("type", f"{label} is not a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise Undecodable("out_of_range", f"{label} is outside signed 64 bits")
    return value


def _senml_text(record: dict[str, Any], label: str) -> str:
    value = record.get(label, "")
    if not isinstance(value, str):
        raise Undecodable("type", f"{label} is not a text")
    return value


def read_line(payload: bytes, precision: str = "ns") -> list[PayloadRecord]:
    """Return a record for each line, with its tags and measurement as names. `precision` is s, ms, us or ns.

    Raises Undecodable for any invalid line; the whole message is rejected then.
    """
    factor = NS_PER_UNIT[precision]
    found: list[PayloadRecord] = []
    count = 0
    for text in _lines(decode_text(payload)):
        try:
            # The parser needs a str: bytes that are not UTF-8 crash the process.
            point = parse_line(text)
        except (LineFormatError, ValueError, OverflowError) as error:
            raise Undecodable("syntax", f"the payload is not line protocol: {error}") from None
        if point is None:
            continue
        # The parser returns the last field first.
        values = dict(reversed(point["fields"].items()))
        count += len(values)
        check_count(count)
        time_ns = point["time"]
        if time_ns is not None:
            time_ns *= factor
            if not 0 <= time_ns <= MAX_TIME_NS:
                raise Undecodable("time", f"the time {point['time']} is not between 1970 and 2262")
        found.append(PayloadRecord(values, time_ns, {**point["tags"], MEASUREMENT: point["measurement"]}, typed=True))
    return found


def _lines(text: str) -> list[str]:
    """Return the records of a payload. Lines that belong to one quoted text are joined."""
    found: list[str] = []
    lines = text.split("\n")
    position = 0
    while position < len(lines):
        line = lines[position].rstrip("\r")
        position += 1
        if not line.strip():
            continue
        if '"' in line and not _is_record(line):
            joined = line
            for end in range(position, min(position + MAX_STRING_LINES, len(lines))):
                joined += "\n" + lines[end]
                if '"' in lines[end] and _is_record(joined):
                    line, position = joined, end + 1
                    break
        found.append(line)
        check_count(len(found))
    return found


def _is_record(text: str) -> bool:
    try:
        parse_line(text)
    except (LineFormatError, ValueError, OverflowError):
        return False
    return True


def load_function(path: Path) -> UserFunction:
    """Return the function `decode` of a Python file. Raises ValueError with a sentence."""
    if not path.is_file():
        raise ValueError(f"{path}: file not found")
    spec = importlib.util.spec_from_file_location(f"telemetry_hub_decode_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ValueError(f"{path} cannot be loaded: {_error_text(error)}") from error
    function = getattr(module, FUNCTION, None)
    if not callable(function):
        raise ValueError(f"{path} does not define {FUNCTION}(topic, payload)")
    check_samples(function, getattr(module, SAMPLES, ()), str(path))
    decode: UserFunction = function
    return decode


def read_function(
    function: UserFunction, topic: str, payload: bytes, time: TimeField = ANY_TIME
) -> list[PayloadRecord]:
    """Return the records of the function's result. Raises Undecodable, also for any error in the function."""
    try:
        content = function(topic, payload)
    except BaseException as error:
        # Includes SystemExit: a mistake in the function costs its message and does not stop the hub.
        raise Undecodable("function", f"{FUNCTION}() failed: {_error_text(error)}") from error
    if content is None:
        return []
    _check_shape(content, 1)
    return json_records(content, time)


def _check_shape(content: object, depth: int) -> None:
    """Raise Undecodable for a result that JSON cannot express, such as an object that contains itself."""
    if depth > MAX_SHAPE_DEPTH:
        raise Undecodable("depth", f"the result of {FUNCTION}() is nested too deeply")
    match content:
        case None | bool() | int() | float() | str():
            return
        case dict():
            for name, inner in content.items():
                if not isinstance(name, str):
                    raise Undecodable("function", f"{FUNCTION}() returned a dict with the name {name!r}, not a text")
                _check_shape(inner, depth + 1)
        case list() | tuple():
            for inner in content:
                _check_shape(inner, depth + 1)
        case _:
            kind = type(content).__name__
            raise Undecodable("function", f"{FUNCTION}() returned a {kind}, not a dict or a list of dicts of values")


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
