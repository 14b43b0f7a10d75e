"""MQTT 3.1.1 packets as bytes: the few that a load generator and its counterpart need, prepared ahead and read in bulk.

Follows MQTT 3.1.1, sections 2.2 and 3. With `level` 5 the packets have the form of MQTT 5.0, with the properties that
are used here. A client library spends more on a message than the measured hub, so none is used.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14

SESSION_EXPIRY, RECEIVE_MAXIMUM, USER_PROPERTY = 0x11, 0x21, 0x26
"""Properties of MQTT 5.0, section 2.2.2.2."""

FOR_EVER = 0xFFFF_FFFF
"""Seconds that a session stays after its connection ends."""

MAX_PACKET_ID = 65_535


class Packet(NamedTuple):
    """One packet: type and flags of its first byte, and the position of the rest in the buffer."""

    type: int
    flags: int
    start: int
    end: int


class Published(NamedTuple):
    """A received message. `id` is 0 at QoS 0; `properties` are the user properties of MQTT 5."""

    topic: str
    payload: bytes
    qos: int
    id: int
    dup: bool
    properties: dict[str, str]


def connect(client_id: str, *, level: int = 4, clean: bool = True, receive_maximum: int = MAX_PACKET_ID) -> bytes:
    """Return a CONNECT without keepalive. Without `clean`, the broker keeps the session without a time limit."""
    properties = b""
    if level == 5:
        expiry = 0 if clean else FOR_EVER
        properties = _with_length(struct.pack("!BIBH", SESSION_EXPIRY, expiry, RECEIVE_MAXIMUM, receive_maximum))
    body = _text("MQTT") + bytes((level, 0x02 if clean else 0, 0, 0)) + properties + _text(client_id)
    return _packet(CONNECT, 0, body)


def subscribe(packet_id: int, filter: str, qos: int, *, level: int = 4) -> bytes:
    """Return a SUBSCRIBE to one filter."""
    properties = b"\0" if level == 5 else b""
    return _packet(SUBSCRIBE, 2, struct.pack("!H", packet_id) + properties + _text(filter) + bytes((qos,)))


def publish(topic: str, payload: bytes, *, qos: int = 0, packet_id: int = 0, dup: bool = False) -> bytes:
    """Return a PUBLISH of MQTT 3.1.1."""
    identified = struct.pack("!H", packet_id) if qos else b""
    return _packet(PUBLISH, dup << 3 | qos << 1, _text(topic) + identified + payload)


def puback(packet_id: int) -> bytes:
    """Return a PUBACK that reports success."""
    return struct.pack("!BBH", PUBACK << 4, 2, packet_id)


def disconnect() -> bytes:
    """Return a DISCONNECT that ends the connection normally."""
    return _packet(DISCONNECT, 0, b"")


def next_packet(buffer: bytes, position: int) -> Packet | None:
    """Return the packet at `position`, or None while it is incomplete."""
    length = shift = 0
    at = position + 1
    while True:
        if at >= len(buffer):
            return None
        byte = buffer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    end = at + length
    if end > len(buffer):
        return None
    return Packet(buffer[position] >> 4, buffer[position] & 0x0F, at, end)


def read_publish(buffer: bytes, packet: Packet, *, level: int = 4) -> Published:
    """Return the message of a PUBLISH."""
    length = int.from_bytes(buffer[packet.start : packet.start + 2], "big")
    at = packet.start + 2 + length
    topic = buffer[packet.start + 2 : at].decode()
    qos = packet.flags >> 1 & 3
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(buffer[at : at + 2], "big")
        at += 2
    properties: dict[str, str] = {}
    if level == 5:
        at = _read_properties(buffer, at, properties)
    return Published(topic, buffer[at : packet.end], qos, packet_id, bool(packet.flags & 8), properties)


def packet_id_of(buffer: bytes, packet: Packet) -> int:
    """Return the packet identifier of a PUBACK or SUBACK."""
    return int.from_bytes(buffer[packet.start : packet.start + 2], "big")


_NUMBERS = {0x01: 1, 0x02: 4, 0x23: 2}
"""Lengths of the number properties of a PUBLISH: payload format, expiry, topic alias."""
_TEXTS = frozenset({0x03, 0x08, 0x09})
"""Text properties of a PUBLISH: content type, response topic, correlation data."""


def _read_properties(buffer: bytes, at: int, found: dict[str, str]) -> int:
    length, at = _read_number(buffer, at)
    end = at + length
    while at < end:
        kind = buffer[at]
        at += 1
        if kind == USER_PROPERTY:
            name, at = _read_text(buffer, at)
            found[name], at = _read_text(buffer, at)
        elif kind in _TEXTS:
            at += 2 + int.from_bytes(buffer[at : at + 2], "big")
        elif kind in _NUMBERS:
            at += _NUMBERS[kind]
        elif kind == 0x0B:
            _, at = _read_number(buffer, at)
        else:
            raise ValueError(f"a message has the property {kind:#x}, which no message has")
    return end


def _read_number(buffer: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _read_text(buffer: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(buffer[at : at + 2], "big")
    return buffer[at + 2 : end].decode(), end


def _packet(type: int, flags: int, body: bytes) -> bytes:
    return bytes((type << 4 | flags,)) + _with_length(body)


def _with_length(body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        encoded.append(low | (0x80 if length else 0))
        if not length:
            return bytes(encoded) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!H", len(raw)) + raw
