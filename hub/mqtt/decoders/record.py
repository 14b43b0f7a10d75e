"""What every form of payload is read into, and the bounds that hold for all of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, Decoder, Undecodable, legal_metric
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES, MAX_UNIT, MIN_INTEGER
from wire.model import MetricType

MAX_VALUES = 10_000
"""Values of one message: as many as a batch of an agent holds. One with more is refused, since all of it would
have to be decoded in one turn of the hub's loop."""

MAX_DEPTH = 16
"""Levels of nested JSON. No device nests deeper, and each level is a part of a metric's name."""

VALUE = "value"
"""The name of a value that has none of its own."""

Number = float | int
Scalar = Number | bool | str


class PayloadRecord(NamedTuple):
    """Values that share a time. `names` are texts beside them, such as tags; None of `time_ns`: it has no time.

    `typed`: its ints are of metrics that hold integers; else every number is a float.
    """

    values: dict[str, Scalar]
    time_ns: int | None = None
    names: Mapping[str, str] = {}
    unit: str = ""
    typed: bool = False


def text_of(payload: bytes) -> str:
    """The payload as text. Raises Undecodable."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Undecodable("encoding", "the payload is not UTF-8") from None


def checked(name: str, value: Scalar, typed: bool = False) -> Scalar:
    """The value as the hub keeps it: numbers as floats, but for typed ints. Raises Undecodable."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise Undecodable("not_finite", f"{name} is {value}, which is no number")
        return value
    if kind is bool:
        return value
    if isinstance(value, str):
        try:
            size_bytes = len(value) if value.isascii() else len(value.encode())
            if size_bytes > MAX_STRING_VALUE_BYTES:
                raise Undecodable("out_of_range", f"{name} has a text over {MAX_STRING_VALUE_BYTES} bytes")
        except UnicodeEncodeError:
            raise Undecodable("encoding", f"{name} holds half of a surrogate pair") from None
        return value
    if typed:
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise Undecodable("out_of_range", f"{name} has an integer outside signed 64 bits")
        return value
    try:
        return float(value)
    except OverflowError:
        raise Undecodable("out_of_range", f"{name} has a number that is too large") from None


def check_count(count: int) -> None:
    """Raises Undecodable where a message has more values than MAX_VALUES."""
    if count > MAX_VALUES:
        raise Undecodable("too_many", f"a message has at most {MAX_VALUES} values")


TRUTHS = {"true": True, "on": True, "false": False, "off": False}
NO_VALUE = frozenset(("", "nan", "null"))
"""What devices send that have nothing to say: a cleared topic, a sensor without a reading."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_value(payload: bytes, type: MetricType | None = None) -> list[PayloadRecord]:
    """One record with VALUE, none where the payload says that there is no value. `type` None: what it looks like.

    Raises Undecodable.
    """
    text = text_of(payload)
    if type == "string":
        return [PayloadRecord({VALUE: checked(VALUE, text)})] if text else []
    text = text.strip()
    if text.lower() in NO_VALUE:
        return []
    value = scalar(text)
    if type == "boolean" and value in (0.0, 1.0):
        value = bool(value)
    if type == "integer" and isinstance(value, float) and value.is_integer():
        # Not by way of a float where there is no need: it has no room for 64 bits.
        value = int(text) if text.lstrip("+-").isdecimal() else int(value)
    if type is not None and KINDS[type] is not value.__class__:
        raise Undecodable("type", f"{_short(text)} is no {type}")
    return [PayloadRecord({VALUE: checked(VALUE, value, typed=type == "integer")}, typed=type == "integer")]


KINDS: dict[MetricType, type] = {"float": float, "integer": int, "boolean": bool, "string": str}


def scalar(text: str) -> Scalar:
    """A number where the text is one, true or false where it is one of TRUTHS, else the text itself."""
    if _NUMBER.fullmatch(text):
        return float(text)
    return TRUTHS.get(text.lower(), text)


MAX_DEVICES = 10_000
"""Devices that a preset remembers something of; what it knows of the others it learns again."""


class Preset(NamedTuple):
    """A ready-made subscription. `base` is the topic that it is under unless another is given.

    `reach`: 0 where all of its topics are under the base; the more, the more topics of others have the same form.
    """

    base: str
    decoder: Callable[[str], Decoder]
    reach: int = 0


def switched(value: Scalar) -> Scalar:
    """ON and OFF, in capitals as devices write them, as true and false."""
    return value == "ON" if value in ("ON", "OFF") else value


def is_online(payload: bytes, online: bytes, offline: bytes) -> bool | None:
    """Whether a device is there by the two words that say so; None for an empty payload, which clears the topic.

    Raises Undecodable for any other word.
    """
    word = payload.strip().lower()
    if word not in (online, offline, b""):
        raise Undecodable("presence", f"expected {online.decode()} or {offline.decode()}")
    return word == online if word else None


def row(device: str, values: Mapping[str, Scalar], time_ns: int | None = None) -> list[Decoded]:
    """The values as one row; nothing where there are none. Raises Undecodable."""
    named = {legal_metric(name): checked(name, value) for name, value in values.items()}
    return [DecodedRow(device, named, time_ns)] if named else []


def samples(
    device: str, values: Mapping[str, Scalar], unit_of: Callable[[str], str], time_ns: int | None = None
) -> list[Decoded]:
    """The values as samples with their units. Raises Undecodable."""
    return [
        DecodedReading(device, legal_metric(name), checked(name, value), time_ns, unit_of(name)[:MAX_UNIT])
        for name, value in values.items()
    ]


def bare(name: str, payload: bytes, type: MetricType | None = None) -> dict[str, Scalar]:
    """The payload's one value under a name; empty where it says that there is none. Raises Undecodable."""
    records = read_value(payload, type)
    return {name: records[0].values[VALUE]} if records else {}


def under(base: str, topic: str) -> str | None:
    """What follows on a base topic; None where the topic is not below it."""
    return topic[len(base) + 1 :] if topic.startswith(f"{base}/") else None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
