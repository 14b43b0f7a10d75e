"""JSON and SenML: objects of values, nested or in lists, one or several in a frame. SenML follows RFC 8428."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from formats.record import (
    VALUE,
    Entry,
    FrameRefused,
    InputRecord,
    RefusedField,
    Schema,
    TextFrame,
    refusal_of,
    repeated,
    shown,
)
from formats.record_time import count_values
from formats.values import LargeNumber

MAX_DEPTH = 16
"""Levels of nested JSON. No known device nests deeper, and each level becomes a part of a metric name."""

_MAX_CHECKED_DEPTH = 64
"""Levels of JSON with a structure of its own, such as a delta, before its values are flattened."""

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

_SPACED_COLONS = (b" :", b"\t:", b"\n:", b"\r:")
_CONTAINERS = (dict, list)
_LIST_ENDS = frozenset((b"[", b"]", b"],", b"[,"))
_decode = msgspec.json.Decoder().decode
_NOT_JSON = re.compile(
    r'"(?:[^"\\]|\\.)*"|[+-]?(?:nan|inf(?:inity)?)\b|\bnone\b|\bundefined\b', re.IGNORECASE | re.DOTALL
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


class Members(dict[str, Any]):
    """An object of JSON in which names occur again; `repeated` are the values behind the first ones."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: list[tuple[str, Any]] = []
        for name, value in pairs:
            if name in self:
                self.repeated.append((name, value))
            else:
                self[name] = value


def read_json(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record for each object in the frames, or the refusal of a frame."""
    for frame in frames:
        try:
            for content in documents(frame.raw, keeps_repeated=True):
                yield from json_records(frame, content)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def documents(raw: bytes, *, keeps_repeated: bool = False) -> list[Any]:
    """Return the JSON values in a frame: one, or several one behind the other. Raises FrameRefused.

    An object in which a name occurs again is refused, or becomes `Members`.
    """
    found = _documents(raw)
    if not keeps_repeated:
        _refuse_repeated(found)
    return found


def _documents(raw: bytes) -> list[Any]:
    raw = raw.strip(b"\0 \t\r\n").removeprefix(b"\xef\xbb\xbf")
    if raw in _LIST_ENDS:
        # The first or the last line of a list with an item in each line.
        return []
    try:
        return [_decode_all(raw)]
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        first = str(error)
    except UnicodeError:
        first = _not_utf_8(raw)
    parts = split_documents(raw)
    try:
        return [parse_lenient(part) for part in parts] if parts else []
    except FrameRefused:
        raise FrameRefused("syntax", f"the frame is not JSON: {first}") from None


def _not_utf_8(raw: bytes) -> str:
    """Return where bytes are not UTF-8. The fast parser counts from the start of the text that it decodes."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start})"
    return "it is not UTF-8"


def parse_lenient(raw: bytes) -> Any:
    """Return a JSON value in which the words NaN, infinity and None are no value. Raises FrameRefused."""
    try:
        return _decode_all(raw)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeError):
        pass
    try:
        text = _NOT_JSON.sub(lambda word: word[0] if word[0].startswith('"') else "null", raw.decode())
        try:
            return _decode_all(text.encode())
        except msgspec.ValidationError:
            # A number is too large: it costs itself. Only this slower parser gives its text.
            return json.loads(text, parse_float=_finite, object_pairs_hook=_members)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FrameRefused("syntax", f"the frame is not JSON: {error}") from None


def _decode_all(raw: bytes) -> Any:
    """Return a JSON value with all members of its objects: the fast parser keeps the last one with a name only."""
    content = _decode(raw)
    # Each name has a colon, and so have some texts. 1 µs for 100 bytes; the slower parser takes 5 µs.
    if raw.count(b'":') == _names_in(content) and not any(mark in raw for mark in _SPACED_COLONS):
        return content
    return json.loads(raw.decode(), parse_float=_finite, object_pairs_hook=_members, strict=False)


def _names_in(content: Any) -> int:
    if type(content) is dict:
        return len(content) + sum(_names_in(value) for value in content.values() if type(value) in _CONTAINERS)
    if type(content) is list:
        return sum(_names_in(value) for value in content if type(value) in _CONTAINERS)
    return 0


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Members(pairs)


def _refuse_repeated(content: Any, depth: int = 1) -> None:
    """Raise FrameRefused if a name occurs again in an object of a JSON value."""
    if depth > _MAX_CHECKED_DEPTH:
        raise _too_deep()
    if isinstance(content, Members):
        raise FrameRefused("ambiguous", f"the name {content.repeated[0][0][:80]!r} occurs twice in an object")
    for value in content.values() if isinstance(content, dict) else content:
        if isinstance(value, dict | list):
            _refuse_repeated(value, depth + 1)


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
        _refuse_repeated(content)
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
    for place, item in enumerate(items):
        values, refused = flat_values(item)
        count += len(values) + len(refused)
        if count > MAX_VALUES:
            reason = f"a frame has at most {MAX_VALUES:,} values"
            raise FrameRefused("limit", reason, values=sum(_count(other, schema) for other in items[place:]))
        yield InputRecord(frame.line, frame.raw, values, schema, refused=refused)


def _count(item: Mapping[Any, object], schema: Schema) -> int:
    try:
        return count_values(flat_values(item)[0], schema)
    except FrameRefused:
        return 1


def flat_values(content: Mapping[Any, object]) -> tuple[dict[str, object], list[RefusedField]]:
    """Return all values of an object by their joined names, and those whose names occur again. Raises FrameRefused."""
    values: dict[str, object] = {}
    refused: list[RefusedField] = []
    _flatten_members("", content, values, refused, 1)
    return values, refused


def flatten(path: str, value: object, values: dict[str, object], refused: list[RefusedField], depth: int = 2) -> None:
    """Add all values below a name. Nested names are joined by ".", list items are numbered or named by themselves.

    The values of a name that occurs again are added to `refused`. Raises FrameRefused.
    """
    if not isinstance(value, dict | list | tuple):
        if path in values:
            refused.append(repeated(path, value))
        else:
            values[path] = value
        return
    if isinstance(value, dict):
        _flatten_members(f"{path}.", value, values, refused, depth)
        return
    if depth > MAX_DEPTH:
        raise _too_deep()
    key = _item_name(value)
    for position, inner in enumerate(value):
        if key:
            _flatten_members(f"{path}.{inner[key]}.", inner, values, refused, depth + 1, skipped=key)
        else:
            flatten(f"{path}.{position}", inner, values, refused, depth + 1)


def _flatten_members(
    prefix: str,
    content: Mapping[Any, object],
    values: dict[str, object],
    refused: list[RefusedField],
    depth: int,
    skipped: str = "",
) -> None:
    """Add all values of an object except the member `skipped`."""
    if depth > MAX_DEPTH:
        raise _too_deep()
    for name, inner in content.items():
        if not skipped or name != skipped:
            flatten(f"{prefix}{name}", inner, values, refused, depth + 1)
    if isinstance(content, Members):
        for name, inner in content.repeated:
            again: dict[str, object] = {}
            flatten(f"{prefix}{name}", inner, again, refused, depth + 1)
            refused += (repeated(path, value) for path, value in again.items())


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
        raise FrameRefused("limit", f"a frame has at most {MAX_VALUES:,} values", values=len(pack))
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
