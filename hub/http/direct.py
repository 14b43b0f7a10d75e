"""uvicorn's WebSocket with a shorter way for messages: a call for each that is read, and one for each to send.

ASGI gives a message to the application through a queue, a dictionary and a task that wakes up: 4 µs of the 14 µs that a
batch of one reading costs in all, and twice that where messages come singly. An application that can deal with a
message at once asks for calls instead, through an extension of the scope (ASGI specification, "extensions"). websockets
is then given what is not a whole message in one frame: see hub.http.frames.

This follows uvicorn 0.54, whose class gives names to what happens but does not promise them: pyproject.toml keeps to
that version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import State

from hub.http.asgi import Scope
from hub.http.frames import REFUSED, frame_end, take_messages

EXTENSION = "telemetry.direct"

DEVICE_PATH = "/v1/device"
"""Agents' messages are never compressed, whatever dashboards are offered: it would cost the hub more than all else that
it does with them, and one frame read could become a thousand times its size."""

Take = Callable[[bytes, bool], None]
"""Is given each message's payload and whether it came as text, which is not yet known to be UTF-8. Must not wait."""


class Direct(Protocol):
    """What an application does with a connection whose messages it takes directly."""

    def attach(self, take: Take) -> None:
        """From now on messages go to `take`, and `receive` tells of the end only. To be called before accepting."""

    def write(self, payload: bytes, is_text: bool) -> bool:
        """Sends a message now, where the connection is open and the peer takes what it is sent; False where not."""

    @property
    def is_open(self) -> bool:
        """Whether something can be sent: neither side has closed."""

    def abort(self) -> None:
        """Cuts the connection off."""

    def hold(self) -> None:
        """Reads nothing more for now; what was read already still comes."""

    def release(self) -> None:
        """Reads on."""

    def refuse_text(self) -> None:
        """Fails the connection as RFC 6455, 8.1 wants it for text that is not UTF-8: 1007."""


def direct_of(scope: Scope) -> Direct:
    """The direct side of a WebSocket's scope."""
    found: Direct = scope["extensions"][EXTENSION]
    return found


class DirectWebSocket(WebSocketsSansIOProtocol):
    """Implements Direct. Everything but the way of a message to its application is uvicorn's."""

    _take: Take | None = None
    # Whether the stream is cut into frames here: what websockets gets then ends where a frame ends.
    _cuts = True
    # The beginning of a frame, and how long it has to be before another look is worth it.
    _rest: bytearray | None = None
    _needed = 0

    def data_received(self, data: bytes) -> None:
        """Something was read."""
        if self._cuts and self._take is not None and self.handshake_complete:
            self._cut(data, self._take)
        else:
            # What comes before the handshake is answered may end within a frame, which is websockets' from there on.
            self._cuts = not self.handshake_initiated
            super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        """The opening handshake; the application's task begins with the loop's next turn."""
        if event.path.partition("?")[0] == DEVICE_PATH:
            self.conn.available_extensions = []
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, object] = self.scope["extensions"]  # type: ignore[assignment]
            extensions[EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        """A message is complete."""
        take = self._take
        if take is None:
            super().send_receive_event_to_app()
            return
        frames = self.frames
        self.frames = []
        if not self.close_sent:
            take(frames[0] if len(frames) == 1 else b"".join(frames), self.curr_msg_data_type == "text")

    def attach(self, take: Take) -> None:
        """See Direct."""
        self._take = take

    def _cut(self, data: bytes, take: Take) -> None:
        """Messages go to `take`, whole frames of other kinds to websockets; the beginning of one waits for its end."""
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
            # Between the frames of one message, any other data frame is an error that websockets finds.
            if conn.current_size is None and not self._ends:
                messages, at = take_messages(data, at, limit)
                for payload, is_text in messages:
                    if not self.close_sent:
                        take(payload, is_text)
            end = REFUSED if self._ends else frame_end(data, at, limit)
            if end == REFUSED:
                self._cuts = False
                if not self.transport.is_closing():
                    super().data_received(data[at:])
                return
            if end <= len(data):
                super().data_received(data[at:end])
                at = end
        if at < len(data):
            self._rest, self._needed = bytearray(data[at:]), end - at

    @property
    def _ends(self) -> bool:
        # From then on websockets reads what comes, for the answer to its close frame alone.
        return self.close_sent or self.conn.state is not State.OPEN

    def write(self, payload: bytes, is_text: bool) -> bool:
        """See Direct."""
        if not self.is_open or not self.writable.is_set():
            return False
        conn = self.conn
        (conn.send_text if is_text else conn.send_binary)(payload)
        self.transport.write(b"".join(conn.data_to_send()))
        return True

    @property
    def is_open(self) -> bool:
        """See Direct."""
        # Closing counts from the moment that the peer's close frame was read, and a connection that was cut may be
        # closed before it is told so: nothing may be sent after either.
        open = self.conn.state is State.OPEN and self.handshake_complete and not self.close_sent
        return open and not self.transport.is_closing()

    def abort(self) -> None:
        """See Direct."""
        self.transport.abort()

    def handle_ping(self) -> None:
        """Answers a ping, unless the peer does not read: then pongs would pile up, and may be left out (RFC 6455,
        5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def hold(self) -> None:
        """See Direct."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def release(self) -> None:
        """See Direct."""
        if self.read_paused and not self.disconnected:
            self.read_paused = False
            self.transport.resume_reading()

    def refuse_text(self) -> None:
        """See Direct."""
        if self.is_open:
            self.conn.send_close(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
