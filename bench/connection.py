"""Connection of one device: a raw socket that sends prepared frames in large pieces and reads acknowledgements.

The websockets library does the handshake. After it, frames are written as they are, and the small unmasked frames of
the hub are read in bulk.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from bench.frames import BINARY, METRICS, TEXT, Frames, Shape, client_header
from wire import device, plain
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, Format
from wire.command import CommandDeclaration
from wire.device import PROTOCOL_JSON, PROTOCOL_JSON_1_4, PROTOCOL_MSGPACK, PROTOCOL_MSGPACK_1_4
from wire.errors import Close
from wire.limits import DEFAULT_WINDOW

SEND_BYTES = 256 * 1024
"""Size of one send call: more than the buffer of a socket accepts at once."""
RECEIVE_BYTES = 64 * 1024
OPENING_SECONDS = 30.0
"""Time limit of the handshake and the welcome, far above what a hub under load needs."""
CLOSE, PING, PONG = 8, 9, 10


class GeneratorError(Exception):
    """The load cannot run: the hub closed a connection, or rejected a connection, a message or a batch."""


class Peer(NamedTuple):
    """Address of the hub and a gateway token."""

    host: str
    port: int
    token: str


class Connection:
    """Socket of one device. `acked` and `sent` count frames; every message of the hub is decoded and checked."""

    __slots__ = (
        "_bytes_sent",
        "_format",
        "_frames",
        "_inbox",
        "_stored",
        "_view",
        "_window",
        "acked",
        "count",
        "device",
        "socket",
    )

    def __init__(
        self,
        device_id: str,
        peer: Peer,
        shape: Shape,
        frames: Frames,
        *,
        commands: Sequence[CommandDeclaration] = (),
    ) -> None:
        """Connect. The device executes each command that it declares at once."""
        self.device = device_id
        self.count = frames.total
        self.acked = 0
        self._format: Format = shape.format
        self._frames = frames
        self._view = memoryview(frames.data)
        self._bytes_sent = 0
        self._inbox = b""
        self._window = 0
        self._stored = b'{"ok":%d}' % shape.readings if shape.is_plain else b""
        if shape.is_plain:
            self._window = DEFAULT_WINDOW
            self.socket = open_websocket(peer, plain.SUBPROTOCOL, f"/v1/plain?device={device_id}")
            self.socket.setblocking(False)
            return
        protocol = PROTOCOL_JSON if shape.format == "json" else PROTOCOL_MSGPACK
        if commands:
            protocol = PROTOCOL_JSON_1_4 if shape.format == "json" else PROTOCOL_MSGPACK_1_4
        self.socket = open_websocket(peer, protocol)
        self._send_message(
            device.Hello(
                device_id,
                secrets.token_hex(8),
                next_seq=frames.total + 1,
                durable=False,
                time=time.time_ns(),
                metrics=list(METRICS[: shape.metrics]),
                tags={"type": "bench", "site": "loopback"},
                agent="bench",
                commands=list(commands),
            )
        )
        while not self._window:
            self.receive()
        self.socket.setblocking(False)

    @property
    def sent(self) -> int:
        """Return the number of frames of which at least the first byte was sent."""
        return -(-self._bytes_sent // self._frames.frame_bytes)

    @property
    def is_complete(self) -> bool:
        """Return whether every frame is acknowledged."""
        return self.acked == self.count

    def send(self, up_to: int) -> bool:
        """Send up to frame number `up_to`, as far as the window and the kernel allow; return False to wait until
        writable."""
        allowed = min(up_to, self.acked + self._window, self.count) * self._frames.frame_bytes
        while self._bytes_sent < allowed:
            piece = self._view[self._bytes_sent : min(allowed, self._bytes_sent + SEND_BYTES)]
            try:
                self._bytes_sent += self.socket.send(piece)
            except BlockingIOError:
                return False
        return True

    def receive(self) -> bool:
        """Read what arrived; return True when it acknowledged something. Raise GeneratorError when the hub rejects
        anything."""
        try:
            arrived = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        if not arrived:
            raise GeneratorError(f"the hub closed the connection of {self.device}")
        buffer = self._inbox + arrived
        position, before = 0, self.acked
        while (frame := server_frame(buffer, position)) is not None:
            opcode, start, position = frame
            self._handle_frame(opcode, buffer[start:position])
        self._inbox = buffer[position:]
        return self.acked > before

    def close(self) -> None:
        """Send a close frame (RFC 6455, 5.5.1) and close the socket."""
        with self.socket:
            self._send_whole(client_header(CLOSE, 2) + Close.NORMAL.to_bytes(2, "big"))

    def _handle_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._send_whole(client_header(PONG, len(payload)) + payload)
            return
        if opcode == CLOSE:
            raise GeneratorError(f"the hub closed {self.device}: {payload[2:].decode(errors='replace')}")
        if self._stored:
            # One answer for each frame, in order.
            if payload != self._stored:
                raise GeneratorError(f"the hub answered {self.device}: {payload.decode(errors='replace')}")
            self.acked += 1
            return
        match message := HUB_MESSAGES[self._format].decode(payload):
            case device.Ack(seq=seq):
                if not self.acked <= seq <= self.sent:
                    raise GeneratorError(f"{self.device}: {seq} acknowledged after {self.acked} of {self.sent}")
                self.acked = seq
            case device.Welcome(window=window):
                self._window = window
            case device.TimeProbe(hub_time=hub_time):
                self._send_message(device.TimeReply(hub_time, time.time_ns()))
            case device.Command(id=id, parameters=parameters):
                received = device.CommandState(id, "received", time.time_ns())
                ended = device.CommandState(id, "succeeded", time.time_ns(), result=parameters)
                self._send_whole(self._framed(received) + self._framed(ended))
            case device.Reject() | device.Error():
                raise GeneratorError(f"the hub rejected {self.device}: {message.code}: {message.message}")

    def _send_message(self, message: device.AgentMessage) -> None:
        self._send_whole(self._framed(message))

    def _framed(self, message: device.AgentMessage) -> bytes:
        payload = AGENT_MESSAGES[self._format].encode(message)
        return client_header(TEXT if self._format == "json" else BINARY, len(payload)) + payload

    def _send_whole(self, frame: bytes) -> None:
        """Send a message between two frames: first the rest of the frame that is partly sent."""
        rest = -self._bytes_sent % self._frames.frame_bytes
        self.socket.settimeout(OPENING_SECONDS)
        self.socket.sendall(bytes(self._view[self._bytes_sent : self._bytes_sent + rest]) + frame)
        self._bytes_sent += rest
        if self._window:
            self.socket.setblocking(False)


def server_frame(buffer: bytes, position: int) -> tuple[int, int, int] | None:
    """Return (opcode, start of the payload, end) of the frame at `position`, or None when it is incomplete (RFC 6455,
    5.2)."""
    if len(buffer) < position + 2:
        return None
    length = buffer[position + 1]
    start = position + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(buffer) < start + size:
            return None
        length = int.from_bytes(buffer[start : start + size], "big")
        start += size
    end = start + length
    return (buffer[position] & 0x0F, start, end) if end <= len(buffer) else None


def open_websocket(peer: Peer, subprotocol: str, path: str = "/v1/device") -> socket.socket:
    """Return a socket after the opening handshake (RFC 6455, 4.1). Raise GeneratorError when rejected."""
    protocol = ClientProtocol(parse_uri(f"ws://{peer.host}:{peer.port}{path}"), subprotocols=[Subprotocol(subprotocol)])
    request = protocol.connect()
    request.headers["Authorization"] = f"Bearer {peer.token}"
    protocol.send_request(request)
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(OPENING_SECONDS)
    connection.connect((peer.host, peer.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for data in protocol.data_to_send():
        connection.sendall(data)
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        protocol.receive_data(connection.recv(RECEIVE_BYTES))
        protocol.events_received()
    if protocol.handshake_exc is not None:
        connection.close()
        raise GeneratorError(f"the hub rejected the connection: {protocol.handshake_exc}")
    return connection
