"""JSON and SenML: objects of values, nested or in lists, one or several in a frame. SenML follows RFC 8428."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from formats.record import VALUE, Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of, shown
from formats.values import LargeNumber

MAX_DEPTH = 16
"""Levels of nested JSON. No known device nests deeper, and each level becomes a part of a metric name."""

MAX_VALUES = 10_000
"""Values of one frame, the size of an agent's batch; a larger frame would block an event loop while it is decoded."""

IDENTITY = ("device", "device_id")
"""Fields that identify the device by default."""

ITEM_NAMES = ("id", "name", "n", "sensor", "channel", "key", "address")
"""Fields of objects in a list that identify them, before their position does."""

SENML_VERSION = 10
"""Supported version of SenML. A newer one must be rejected (RFC 8428, section 4.4)."""

SENML_UNITS = {"Cel": "°C", "%RH": "%", "%EL": "%", "Ohm": "Ω", "deg": "°", "/": "", "count": ""}
"""Units of SenML whose symbols differ from the displayed ones."""

_SENML_VALUES = ("v", "vs", "vb", "vd")
_SENML_BASE = ("bn", "bt", "bu", "bv", "bs", "bver")
_SENML_LABELS = frozenset((*_SENML_BASE, "n", "u", "s", "t", "ut", *_SENML_VALUES))

JSON_SCHEMA = Schema(identity=IDENTITY)

