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

from hub.mqtt.message import Undecodable
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES
from wire.model import MetricType

Scalar = float | int | bool | str
"""Value that the hub can store."""

Reason = Literal["unsupported_type", "wrong_type", "out_of_range", "not_finite", "no_value"]
"""Reason why a metric's value is not a reading."""


class Unusable(Exception):
    """A value that is not a reading of its type."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class DataType(IntEnum):
    """Data type that a birth declares for a metric, with the numbers of the specification."""

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
"""Metric types of the data types that the hub can store. A DateTime is an integer: milliseconds since 1970 UTC."""

_FIELDS = {
    **dict.fromkeys((*_SIGNED_BITS, *_UNSIGNED_BITS), "int_value"),
    **dict.fromkeys((DataType.INT64, DataType.UINT64, DataType.DATETIME), "long_value"),
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    **dict.fromkeys(_STRINGS, "string_value"),
}


def from_wire(datatype: int, field: str, value: object) -> Scalar:
    """Return the value of a metric with this type, received in this field of the payload. Raises Unusable.

    Numbers are accepted in either field of their kind: programs differ in the field for a UInt32 or a Float.
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
    """Return the field of the payload for a value of this type, and the encoded value. Raises Unusable."""
    kind = METRIC_TYPES.get(datatype)
    if kind is None:
        raise Unusable("unsupported_type")
    field = _FIELDS[DataType(datatype)]
    if kind == "integer" and type(value) is int:
        signed = _SIGNED_BITS.get(DataType(datatype))
        lowest, highest = (-(1 << signed - 1), (1 << signed - 1) - 1) if signed else _unsigned_range(datatype)
        if not lowest <= value <= highest:
            raise Unusable("out_of_range")
        # Sign-extend only to the size of the type: other programs reject an Int8 with more bits.
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
        # Negative numbers are sent as two's complement in an unsigned field. Some programs sign-extend to the whole
        # field, others to the size of the type.
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


PACKAGE = "telemetry_hub.sparkplug_b"

_TYPES = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
}


class _Field(NamedTuple):
    """Number and type of a field: the name of a scalar or of a message. `value` makes it part of the oneof."""

    number: int
    type: str
    repeated: bool = False
    value: bool = False


def _values(first: int, **types: str) -> dict[str, _Field]:
    """Return the fields of a oneof, numbered from `first` in the given order."""
    return {name: _Field(number, type, value=True) for number, (name, type) in enumerate(types.items(), first)}


_SCALARS = {
    "int_value": "uint32",
    "long_value": "uint64",
    "float_value": "float",
    "double_value": "double",
    "boolean_value": "bool",
    "string_value": "string",
}

_MESSAGES: dict[str, Mapping[str, _Field]] = {
    "Payload": {
        "timestamp": _Field(1, "uint64"),
        "metrics": _Field(2, "Metric", repeated=True),
        "seq": _Field(3, "uint64"),
        "uuid": _Field(4, "string"),
        "body": _Field(5, "bytes"),
    },
    "Metric": {
        "name": _Field(1, "string"),
        "alias": _Field(2, "uint64"),
        "timestamp": _Field(3, "uint64"),
        "datatype": _Field(4, "uint32"),
        "is_historical": _Field(5, "bool"),
        "is_transient": _Field(6, "bool"),
        "is_null": _Field(7, "bool"),
        "metadata": _Field(8, "MetaData"),
        "properties": _Field(9, "PropertySet"),
        **_values(
            10,
            **_SCALARS,
            bytes_value="bytes",
            dataset_value="bytes",
            template_value="bytes",
            extension_value="bytes",
        ),
    },
    "MetaData": {
        "is_multi_part": _Field(1, "bool"),
        "content_type": _Field(2, "string"),
        "size": _Field(3, "uint64"),
        "seq": _Field(4, "uint64"),
        "file_name": _Field(5, "string"),
        "file_type": _Field(6, "string"),
        "md5": _Field(7, "string"),
        "description": _Field(8, "string"),
    },
    "PropertySet": {
        "keys": _Field(1, "string", repeated=True),
        "values": _Field(2, "PropertyValue", repeated=True),
    },
    "PropertyValue": {
        "type": _Field(1, "uint32"),
        "is_null": _Field(2, "bool"),
        **_values(3, **_SCALARS, propertyset_value="bytes", propertysets_value="bytes", extension_value="bytes"),
    },
}


