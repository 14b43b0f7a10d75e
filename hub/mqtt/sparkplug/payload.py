"""Sparkplug B payloads: from bytes to plain values, and back. Pure.

Source: chapter 6 of the Sparkplug 3.0 specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from hub.mqtt.reading import Undecodable
from hub.mqtt.sparkplug import schema
from hub.mqtt.sparkplug.datatype import DataType, Scalar, Unusable, from_wire, to_wire

_INT32_BOUND = 1 << 31


class Metric(NamedTuple):
    """One metric of a payload, as it came: what its value means says the type that its birth declared.

    `time_ms` counts from 1970 UTC. `field` is where in the payload the value `raw` stood, "" where there is none.
    `properties` has those whose values are scalars.
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
        """The value as one of this type. Raises Unusable."""
        if not self.field:
            raise Unusable("no_value")
        return from_wire(datatype, self.field, self.raw)


class Payload(NamedTuple):
    """What one message says. `time_ms` is when it was published, `seq` its number among its edge node's messages."""

    time_ms: int | None = None
    seq: int | None = None
    metrics: tuple[Metric, ...] = ()


def metric(datatype: int, value: Scalar | None, *, name: str | None = None, **rest: Any) -> Metric:
    """A metric with this value; None makes it a null. `rest` are other fields of Metric. Raises Unusable."""
    if value is None:
        return Metric(name=name, datatype=datatype, is_null=True, **rest)
    field, raw = to_wire(datatype, value)
    return Metric(name=name, datatype=datatype, field=field, raw=raw, **rest)


def decode(data: bytes) -> Payload:
    """What the bytes say. Raises Undecodable where they are no Sparkplug B payload."""
    try:
        message = schema.Payload.FromString(data)
    except DecodeError:
        raise Undecodable(
            "bad_payload", "this is no Sparkplug B payload: it does not follow the protobuf schema of Sparkplug B"
        ) from None
    return Payload(
        time_ms=message.timestamp if message.HasField("timestamp") else None,
        seq=message.seq if message.HasField("seq") else None,
        metrics=tuple(_metric(metric) for metric in message.metrics),
    )


def encode(payload: Payload) -> bytes:
    """The payload's bytes."""
    message = schema.Payload()
    if payload.time_ms is not None:
        message.timestamp = payload.time_ms
    if payload.seq is not None:
        message.seq = payload.seq
    for metric in payload.metrics:
        _fill(message.metrics.add(), metric)
    data: bytes = message.SerializeToString()
    return data


def _metric(message: Any) -> Metric:
    field = message.WhichOneof("value") or ""
    raw: Any = getattr(message, field) if field else None
    if field == "string_value":
        raw = _text(raw)
    return Metric(
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
    # Where there are more of the one than of the other, the rest belongs to nothing.
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
    # Fields of proto2 are not checked by the library: it hands on as bytes what is no UTF-8.
    if isinstance(text, str):
        return text
    raise Undecodable("bad_payload", "this is no Sparkplug B payload: a text in it is no UTF-8")


def _fill(message: Any, metric: Metric) -> None:
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
