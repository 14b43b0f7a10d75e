"""A subscription's topic template and its payload, joined: whose readings a message holds, and what they are called."""

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
)
from hub.mqtt.decoders.record import VALUE, PayloadRecord, Scalar, checked, read_value
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
from hub.mqtt.topics import PLACE, TopicTemplate
from wire.limits import MAX_TAG_KEY, MAX_TAG_VALUE, MAX_UNIT
from wire.timestamp import NS_PER_UNIT, time_parser

Form = Literal["json", "value", "senml", "line", "function"]
"""What payloads hold."""

DEVICE = "device"
METRIC = "metric"
FIELD = "field"
"""The names with a meaning of their own in templates; all others that a topic has are tags of the device."""

DEVICE_TAGS = ("device", "host")
"""Where line protocol has its device when nothing else names it; agents write `host`."""

MAX_KNOWN = 10_000
"""Topics and devices that are remembered. One that is forgotten is taken apart again, and its tags are told again."""


Read = Callable[[Message], list[PayloadRecord]]


class TopicFields(NamedTuple):
    """What a topic says of its messages."""

    names: Mapping[str, str]
    device: str
    tags: Mapping[str, str]


class MappedDecoder:
    """The decoder of one subscription. It remembers which tags it has told of which device."""

    def __init__(self, topic: TopicTemplate, read: Read, *, device: str = "", metric: str = "") -> None:
        """Use `mapped`. `device` and `metric` are templates of what topics and payloads name."""
        self.filters = [topic.filter]
        self._topic = topic
        self._read = read
        self._device = device
        self._metric = metric
        self._told: dict[str, Mapping[str, str]] = {}
        self._place = lru_cache(MAX_KNOWN)(self._place_of)
        self._legal = lru_cache(MAX_KNOWN)(legal_metric)

    def takes(self, topic: str) -> bool:
        """Whether the topic's messages are for this decoder."""
        return self._place(topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """Never: what is retained here is a reading of some time before."""
        return False

    def decode(self, message: Message) -> list[Decoded]:
        """A row for each time in the message, or a sample where a value has a unit or is an integer."""
        place = self._place(message.topic)
        if place is None:
            raise Undecodable("topic", f"the topic is none of {self._topic.text!r}")
        found: list[Decoded] = []
        for record in self._read(message):
            self._take(record, place, found)
        return found

    def _place_of(self, topic: str) -> TopicFields | None:
        names = self._topic.match(topic)
        if names is None:
            return None
        device = ""
        if not self._device:
            device = legal_device(names[DEVICE]) if DEVICE in names else ""
        elif set(PLACE.findall(self._device)) <= names.keys():
            device = legal_device(_filled(self._device, names))
        tags = {
            name[:MAX_TAG_KEY]: value[:MAX_TAG_VALUE] for name, value in names.items() if name not in (DEVICE, METRIC)
        }
        return TopicFields(names, device, tags)

    def _take(self, record: PayloadRecord, place: TopicFields, found: list[Decoded]) -> None:
        values = record.values
        device, used = place.device, ""
        if not device:
            device, values, used = self._device_in(record, place)
        if place.tags and self._told.get(device) != place.tags:
            if len(self._told) >= MAX_KNOWN:
                self._told.clear()
            self._told[device] = place.tags
            found.append(DeviceDeclaration(device, (), place.tags))
        name_of, typed = self._name_of(record, place, used), record.typed
        # The legal name of two may be the same only where both are; two values of one metric are no row.
        # Finite floats, which nearly all values are, need no closer look: it would be a third of the work.
        named = {
            name_of(name): value if type(value) is float and value - value == 0.0 else checked(name, value, typed)
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

    def _device_in(self, record: PayloadRecord, place: TopicFields) -> tuple[str, dict[str, Scalar], str]:
        """The device that the payload names, the values that are left, and the name that named it.

        Raises Undecodable where there is none.
        """
        template = self._device
        if not template:
            wanted = ("base", *DEVICE_TAGS) if not record.typed else DEVICE_TAGS
            for name in wanted:
                if record.names.get(name):
                    return legal_device(record.names[name]), record.values, name
            if record.values.get(DEVICE):
                template = "{device}"
            else:
                raise Undecodable("device", f"neither the topic nor the payload names a {DEVICE}")
        places = PLACE.findall(template)
        fields = {name: _text(record.values[name]) for name in places if name in record.values}
        try:
            device = _filled(template, {**fields, **record.names, **place.names})
        except KeyError as error:
            raise Undecodable("device", f"there is no {error.args[0]!r}, which the device is named by") from None
        values = {name: value for name, value in record.values.items() if name not in fields}
        return legal_device(device), values, places[0] if len(places) == 1 else ""

    def _name_of(self, record: PayloadRecord, place: TopicFields, used: str) -> Callable[[str], str]:
        """What makes a metric's name of a value's. `used` is the tag that the device was named by."""
        legal = self._legal
        if self._metric:
            known = {**record.names, **place.names}

            def filled(field: str) -> str:
                try:
                    return legal(_filled(self._metric, {**known, FIELD: field}))
                except KeyError as error:
                    raise Undecodable(
                        "metric", f"there is no {error.args[0]!r}, which the metric is named by"
                    ) from None

            return filled
        before = [place.names[METRIC]] if METRIC in place.names else []
        if MEASUREMENT in record.names:
            # Tags tell series apart: two disks of one host are two metrics.
            in_topic = place.names.keys()
            before.append(record.names[MEASUREMENT])
            before.extend(
                value
                for name, value in sorted(record.names.items())
                if name not in (MEASUREMENT, used) and name not in in_topic and f"{{{name}}}" not in self._device
            )
        if not before:
            return legal
        prefix = ".".join(before)
        if METRIC in place.names and len(before) == 1:
            return lambda field: legal(prefix if field == VALUE else f"{prefix}.{field}")
        return lambda field: legal(f"{prefix}.{field}")


def mapped(
    topic: str,
    payload: Form = "json",
    *,
    device: str = "",
    metric: str = "",
    time: str = "",
    time_format: str = "auto",
    function: Path | None = None,
) -> MappedDecoder:
    """The decoder of a subscription.

    `device` and `metric` are templates: "{site}-{device}", "{metric}.{field}". Their places are names of the topic, of
    a payload's fields or tags, and `field`, which is the name of the value. Raises ValueError with a sentence.
    """
    template = TopicTemplate.parse(topic)
    field = TimeField(time, time_parser(time_format))
    read: Read
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
                raise ValueError(f"the times of line protocol are in s, ms, us or ns, not in {time_format}")
            read = lambda message: read_line(message.payload, precision)  # noqa: E731
        case "function":
            if function is None:
                raise ValueError('payload = "function" needs `function`, the file that has it')
            decode = load_function(function)
            read = lambda message: read_function(decode, message.topic, message.payload, field)  # noqa: E731
    return MappedDecoder(template, read, device=device, metric=metric)


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with these values. Raises KeyError for a name without one."""
    return PLACE.sub(lambda place: values[place[1]], template)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
