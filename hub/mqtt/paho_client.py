"""paho's client on a buffered socket. Every private part of paho that the hub depends on is overridden in this file.

paho reads one byte at a time and sends each packet with its own system call: of 36 µs for a message, two thirds were
these calls. Received messages and their acknowledgements do not pass through paho at all: both cost it another 38 µs.
paho keeps the connection, the session, TLS and every other packet.

A public option for a custom socket, or for a buffered reader and writer, would replace `BufferedClient`; a public hook
for acknowledgements would replace `_handle_pubackcomp`. `tests/hub/mqtt/test_paho_client.py` fails when a new version
of paho changes one of the private parts.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hub.mqtt.message import Message, Publish
from hub.mqtt.publish_packet import NextPacket, read_publish_packets

READ_BYTES = 64 * 1024
"""Largest read from the socket. paho alone asks for each byte of a packet header separately."""

UNSENT_BYTES = 256 * 1024
"""Bytes buffered for a socket that accepts no more. Beyond this size, packets stay in paho's own queue."""

PUBACK_REASONS = {
    code: ReasonCode(PacketTypes.PUBACK, identifier=code)
    for code in (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
}
"""Reason codes of PUBACK (MQTT 5.0, table 3-4)."""

NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]

USER_PROPERTY, RESPONSE_TOPIC, CORRELATION = b"\x26", b"\x08", b"\x09"
"""Identifiers of properties (MQTT 5.0, section 2.2.2.2)."""

PUBACK = 0x4002_0000
"""PUBACK packet that reports success, as a number of 32 bits to which the message id is added (MQTT 3.1.1 and 5.0,
section 3.4)."""


