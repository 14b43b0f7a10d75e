"""Sparkplug B payloads: data types, protobuf schema, and conversion between bytes and plain values. Pure.

Source: chapter 6 of the Sparkplug 3.0 specification. The schema is written from its table of fields. Data sets,
templates and nested property sets are never read. They are declared as bytes, which have the same encoding: they cost
nothing and cannot make the rest of a message unreadable.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessages

from formats.container import inflated
from formats.record import FrameRefused
from hub.mqtt.message import PYTHON_TYPES, Undecodable
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES
from wire.model import MetricType

COMPRESSED = "SPBV1.0_COMPRESSED"
"""UUID of a payload whose body is another payload, compressed with the algorithm that a metric names."""

GZIP, DEFLATE = "GZIP", "DEFLATE"

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Content of a compressed payload: as large as the largest message that is accepted uncompressed."""

Scalar = float | int | bool | str
"""Value that the hub can store."""

Reason = Literal["unsupported_type", "wrong_type", "out_of_range", "not_finite", "no_value"]
"""Reason why a metric's value is not a reading."""


class Unusable(Exception):
    """A value that is not a reading of its type."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


DataType = IntEnum(
    "DataType",
    "UNKNOWN INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FLOAT DOUBLE BOOLEAN STRING DATETIME TEXT UUID DATASET "
    "BYTES FILE TEMPLATE PROPERTYSET PROPERTYSETLIST INT8_ARRAY INT16_ARRAY INT32_ARRAY INT64_ARRAY UINT8_ARRAY "
    "UINT16_ARRAY UINT32_ARRAY UINT64_ARRAY FLOAT_ARRAY DOUBLE_ARRAY BOOLEAN_ARRAY STRING_ARRAY DATETIME_ARRAY",
    start=0,
)
"""Data types that a birth declares for a metric, with the numbers of the specification."""

_SIGNED_BITS: dict[int, int] = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
_UNSIGNED_BITS: dict[int, int] = {
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
    DataType.DATETIME: 64,
}
_RANGES = {
    **{datatype: (-(1 << bits - 1), (1 << bits - 1) - 1) for datatype, bits in _SIGNED_BITS.items()},
    **{datatype: (0, (1 << bits) - 1) for datatype, bits in _UNSIGNED_BITS.items()},
}

_FIELDS: dict[int, str] = {
    **{
        datatype: "long_value" if bits == 64 else "int_value"
        for datatype, bits in (_SIGNED_BITS | _UNSIGNED_BITS).items()
    },
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    **dict.fromkeys((DataType.STRING, DataType.TEXT, DataType.UUID), "string_value"),
}

_FIELD_TYPES: dict[str, MetricType] = {
    "int_value": "integer",
    "long_value": "integer",
    "float_value": "float",
    "double_value": "float",
    "boolean_value": "boolean",
    "string_value": "string",
}

METRIC_TYPES = {datatype: _FIELD_TYPES[field] for datatype, field in _FIELDS.items()}
"""Metric types of the data types that the hub can store. A DateTime is an integer: milliseconds since 1970 UTC."""


def integer_range(datatype: int) -> tuple[int, int]:
    """Return the smallest and the largest value of an integer data type."""
    return _RANGES[datatype]


def from_wire(datatype: int, field: str, value: Any) -> Scalar:
    """Return the value of a metric with this type, received in this field of the payload. Raises Unusable.

    Numbers are accepted in either field of their kind: programs differ in the field for a UInt32 or a Float.
    """
    kind = METRIC_TYPES.get(datatype)
    if kind is None:
        raise Unusable("unsupported_type")
    if kind != _FIELD_TYPES.get(field):
        raise Unusable("wrong_type")
    if kind == "integer":
        return _integer(datatype, field, value)
    if kind == "float" and not math.isfinite(value):
        raise Unusable("not_finite")
    if kind == "string" and len(value) * 4 > MAX_STRING_VALUE_BYTES and len(value.encode()) > MAX_STRING_VALUE_BYTES:
        raise Unusable("out_of_range")
    scalar: Scalar = value
    return scalar


def to_wire(datatype: int, value: Scalar) -> tuple[str, Scalar]:
    """Return the field of the payload for a value of this type, and the encoded value. Raises Unusable."""
    kind = METRIC_TYPES.get(datatype)
    if kind is None:
        raise Unusable("unsupported_type")
    if type(value) is not PYTHON_TYPES[kind]:
        raise Unusable("wrong_type")
    field = _FIELDS[datatype]
    if isinstance(value, int) and kind == "integer":
        lowest, highest = _RANGES[datatype]
        if not lowest <= value <= highest:
            raise Unusable("out_of_range")
        # Sign-extend only to the size of the type: other programs reject an Int8 with more bits.
        value %= highest - lowest + 1
    elif field == "float_value":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            raise Unusable("out_of_range") from None
    return field, value


def _integer(datatype: int, field: str, value: int) -> int:
    lowest, highest = _RANGES[datatype]
    # Negative numbers are sent as two's complement in an unsigned field. Some programs sign-extend to the whole field,
    # others to the size of the type.
    size = highest - lowest + 1
    if lowest < 0 and value >= size:
        value -= 1 << (64 if field == "long_value" else 32)
    elif lowest < 0 and value > highest:
        value -= size
    if not lowest <= value <= min(highest, MAX_INTEGER):
        raise Unusable("out_of_range")
    return value


PACKAGE = "telemetry_hub.sparkplug_b"

_MESSAGES = {
    "Payload": "uint64 timestamp = 1; repeated Metric metrics = 2; uint64 seq = 3; string uuid = 4; bytes body = 5",
    "Metric": "string name = 1; uint64 alias = 2; uint64 timestamp = 3; uint32 datatype = 4; bool is_historical = 5; "
    "bool is_transient = 6; bool is_null = 7; MetaData metadata = 8; PropertySet properties = 9; "
    "uint32 int_value = 10; uint64 long_value = 11; float float_value = 12; double double_value = 13; "
    "bool boolean_value = 14; string string_value = 15; bytes bytes_value = 16; bytes dataset_value = 17; "
    "bytes template_value = 18; bytes extension_value = 19",
    "MetaData": "bool is_multi_part = 1; string content_type = 2; uint64 size = 3; uint64 seq = 4; "
    "string file_name = 5; string file_type = 6; string md5 = 7; string description = 8",
    "PropertySet": "repeated string keys = 1; repeated PropertyValue values = 2",
    "PropertyValue": "uint32 type = 1; bool is_null = 2; uint32 int_value = 3; uint64 long_value = 4; "
    "float float_value = 5; double double_value = 6; bool boolean_value = 7; string string_value = 8; "
    "bytes propertyset_value = 9; bytes propertysets_value = 10; bytes extension_value = 11",
}
"""Fields of the messages, in the notation of protobuf. Those that end in "_value" are the oneof `value`."""


def _described(name: str, fields: str) -> DescriptorProto:
    message = DescriptorProto(name=name)
    for field in fields.split("; "):
        *repeated, type_name, field_name, _, number = field.split()
        label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
        described = message.field.add(name=field_name, number=int(number), label=label)
        if type_name in _MESSAGES:
            described.type_name = f".{PACKAGE}.{type_name}"
        else:
            described.type = FieldDescriptorProto.Type.Value(f"TYPE_{type_name.upper()}")
        if field_name.endswith("_value"):
            if not message.oneof_decl:
                message.oneof_decl.add(name="value")
            described.oneof_index = 0
    return message


def _payload_class() -> Any:
    file = FileDescriptorProto(name="sparkplug_b.proto", package=PACKAGE, syntax="proto2")
    file.message_type.extend(_described(name, fields) for name, fields in _MESSAGES.items())
    # Use a separate pool: another library may have registered its Sparkplug messages in the default pool.
    return GetMessages([file], pool=DescriptorPool())[f"{PACKAGE}.Payload"]


PROTOBUF_PAYLOAD: Any = _payload_class()
"""Protobuf class of a Sparkplug B payload."""


class SparkplugMetric(NamedTuple):
    """Received metric of a payload. The type declared in its birth defines the meaning of its value.

    `time_ms` counts from 1970 UTC. `field` is the field of the payload that contained the value `raw`, "" for no value.
    `properties` contains the properties with scalar values.
    """

    name: str | None = None
    alias: int | None = None
    time_ms: int | None = None
    datatype: int | None = None
    field: str = ""
    raw: Scalar | bytes | None = None
    is_null: bool = False
    is_historical: bool = False
    is_transient: bool = False
    description: str = ""
    properties: Mapping[str, Scalar] = MappingProxyType({})

    def value(self, datatype: int) -> Scalar:
        """Return the value, interpreted with a data type. Raises Unusable."""
        if not self.field:
            raise Unusable("no_value")
        return from_wire(datatype, self.field, self.raw)


class SparkplugPayload(NamedTuple):
    """Content of one message. `time_ms` is the time of publication, `seq` its number within the edge node's session."""

    time_ms: int | None = None
    seq: int | None = None
    metrics: tuple[SparkplugMetric, ...] = ()


