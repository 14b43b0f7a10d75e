"""Received PUBLISH packets, many at a time, from bytes to messages (MQTT 3.1.1 and 5.0, section 3.3). Pure.

Only well-formed packets of QoS 0 and 1 are read here. Every other packet is left to paho, which also decides what
happens to a malformed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import lru_cache
from typing import Any, NamedTuple

from hub.mqtt.message import Message

TOPICS_KEPT = 10_000
MAX_KEPT_TOPIC_BYTES = 256
"""Topics whose text is remembered, and their length: 5 MB. A known topic costs a tenth of a µs instead of a third, and
its hash is computed only once."""

MAX_LENGTH_BYTES = 4
"""Bytes of a remaining length or of a number among the properties (MQTT 5.0, section 1.5.5)."""

PAYLOAD_FORMAT, EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION = 0x01, 0x02, 0x03, 0x08, 0x09
SUBSCRIPTION, USER = 0x0B, 0x26
"""Properties of a PUBLISH packet (MQTT 5.0, section 3.3.2.3). The remaining one is the topic alias, which a broker must
not send: the hub does not state a maximum."""

_QOS_0_AND_1 = frozenset(0x30 | dup | qos | retain for dup in (0, 8) for qos in (0, 2) for retain in (0, 1))
"""First bytes of the packets that are read here: type PUBLISH, then DUP, QoS and RETAIN."""

_new: Any = tuple.__new__
"""Constructor of named tuples without their Python constructors: 0.2 µs instead of 0.5 µs, once a message."""

_NO_PROPERTIES: Mapping[str, str] = {}
_NO_SUBSCRIPTIONS: Sequence[int] = ()


class _Properties(NamedTuple):
    """Properties of a packet that the hub uses, and the position behind them."""

    end: int
    user: Mapping[str, str]
    subscriptions: Sequence[int]
    response_topic: str
    correlation: bytes


class NextPacket(Enum):
    """Kind of what follows the last packet that was read."""

    PUBLISH = auto()
    """A further packet, beyond the limit of the call."""
    INCOMPLETE = auto()
    """Nothing, or the beginning of a packet."""
    OTHER = auto()
    """A packet that is not read here."""


class PublishPackets(NamedTuple):
    """Messages of the packets that were read, the position behind them, and what follows there.

    `missing` is the number of bytes by which an INCOMPLETE packet is longer than the data, 0 if that is not known.
    """

    messages: list[Message]
    position: int
    next: NextPacket
    missing: int = 0


def read_publish_packets(
    data: bytes, position: int, *, limit: int, mqtt5: bool, clock: Callable[[], int]
) -> PublishPackets:
    """Read at most `limit` packets from `position`. `clock` gives each message its time of arrival."""
    messages: list[Message] = []
    size = len(data)
    while len(messages) < limit:
        if position + 2 > size:
            return PublishPackets(messages, position, NextPacket.INCOMPLETE)
        head, length, start = data[position], data[position + 1], position + 2
        if head not in _QOS_0_AND_1:
            return PublishPackets(messages, position, NextPacket.OTHER)
        if length > 127:
            found = _read_number(data, position + 1, size)
            if found is None:
                is_partial = size - position <= MAX_LENGTH_BYTES
                return PublishPackets(messages, position, NextPacket.INCOMPLETE if is_partial else NextPacket.OTHER)
            length, start = found
        end = start + length
        if end > size:
            return PublishPackets(messages, position, NextPacket.INCOMPLETE, end - size)
        # The shortest packet has a topic of one byte. An empty one has a topic alias, or is malformed.
        topic_at = start + 2
        topic_end = topic_at + (data[start] << 8 | data[start + 1]) if length > 2 else end + 1
        body = topic_end + 2 if head & 2 else topic_end
        if body > end or topic_end == topic_at:
            return PublishPackets(messages, position, NextPacket.OTHER)
        packet_id = data[topic_end] << 8 | data[topic_end + 1] if head & 2 else 0
        properties, subscriptions, response_topic, correlation = _NO_PROPERTIES, _NO_SUBSCRIPTIONS, "", b""
        if mqtt5:
            if body < end and not data[body]:
                body += 1
            else:
                read = _read_properties(data, body, end)
                if read is None:
                    return PublishPackets(messages, position, NextPacket.OTHER)
                body, properties, subscriptions, response_topic, correlation = read
        raw = data[topic_at:topic_end]
        topic = _known_topic(raw) if len(raw) <= MAX_KEPT_TOPIC_BYTES else _decode_topic(raw)
        qos, is_retained, is_repeated = (head & 2) >> 1, (head & 1) == 1, (head & 8) == 8
        fields = (
            topic, data[body:end], qos, is_retained, is_repeated, clock(), properties, packet_id, subscriptions,
            response_topic, correlation,
        )  # fmt: skip
        messages.append(_new(Message, fields))
        position = end
    return PublishPackets(messages, position, NextPacket.PUBLISH)


def _decode_topic(topic: bytes) -> str:
    """Return the text of a topic, an empty one if it is not UTF-8."""
    try:
        return topic.decode()
    except UnicodeDecodeError:
        return ""


_known_topic = lru_cache(TOPICS_KEPT)(_decode_topic)


def _read_number(data: bytes, position: int, end: int) -> tuple[int, int] | None:
    """Return a variable byte integer and the position behind it, None where there is none (section 1.5.5)."""
    number = shift = 0
    for at in range(position, min(position + MAX_LENGTH_BYTES, end)):
        digit = data[at]
        number |= (digit & 0x7F) << shift
        if digit < 0x80:
            return number, at + 1
        shift += 7
    return None


def _read_properties(data: bytes, position: int, end: int) -> _Properties | None:
    """Return the properties, None for those that paho must read: a topic alias, an unknown or repeated one, or a
    malformed one."""
    found = _read_number(data, position, end)
    if found is None or found[1] + found[0] > end:
        return None
    at = found[1]
    end = at + found[0]
    user: dict[str, str] = {}
    subscriptions: list[int] = []
    response_topic, correlation = "", b""
    seen = set()
    while at < end:
        kind = data[at]
        at += 1
        if kind == USER:
            name = _read_text(data, at, end)
            value = _read_text(data, name[1], end) if name is not None else None
            if name is None or value is None:
                return None
            user[name[0]], at = value
        elif kind == SUBSCRIPTION:
            identifier = _read_number(data, at, end)
            if identifier is None or not identifier[0]:
                return None
            subscriptions.append(identifier[0])
            at = identifier[1]
        else:
            skipped = None if kind in seen else _skip_property(data, kind, at, end)
            if skipped is None:
                return None
            if kind == RESPONSE_TOPIC:
                response_topic = data[at + 2 : skipped].decode()
            elif kind == CORRELATION:
                correlation = data[at + 2 : skipped]
            seen.add(kind)
            at = skipped
    return _Properties(at, user, tuple(subscriptions), response_topic, correlation)


def _skip_property(data: bytes, kind: int, position: int, end: int) -> int | None:
    """Return the position behind a property that occurs once, None for one that paho must read."""
    if kind in (CONTENT_TYPE, RESPONSE_TOPIC):
        text = _read_text(data, position, end)
        return text[1] if text is not None else None
    if kind == CORRELATION:
        after = position + 2 + int.from_bytes(data[position : position + 2], "big")
        return after if after <= end else None
    if kind == EXPIRY:
        return position + 4 if position + 4 <= end else None
    if kind == PAYLOAD_FORMAT and position < end and data[position] <= 1:
        return position + 1
    return None


def _read_text(data: bytes, position: int, end: int) -> tuple[str, int] | None:
    """Return a text and the position behind it, None for one that is not legal (MQTT 5.0, section 1.5.4)."""
    start = position + 2
    after = start + int.from_bytes(data[position:start], "big")
    if start > end or after > end:
        return None
    try:
        text = data[start:after].decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text or "\ufeff" in text else (text, after)