def _described(name: str, fields: Mapping[str, _Field]) -> DescriptorProto:
    message = DescriptorProto(name=name)
    for field_name, field in fields.items():
        described = message.field.add(
            name=field_name,
            number=field.number,
            label=FieldDescriptorProto.LABEL_REPEATED if field.repeated else FieldDescriptorProto.LABEL_OPTIONAL,
        )
        if field.type in _TYPES:
            described.type = _TYPES[field.type]
        else:
            described.type = FieldDescriptorProto.TYPE_MESSAGE
            described.type_name = f".{PACKAGE}.{field.type}"
        if field.value:
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

_INT32_BOUND = 1 << 31


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
    """Return the decoded payload. Raises Undecodable."""
    try:
        message = PROTOBUF_PAYLOAD.FromString(data)
    except DecodeError:
        raise Undecodable(
            "bad_payload", "the payload is not valid Sparkplug B: it does not match the protobuf schema"
        ) from None
    return SparkplugPayload(
        time_ms=message.timestamp if message.HasField("timestamp") else None,
        seq=message.seq if message.HasField("seq") else None,
        metrics=tuple(_metric(metric) for metric in message.metrics),
    )


def encode(payload: SparkplugPayload) -> bytes:
    """Return the encoded payload."""
    message = PROTOBUF_PAYLOAD()
    if payload.time_ms is not None:
        message.timestamp = payload.time_ms
    if payload.seq is not None:
        message.seq = payload.seq
    for metric in payload.metrics:
        _fill(message.metrics.add(), metric)
    data: bytes = message.SerializeToString()
    return data


def _metric(message: Any) -> SparkplugMetric:
    field = message.WhichOneof("value") or ""
    raw: Any = getattr(message, field) if field else None
    if field == "string_value":
        raw = _text(raw)
    return SparkplugMetric(
        name=_text(message.name) if message.HasField("name") else None,
        alias=message.alias if message.HasField("alias") else None,
        time_ms=message.timestamp if message.HasField("timestamp") else None,
        datatype=message.datatype if message.HasField("datatype") else None,
        field=field,
        raw=raw,
        is_null=message.is_null,
        is_historical=message.is_historical,
        is_transient=message.is_transient,
        description=_text(message.metadata.description) if message.HasField("metadata") else "",
        properties=_properties(message.properties) if message.HasField("properties") else MappingProxyType({}),
    )


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


def _fill(message: Any, metric: SparkplugMetric) -> None:
    if metric.name is not None:
        message.name = metric.name
    if metric.alias is not None:
        message.alias = metric.alias
    if metric.time_ms is not None:
        message.timestamp = metric.time_ms
    if metric.datatype is not None:
        message.datatype = metric.datatype
    for flag in ("is_null", "is_historical", "is_transient"):
        if getattr(metric, flag):
            setattr(message, flag, True)
    if metric.description:
        message.metadata.description = metric.description
    if metric.field:
        setattr(message, metric.field, metric.raw)
    for key, value in metric.properties.items():
        _fill_property(message.properties, key, value)


def _fill_property(properties: Any, key: str, value: Scalar) -> None:
    if isinstance(value, bool):
        datatype = DataType.BOOLEAN
    elif isinstance(value, int):
        datatype = DataType.INT32 if -_INT32_BOUND <= value < _INT32_BOUND else DataType.INT64
    elif isinstance(value, float):
        datatype = DataType.DOUBLE
    else:
        datatype = DataType.STRING
    field, raw = to_wire(datatype, value)
    properties.keys.append(key)
    added = properties.values.add(type=datatype)
    setattr(added, field, raw)
