"""Faster WebSockets on uvicorn. This module and hub.http.http1 depend on uvicorn's internal classes.

ASGI passes a message to the application through a queue, a dictionary and a task that wakes up: 4 µs of the 14 µs that
a batch of one reading costs in all, and twice that where messages arrive one by one. An application that never waits
can receive calls instead, through an extension of the scope (ASGI specification, "extensions").

Before that, whole messages are found in the stream of an agent, which sends hardly anything else: one final, masked
data frame for each message, without extensions (RFC 6455, 5.2). websockets reads a stream with generators and makes an
object of each frame: 5.8 µs of the 20 µs that a batch of one reading costs in all, where `split_messages` takes 0.9 µs
on the same core. Everything else in the stream is left to websockets.

The names of uvicorn's classes and their methods are those of uvicorn 0.54, which does not promise them: pyproject.toml
pins that version, and tests/hub/http/test_websocket.py fails if one of them changes. A public interface would replace
this module if uvicorn accepted an application's own asyncio protocol for a WebSocket after the handshake (as
`uvicorn.Config(ws=...)` does for a whole class).
"""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# `apply_mask` is the one in C if it is available; websockets.utils has the one in Python.
from websockets.frames import CloseCode, apply_mask  # type: ignore[attr-defined]
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION = "telemetry.direct"

DEVICE_PATH = "/v1/device"
"""Messages of agents are never compressed, whatever dashboards are offered. It would cost the hub more than all its
other work with them, and one received frame could become a thousand times its size."""

OnMessage = Callable[[bytes, bool], None]
"""Receives the payload of each message, and whether it is a text, which is not yet known to be UTF-8. Must not wait."""

TEXT, BINARY = 0x81, 0x82
"""First bytes of final frames without reserved bits: FIN and the opcode."""

MASKED = 0x80
"""A bit of the second byte. The other seven bits are the length, or the number of the following bytes that are."""

IN_TWO_BYTES, IN_EIGHT_BYTES = MASKED | 126, MASKED | 127

MASK_BYTES = 4

INVALID = -1
"""The end of a frame that websockets has to reject, whatever follows it."""

ReceivedMessage = tuple[bytes, bool]
"""A payload, and whether it is a text (not yet known to be UTF-8)."""


def split_messages(data: bytes, at: int, limit: int) -> tuple[list[ReceivedMessage], int]:
    """Return the complete messages in `data` from `at` on, up to the first frame that is incomplete or of another kind.

    Also return where that frame begins. A message longer than `limit` is of another kind. Pure.
    """
    messages: list[ReceivedMessage] = []
    # A frame without a payload has two bytes and its mask.
    last = len(data) - 2 - MASK_BYTES
    size = len(data)
    while at <= last:
        first, second = data[at], data[at + 1]
        if first != TEXT and first != BINARY:
            break
        if MASKED <= second < IN_TWO_BYTES:
            body = at + 6
            end = body + second - MASKED
        elif second == IN_TWO_BYTES:
            body = at + 8
            end = body + (data[at + 2] << 8 | data[at + 3])
        else:
            break
        if end > size or end - body > limit:
            break
        messages.append((apply_mask(data[body:end], data[body - MASK_BYTES : body]), first == TEXT))
        at = end
    return messages, at


def frame_end(data: bytes, at: int, limit: int) -> int:
    """Return where the frame that begins at `at` ends, or its earliest possible end if its header is incomplete.

    Return INVALID for a frame without a mask, or with a payload longer than `limit`. Pure.
    """
    if at + 2 > len(data):
        return at + 2
    second = data[at + 1]
    if second < MASKED:
        return INVALID
    header = 2 + {IN_TWO_BYTES: 2, IN_EIGHT_BYTES: 8}.get(second, 0)
    if at + header > len(data):
        return at + header
    length = int.from_bytes(data[at + 2 : at + header], "big") if header > 2 else second - MASKED
    return INVALID if length > limit else at + header + MASK_BYTES + length


class DirectWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, except for the way of a message to its application and back."""

    _on_message: OnMessage | None = None
    # Whether the stream is split into frames here: websockets then gets whole frames only.
    _splits = True
    # The beginning of a frame, and the length that it needs before it is examined again.
    _rest: bytearray | None = None
    _needed = 0

    def data_received(self, data: bytes) -> None:
        """Split the received bytes into messages, or leave them to websockets."""
        if self._splits and self._on_message is not None and self.handshake_complete:
            self._split(data, self._on_message)
        else:
            # Bytes before the answered handshake may end within a frame. websockets then reads everything that follows.
            self._splits = not self.handshake_initiated
            super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        """Answer the opening handshake. The application's task starts in the next iteration of the loop."""
        if event.path.partition("?")[0] == DEVICE_PATH:
            self.conn.available_extensions = []
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, object] = self.scope["extensions"]  # type: ignore[assignment]
            extensions[EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        """Deliver a complete message that websockets has read."""
        on_message = self._on_message
        if on_message is None:
            super().send_receive_event_to_app()
            return
        frames = self.frames
        self.frames = []
        if not self.close_sent:
            on_message(frames[0] if len(frames) == 1 else b"".join(frames), self.curr_msg_data_type == "text")

    def attach(self, on_message: OnMessage) -> None:
        """Call `on_message` for each message from now on; `receive` then reports only the end. Precedes accepting."""
        self._on_message = on_message

    def _split(self, data: bytes, on_message: OnMessage) -> None:
        """Deliver messages, pass whole frames of other kinds to websockets, and keep the beginning of a frame."""
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), None
        conn = self.conn
        limit = self.config.ws_max_size
        at = 0
        end = 0
        while end <= len(data):
            # Between the frames of one message, any other data frame is an error. websockets detects it.
            if conn.current_size is None and not self._is_closing:
                messages, at = split_messages(data, at, limit)
                for payload, is_text in messages:
                    if not self.close_sent:
                        on_message(payload, is_text)
            end = INVALID if self._is_closing else frame_end(data, at, limit)
            if end == INVALID:
                self._splits = False
                if not self.transport.is_closing():
                    super().data_received(data[at:])
                return
            if end <= len(data):
                super().data_received(data[at:end])
                at = end
        if at < len(data):
            self._rest, self._needed = bytearray(data[at:]), end - at

    @property
    def _is_closing(self) -> bool:
        # websockets then reads the rest, to find the answer to its close frame.
        return self.close_sent or self.conn.state is not State.OPEN

    def write(self, payload: bytes, is_text: bool) -> bool:
        """Send a message now; return False if the connection is not open or the peer does not read."""
        if not self.is_open or not self.writable.is_set():
            return False
        conn = self.conn
        (conn.send_text if is_text else conn.send_binary)(payload)
        self.transport.write(b"".join(conn.data_to_send()))
        return True

    @property
    def is_open(self) -> bool:
        """True if a message can be sent: neither side has closed."""
        # Nothing may be sent after the peer's close frame was read, or after the connection was cut, which the protocol
        # may learn later.
        open = self.conn.state is State.OPEN and self.handshake_complete and not self.close_sent
        return open and not self.transport.is_closing()

    def handle_ping(self) -> None:
        """Answer a ping, unless the peer does not read: pongs may be omitted (RFC 6455, 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def hold(self) -> None:
        """Stop reading. What was read already is still delivered."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def release(self) -> None:
        """Resume reading."""
        if self.read_paused and not self.disconnected:
            self.read_paused = False
            self.transport.resume_reading()

    def refuse_text(self) -> None:
        """Fail the connection with 1007, as RFC 6455, 8.1 requires for text that is not UTF-8."""
        if self.is_open:
            self.conn.send_close(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
