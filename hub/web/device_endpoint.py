"""/v1/device: agents. A plain ASGI callable, without an object per message; the rules are in hub.ingestion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from hub.ingestion.conversation import Conversation, Directory
from hub.ingestion.intake import Intake
from hub.web.asgi import Message, Receive, Scope, Send, refuse, why_closed
from hub.web.connections import Connections
from wire import device as messages
from wire import limits
from wire.codec import FORMAT_OF_SUBPROTOCOL, HUB_MESSAGES, Format
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError

CLOSING_S = 5.0
"""An agent that does not take what is still to be sent to it is cut off after this long."""

MAX_WAITING_FRAMES = 2 * limits.DEFAULT_WINDOW
"""Frames that wait for one agent: rejects, at most a window of them, and a few more. Who reads none of them is
closed."""

log = structlog.get_logger(__name__)


class AgentConnection:
    """Sends to one agent. A task exists only while there is something to send: an idle connection costs none."""

    __slots__ = ("_ack", "_ending", "_format", "_frames", "_send", "_task")

    def __init__(self, send: Send, format: Format) -> None:
        self._send = send
        self._format: Format = format
        # A list, although it is taken from in front: it is nearly always empty, and an empty deque has 0.7 kB.
        self._frames: list[bytes] = []
        self._ack: bytes | None = None
        self._ending: WireError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ending(self) -> bool:
        """Whether the connection is being closed from this side."""
        return self._ending is not None

    def send(self, frame: bytes) -> None:
        """Sends a frame after those that wait already."""
        if len(self._frames) >= MAX_WAITING_FRAMES:
            self.end(WireError(Code.BUSY, "the agent does not read what it is sent"))
            return
        self._frames.append(frame)
        self._start()

    def send_ack(self, frame: bytes) -> None:
        """Sends an acknowledgement after the other frames; one that still waits is replaced."""
        self._ack = frame
        self._start()

    def end(self, error: WireError) -> None:
        """Sends the error and closes with the code that belongs to it."""
        if self._ending is None:
            self._ending = error
            self._start()

    async def close(self) -> None:
        """Returns when nothing is being sent any more, at most CLOSING_S later."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSING_S)
            self._task.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while True:
                if self._frames:
                    frame = self._frames.pop(0)
                elif self._ack is not None:
                    frame, self._ack = self._ack, None
                else:
                    break
                await self._send(self._message(frame))
            if self._ending is not None:
                await self._say_goodbye(self._ending)
        except OSError:
            # The peer is gone (uvicorn raises ClientDisconnected, an OSError); the reader sees it too.
            pass
        finally:
            self._task = None

    async def _say_goodbye(self, error: WireError) -> None:
        code = CLOSE_FOR_CODE.get(error.code, Close.INTERNAL_ERROR)
        expected = error.seq if error.code is Code.UNEXPECTED_SEQ else None
        message = messages.Error(error.code, error.message[: limits.MAX_MESSAGE], expected=expected)
        await self._send(self._message(HUB_MESSAGES[self._format].encode(message)))
        await self._send({"type": "websocket.close", "code": int(code), "reason": error.code.value})

    def _message(self, frame: bytes) -> Message:
        if self._format == "json":
            return {"type": "websocket.send", "text": frame.decode()}
        return {"type": "websocket.send", "bytes": frame}


class DirectoryFor(Protocol):
    """Makes the directory of one connection from the credential in its headers."""

    def __call__(self, scope: Scope, on_credential: Callable[[str], None]) -> Directory: ...


class DeviceEndpoint:
    """Serves agents."""

    def __init__(
        self, intake: Intake, connections: Connections, directory_for: DirectoryFor, *, hub: str, window: int
    ) -> None:
        self._intake = intake
        self._connections = connections
        self._directory_for = directory_for
        self._hub = hub
        self._window = window

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One agent, from the upgrade to the close."""
        await receive()
        offered: list[str] = scope["subprotocols"]
        chosen = next((name for name in offered if name in FORMAT_OF_SUBPROTOCOL), None)
        if offered and chosen is None:
            await refuse(send, 400, f"subprotocols spoken here: {', '.join(FORMAT_OF_SUBPROTOCOL)}")
            return
        format = FORMAT_OF_SUBPROTOCOL[chosen] if chosen else "json"
        await send({"type": "websocket.accept", "subprotocol": chosen})
        connection = AgentConnection(send, format)
        self._connections.add(connection)
        why = "the hub stopped"
        directory = self._directory_for(scope, lambda credential: self._connections.add(connection, credential))
        conversation = Conversation(
            self._intake, directory, connection, format=format, hub=self._hub, window=self._window
        )
        timeout = asyncio.get_running_loop().call_later(limits.AUTHENTICATION_SECONDS, _check_hello, conversation)
        try:
            why = await self._converse(conversation, connection, receive, format)
        finally:
            timeout.cancel()
            self._connections.remove(connection)
            conversation.close(why)
            await connection.close()

    async def _converse(
        self, conversation: Conversation, connection: AgentConnection, receive: Receive, format: Format
    ) -> str:
        kind = "text" if format == "json" else "bytes"
        intake = self._intake
        while True:
            event = await receive()
            if event["type"] != "websocket.receive":
                return why_closed(event)
            if connection.ending:
                continue
            frame = event.get(kind)
            try:
                if frame is None:
                    raise WireError(Code.WRONG_FRAME, f"this conversation is in {format}: {kind} frames only")
                await conversation.receive(frame)
            except WireError as error:
                conversation.end(error)
            if intake.congested:
                await intake.room()


def _check_hello(conversation: Conversation) -> None:
    if conversation.device is None:
        conversation.end(
            WireError(Code.NOT_AUTHENTICATED, f"no hello with a token within {limits.AUTHENTICATION_SECONDS:g} s")
        )
