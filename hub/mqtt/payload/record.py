"""What every form of payload is read into, and the bounds that hold for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from hub.mqtt.reading import Undecodable
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES, MIN_INTEGER

MAX_VALUES = 10_000
"""Values of one message: as many as a batch of an agent holds. One with more is refused, since all of it would
have to be decoded in one turn of the hub's loop."""

MAX_DEPTH = 16
"""Levels of nested JSON. No device nests deeper, and each level is a part of a metric's name."""

VALUE = "value"
"""The name of a value that has none of its own."""

Number = float | int
Scalar = Number | bool | str


class Record(NamedTuple):
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
