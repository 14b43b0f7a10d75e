"""Sparkplug's data types: what a value is on the wire, and what it is in the hub. Pure.

Source: "Datatype Details" in chapter 6 of the Sparkplug 3.0 specification.
"""

from __future__ import annotations

import math
import struct
from enum import IntEnum
from typing import Literal

from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES
from wire.model import MetricType

Scalar = float | int | bool | str
"""A value that the hub can store."""

Reason = Literal["unsupported_type", "wrong_type", "out_of_range", "not_finite", "no_value"]
"""Why a metric's value is no reading."""


class Unusable(Exception):
    """A value that is no reading of its type."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class DataType(IntEnum):
    """The type that a birth declares for a metric; the numbers are the specification's."""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTYSET = 20
    PROPERTYSETLIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


_SIGNED_BITS = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
_UNSIGNED_BITS = {
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
    DataType.DATETIME: 64,
}
_STRINGS = (DataType.STRING, DataType.TEXT, DataType.UUID)

METRIC_TYPES: dict[int, MetricType] = {
    **dict.fromkeys((*_SIGNED_BITS, *_UNSIGNED_BITS), "integer"),
    DataType.FLOAT: "float",
    DataType.DOUBLE: "float",
    DataType.BOOLEAN: "boolean",
    **dict.fromkeys(_STRINGS, "string"),
}
"""The hub's type of each data type that it can store. A DateTime is an integer: milliseconds since 1970 UTC."""

_FIELDS = {
    **dict.fromkeys((*_SIGNED_BITS, *_UNSIGNED_BITS), "int_value"),
    **dict.fromkeys((DataType.INT64, DataType.UINT64, DataType.DATETIME), "long_value"),
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    **dict.fromkeys(_STRINGS, "string_value"),
}


def from_wire(datatype: int, field: str, value: object) -> Scalar:
    """The value of a metric of this type, which came in this field of the payload. Raises Unusable.

    Numbers are taken from either field of their kind: programs differ in where they put a UInt32 or a Float.
    """
    kind = METRIC_TYPES.get(datatype)
    if kind is None:
        raise Unusable("unsupported_type")
    if kind == "integer" and field in ("int_value", "long_value") and isinstance(value, int):
        return _integer(datatype, field, value)
    if kind == "float" and field in ("float_value", "double_value") and isinstance(value, float):
        if not math.isfinite(value):
            raise Unusable("not_finite")
        return value
    if kind == "boolean" and field == "boolean_value" and isinstance(value, bool):
        return value
    if kind == "string" and field == "string_value" and isinstance(value, str):
        if len(value) * 4 > MAX_STRING_VALUE_BYTES and len(value.encode()) > MAX_STRING_VALUE_BYTES:
            raise Unusable("out_of_range")
        return value
    raise Unusable("wrong_type")


def to_wire(datatype: int, value: Scalar) -> tuple[str, Scalar]:
    """The field of the payload that a value of this type belongs into, and what is put there. Raises Unusable."""
    kind = METRIC_TYPES.get(datatype)
    if kind is None:
        raise Unusable("unsupported_type")
    field = _FIELDS[DataType(datatype)]
    if kind == "integer" and type(value) is int:
        signed = _SIGNED_BITS.get(DataType(datatype))
        lowest, highest = (-(1 << signed - 1), (1 << signed - 1) - 1) if signed else _unsigned_range(datatype)
        if not lowest <= value <= highest:
            raise Unusable("out_of_range")
        # A sign fills the type's own bits and no more: other programs refuse an Int8 that has more of them.
        return field, value % (1 << signed) if signed else value
    if kind == "float" and type(value) is float:
        return field, _single(value) if field == "float_value" else value
    if (kind == "boolean" and type(value) is bool) or (kind == "string" and type(value) is str):
        return field, value
    raise Unusable("wrong_type")


def _integer(datatype: int, field: str, value: int) -> int:
    signed = _SIGNED_BITS.get(DataType(datatype))
    if signed is None:
        lowest, highest = _unsigned_range(datatype)
    else:
        # Negative numbers travel as two's complement in an unsigned field: some programs fill the whole field with the
        # sign, others the type's own bits only.
        lowest, highest = -(1 << signed - 1), (1 << signed - 1) - 1
        wide = 64 if field == "long_value" else 32
        if value >= 1 << signed:
            value -= 1 << wide
        elif value > highest:
            value -= 1 << signed
    if not lowest <= value <= min(highest, MAX_INTEGER):
        raise Unusable("out_of_range")
    return value


def _unsigned_range(datatype: int) -> tuple[int, int]:
    return 0, (1 << _UNSIGNED_BITS[DataType(datatype)]) - 1


def _single(value: float) -> float:
    try:
        single: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise Unusable("out_of_range") from None
    return single
