"""WebSockets on uvicorn: messages by a direct call, and bounded work for each connection.

A batch of one reading costs 14 µs in all. ASGI would add 4 µs: it passes a message to the application through a queue,
a dictionary and a task that wakes up, at twice that cost where messages arrive one by one. An application that never
waits can receive calls instead, through an extension of the scope (ASGI specification, "extensions").

Before that, hub.http.frame_parser finds whole messages in the stream of an agent, which sends hardly anything else.
Everything else in the stream is left to websockets.

This module and hub.http.http1 depend on uvicorn's internal classes. Their names and methods are those of uvicorn 0.54,
which does not promise them: pyproject.toml pins that version, and tests/hub/http/test_websocket.py fails if one of them
changes. A public interface would replace this module if uvicorn accepted an application's own asyncio protocol for a
WebSocket after the handshake (as `uvicorn.Config(ws=...)` does for a whole class).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import getrandbits
from time import thread_time
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from hub.http.event_queue import EventQueue, Gate
from hub.http.frame_parser import FORBIDDEN, frame_end, split_messages
from hub.http.linger import LINGER_PAUSE_S, LINGER_S
from hub.http.loop_share import SHORT_TURN_PAUSE_S, LoopShares
from hub.http.refusals import peer_of
from wire.frame_budget import Flood, FrameBudget

EXTENSION = "telemetry.direct"

DEVICE_PATH = "/v1/device"
PLAIN_PATH = "/v1/plain"
LINE_PATH = "/v1/line"

UNCOMPRESSED = (DEVICE_PATH, PLAIN_PATH, LINE_PATH)
"""Paths whose messages are never compressed, whatever dashboards are offered. It would cost the hub more than all its
other work with them, and one received frame could become a thousand times its size."""

OnMessage = Callable[[bytes, bool], None]
"""Receives the payload of each message, and whether it is a text, which is not yet known to be UTF-8. Must not wait."""

TURN_FRAMES = 256
"""Messages of one connection in one turn of the event loop: an agent's window. 14 µs each delay the others by 4 ms."""

OTHER_FRAME_WORK = 8
"""Work for a frame that websockets reads (10 µs, and the answer to a ping), in messages of an agent."""

WEBSOCKET_S = 0.001
"""Time of the event loop that a WebSocket without a valid token takes apart from its frames: the objects and tasks of
its endpoint. Its address is charged for it at the end, so that a client cannot open them in a loop."""

READ_BYTES = 256_000
"""Bytes that uvloop reads at once, if there are as many."""

PING_BYTES = 4
"""Length of the random payload of a ping."""

PING_HEADER = bytes((0x80 | Opcode.PING, PING_BYTES))
PONG_HEADER = bytes((0x80 | Opcode.PONG, 0x80 | PING_BYTES))
PONG_BYTES = len(PONG_HEADER) + 4 + PING_BYTES
"""A ping of the hub, and the answer of a client, which masks its payload with four bytes (RFC 6455, 5.3)."""

LINGER_BYTES = 8 * 1024 * 1024
"""Bytes that are discarded after the hub's close frame: what the buffers of both systems can hold of a fast sender."""


class DirectWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, except for the way of a message to its application and back.

    The work for one connection in one turn of the event loop is bounded, so that no client delays the others: at most
    TURN_FRAMES messages or as much other work, and one read of the socket. The rest waits for the next turn, and the
    socket is not read meanwhile.
    """

    _on_message: OnMessage | None = None
    on_flood: Callable[[Flood], None] | None = None
    """Receives the bound that the client has exceeded. It has to close the connection; nothing more is delivered."""

    on_bad_frame: Callable[[str], None] | None = None
    """Receives the reason when a frame violates RFC 6455 or is too large, and the connection is closed for it."""

    paid_s = 0.0
    """The time that the address of the client was charged for the connection and its handshake."""

    # Received bytes that are not processed yet, and the number of them that is needed for progress.
    _rest: bytearray | None = None
    _needed = 0
    # The next turn, if it is scheduled.
    _turn: asyncio.Handle | None = None
    # The time until the next turn, if the client's address need not wait for longer.
    _pause_s = 0.0
    # Bytes that are still read and discarded, after a flood or the hub's close frame; None while frames are processed.
    _to_discard: int | None = None
    # True after the application has returned. Until then, it may look for this connection in its scope.
    _is_finished = False

    def __init__(self, *arguments: Any, shares: LoopShares | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._shares = shares or LoopShares()
        self._budget = FrameBudget()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with an event queue and a gate that take less memory than those of asyncio."""
        super().connection_made(transport)
        self.queue = EventQueue()  # type: ignore[assignment]
        self.writable = Gate(is_set=True)  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the received bytes and the parser of websockets, which keep the last frame."""
        super().connection_lost(exc)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self.conn.parser.close()
        self.conn.parser_exc = None
        self._rest = None
        self.frames = []
        if self._is_finished:
            self._discard_references()

    def _discard_references(self) -> None:
        """Discard what refers back to this connection, so that it is freed now: the collector runs rarely."""
        self._on_message = self.on_flood = self.on_bad_frame = None
        self.scope["extensions"].pop(EXTENSION, None)

    # Receiving.

    def data_received(self, data: bytes) -> None:
        """Process the received bytes, or the part of them that fits into one turn."""
        if not self.handshake_initiated:
            super().data_received(data)
        elif self._to_discard is not None:
            self._discard(len(data))
        elif self._rest is None and not self._is_waiting and not self._delay_s:
            if not self._receive_pong(data):
                self._process(data)
        else:
            self._keep(data)
        if len(data) >= READ_BYTES:
            # libuv would read the same socket up to 32 times before it turns to another one.
            self._schedule_turn()

    def send_keepalive_ping(self) -> None:
        """Send a ping with random bytes, in a third of the time that uvicorn needs: 10,000 idle devices get 500 a
        second."""
        self.ping_timer = None
        if self.close_sent or self.transport.is_closing():
            return
        self.pending_ping_payload = getrandbits(8 * PING_BYTES).to_bytes(PING_BYTES, "big")
        self.ping_sent_at = self.loop.time()
        self.transport.write(PING_HEADER + self.pending_ping_payload)
        assert self.ping_timeout is not None
        self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)

    def _receive_pong(self, data: bytes) -> bool:
        """Process the answer to the last ping if it arrives alone, as that of an idle device; return whether it did."""
        sent = self.pending_ping_payload
        if sent is None or len(data) != PONG_BYTES or data[:2] != PONG_HEADER or self._is_closing:
            return False
        payload = int.from_bytes(data[2:6], "big") ^ int.from_bytes(data[6:], "big")
        if payload.to_bytes(PING_BYTES, "big") != sent:
            return False
        self.handle_pong(Frame(Opcode.PONG, sent))
        return True

    def _keep(self, data: bytes) -> None:
        """Add bytes to those that wait, and process them if there are enough and it is their turn."""
        if self._rest is None:
            self._rest, self._needed = bytearray(data), 0
        else:
            self._rest += data
        if self._is_waiting:
            self.transport.pause_reading()
        elif not self._has_work:
            return
        elif self._delay_s:
            self._schedule_turn()
        else:
            self._process_rest()

    @property
    def _delay_s(self) -> float:
        """The time that a client without a valid token waits for its next turn: its address has a share of the loop."""
        return 0.0 if self._budget.is_admitted else self._shares.delay_s(self._peer, self.loop.time())

    @property
    def _peer(self) -> str:
        # The application restores the client behind a trusted proxy before it answers the handshake.
        return peer_of(self.scope)

    @property
    def _is_waiting(self) -> bool:
        """True while received bytes have to wait: for the answer to the upgrade, the next turn, or the application."""
        waits_for_application = self.read_paused and self._on_message is None
        return not self.handshake_complete or self._turn is not None or waits_for_application

    def _schedule_turn(self) -> None:
        if not self._has_turn:
            self.transport.pause_reading()
            delay_s = max(self._delay_s, self._pause_s)
            self._pause_s = 0.0
            self._turn = (
                self.loop.call_later(delay_s, self._take_turn) if delay_s else self.loop.call_soon(self._take_turn)
            )

    def _take_turn(self) -> None:
        """Continue with the bytes that were left, or with the socket, unless the application holds it."""
        self._turn = None
        if self.transport.is_closing():
            self._rest = None
        elif self.handshake_complete and not self.read_paused:
            if self._has_work:
                self._process_rest()
            if not (self._has_turn or self.read_paused):
                self.transport.resume_reading()

    @property
    def _has_turn(self) -> bool:
        return self._turn is not None

    @property
    def _has_work(self) -> bool:
        return self._rest is not None and len(self._rest) >= self._needed

    def _process_rest(self) -> None:
        assert self._rest is not None
        data, self._rest = bytes(self._rest), None
        self._process(data)

    def _process(self, data: bytes) -> None:
        """Deliver messages and pass whole frames of other kinds to websockets, as far as one turn allows."""
        if self._budget.is_admitted:
            at, needed = self._split(data)
        else:
            begin_s = thread_time()
            at, needed = self._split(data)
            self._shares.charge(self._peer, thread_time() - begin_s, self.loop.time())
        if self._to_discard is not None or at == len(data):
            return
        self._rest, self._needed = bytearray(data[at:]), needed
        if not needed and not self.read_paused:
            self._schedule_turn()

    def _split(self, data: bytes) -> tuple[int, int]:
        """Process the frames of one turn; return where the rest begins, and the bytes that it needs: 0 for none."""
        conn = self.conn
        limit = self.config.ws_max_size
        work = TURN_FRAMES
        at = 0
        while True:
            # Between the frames of one message, any other data frame is an error. websockets detects it.
            if conn.current_size is None and not self._is_closing:
                one_by_one = self._on_message is None
                messages, end = split_messages(data, at, limit, 1 if one_by_one else work)
                if messages:
                    flood = self._budget.count_messages(len(messages), end - at)
                    at = end
                    work -= len(messages)
                    deliver = self._on_message or self._deliver
                    for payload, is_text in messages:
                        if not self.close_sent:
                            deliver(payload, is_text)
                    if flood is not None:
                        return self._report_flood(flood)
                    if one_by_one and self.read_paused:
                        self._pause_s = SHORT_TURN_PAUSE_S
                        return at, 0
                    if work <= 0:
                        return at, 0
            end = frame_end(data, at, limit)
            if end < 0:
                return self._fail(data[at:], end)
            if end > len(data):
                return at, end - at
            flood = self._budget.count_frame(data[at], end - at, self.loop.time())
            if flood is not None:
                return self._report_flood(flood)
            super().data_received(data[at:end])
            at = end
            work -= OTHER_FRAME_WORK
            if self._to_discard is not None or self.transport.is_closing():
                return len(data), 0
            if work <= 0 or (self._on_message is None and self.read_paused):
                self._pause_s = SHORT_TURN_PAUSE_S
                return at, 0

    def _deliver(self, payload: bytes, is_text: bool) -> None:
        """Pass a message to the application, which has to receive it before the next one is delivered in ASGI."""
        if self._on_message is not None:
            self._on_message(payload, is_text)
            return
        event: dict[str, Any] = {"type": "websocket.receive", "bytes": payload}
        if is_text:
            try:
                event = {"type": "websocket.receive", "text": payload.decode()}
            except UnicodeDecodeError:
                self.refuse_text()
                return
        self.queue.put_nowait(event)  # type: ignore[arg-type]
        self.hold()

    def send_receive_event_to_app(self) -> None:
        """Deliver a complete message that websockets has read."""
        frames, self.frames = self.frames, []
        if not self.close_sent:
            payload = frames[0] if len(frames) == 1 else b"".join(frames)
            self._deliver(payload, self.curr_msg_data_type == "text")

    def handle_cont(self, event: Frame) -> None:
        """Keep a fragment, unless it is empty: a thousand empty ones would take 60 kB."""
        if event.data:
            self.frames.append(event.data)  # type: ignore[arg-type]
        if event.fin:
            self.send_receive_event_to_app()

    async def receive(self) -> Any:
        """Return the next event for the application, and deliver the next message after it."""
        event = await self.queue.get()
        if self.queue.empty():
            self.release()
        return event

    def attach(self, on_message: OnMessage) -> None:
        """Call `on_message` for each message from now on; `receive` then reports only the end. Precedes accepting."""
        self._on_message = on_message

    def admit(self) -> None:
        """Lift the bounds that hold before the authentication; those of fragments and control frames stay."""
        self._budget.is_admitted = True
        if self.paid_s:
            self._shares.refund(self._peer, self.paid_s, self.loop.time())
            self.paid_s = 0.0

    def hold(self) -> None:
        """Stop reading. What belongs to the current turn is still delivered to an attached application."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def release(self) -> None:
        """Resume reading, after the bytes that were read already."""
        if self.read_paused and not self.disconnected:
            self.read_paused = False
            self._resume()

    def _resume(self) -> None:
        if self._has_turn or self.transport.is_closing():
            return
        if self._has_work:
            self._schedule_turn()
        else:
            self.transport.resume_reading()

    # The opening handshake and sending.

    def handle_connect(self, event: Request) -> None:
        """Answer the opening handshake. The application's task starts in the next iteration of the loop."""
        # A proxy may pass the path of the public URL in front of it.
        if event.path.partition("?")[0].endswith(UNCOMPRESSED):
            self.conn.available_extensions = []
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, object] = self.scope["extensions"]  # type: ignore[assignment]
            extensions[EXTENSION] = self

    async def send(self, message: Any) -> None:
        """Send an event of the application. After an accepted handshake, process what the client sent before it."""
        await self.writable.wait()
        if self.close_sent and self.initial_response is None:
            # The connection failed meanwhile; uvicorn takes a message after that for an error of the application.
            raise ClientDisconnected
        await super().send(message)
        kind = message["type"]
        if kind == "websocket.accept":
            self._resume()
        elif kind == "websocket.close" and self.close_timer is not None:
            if self._to_discard is not None:
                self._linger()
            else:
                # The peer's close frame ends the wait. uvicorn would wait for 10 s, and then for a full send buffer.
                self._abort_later()
                self._resume()

    async def run_asgi(self) -> None:
        """Run the application. A peer that does not read its last messages is disconnected."""
        await super().run_asgi()
        self._is_finished = True
        if not self._budget.is_admitted:
            self._shares.charge(self._peer, WEBSOCKET_S, self.loop.time())
        if self.disconnected:
            self._discard_references()
        elif self.close_timer is None:
            self._abort_later()

    def write(self, payload: bytes, is_text: bool) -> bool:
        """Send a message now; return False if the connection is not open or the peer does not read."""
        if not self.is_open or not self.writable.is_set():
            return False
        conn = self.conn
        (conn.send_text if is_text else conn.send_binary)(payload)
        self.transport.write(b"".join(conn.data_to_send()))
        return True

    def write_all(self, texts: Sequence[bytes]) -> bool:
        """Send texts now, in one write; return False, and send none, as `write` does."""
        if not self.is_open or not self.writable.is_set():
            return False
        for text in texts:
            self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))
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

    # The end.

    @property
    def _is_closing(self) -> bool:
        # websockets then reads the rest, to find the answer to its close frame.
        return self.close_sent or self.conn.state is not State.OPEN

    def refuse_text(self) -> None:
        """Fail the connection with 1007, as RFC 6455, 8.1 requires for text that is not UTF-8."""
        if self.is_open:
            self.conn.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Send the close frame of a connection that websockets has failed, and report its end to the application."""
        close = self.conn.close_sent
        assert close is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.on_bad_frame is not None:
            self.on_bad_frame(f"{close.code} {close.reason}")
        self._linger()

    def _fail(self, rest: bytes, end: int) -> tuple[int, int]:
        """Reject an invalid frame, or let websockets reject it."""
        if self.transport.is_closing():
            return 0, 0
        if end == FORBIDDEN:
            self.conn.fail(CloseCode.PROTOCOL_ERROR, "the length of a frame has an invalid form")
            self.handle_parser_exception()
        else:
            super().data_received(rest)
        return 0, 0

    def _report_flood(self, reason: Flood) -> tuple[int, int]:
        """Stop processing, and let the owner of the connection close it with an error."""
        self._to_discard = LINGER_BYTES
        if self._is_closing:
            self._linger()
        elif self.on_flood is not None:
            self.on_flood(reason)
        else:
            self.conn.fail(CloseCode.POLICY_VIOLATION, reason.value)
            self.handle_parser_exception()
        return 0, 0

    def _linger(self) -> None:
        """End the stream after the close frame, and read without processing until the peer ends it too."""
        self._rest = None
        self._abort_later()
        if self._to_discard is None:
            self._to_discard = LINGER_BYTES
        self.read_paused = False
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._resume()
        else:
            self.transport.close()

    def _discard(self, size: int) -> None:
        assert self._to_discard is not None
        self._to_discard -= size
        if self._to_discard < 0:
            self.transport.abort()
        elif not self._has_turn:
            self.transport.pause_reading()
            self._turn = self.loop.call_later(LINGER_PAUSE_S, self._take_turn)

    def _abort_later(self) -> None:
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)
