"""paho's client on a buffered socket: its protocol is kept, its many small system calls are not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hub.mqtt.message import Publish

READ_BYTES = 64 * 1024
"""Read at once: paho asks for each byte of a packet's head by itself."""

UNSENT_BYTES = 256 * 1024
"""Kept for a socket that takes no more; beyond it paho keeps its packets."""

PUBACK_REASONS = {
    code: ReasonCode(PacketTypes.PUBACK, identifier=code)
    for code in (0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
}
"""Of MQTT 5.0, table 3-4."""

NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


class BufferedSocket:
    """A socket that reads much at a time and sends what comes together as one."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._read = b""
        self._at = 0
        self._unsent = bytearray()
        self.before_close: Callable[[], None] | None = None
        """The event loop has to let go of the socket first: its number may be another's a moment later."""

    def recv(self, size: int) -> bytes:
        at = self._at
        if at >= len(self._read):
            self._read = self._inner.recv(READ_BYTES)
            at = 0
        data = self._read[at : at + size]
        self._at = at + len(data)
        return data

    def pending(self) -> int:
        """Bytes that are read and not taken."""
        own = len(self._read) - self._at
        return own or (self._inner.pending() if isinstance(self._inner, ssl.SSLSocket) else 0)

    def send(self, data: bytes | bytearray) -> int:
        if len(self._unsent) > UNSENT_BYTES:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def flush(self) -> bool:
        """Sends what it can; whether that was all. Raises OSError."""
        try:
            while self._unsent:
                del self._unsent[: self._inner.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def close(self) -> None:
        before, self.before_close = self.before_close, None
        if before is not None:
            before()
        self._inner.close()

    def fileno(self) -> int:
        number: int = self._inner.fileno()
        return number

    def setblocking(self, flag: bool) -> None:
        self._inner.setblocking(flag)


class BufferedClient(paho.Client):
    """paho's client on a buffered socket: of 36 µs a message its single reads and sends were two thirds."""

    buffered: BufferedSocket

    def _create_socket(self) -> Any:
        inner = super()._create_socket()
        if isinstance(inner, socket.socket) and inner.family in (socket.AF_INET, socket.AF_INET6):
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffered = BufferedSocket(inner)
        return self.buffered

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """An acknowledgement without properties, which nearly all are, at a third of the cost: of publishing, paho's
        own decoding of it was a quarter, most of that for a reason and properties that it makes anew each time."""
        packet = self._in_packet["packet"]
        reason = PUBACK_REASONS.get(packet[2] if len(packet) == 3 else 0)
        if cmd != "PUBACK" or len(packet) not in (2, 3) or reason is None:
            return super()._handle_pubackcomp(cmd)
        id = int.from_bytes(packet[:2], "big")
        with self._out_message_mutex:
            if id in self._out_messages:
                return self._do_on_publish(id, reason, NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


USER_PROPERTY = b"\x26"


def packed_pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Pairs of texts, each of at most 65,535 bytes in UTF-8, as they are in a packet."""
    return b"".join(USER_PROPERTY + _text(name) + _text(value) for name, value in pairs)


class UserProperties(Properties):
    """Pairs of texts to be sent along with a message, given as `packed_pairs` makes them."""

    def __init__(self, packed: bytes) -> None:
        # Its parent gives every attribute a meaning of the protocol's.
        object.__setattr__(self, "packed", _length(len(packed)) + packed)

    def pack(self) -> bytes:
        """The properties of a packet, their length before them."""
        packed: bytes = object.__getattribute__(self, "packed")
        return packed

    def __str__(self) -> str:
        return f"[{len(self.pack())} bytes of user properties]"


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _length(number: int) -> bytes:
    """A variable byte integer."""
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (128 if number else 0))
        if not number:
            return bytes(digits)


def packet_size(message: Publish, properties: UserProperties | None, *, mqtt5: bool) -> int:
    """Bytes of the packet that publishes a message."""
    rest = 2 + len(message.topic.encode()) + len(message.payload) + (2 if message.qos else 0)
    if mqtt5:
        rest += len(properties.pack()) if properties is not None else 1
    return 1 + len(_length(rest)) + rest
