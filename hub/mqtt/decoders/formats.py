"""JSON: an object of values, flat or nested, or a list of such objects; each may have a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from line_protocol_parser import LineFormatError, parse_line

from hub.mqtt.decoders.record import MAX_DEPTH, VALUE, PayloadRecord, Scalar, check_count, text_of
from hub.mqtt.message import Undecodable
from wire.limits import MAX_TIME_NS
from wire.timestamp import NS_PER_UNIT, ParseTime, looks_like_time, time_parser

TIME_FIELDS = ("ts", "time", "timestamp")
"""Where a time is looked for when no field is named."""

_decode = msgspec.json.Decoder().decode


class TimeField(NamedTuple):
    """Where an object has its time and how it is read; without a `name` the first of TIME_FIELDS."""

    name: str = ""
    read: ParseTime = time_parser()


ANY_TIME = TimeField()


def read_json(payload: bytes, time: TimeField = ANY_TIME) -> list[PayloadRecord]:
    """A record for each object. Raises Undecodable."""
    return records(parsed(payload), time)


def parsed(payload: bytes) -> object:
    """The JSON in a payload. Raises Undecodable."""
    try:
        return _decode(payload)
    except RecursionError:
        raise Undecodable("depth", f"the JSON has more than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Undecodable("syntax", f"the payload is no JSON: {error}") from None


def records(content: object, time: TimeField = ANY_TIME) -> list[PayloadRecord]:
    """The records of an object or of a list of objects. Raises Undecodable."""
    objects = content if isinstance(content, list) else [content]
    found = []
    count = 0
    for item in objects:
        if not isinstance(item, dict):
            raise Undecodable("shape", "the JSON is neither an object of values nor a list of such objects")
        values = flat(item)
        count += len(values)
        check_count(count)
        time_ns = take_time(values, time)
        if values:
            found.append(PayloadRecord(values, time_ns))
    return found


def flat(content: dict[str, object]) -> dict[str, Scalar]:
    """All values of an object: names of nested ones joined by ".", items of lists numbered; null is no value.

    Raises Undecodable for what is nested too deeply, and for two values of one name.
    """
    values: dict[str, Scalar] = {}
    for name, value in content.items():
        if isinstance(value, str | int | float):
            if name in values:
                raise _ambiguous(name)
            values[name] = value
        elif value is not None:
            for path, inner in _nested(name, value, 2):
                if path in values:
                    raise _ambiguous(path)
                values[path] = inner
    return values


def _ambiguous(path: str) -> Undecodable:
    return Undecodable("ambiguous", f"two values are called {path[:80]!r}")


def _nested(path: str, value: object, depth: int) -> Iterator[tuple[str, Scalar]]:
    if depth > MAX_DEPTH:
        raise Undecodable("depth", f"the JSON has more than {MAX_DEPTH} levels")
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for name, inner in items:
        if isinstance(inner, str | int | float):
            yield f"{path}.{name}", inner
        elif inner is not None:
            yield from _nested(f"{path}.{name}", inner, depth + 1)


def take_time(values: dict[str, Scalar], time: TimeField) -> int | None:
    """The time among the values, which is taken out of them; None where there is none.

    Raises Undecodable where the field that was named is none.
    """
    if time.name:
        if time.name not in values:
            raise Undecodable("time", f"there is no field {time.name!r}, which has the time")
        try:
            return time.read(values.pop(time.name))
        except ValueError as error:
            raise Undecodable("time", str(error)) from None
    for name in TIME_FIELDS:
        if name in values and looks_like_time(values[name]):
            try:
                time_ns = time.read(values[name])
            except ValueError:
                continue
            del values[name]
            return time_ns
    return None


VERSION = 10
"""The version of the format that this is (RFC 8428, section 4.4); a newer one must be refused."""

ABSOLUTE_FROM_SECONDS = 2**28
"""Smaller times count from now on (RFC 8428, section 4.5.3)."""

UNITS = {"Cel": "°C", "%RH": "%", "%EL": "%", "Ohm": "Ω", "deg": "°", "/": "", "count": ""}
"""Units whose symbols in SenML are not those that are shown."""

_VALUES = ("v", "vs", "vb", "vd")
_KNOWN = frozenset(("bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "s", "t", "ut", *_VALUES))
_seconds = time_parser("s")


def read_senml(payload: bytes, received_ns: int) -> list[PayloadRecord]:
    """A record for each of the pack, with `base` among its names: the device's part. Raises Undecodable.

    `received_ns` is what relative times count from; a record without any time has none.
    """
    pack = parsed(payload)
    if not isinstance(pack, list):
        raise Undecodable("shape", "SenML is a list of records")
    check_count(len(pack))
    found: list[PayloadRecord] = []
    base: dict[str, Any] = {}
    for record in pack:
        if not isinstance(record, dict):
            raise Undecodable("shape", "SenML is a list of records, each of them an object")
        for label in record:
            # Such a label changes what the record means.
            if label.endswith("_") and label not in _KNOWN:
                raise Undecodable("label", f"the label {label[:80]!r} has to be understood, and is not")
        base.update(
            {label: value for label, value in record.items() if label in ("bn", "bt", "bu", "bv", "bs", "bver")}
        )
        if base.get("bver", VERSION) != VERSION and _number(base, "bver") > VERSION:
            raise Undecodable("version", f"SenML of version {base['bver']} is newer than {VERSION}")
        found.extend(_resolved(record, base, received_ns))
    return found


def _resolved(record: dict[str, Any], base: dict[str, Any], received_ns: int) -> list[PayloadRecord]:
    values = _values(record, base)
    if not values:
        return []
    device, metric = _divided(_text(base, "bn"), _text(record, "n"))
    seconds = _number(base, "bt") + _number(record, "t")
    time_ns: int | None = None
    try:
        if seconds >= ABSOLUTE_FROM_SECONDS:
            time_ns = _seconds(seconds)
        elif seconds:
            time_ns = received_ns + int(seconds * 1_000_000_000)
            if time_ns < 0:
                raise ValueError(f"{seconds} seconds from now is before 1970")
    except (ValueError, OverflowError) as error:
        raise Undecodable("time", str(error)) from None
    unit = _text(record, "u") or _text(base, "bu")
    return [
        PayloadRecord({metric + suffix: value}, time_ns, {"base": device}, "" if suffix else UNITS.get(unit, unit))
        for suffix, value in values.items()
    ]


def _values(record: dict[str, Any], base: dict[str, Any]) -> dict[str, Scalar]:
    """What a record measured, by what is added to the metric's name: its value, and its sum."""
    kinds = [kind for kind in _VALUES if kind in record]
    if len(kinds) > 1:
        raise Undecodable("shape", f"a record has more than one value: {', '.join(kinds)}")
    values: dict[str, Scalar] = {}
    if kinds == ["v"]:
        values[""] = _number(base, "bv") + _number(record, "v")
    elif kinds == ["vb"]:
        if not isinstance(record["vb"], bool):
            raise Undecodable("type", "vb is neither true nor false")
        values[""] = record["vb"]
    elif kinds:
        values[""] = _text(record, kinds[0])
    if "s" in record:
        values[".sum"] = _number(base, "bs") + _number(record, "s")
    return values


