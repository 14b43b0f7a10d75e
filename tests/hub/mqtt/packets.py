"""Packets of a broker for tests: well-formed ones, damaged ones, and arbitrary bytes."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

PINGRESP = b"\xd0\x00"
PUBREL = b"\x62\x02\x00\x01"


def number(value: int) -> bytes:
    """Return a variable byte integer."""
    digits = bytearray()
    while True:
        value, digit = divmod(value, 128)
        digits.append(digit | (128 if value else 0))
        if not value:
            return bytes(digits)


def text(content: bytes) -> bytes:
    """Return content with its length in front."""
    return struct.pack("!H", len(content)) + content


def publish(topic: bytes, payload: bytes, *, flags: int = 0, id: int = 1, properties: bytes | None = None) -> bytes:
    """Return a PUBLISH packet. `properties` None stands for MQTT 3.1.1."""
    body = text(topic) + (struct.pack("!H", id) if flags & 6 else b"")
    body += b"" if properties is None else number(len(properties)) + properties
    body += payload
    return bytes([0x30 | flags]) + number(len(body)) + body


_texts = st.one_of(st.text(max_size=6).map(lambda written: written.encode(errors="replace")), st.binary(max_size=6))
_property = st.one_of(
    st.builds(lambda name, value: b"\x26" + text(name) + text(value), _texts, _texts),
    st.integers(0, 300_000).map(lambda identifier: b"\x0b" + number(identifier)),
    st.integers(0, 2).map(lambda flag: bytes([1, flag])),
    st.binary(min_size=4, max_size=4).map(lambda seconds: b"\x02" + seconds),
    st.tuples(st.sampled_from([b"\x03", b"\x08", b"\x09"]), _texts).map(lambda pair: pair[0] + text(pair[1])),
    st.integers(0, 65_535).map(lambda alias: b"\x23" + struct.pack("!H", alias)),
    st.binary(max_size=3),
)


@st.composite
def _damaged(draw: st.DrawFn, packets: st.SearchStrategy[bytes]) -> bytes:
    packet = bytearray(draw(packets))
    packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet)


def streams(*, mqtt5: bool) -> st.SearchStrategy[bytes]:
    """Return bytes from a broker: packets in any order, some of them damaged, or anything at all."""
    properties = st.lists(_property, max_size=4).map(b"".join) if mqtt5 else st.none()
    sound = st.builds(
        publish,
        st.one_of(_texts, st.just(b"s/d/level"), st.binary(min_size=300, max_size=300)),
        st.one_of(st.binary(max_size=8), st.binary(min_size=120, max_size=140)),
        flags=st.one_of(st.sampled_from([0, 1, 2, 3, 10]), st.integers(0, 15)),
        id=st.integers(0, 65_535),
        properties=properties,
    )
    packet = st.one_of(sound, sound, sound, _damaged(sound), st.sampled_from([PINGRESP, PUBREL]))
    return st.one_of(st.lists(packet, max_size=6).map(b"".join), st.binary(max_size=30))
