"""The protobuf messages of Sparkplug B, written from the table of fields in the specification (3.0, chapter 6).

What is never looked into (data sets, templates, sets of properties inside properties) is declared as bytes, which is
the same on the wire: nothing is spent on it, and nothing in it can make the rest of a message unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessages

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
    """A field's number and type: a scalar's name, or a message's. `value` puts it among those of which one is set."""

    number: int
    type: str
    repeated: bool = False
    value: bool = False


def _values(first: int, **types: str) -> dict[str, _Field]:
    """Fields of which one is set, numbered from `first` in the order in which they stand here."""
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
    # A pool of its own: another library in the same process may have registered its Sparkplug messages in the default.
    return GetMessages([file], pool=DescriptorPool())[f"{PACKAGE}.Payload"]


Payload: Any = _payload_class()
"""The class of the message that every Sparkplug B payload is; the types of its fields stand above."""