_LIST_ENDS = frozenset((b"[", b"]", b"],", b"[,"))
_decode = msgspec.json.Decoder().decode
_NOT_JSON = re.compile(
    r'"(?:[^"\\]|\\.)*"|[+-]?(?:nan|inf(?:inity)?)\b|\bnone\b|\bundefined\b', re.IGNORECASE | re.DOTALL
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


def read_json(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record for each object in the frames, or the refusal of a frame."""
    for frame in frames:
        try:
            for content in documents(frame.raw):
                yield from json_records(frame, content)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def documents(raw: bytes) -> list[Any]:
    """Return the JSON values in a frame: one, or several one behind the other. Raises FrameRefused."""
    raw = raw.strip(b"\0 \t\r\n").removeprefix(b"\xef\xbb\xbf")
    if raw in _LIST_ENDS:
        # The first or the last line of a list with an item in each line.
        return []
    try:
        return [_decode(raw)]
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeError) as error:
        first = str(error)
    parts = split_documents(raw)
    try:
        return [parse_lenient(part) for part in parts] if parts else []
    except FrameRefused:
        raise FrameRefused("syntax", f"the frame is not JSON: {first}") from None


def parse_lenient(raw: bytes) -> Any:
    """Return a JSON value in which the words NaN, infinity and None are no value. Raises FrameRefused."""
    try:
        return _decode(raw)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeError):
        pass
    try:
        text = _NOT_JSON.sub(lambda word: word[0] if word[0].startswith('"') else "null", raw.decode())
        try:
            return _decode(text)
        except msgspec.ValidationError:
            # A number is too large: it costs itself. Only this slower parser gives its text.
            return json.loads(text, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FrameRefused("syntax", f"the frame is not JSON: {error}") from None


def _finite(text: str) -> float | LargeNumber:
    number = float(text)
    return number if math.isfinite(number) else LargeNumber(text)


def split_documents(raw: bytes) -> list[bytes]:
    """Return the parts of a frame that begin and end with a bracket at the same level; the rest is the last part."""
    parts: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        mark = token[0]
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth <= 0:
                parts.append(raw[start : token.end()])
                start, depth = token.end(), 0
    if raw[start:].strip(b"\0 \t\r\n,"):
        parts.append(raw[start:])
    return [part.lstrip(b"\0 \t\r\n,") for part in parts]


def json_records(frame: TextFrame, content: object, schema: Schema = JSON_SCHEMA) -> Iterator[InputRecord]:
    """Yield a record for an object, or for each object of a list. Raises FrameRefused."""
    if is_senml(content):
        yield from senml_records(frame, content)  # type: ignore[arg-type]
        return
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        items: list[Any] = content
    elif isinstance(content, dict):
        items = [content]
    elif isinstance(content, list):
        items = [{VALUE: content}]
    else:
        items = [{VALUE: content}]
    count = 0
    for item in items:
        values = flat_values(item)
        count += len(values)
        if count > MAX_VALUES:
            raise FrameRefused("limit", f"a frame has at most {MAX_VALUES:,} values")
        yield InputRecord(frame.line, frame.raw, values, schema)


def flat_values(content: Mapping[Any, object]) -> dict[str, object]:
    """Return all values of an object by their joined names. Raises FrameRefused."""
    values: dict[str, object] = {}
    for name, value in content.items():
        flatten(str(name), value, values)
    return values


def flatten(path: str, value: object, values: dict[str, object], depth: int = 2) -> None:
    """Add all values below a name. Nested names are joined by ".", list items are numbered or named by themselves."""
    if not isinstance(value, dict | list | tuple):
        if path in values:
            raise FrameRefused("ambiguous", f"two values have the name {path[:80]!r}")
        values[path] = value
        return
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        for name, inner in value.items():
            flatten(f"{path}.{name}", inner, values, depth + 1)
        return
    key = _item_name(value)
    for position, inner in enumerate(value):
        if key:
            rest = {name: part for name, part in inner.items() if name != key}
            flatten(f"{path}.{inner[key]}", rest, values, depth + 1)
        else:
            flatten(f"{path}.{position}", inner, values, depth + 1)


def _item_name(items: list[Any] | tuple[Any, ...]) -> str:
    """Return the field that identifies each object of a list; "" if there is none and the position has to do it."""
    if len(items) < 1 or not all(isinstance(item, dict) for item in items):
        return ""
    for name in ITEM_NAMES:
        found = [item.get(name) for item in items]
        is_named = all(isinstance(value, str | int) and not isinstance(value, bool) and value != "" for value in found)
        if is_named and len({str(value) for value in found}) == len(items):
            return name
    return ""


def _too_deep() -> FrameRefused:
    return FrameRefused("depth", f"the JSON has more than {MAX_DEPTH} levels")


def is_senml(content: object) -> bool:
    """Return whether JSON is a pack of SenML: a list of objects that have its labels only, with a value among them."""
    if not isinstance(content, list) or not content or not all(isinstance(item, dict) for item in content):
        return False
    labels = {label for item in content for label in item}
    return (
        all(label in _SENML_LABELS or str(label).endswith("_") for label in labels)
        and bool(labels & {"n", "bn"})
        and bool(labels & {*_SENML_VALUES, "s"})
    )


def read_senml(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record for each value of the packs in the frames, or the refusal of a frame or of one SenML record."""
    for frame in frames:
        try:
            for content in documents(frame.raw):
                if not isinstance(content, list):
                    raise FrameRefused("syntax", "SenML is a list of records")
                yield from senml_records(frame, content)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def senml_records(frame: TextFrame, pack: list[Any]) -> Iterator[InputRecord]:
    """Yield the records of a pack. Raises FrameRefused.

    A name consists of the base name and the record's own name. If both are present, the base name is the device and
    the other the metric. A single name is split at its last "/", or is a device with one value.
    """
    if len(pack) > MAX_VALUES:
        raise FrameRefused("limit", f"a frame has at most {MAX_VALUES:,} values")
    base: dict[str, Any] = {}
    for item in pack:
        if not isinstance(item, dict):
            raise FrameRefused("syntax", "SenML is a list of records, each of them an object")
        for label in item:
            # A label that ends with "_" changes the meaning of the record (RFC 8428, section 4.4).
            if label.endswith("_") and label not in _SENML_LABELS:
                raise FrameRefused("version", f"the mandatory label {label[:80]!r} is not supported")
        base.update({label: value for label, value in item.items() if label in _SENML_BASE})
        if _number(base, "bver", SENML_VERSION) > SENML_VERSION:
            raise FrameRefused("version", f"SenML version {base['bver']} is newer than {SENML_VERSION}")
        record = _senml_record(frame, item, base)
        if record is not None:
            yield record


def _senml_record(frame: TextFrame, item: Mapping[str, Any], base: Mapping[str, Any]) -> InputRecord | None:
    kinds = [kind for kind in _SENML_VALUES if kind in item]
    if len(kinds) > 1:
        raise FrameRefused("ambiguous", f"a record has more than one value: {', '.join(kinds)}")
    values: dict[str, object] = {}
    types: dict[str, Any] = {}
    if not kinds and "s" not in item:
        return None
    device, metric = _split_name(_text(base, "bn"), _text(item, "n"))
    if kinds == ["v"]:
        values[metric] = _number(base, "bv") + _number(item, "v")
    elif kinds == ["vb"]:
        if not isinstance(item["vb"], bool):
            raise FrameRefused("type", "vb is neither true nor false")
        values[metric] = item["vb"]
    elif kinds:
        values[metric] = _text(item, kinds[0])
        types[metric] = "string"
    if "s" in item:
        values[f"{metric}.sum"] = _number(base, "bs") + _number(item, "s")
    unit = _text(item, "u") or _text(base, "bu")
    schema = Schema(
        {metric: SENML_UNITS.get(unit, unit)} if unit else {}, types, typed=True, device=device, time_format="senml"
    )
    seconds = _number(base, "bt") + _number(item, "t")
    return InputRecord(frame.line, frame.raw, values, schema, seconds or None)


def _split_name(base: str, name: str) -> tuple[str, str]:
    """Return the device's part of a name and the metric's part."""
    if base and name:
        return base, name
    whole = base or name
    if not whole:
        raise FrameRefused("metric", "a record has neither a name nor a base name")
    device, _, metric = whole.rpartition("/")
    return (device, metric) if device and metric else (whole, VALUE)


def _number(item: Mapping[str, Any], label: str, default: int = 0) -> float | int:
    value = item.get(label, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FrameRefused("type", f"{label} is {shown(value)}, which is not a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise FrameRefused("number", f"{label} is outside signed 64 bits")
    return value


def _text(item: Mapping[str, Any], label: str) -> str:
    value = item.get(label, "")
    if not isinstance(value, str):
        raise FrameRefused("type", f"{label} is not a text")
    return value
