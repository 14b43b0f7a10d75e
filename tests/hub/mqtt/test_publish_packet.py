"""PUBLISH packets are read as paho reads them, however many arrive at once and wherever they are cut."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hub.mqtt.message import Message
from hub.mqtt.paho_client import READ_BYTES, BufferedClient, BufferedSocket, read_message
from hub.mqtt.publish_packet import NextPacket, read_publish_packets
from tests.hub.mqtt.packets import PINGRESP, PUBREL, publish, streams

VERSIONS = {False: MQTTProtocolVersion.MQTTv311, True: MQTTProtocolVersion.MQTTv5}


class Pieces:
    """Socket that receives these pieces, one after the other, and then nothing."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._rest = self.sent = b""

    def recv(self, size: int) -> bytes:
        if not self._rest:
            if not self._pieces:
                raise BlockingIOError
            self._rest = self._pieces.pop(0)
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    @property
    def is_empty(self) -> bool:
        return not (self._rest or self._pieces)

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def close(self) -> None:
        """Keep what is left."""


def with_paho(data: bytes, *, mqtt5: bool) -> tuple[list[Message], bool]:
    """Return the messages that paho's own client reads, and whether it ended the connection or failed."""
    client: Any = paho.Client(
        CallbackAPIVersion.VERSION2, protocol=VERSIONS[mqtt5], manual_ack=True, reconnect_on_failure=False
    )
    source = Pieces([data])
    client._sock = source
    found: list[Message] = []
    client.on_message = lambda _client, _data, message: found.append(read_message(message, 7))
    while not source.is_empty and client._sock is not None:
        try:
            if client.loop_read() != 0:
                return found, True
        except Exception:  # noqa: BLE001 - paho raises errors of many kinds for a packet that is too short
            return found, True
    return found, client._sock is None


def new_client(pieces: Sequence[bytes], *, mqtt5: bool = False) -> tuple[Any, Pieces, list[Message]]:
    """Return a client of the hub, the socket that it reads, and the list that gets its messages."""
    client: Any = BufferedClient(
        CallbackAPIVersion.VERSION2, protocol=VERSIONS[mqtt5], manual_ack=True, reconnect_on_failure=False,
        clock=lambda: 7,
    )  # fmt: skip
    found: list[Message] = []
    client.on_messages = found.extend
    source = Pieces(pieces)
    client._sock = client.buffered = BufferedSocket(source)
    return client, source, found


def with_hub(pieces: Sequence[bytes], *, mqtt5: bool, limit: int = 256) -> tuple[list[Message], bool]:
    """Return what the hub's client reads."""
    client, source, found = new_client(pieces, mqtt5=mqtt5)
    while client._sock is not None and (client.read_packets(limit) or not source.is_empty):
        pass
    return found, client._sock is None


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@settings(max_examples=500)
@given(st.data(), st.lists(st.integers(0, 1_000), max_size=6), st.booleans(), st.integers(1, 4))
def test_any_bytes_are_read_as_paho_reads_them(data: st.DataObject, places: list[int], mqtt5: bool, limit: int) -> None:
    """Topic, payload, id, QoS, flags and properties agree, and so does the end of the connection."""
    logging.disable(logging.CRITICAL)
    stream = data.draw(streams(mqtt5=mqtt5))
    try:
        assert with_hub(cut(stream, places), mqtt5=mqtt5, limit=limit) == with_paho(stream, mqtt5=mqtt5)
    finally:
        logging.disable(logging.NOTSET)


def read(data: bytes, *, mqtt5: bool = False, limit: int = 256) -> Any:
    return read_publish_packets(data, 0, limit=limit, mqtt5=mqtt5, clock=lambda: 7)


def test_a_packet_of_the_specification_is_read() -> None:
    """MQTT 3.1.1, section 3.3.2: topic "a/b" with the id 10."""
    packet = bytes([0x32, 0x09, 0x00, 0x03, 0x61, 0x2F, 0x62, 0x00, 0x0A, 0x31, 0x32])
    message = Message("a/b", b"12", 1, received_ns=7, id=10)
    assert read(packet) == ([message], len(packet), NextPacket.INCOMPLETE, 0)