def _divided(base: str, name: str) -> tuple[str, str]:
    """The device's part of a name and the metric's."""
    if base and name:
        return base, name
    whole = base or name
    if not whole:
        raise Undecodable("name", "a record has neither a name nor a base name")
    device, _, metric = whole.rpartition("/")
    return (device, metric) if device and metric else (whole, VALUE)


def _number(record: dict[str, Any], label: str) -> float | int:
    value = record.get(label, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Undecodable("type", f"{label} is no number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise Undecodable("out_of_range", f"{label} is outside signed 64 bits")
    return value


def _text(record: dict[str, Any], label: str) -> str:
    value = record.get(label, "")
    if not isinstance(value, str):
        raise Undecodable("type", f"{label} is no text")
    return value


MEASUREMENT = "measurement"
"""The name under which a record has its measurement; its tags have their own."""

MAX_STRING_LINES = 64
"""Lines over which one text in quotes may go: what a quote that is never closed can cost."""


def read_line(payload: bytes, precision: str = "ns") -> list[PayloadRecord]:
    """A record for each line, its tags and measurement as names. `precision` is that of the times: s, ms, us or ns.

    Raises Undecodable, and then no line is taken.
    """
    factor = NS_PER_UNIT[precision]
    found: list[PayloadRecord] = []
    count = 0
    for text in _lines(text_of(payload)):
        try:
            # Always a str: bytes that are not UTF-8 crash the parser's process.
            point = parse_line(text)
        except (LineFormatError, ValueError, OverflowError) as error:
            raise Undecodable("syntax", f"the payload is no line protocol: {error}") from None
        if point is None:
            continue
        # A parser's dictionary has the last field first.
        values = dict(reversed(point["fields"].items()))
        count += len(values)
        check_count(count)
        time_ns = point["time"]
        if time_ns is not None:
            time_ns *= factor
            if not 0 <= time_ns <= MAX_TIME_NS:
                raise Undecodable("time", f"the time {point['time']} is not of 1970 to 2262")
        found.append(PayloadRecord(values, time_ns, {**point["tags"], MEASUREMENT: point["measurement"]}, typed=True))
    return found


def _lines(text: str) -> list[str]:
    """The records of a payload: its lines, those joined that a text in quotes goes over."""
    found: list[str] = []
    lines = text.split("\n")
    place = 0
    while place < len(lines):
        line = lines[place].rstrip("\r")
        place += 1
        if not line.strip():
            continue
        if '"' in line and not _is_record(line):
            joined = line
            for end in range(place, min(place + MAX_STRING_LINES, len(lines))):
                joined += "\n" + lines[end]
                if '"' in lines[end] and _is_record(joined):
                    line, place = joined, end + 1
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


NAME = "decode"

Function = Callable[[str, bytes], object]
"""Of a topic and a payload: a dict as an object of JSON would be, a list of such dicts, or None for nothing."""


def load_function(path: Path) -> Function:
    """The function `decode` of the file. Raises ValueError with a sentence where there is none."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"telemetry_hub_decode_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no file of Python: its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ValueError(f"{path} cannot be loaded: {_sentence(error)}") from error
    function = getattr(module, NAME, None)
    if not callable(function):
        raise ValueError(f"{path} has no function {NAME}(topic, payload)")
    decode: Function = function
    return decode


def read_function(function: Function, topic: str, payload: bytes, time: TimeField = ANY_TIME) -> list[PayloadRecord]:
    """What the function makes of a message. Raises Undecodable, for whatever the function raises, too."""
    try:
        content = function(topic, payload)
    except BaseException as error:
        # Also what would end the hub: it is the function's mistake, and costs its message.
        raise Undecodable("function", f"{NAME}() failed: {_sentence(error)}") from error
    if content is None:
        return []
    _check_shape(content, 1)
    return records(content, time)


def _check_shape(content: object, depth: int) -> None:
    """Raises Undecodable for what JSON could not be: it may even hold itself."""
    if depth > MAX_SHAPE_DEPTH:
        raise Undecodable("depth", f"what {NAME}() gives back nests too deeply")
    match content:
        case None | bool() | int() | float() | str():
            return
        case dict():
            for name, inner in content.items():
                if not isinstance(name, str):
                    raise Undecodable(
                        "function", f"{NAME}() gives back a dict with {name!r} as a name: names are texts"
                    )
                _check_shape(inner, depth + 1)
        case list() | tuple():
            for inner in content:
                _check_shape(inner, depth + 1)
        case _:
            kind = type(content).__name__
            raise Undecodable(
                "function", f"{NAME}() gives back a {kind}: it may be a dict or a list of dicts of values"
            )


MAX_SHAPE_DEPTH = 32
"""More than what is taken: what is nested beyond that is refused as JSON is."""


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