def metric(datatype: int, value: Scalar | None, *, name: str | None = None, **rest: Any) -> SparkplugMetric:
    """Return a metric with this value, or a null for None. `rest` are further fields of the metric. Raises Unusable."""
    if value is None:
        return SparkplugMetric(name=name, datatype=datatype, is_null=True, **rest)
    field, raw = to_wire(datatype, value)
    return SparkplugMetric(name=name, datatype=datatype, field=field, raw=raw, **rest)


def decode(data: bytes) -> SparkplugPayload:
    """Return the decoded payload, also of a compressed one. Raises Undecodable."""
    message = _parsed(data)
    if message.uuid != COMPRESSED:
        return _payload_of(message)
    algorithm = next((_metric(metric).raw for metric in message.metrics if metric.name == "algorithm"), GZIP)
    inner = _payload_of(_parsed(_decompressed(message.body, str(algorithm).upper())))
    # The envelope numbers the message, too; programs may omit that of the content.
    outer = _payload_of(message)
    seq = inner.seq if inner.seq is not None else outer.seq
    return inner._replace(seq=seq, time_ms=outer.time_ms if inner.time_ms is None else inner.time_ms)


def _parsed(data: bytes) -> Any:
    try:
        return PROTOBUF_PAYLOAD.FromString(data)
    except DecodeError:
        raise Undecodable(
            "bad_payload", "the payload is not valid Sparkplug B: it does not match the protobuf schema"
        ) from None