def test_everything_in_a_packet_of_mqtt_5_is_read() -> None:
    """User properties, subscription identifiers, response topic and correlation data are kept, others are skipped."""
    properties = b"\x01\x01\x02\0\0\0\x05\x03\0\x01t\x0b\x03\x0b\x80\x01\x26\0\x01a\0\x01b\x08\0\x03r/t\x09\0\x01\xff"
    packet = publish(b"a", b"", flags=0b1011, id=65_535, properties=properties)
    (message,) = read(packet, mqtt5=True).messages
    assert message == Message("a", b"", 1, True, True, 7, {"a": "b"}, 65_535, (3, 128), "r/t", b"\xff")


def test_packets_are_read_up_to_the_limit_or_another_kind() -> None:
    """The position is that of the next packet."""
    packet = publish(b"a", b"1")
    assert read(packet * 3, limit=2)[1:] == (2 * len(packet), NextPacket.PUBLISH, 0)
    assert read(packet + PINGRESP + packet)[1:] == (len(packet), NextPacket.OTHER, 0)


@pytest.mark.parametrize(
    ("packet", "mqtt5"),
    [
        (publish(b"a", b"", flags=4), False),
        (publish(b"", b"x"), False),
        (b"\x30\xff\xff\xff\xff\x01", False),
        (b"\x32\x04\0\x01a\0", False),
        (PUBREL, False),
        (publish(b"", b"x", properties=b"\x23\0\x01"), True),
        (publish(b"a", b"x", properties=b"\x01\x02"), True),
        (publish(b"a", b"x", properties=b"\x01\x01\x01\x01"), True),
        (publish(b"a", b"x", properties=b"\x0b\0"), True),
        (publish(b"a", b"x", properties=b"\x7f"), True),
        (publish(b"a", b"x", properties=b"\x26\0\0\0\x03\xef\xbb\xbf"), True),
        (publish(b"a", b"x", properties=b"\x26\0\0\0\x01\0"), True),
        (publish(b"a", b"\x0b"), True),
    ],
    ids=[
        "QoS 2", "empty topic", "length of five bytes", "no id", "other type", "topic alias", "payload format 2",
        "repeated property", "subscription 0", "unknown property", "byte order mark", "NUL", "short properties",
    ],
)  # fmt: skip
def test_other_packets_are_left_to_paho(packet: bytes, mqtt5: bool) -> None:
    """They are rare, or malformed, which paho decides."""
    assert read(packet, mqtt5=mqtt5) == ([], 0, NextPacket.OTHER, 0)


def test_the_missing_bytes_of_a_packet_are_reported() -> None:
    """They decide who reads the packet. Without its whole length they are not known."""
    packet = publish(b"a", bytes(200))
    for size in range(len(packet)):
        missing = 0 if size < 3 else len(packet) - size
        assert read(packet[:size]) == ([], 0, NextPacket.INCOMPLETE, missing)


def test_a_long_packet_is_collected_by_paho_and_the_buffer_stays_small() -> None:
    """The bound of the buffer holds for each packet size and each size of the pieces."""
    short = publish(b"b", b"1")
    long = publish(b"a", short * 100_000)
    for size in (1_000, 65_536, 100_000):
        stream = short + long + short
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        client, source, found = new_client(pieces)
        most = 0
        while client.read_packets(256) or not source.is_empty:
            most = max(most, len(client.buffered.data))
        assert [len(message.payload) for message in found] == [1, 100_000 * len(short), 1]
        assert most <= 2 * READ_BYTES


def test_acknowledgements_are_written_in_order_as_one_block() -> None:
    """Each is a PUBACK packet of four bytes (MQTT 5.0, section 3.4)."""
    client, source, _ = new_client([])
    client.acknowledge([1, 65_535, 2])
    assert client.buffered.flush()
    assert source.sent == b"\x40\x02\0\x01\x40\x02\xff\xff\x40\x02\0\x02"


def test_traffic_counts_for_the_keepalive() -> None:
    """paho sends a ping only when nothing was received or sent for a while."""
    client, _, _ = new_client([publish(b"a", b"1")])
    client._last_bytes_received = client._last_msg_out = 0.0
    client.read_packets(1)
    assert client._last_bytes_received > client._last_msg_out
    client.acknowledge([1])
    assert client._last_msg_out >= client._last_bytes_received