class BufferedSocket:
    """Socket that reads large blocks and joins small writes.

    `data` are the received bytes; those before `position` are handled. They are at most twice READ_BYTES: paho reads
    longer packets.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.data = b""
        self.position = 0
        self._unsent = bytearray()
        self.before_close: Callable[[], None] | None = None
        """Called before the socket closes. The event loop must release the file number before it can be reused."""

    def fill(self) -> bool:
        """Receive more behind what is not handled yet. Return False at the end. Raises BlockingIOError, OSError."""
        try:
            arrived: bytes = self._inner.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        self.data = self.data[self.position :] + arrived
        self.position = 0
        return bool(arrived)

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, from the buffer if it contains any."""
        at = self.position
        if at >= len(self.data):
            self.data = self._inner.recv(READ_BYTES)
            at = 0
        data = self.data[at : at + size]
        self.position = at + len(data)
        return data

    def pending(self) -> int:
        """Return the number of bytes that were received and not yet handled."""
        own = len(self.data) - self.position
        return own or (self._inner.pending() if isinstance(self._inner, ssl.SSLSocket) else 0)

    def send(self, data: bytes | bytearray) -> int:
        """Buffer the data. Raises BlockingIOError when the buffer is full."""
        if len(self._unsent) > UNSENT_BYTES:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def append(self, packets: bytes) -> None:
        """Buffer whole packets, between those of `send`. The caller bounds their size."""
        self._unsent += packets

    def flush(self) -> bool:
        """Send as much as the socket accepts and return whether the buffer is empty. Raises OSError."""
        try:
            while self._unsent:
                del self._unsent[: self._inner.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def close(self) -> None:
        """Close the socket after `before_close`."""
        before, self.before_close = self.before_close, None
        if before is not None:
            before()
        self._inner.close()

    def fileno(self) -> int:
        """Return the file number, or -1 after `close`."""
        number: int = self._inner.fileno()
        return number

    def setblocking(self, flag: bool) -> None:
        """Switch the socket between blocking and non-blocking mode."""
        self._inner.setblocking(flag)


class BufferedClient(paho.Client):
    """paho's client on a `BufferedSocket`.

    `on_messages` gets the received messages, several at once in the order of their arrival, and `clock` gives them
    their times. It may close the connection.
    """

    buffered: BufferedSocket
    on_messages: Callable[[list[Message]], None]

    def __init__(self, *arguments: Any, clock: Callable[[], int], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._clock = clock
        self._is_mqtt5 = options["protocol"] == MQTTProtocolVersion.MQTTv5
        self._read_by_paho: list[Message] = []
        self.on_message = self._keep_message

    def _create_socket(self) -> Any:
        inner = super()._create_socket()
        if isinstance(inner, socket.socket) and inner.family in (socket.AF_INET, socket.AF_INET6):
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffered = BufferedSocket(inner)
        return self.buffered

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Perform the TLS handshake. paho alone leaves the socket open when the handshake fails."""
        assert self._ssl_context is not None
        wrapped = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        try:
            wrapped.settimeout(self._connect_timeout)
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise
        return wrapped

    def read_packets(self, limit: int) -> int:
        """Handle received packets and return their number, at most `limit`; 0 when no further packet is complete."""
        buffered = self.buffered
        # Where paho has read the beginning of a packet it must read the rest.
        while not self._in_packet["command"]:
            found = read_publish_packets(
                buffered.data, buffered.position, limit=limit, mqtt5=self._is_mqtt5, clock=self._clock
            )
            if found.messages:
                buffered.position = found.position
                self._last_bytes_received = time.monotonic()
                self.on_messages(found.messages)
                return len(found.messages)
            if found.next is NextPacket.OTHER or found.missing > READ_BYTES:
                break
            try:
                if not buffered.fill():
                    break
            except BlockingIOError:
                return 0
            except OSError:
                # paho gets the same error, or the end, from its own attempt, and ends the connection.
                break
        return self._read_with_paho()

    def _read_with_paho(self) -> int:
        """Let paho read one packet. Return 1, or 0 while the packet is incomplete and after the end."""
        result = self._packet_read()
        messages, self._read_by_paho = self._read_by_paho, []
        if messages:
            self.on_messages(messages)
        if result > 0:
            self._loop_rc_handle(result)
        return int(result == MQTTErrorCode.MQTT_ERR_SUCCESS)

    def _keep_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._read_by_paho.append(read_message(message, self._clock()))

    def acknowledge(self, message_ids: Sequence[int]) -> None:
        """Buffer the acknowledgements of received messages. There are at most 65,535 ids, so 256 KiB."""
        self.buffered.append(struct.pack(f"!{len(message_ids)}I", *[PUBACK | id for id in message_ids]))
        self._last_msg_out = time.monotonic()

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Handle an acknowledgement without properties, the usual form, at a third of paho's cost.

        paho's decoder takes a quarter of the time of publishing, mostly to create a reason and properties each time.
        """
        packet = self._in_packet["packet"]
        reason = PUBACK_REASONS.get(packet[2] if len(packet) == 3 else 0)
        if cmd != "PUBACK" or len(packet) not in (2, 3) or reason is None:
            return super()._handle_pubackcomp(cmd)
        message_id = int.from_bytes(packet[:2], "big")
        with self._out_message_mutex:
            if message_id in self._out_messages:
                return self._do_on_publish(message_id, reason, NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


class EncodedProperties(Properties):
    """Properties of a message, already encoded by `encode_pairs` and `encode_response`.

    paho's own `Properties` costs 60 µs a message, as much as the rest of publishing it. This class costs 3 µs a batch.
    """

    def __init__(self, encoded: bytes) -> None:
        # The parent class checks every attribute name against the protocol.
        object.__setattr__(self, "packed", _variable_integer(len(encoded)) + encoded)

    def pack(self) -> bytes:
        """Return the encoded properties with their length in front."""
        packed: bytes = object.__getattribute__(self, "packed")
        return packed

    def __str__(self) -> str:
        return f"[{len(self.pack())} bytes of properties]"


def read_message(message: paho.MQTTMessage, received_ns: int) -> Message:
    """Return the content of a message that paho has read. A topic that is not UTF-8 becomes an empty one."""
    try:
        topic = message.topic
    except UnicodeDecodeError:
        topic = ""
    return Message(
        topic,
        bytes(message.payload),
        message.qos,
        message.retain,
        message.dup,
        received_ns,
        dict(getattr(message.properties, "UserProperty", ())),
        message.mid,
        tuple(getattr(message.properties, "SubscriptionIdentifier", ())),
        getattr(message.properties, "ResponseTopic", ""),
        getattr(message.properties, "CorrelationData", b""),
    )


def encode_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Encode names and values, each at most 65,535 bytes in UTF-8, as user properties (MQTT 5.0, section 1.5.7)."""
    return b"".join(USER_PROPERTY + _text(name) + _text(value) for name, value in pairs)


def encode_response(topic: str = "", correlation: bytes = b"") -> bytes:
    """Encode a response topic and correlation data of at most 65,535 bytes each; an empty one is left out."""
    encoded = RESPONSE_TOPIC + _text(topic) if topic else b""
    return encoded + (CORRELATION + len(correlation).to_bytes(2, "big") + correlation if correlation else b"")


def packet_size(message: Publish, properties: EncodedProperties | None, *, mqtt5: bool) -> int:
    """Return the size in bytes of the PUBLISH packet for a message (MQTT 5.0, section 3.3)."""
    rest = 2 + len(message.topic.encode()) + len(message.payload) + (2 if message.qos else 0)
    if mqtt5:
        rest += len(properties.pack()) if properties is not None else 1
    return 1 + len(_variable_integer(rest)) + rest


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _variable_integer(number: int) -> bytes:
    """Encode a variable byte integer (MQTT 5.0, section 1.5.5)."""
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (128 if number else 0))
        if not number:
            return bytes(digits)