def _payload_of(message: Any) -> SparkplugPayload:
    return SparkplugPayload(
        _optional(message, "timestamp"), _optional(message, "seq"), tuple(map(_metric, message.metrics))
    )


def _decompressed(body: bytes, algorithm: str) -> bytes:
    """Return the content of a compressed body. DEFLATE has the header of zlib in most programs, but not in all."""
    if algorithm not in (GZIP, DEFLATE):
        raise Undecodable("bad_payload", f"the payload is compressed with {algorithm[:40]!r}, not with GZIP or DEFLATE")
    try:
        if algorithm == GZIP:
            return inflated(body, "gzip", MAX_BODY_BYTES)
        try:
            return inflated(body, "zlib", MAX_BODY_BYTES)
        except FrameRefused as error:
            if error.code == "size":
                raise
            return inflated(body, "deflate", MAX_BODY_BYTES)
    except FrameRefused as error:
        raise Undecodable(error.code, error.reason) from None


def encode(payload: SparkplugPayload) -> bytes:
    """Return the encoded payload."""
    # None and, for flags, False are not encoded.
    message = PROTOBUF_PAYLOAD(timestamp=payload.time_ms, seq=payload.seq)
    for metric in payload.metrics:
        added = message.metrics.add(
            name=metric.name,
            alias=metric.alias,
            timestamp=metric.time_ms,
            datatype=metric.datatype,
            is_null=metric.is_null or None,
            is_historical=metric.is_historical or None,
            is_transient=metric.is_transient or None,
        )
        if metric.description:
            added.metadata.description = metric.description
        if metric.field:
            setattr(added, metric.field, metric.raw)
        for key, value in metric.properties.items():
            datatype = _property_type(value)
            field, raw = to_wire(datatype, value)
            added.properties.keys.append(key)
            added.properties.values.add(type=datatype, **{field: raw})
    data: bytes = message.SerializeToString()
    return data


def _property_type(value: Scalar) -> DataType:
    if isinstance(value, bool):
        return DataType.BOOLEAN
    if isinstance(value, int):
        return DataType.INT32 if -(1 << 31) <= value < 1 << 31 else DataType.INT64
    return DataType.DOUBLE if isinstance(value, float) else DataType.STRING


def _metric(message: Any) -> SparkplugMetric:
    field = message.WhichOneof("value") or ""
    raw: Any = getattr(message, field) if field else None
    if field == "string_value":
        raw = _text(raw)
    return SparkplugMetric(
        name=_text(message.name) if message.HasField("name") else None,
        alias=_optional(message, "alias"),
        time_ms=_optional(message, "timestamp"),
        datatype=_optional(message, "datatype"),
        field=field,
        raw=raw,
        is_null=message.is_null,
        is_historical=message.is_historical,
        is_transient=message.is_transient,
        description=_text(message.metadata.description) if message.HasField("metadata") else "",
        properties=_properties(message.properties) if message.HasField("properties") else MappingProxyType({}),
    )


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _properties(message: Any) -> Mapping[str, Scalar]:
    properties: dict[str, Scalar] = {}
    # Keys and values without a partner are ignored.
    for key, value in zip(message.keys, message.values, strict=False):
        field = value.WhichOneof("value")
        if field is None or value.is_null:
            continue
        raw = getattr(value, field)
        try:
            properties[_text(key)] = from_wire(value.type, field, _text(raw) if field == "string_value" else raw)
        except Unusable:
            continue
    return properties


def _text(text: str | bytes) -> str:
    # The library does not validate fields of proto2: it returns bytes for a text that is not UTF-8.
    if isinstance(text, str):
        return text
    raise Undecodable("bad_payload", "the payload is not valid Sparkplug B: it contains a text that is not UTF-8")
