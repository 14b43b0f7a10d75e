"""Decoder of a subscription: combines the topic template and the payload into devices, metrics and readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from formats.names import legal_device, legal_metric
from hub.mqtt.decoders.formats import (
    MEASUREMENT,
    TimeField,
    load_function,
    read_function,
    read_json,
    read_line,
    read_senml,
    read_value,
)
from hub.mqtt.decoders.record import VALUE, DeclaredTags, PayloadRecord, Scalar, checked_value, time_reader
from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, Decoder, Message, Undecodable
from hub.mqtt.topics import TopicTemplate, fill_placeholders
from wire.limits import MAX_TAG_KEY, MAX_TAG_VALUE, MAX_UNIT
from wire.timestamp import NS_PER_UNIT

PayloadFormat = Literal["json", "value", "senml", "line", "function", "sparkplug"]

DEVICE = "device"
METRIC = "metric"
"""Placeholders with a fixed meaning. All others of a topic become tags of the device."""

DEVICE_TAGS = ("device", "host")
"""Tags of line protocol that name the device if nothing else does. Agents write `host`."""

MAX_KNOWN = 10_000
"""Topics and names that are remembered. A dropped one is parsed again."""

RecordReader = Callable[[Message], list[PayloadRecord]]


class TopicMapping(NamedTuple):
    """One entry of `subscribe` in the settings.

    `device` is a template such as "{site}-{device}" of names in the topic. `time` is the field with the time.
    """

    topic: str
    payload: PayloadFormat = "json"
    device: str = ""
    qos: int = 1
    time: str = ""
    time_format: str = "auto"
    function: Path | None = None


class TopicFields(NamedTuple):
    """Information in a topic: placeholder values, the device ("" if the payload names it) and its tags."""

    names: Mapping[str, str]
    device: str
    tags: Mapping[str, str]


class MappedDecoder(Decoder):
    """Decoder of one subscription. It remembers the tags declared for each device."""

    def __init__(self, mapping: TopicMapping) -> None:
        """Raises ValueError with a sentence."""
        self._topic = TopicTemplate.parse(mapping.topic)
        self.filters = [self._topic.filter]
        self._read = _reader(mapping)
        self._device = mapping.device
        self._declared = DeclaredTags()
        self._fields = lru_cache(MAX_KNOWN)(self._parse_topic)
        self._legal = lru_cache(MAX_KNOWN)(legal_metric)

    def takes(self, topic: str) -> bool:
        """Return whether the topic matches the template."""
        return self._fields(topic) is not None

    def decode(self, message: Message) -> list[Decoded]:
        """Return a row for each time in the message, or a reading for a value with a unit or an integer."""
        fields = self._fields(message.topic)
        if fields is None:
            raise Undecodable("topic", f"the topic does not match {self._topic.text!r}")
        found: list[Decoded] = []
        for record in self._read(message):
            self._decode_record(record, fields, found)
        return found

    def _parse_topic(self, topic: str) -> TopicFields | None:
        names = self._topic.match(topic)
        if names is None:
            return None
        device = fill_placeholders(self._device, names) if self._device else names.get(DEVICE)
        tags = {
            name[:MAX_TAG_KEY]: value[:MAX_TAG_VALUE] for name, value in names.items() if name not in (DEVICE, METRIC)
        }
        return TopicFields(names, legal_device(device) if device else "", tags)

    def _decode_record(self, record: PayloadRecord, fields: TopicFields, found: list[Decoded]) -> None:
        values = record.values
        device, used = fields.device, ""
        if not device:
            device, values, used = _device_of(record)
        found.extend(self._declared.declare(device, fields.tags))
        metric_name, typed = self._metric_namer(record, fields, used), record.typed
        # Nearly all values are finite floats. Checking them inline saves a third of the time.
        named = {
            metric_name(name): (
                value if type(value) is float and value - value == 0.0 else checked_value(name, value, typed)
            )
            for name, value in values.items()
        }
        if len(named) < len(values):
            raise Undecodable("ambiguous", "two values of the message have the same metric")
        if record.unit or (typed and any(type(value) is int for value in named.values())):
            unit = record.unit[:MAX_UNIT]
            found.extend(
                DecodedReading(device, name, value, record.time_ns, unit, "integer" if type(value) is int else None)
                for name, value in named.items()
            )
        elif named:
            found.append(DecodedRow(device, named, record.time_ns))

    def _metric_namer(self, record: PayloadRecord, fields: TopicFields, used: str) -> Callable[[str], str]:
        """Return the function from a value's name to its metric. `used` is the tag that named the device."""
        legal = self._legal
        parts = [fields.names[METRIC]] if METRIC in fields.names else []
        if MEASUREMENT in record.names:
            # Tags distinguish series: two disks of one host are two metrics.
            parts.append(record.names[MEASUREMENT])
            parts.extend(
                value
                for name, value in sorted(record.names.items())
                if name not in (MEASUREMENT, used) and name not in fields.names
            )
        if not parts:
            return legal
        prefix = ".".join(parts)
        if METRIC in fields.names and len(parts) == 1:
            return lambda field: legal(prefix if field == VALUE else f"{prefix}.{field}")
        return lambda field: legal(f"{prefix}.{field}")


def _device_of(record: PayloadRecord) -> tuple[str, dict[str, Scalar], str]:
    """Return the device that the payload names, the remaining values, and the name that identified it.

    Raises Undecodable if the payload names no device.
    """
    for name in DEVICE_TAGS if record.typed else ("base", *DEVICE_TAGS):
        if record.names.get(name):
            return legal_device(record.names[name]), record.values, name
    device = record.values.get(DEVICE)
    if not device:
        raise Undecodable("device", f"neither the topic nor the payload names a {DEVICE}")
    return legal_device(_text(device)), {name: record.values[name] for name in record.values if name != DEVICE}, DEVICE


def _reader(mapping: TopicMapping) -> RecordReader:
    """Return the function that reads the records of a message. Raises ValueError with a sentence."""
    field = TimeField(mapping.time, time_reader(mapping.time_format))
    match mapping.payload:
        case "json":
            return lambda message: read_json(message.payload, field)
        case "value":
            return lambda message: read_value(message.payload)
        case "senml":
            return lambda message: read_senml(message.payload, message.received_ns)
        case "line":
            precision = mapping.time_format if mapping.time_format != "auto" else "ns"
            if precision not in NS_PER_UNIT:
                raise ValueError(f"times of line protocol are in s, ms, us or ns, not in {precision}")
            return lambda message: read_line(message.payload, precision)
    if mapping.function is None:
        raise ValueError('payload = "function" needs `function`, the path of the Python file')
    decode = load_function(mapping.function)
    return lambda message: read_function(decode, message.topic, message.payload, field)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
