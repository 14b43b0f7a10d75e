"""Decoder of a subscription: combines the topic template and the payload into devices, metrics and readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

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
from hub.mqtt.decoders.record import VALUE, PayloadRecord, Scalar, checked_value
from hub.mqtt.message import (
    Decoded,
    DecodedReading,
    DecodedRow,
    DeviceDeclaration,
    Message,
    Undecodable,
    legal_device,
    legal_metric,
)
from hub.mqtt.topics import TopicTemplate, fill_placeholders, placeholders
from wire.limits import MAX_TAG_KEY, MAX_TAG_VALUE, MAX_UNIT
from wire.timestamp import NS_PER_UNIT, time_parser

PayloadFormat = Literal["json", "value", "senml", "line", "function"]

DEVICE = "device"
METRIC = "metric"
FIELD = "field"
"""Placeholders with a fixed meaning. All others of a topic become tags of the device."""

DEVICE_TAGS = ("device", "host")
"""Tags of line protocol that name the device if nothing else does. Agents write `host`."""

MAX_KNOWN = 10_000
"""Topics and devices that are remembered. A dropped topic is parsed again, and the tags of a dropped device are
declared again."""

RecordReader = Callable[[Message], list[PayloadRecord]]


class TopicFields(NamedTuple):
    """Information in a topic: placeholder values, the device ("" if the payload names it) and its tags."""

    names: Mapping[str, str]
    device: str
    tags: Mapping[str, str]


class MappedDecoder:
    """Decoder of one subscription. It remembers the tags declared for each device."""

    def __init__(self, topic: TopicTemplate, read: RecordReader, *, device: str = "", metric: str = "") -> None:
        """Use `mapped` instead. `device` and `metric` are templates of names from topics and payloads."""
        self.filters = [topic.filter]
        self._topic = topic
        self._read = read
        self._device = device
        self._device_names = placeholders(device)
        self._metric = metric
        self._declared: dict[str, Mapping[str, str]] = {}
        self._fields = lru_cache(MAX_KNOWN)(self._parse_topic)
        self._legal = lru_cache(MAX_KNOWN)(legal_metric)

    def takes(self, topic: str) -> bool:
        """Return whether the topic matches the template."""
        return self._fields(topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """Return False: a retained message is a reading from an earlier time."""
        return False

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
        device = ""
        if not self._device:
            device = legal_device(names[DEVICE]) if DEVICE in names else ""
        elif self._device_names <= names.keys():
            device = legal_device(fill_placeholders(self._device, names))
        tags = {
            name[:MAX_TAG_KEY]: value[:MAX_TAG_VALUE] for name, value in names.items() if name not in (DEVICE, METRIC)
        }
        return TopicFields(names, device, tags)

    def _decode_record(self, record: PayloadRecord, fields: TopicFields, found: list[Decoded]) -> None:
        values = record.values
        device, used = fields.device, ""
        if not device:
            device, values, used = self._device_of(record, fields)
        if fields.tags and self._declared.get(device) != fields.tags:
            if len(self._declared) >= MAX_KNOWN:
                self._declared.clear()
            self._declared[device] = fields.tags
            found.append(DeviceDeclaration(device, (), fields.tags))
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

    def _device_of(self, record: PayloadRecord, fields: TopicFields) -> tuple[str, dict[str, Scalar], str]:
        """Return the device that the payload names, the remaining values, and the name that identified it.

        Raises Undecodable if the payload names no device.
        """
        template, names = self._device, self._device_names
        if not template:
            for name in DEVICE_TAGS if record.typed else ("base", *DEVICE_TAGS):
                if record.names.get(name):
                    return legal_device(record.names[name]), record.values, name
            if not record.values.get(DEVICE):
                raise Undecodable("device", f"neither the topic nor the payload names a {DEVICE}")
            template, names = "{device}", frozenset((DEVICE,))
        from_payload = {name: _text(record.values[name]) for name in names if name in record.values}
        try:
            device = fill_placeholders(template, {**from_payload, **record.names, **fields.names})
        except KeyError as error:
            raise Undecodable("device", f"{error.args[0]!r}, which the device's name needs, is missing") from None
        values = {name: value for name, value in record.values.items() if name not in from_payload}
        return legal_device(device), values, next(iter(names)) if len(names) == 1 else ""

    def _metric_namer(self, record: PayloadRecord, fields: TopicFields, used: str) -> Callable[[str], str]:
        """Return the function from a value's name to its metric. `used` is the tag that named the device."""
        legal = self._legal
        if self._metric:
            known = {**record.names, **fields.names}

            def filled(field: str) -> str:
                try:
                    return legal(fill_placeholders(self._metric, {**known, FIELD: field}))
                except KeyError as error:
                    name = error.args[0]
                    raise Undecodable("metric", f"{name!r}, which the metric's name needs, is missing") from None

            return filled
        parts = [fields.names[METRIC]] if METRIC in fields.names else []
        if MEASUREMENT in record.names:
            # Tags distinguish series: two disks of one host are two metrics.
            parts.append(record.names[MEASUREMENT])
            parts.extend(
                value
                for name, value in sorted(record.names.items())
                if name not in (MEASUREMENT, used) and name not in fields.names and name not in self._device_names
            )
        if not parts:
            return legal
        prefix = ".".join(parts)
        if METRIC in fields.names and len(parts) == 1:
            return lambda field: legal(prefix if field == VALUE else f"{prefix}.{field}")
        return lambda field: legal(f"{prefix}.{field}")


def mapped(
    topic: str,
    payload: PayloadFormat = "json",
    *,
    device: str = "",
    metric: str = "",
    time: str = "",
    time_format: str = "auto",
    function: Path | None = None,
) -> MappedDecoder:
    """Return the decoder of a subscription.

    `device` and `metric` are templates such as "{site}-{device}" and "{metric}.{field}". Their placeholders are names
    of the topic, names or tags of the payload, and `field`, the name of the value. Raises ValueError with a sentence.
    """
    template = TopicTemplate.parse(topic)
    field = TimeField(time, time_parser(time_format))
    read: RecordReader
    match payload:
        case "json":
            read = lambda message: read_json(message.payload, field)  # noqa: E731
        case "value":
            read = lambda message: read_value(message.payload)  # noqa: E731
        case "senml":
            read = lambda message: read_senml(message.payload, message.received_ns)  # noqa: E731
        case "line":
            precision = time_format if time_format != "auto" else "ns"
            if precision not in NS_PER_UNIT:
                raise ValueError(f"times of line protocol are in s, ms, us or ns, not in {time_format}")
            read = lambda message: read_line(message.payload, precision)  # noqa: E731
        case "function":
            if function is None:
                raise ValueError('payload = "function" needs `function`, the path of the Python file')
            decode = load_function(function)
            read = lambda message: read_function(decode, message.topic, message.payload, field)  # noqa: E731
    return MappedDecoder(template, read, device=device, metric=metric)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
