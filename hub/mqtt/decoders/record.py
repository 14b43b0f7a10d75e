"""Records, into which every payload format is read, their bounds, and their conversion into readings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from formats.names import legal_metric
from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, DeviceDeclaration, DevicePresence, Undecodable
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES, MAX_UNIT, MIN_INTEGER
from wire.timestamp import time_parser

MAX_VALUES = 10_000
"""Values of one message, the size of an agent's batch. A larger message is rejected: it would have to be decoded in one
turn of the event loop."""

MAX_DEPTH = 16
"""Levels of nested JSON. No known device nests deeper, and each level becomes a part of a metric name."""

MAX_DEVICES = 10_000
"""Devices about which a decoder remembers something."""

VALUE = "value"
"""Name of a value without a name of its own."""

TRUTHS = {"true": True, "on": True, "false": False, "off": False}
NO_VALUE = frozenset(("", "nan", "null"))
"""Payloads without a value: a cleared topic, or a sensor without a reading."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Scalar = float | int | bool | str
V = TypeVar("V")


class PayloadRecord(NamedTuple):
    """Values with a common time; `time_ns` None means no time. `names` are texts beside the values, such as tags.

    With `typed`, ints belong to integer metrics; otherwise every number is a float.
    """

    values: dict[str, Scalar]
    time_ns: int | None = None
    names: Mapping[str, str] = {}
    unit: str = ""
    typed: bool = False


def decode_text(payload: bytes) -> str:
    """Return the payload as text. Raises Undecodable."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Undecodable("encoding", "the payload is not UTF-8") from None


def checked_value(name: str, value: Scalar, typed: bool = False) -> Scalar:
    """Return the value as the hub stores it: numbers as floats, except typed ints. Raises Undecodable."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise Undecodable("not_finite", f"{name} is {value}, which is not a finite number")
        return value
    if kind is bool:
        return value
    if isinstance(value, str):
        try:
            size_bytes = len(value) if value.isascii() else len(value.encode())
            if size_bytes > MAX_STRING_VALUE_BYTES:
                raise Undecodable("out_of_range", f"{name} has a text longer than {MAX_STRING_VALUE_BYTES} bytes")
        except UnicodeEncodeError:
            raise Undecodable("encoding", f"{name} contains half of a surrogate pair") from None
        return value
    if typed:
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise Undecodable("out_of_range", f"{name} has an integer outside signed 64 bits")
        return value
    try:
        return float(value)
    except OverflowError:
        raise Undecodable("out_of_range", f"{name} has a number that is too large") from None


class Remembered(dict[str, V]):
    """Bounded memory of a preset by device. When it is full, everything is dropped and learned again."""

    def __setitem__(self, device: str, value: V) -> None:
        if len(self) >= MAX_DEVICES:
            self.clear()
        super().__setitem__(device, value)


class DeclaredTags:
    """Tags that were declared for each device, so that each is declared once."""

    def __init__(self) -> None:
        self._declared: Remembered[Mapping[str, str]] = Remembered()

    def declare(self, device: str, tags: Mapping[str, str]) -> list[Decoded]:
        """Return the declaration of these tags, or an empty list if nothing changed."""
        if not tags or self._declared.get(device) == tags:
            return []
        self._declared[device] = tags
        return [DeviceDeclaration(device, (), tags)]


def time_reader(format: str = "auto") -> Callable[[object], int]:
    """Return the parser of times in a format of `wire.timestamp`; it raises Undecodable. Raises ValueError."""
    parse = time_parser(format)

    def read(value: object) -> int:
        try:
            return parse(value)
        except ValueError as error:
            raise Undecodable("time", str(error)) from None

    return read


def check_count(count: int) -> None:
    """Raise Undecodable if a message has more values than MAX_VALUES."""
    if count > MAX_VALUES:
        raise Undecodable("too_many", f"a message has at most {MAX_VALUES} values")


def parse_scalar(text: str) -> Scalar:
    """Return a number, a boolean for a word in TRUTHS, or else the text itself."""
    if _NUMBER.fullmatch(text):
        return float(text)
    return TRUTHS.get(text.lower(), text)


def parse_on_off(value: Scalar) -> Scalar:
    """Return ON and OFF, in capitals as devices send them, as booleans and other values unchanged."""
    return value == "ON" if value in ("ON", "OFF") else value


def presence_of(device: str, payload: bytes, online: str = "online", offline: str = "offline") -> list[Decoded]:
    """Return the presence that a payload reports, none for an empty payload, which clears the topic.

    Raises Undecodable for any other word.
    """
    word = payload.strip().lower()
    if not word:
        return []
    if word not in (online.encode(), offline.encode()):
        raise Undecodable("presence", f"expected {online} or {offline}")
    return [DevicePresence(device, word == online.encode())]


def row_of(device: str, values: Mapping[str, Scalar], time_ns: int | None = None) -> list[Decoded]:
    """Return the values as one row, or an empty list for no values. Raises Undecodable."""
    named = {legal_metric(name): checked_value(name, value) for name, value in values.items()}
    return [DecodedRow(device, named, time_ns)] if named else []


def readings_of(
    device: str, values: Mapping[str, Scalar], unit_of: Callable[[str], str], time_ns: int | None = None
) -> list[Decoded]:
    """Return the values as readings with units. Raises Undecodable."""
    return [
        DecodedReading(device, legal_metric(name), checked_value(name, value), time_ns, unit_of(name)[:MAX_UNIT])
        for name, value in values.items()
    ]
