"""WebSocket connection of a client to a server that may be hostile, or no WebSocket server at all."""

from __future__ import annotations

import ssl
from typing import Any, ClassVar

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, SecurityError
from websockets.frames import CTRL_OPCODES, Frame
from websockets.protocol import Event, State

from agent_client.refusal import HandshakeAnswer, read_answer
from wire.errors import CLOSE_FOR_CODE, Code
from wire.frame_budget import ControlBudget

CLOSE_SECONDS = 2.0
"""Longest time for the closing handshake; everything that counts is acknowledged or in the outbox by then."""

MAX_ANSWER_BYTES = 16 * 1024
"""Beginning of an answer that is kept to explain it: twice the head that servers send by default."""

PIECE_BYTES = 1024
"""Bytes of a read of the socket that are parsed before their frames are counted: at most 512 frames, 5 ms."""

MAX_FRAMES_PER_READ = 4096
"""Frames in one read of the socket, 256 kB at most. A hub sends one message for all batches of a commit."""

UNREADABLE = (InvalidMessage, SecurityError)
"""Errors of websockets for an answer that it cannot read, or that is larger than its bounds."""


class UpgradeRefused(InvalidHandshake):
    """An answer in HTTP that is no upgrade, also one that websockets cannot read."""

    def __init__(self, answer: HandshakeAnswer) -> None:
        super().__init__()
        self.answer = answer


class ServerFlood(Exception):
    """The server sends more frames than servers of its kind do."""


class BoundedConnection(ClientConnection):
    """Connection that ends when its server floods it; its opening handshake reports why TLS or an answer ended it.

    The frames of one read of the socket are parsed in one turn of the event loop, and each ping is answered. A flood
    would otherwise leave no time for the sources, for the spool and for the signal that ends the agent. A `peer` of
    another kind can have another bound.

    With TLS 1.3 the server checks a client's certificate when the client considers the TLS handshake complete: its
    alert is the answer to the request. An answer of HTTP/1.0, or one with a large or broken body, has a status that
    websockets does not report.
    """

    max_frames_per_read: ClassVar[float] = MAX_FRAMES_PER_READ
    peer: ClassVar[str] = "hub"

    _beginning = b""
    _frames = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._budget = ControlBudget()
        self._flood: ServerFlood | None = None

    def data_received(self, data: bytes) -> None:
        if self.protocol.state is State.CONNECTING and len(self._beginning) < MAX_ANSWER_BYTES:
            self._beginning += data[:MAX_ANSWER_BYTES]
        self._frames = 0
        for at in range(0, len(data), PIECE_BYTES):
            if self._flood is not None:
                return
            super().data_received(data[at : at + PIECE_BYTES])

    def process_event(self, event: Event) -> None:
        if self._flood is not None:
            return
        if isinstance(event, Frame):
            self._frames += 1
            if event.opcode in CTRL_OPCODES and self._budget.count(self.loop.time()):
                self._end_flood("pings and pongs")
                return
            if self._frames > self.max_frames_per_read:
                self._end_flood("messages")
                return
        super().process_event(event)

    def _end_flood(self, what: str) -> None:
        sentence = f"the server sends more {what} than a {self.peer} does; check which server answers there"
        self._flood = ServerFlood(sentence)
        self.set_connection_exc(self._flood)
        self.protocol.fail(CLOSE_FOR_CODE[Code.TOO_MANY_FRAMES], Code.TOO_MANY_FRAMES)
        self.send_data()
        # A server that floods may not close, and its data need not be read any more.
        self.transport.pause_reading()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    async def handshake(self, *arguments: Any, **named: Any) -> None:
        try:
            await super().handshake(*arguments, **named)
        except (InvalidHandshake, ConnectionClosed) as error:
            if isinstance(self.connection_exc, ssl.SSLError):
                raise self.connection_exc from error
            if isinstance(error, InvalidStatus):
                response = error.response
                headers = {name.lower(): value for name, value in response.headers.raw_items()}
                raise UpgradeRefused(
                    HandshakeAnswer(response.status_code, headers, bytes(response.body or b""))
                ) from error
            answer = read_answer(self._beginning) if isinstance(error, UNREADABLE) else None
            if answer is not None:
                raise UpgradeRefused(answer) from error
            raise


class ConnectWithoutRedirect(open_websocket):
    """Connection attempt that follows no redirect.

    To another host or scheme it would lose the token; a redirect to http:// would raise an error of another kind.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc
