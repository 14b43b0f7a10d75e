"""The WebSocket endpoint of agents, /v1/device: a plain ASGI callable that receives each message by a direct call.

The rules of the protocol are in hub.ingest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from starlette.types import Message, Receive, Scope, Send

from hub.http.access import offered_subprotocols
from hub.http.connections import Connections
from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused
from hub.http.server import upgrade_response
from hub.http.websocket import EXTENSION, DirectWebSocket
from hub.ingest.agent_session import AgentDirectory, AgentSession, Step
from hub.ingest.device import Devices
from hub.model.identity import Identity
from hub.model.journal import EntryWriter
from wire import device as messages
from wire import limits
from wire.codec import (
    COMMAND_SUBPROTOCOLS,
    FORMAT_OF_SUBPROTOCOL,
    HUB_MESSAGES,
    PARTIAL_SUBPROTOCOLS,
    STATUS_SUBPROTOCOLS,
    Format,
)
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError

CLOSING_S = 5.0
"""An agent that does not read the last frames is disconnected after this time."""

WINDOWS_WAITING = 2
"""Frames that wait for one agent, in windows: rejects, at most a window of them, and a few others. An agent that reads
none of them is disconnected."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class AgentConnection:
    """Sends to one agent. A task exists only while there is something to send: an idle connection has none."""

    transmit: Send
    direct: DirectWebSocket
    frame_format: Format
    max_frames: int
    connections: Connections
    is_text: bool = field(init=False)
    # A list, although frames leave at the front: it is nearly always empty, and an empty deque takes 0.7 kB.
    frames: list[bytes] = field(default_factory=list)
    ack: bytes | None = None
    ending: WireError | None = None
    hello_timer: asyncio.TimerHandle | None = None
    cut: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.is_text = self.frame_format == "json"

    def admit(self, identity: Identity) -> None:
        """Record the owner of the credential of the agent's hello, which is no longer waited for."""
        self._cancel_hello_timer()
        self.connections.authenticate(self, identity)

    def send(self, frame: bytes) -> None:
        """Send a frame after the waiting ones."""
        if len(self.frames) >= self.max_frames:
            self.end(WireError(Code.BUSY, "the agent does not read the messages that it receives"))
            return
        self.frames.append(frame)
        self._start()

    def send_ack(self, frame: bytes) -> None:
        """Send an acknowledgement after the other frames. It replaces one that still waits."""
        if self.task is None and self.direct.write(frame, self.is_text):
            return
        self.ack = frame
        self._start()

    def end(self, error: WireError) -> None:
        """Send the error and close with its close code."""
        if self.ending is None:
            self.ending = error
            self.cut = asyncio.get_running_loop().call_later(CLOSING_S, self.direct.transport.abort)
            self._start()

    @property
    def is_revoked(self) -> bool:
        """Return whether the connection ended because its token was revoked."""
        return self.ending is not None and self.ending.code is Code.REVOKED

    async def close(self) -> None:
        """Wait until everything is sent, at most CLOSING_S."""
        self._cancel_hello_timer()
        if self.cut is not None:
            self.cut.cancel()
        task = self.task
        if task is not None:
            await asyncio.wait([task], timeout=CLOSING_S)
            task.cancel()

    def _cancel_hello_timer(self) -> None:
        if self.hello_timer is not None:
            self.hello_timer.cancel()
            self.hello_timer = None

    def _start(self) -> None:
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while self.direct.is_open:
                if self.frames:
                    frame = self.frames.pop(0)
                elif self.ack is not None:
                    frame, self.ack = self.ack, None
                else:
                    break
                await self.transmit(self._message(frame))
            if self.ending is not None and self.direct.is_open:
                await self._send_end(self.ending)
        except OSError:
            # The peer has disconnected (uvicorn raises ClientDisconnected, an OSError); the reader sees it too.
            pass
        finally:
            self.task = None

    async def _send_end(self, error: WireError) -> None:
        code = CLOSE_FOR_CODE.get(error.code, Close.INTERNAL_ERROR)
        expected = error.seq if error.code is Code.UNEXPECTED_SEQ else None
        message = messages.Error(error.code, error.message[: limits.MAX_MESSAGE], expected=expected)
        await self.transmit(self._message(HUB_MESSAGES[self.frame_format].encode(message)))
        if self.direct.is_open:
            await self.transmit({"type": "websocket.close", "code": int(code), "reason": error.code.value})

    def _message(self, frame: bytes) -> Message:
        if self.is_text:
            return {"type": "websocket.send", "text": frame.decode()}
        return {"type": "websocket.send", "bytes": frame}


DirectoryFor = Callable[[Scope, Callable[[Identity], None]], AgentDirectory]
"""Makes the directory of one connection from its scope. The directory passes the credential's owner to the callback."""


@dataclass(frozen=True)
class DeviceEndpoint:
    """Serves agents at /v1/device."""

    devices: Devices
    connections: Connections
    directory_for: DirectoryFor
    recognise: Callable[[Scope], Identity | None]
    """Returns the owner of the valid token in the headers of an upgrade. The session verifies it with the hello."""
    hub: str
    window: int
    refusals: RequestRefusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one agent, from the upgrade to the close."""
        await receive()
        offered = offered_subprotocols(scope)
        chosen = next((name for name in offered if name in FORMAT_OF_SUBPROTOCOL), None)
        if scope["subprotocols"] and chosen is None:
            spoken = ", ".join(FORMAT_OF_SUBPROTOCOL)
            refused = RequestRefused(
                RefusalCause.WRONG_SUBPROTOCOL, f"subprotocols spoken here: {spoken}", "offer one of them"
            )
            self.refusals.report_scope(scope, refused)
            await upgrade_response(HTTPStatus.BAD_REQUEST, refused.message)(scope, receive, send)
            return
        frame_format = FORMAT_OF_SUBPROTOCOL[chosen] if chosen else "json"
        direct: DirectWebSocket = scope["extensions"][EXTENSION]
        max_frames = max(16, WINDOWS_WAITING * self.window)
        # No object here lives as long as the connection without a need: 10,000 idle agents have 10,000 of each.
        connection = AgentConnection(send, direct, frame_format, max_frames, self.connections)
        directory = self.directory_for(scope, connection.admit)
        session = AgentSession(
            self.devices,
            directory,
            connection,
            format=frame_format,
            hub=self.hub,
            window=self.window,
            has_status=chosen in STATUS_SUBPROTOCOLS,
            has_partial=chosen in PARTIAL_SUBPROTOCOLS,
            has_commands=chosen in COMMAND_SUBPROTOCOLS,
        )
        reading = _Reading(session, connection, direct, self.devices.journal)
        self.connections.add(connection, scope, direct, self.recognise(scope))
        loop = asyncio.get_running_loop()
        connection.hello_timer = loop.call_later(limits.AUTHENTICATION_SECONDS, _check_hello, session)
        why, has_left = "the hub stopped", False
        try:
            direct.attach(reading.receive)
            await send({"type": "websocket.accept", "subprotocol": chosen})
            while (event := await receive())["type"] == "websocket.receive":
                # Only messages that an agent sends before its upgrade is answered arrive here.
                text = event.get("text")
                reading.receive(event["bytes"] if text is None else text.encode(), text is not None)
            why, has_left = why_closed(event), event.get("code") in ORDERLY_CLOSES
        finally:
            await reading.stop()
            self.connections.remove(connection)
            session.close(why, has_left=has_left or connection.is_revoked)
            await connection.close()


@dataclass(slots=True, eq=False)
class _Reading:
    """Passes a connection's messages to its session, one after the other.

    Reading pauses until accepted batches are durable, so that many short reads become few longer ones; this delays no
    acknowledgement. A step that has to wait (for authentication, new metrics, or room in the journal) also pauses it.
    Messages that were read already are kept: at most what one read returns, a few hundred kilobytes.
    """

    session: AgentSession
    connection: AgentConnection
    direct: DirectWebSocket
    journal: EntryWriter
    resting: bool = False
    behind: list[tuple[bytes, bool]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def receive(self, frame: bytes, is_text: bool) -> None:
        """Process one message, or keep it until the current step is finished."""
        if self.task is not None:
            self.behind.append((frame, is_text))
            return
        step = self._begin(frame, is_text)
        if step is not None:
            self.direct.hold()
            self.task = asyncio.get_running_loop().create_task(self._wait(step))
        elif not self.resting and self.journal.pending:
            self.resting = True
            self.direct.hold()
            self.journal.after_commit(self._rested)

    def _rested(self) -> None:
        self.resting = False
        if self.task is None:
            self.direct.release()

    async def stop(self) -> None:
        """Discard the waiting messages, none of which is acknowledged, because the connection is closed."""
        task = self.task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _begin(self, frame: bytes, is_text: bool) -> Step | None:
        """Process a message, and return the step that has to wait, if there is one."""
        if self.connection.ending is not None:
            return None
        try:
            if is_text is not self.connection.is_text:
                kind = "text" if self.connection.is_text else "binary"
                raise WireError(Code.WRONG_FRAME, f"this session is in {kind} frames only")
            step = self.session.receive(frame)
        except WireError as error:
            self._end(error, frame, is_text)
            return None
        if step is None and self.journal.congested:
            return self.journal.room
        return step

    async def _wait(self, step: Step | None) -> None:
        done = 0
        try:
            while step is not None:
                try:
                    await step()
                except WireError as error:
                    self.session.end(error)
                step = None
                while step is None and done < len(self.behind):
                    step = self._begin(*self.behind[done])
                    done += 1
        except Exception:
            # A defect of the hub ends the connection that met it, as one outside of a step does, and no other.
            log.exception("session of an agent failed")
            self.direct.transport.abort()
        self.behind.clear()
        self.task = None
        if not self.resting:
            self.direct.release()

    def _end(self, error: WireError, frame: bytes, is_text: bool) -> None:
        """End the session. A text that is not UTF-8 fails the WebSocket itself."""
        if is_text:
            try:
                frame.decode()
            except UnicodeDecodeError:
                self.direct.refuse_text()
                return
        self.session.end(error)


def _check_hello(session: AgentSession) -> None:
    if session.device is None:
        session.end(
            WireError(Code.NOT_AUTHENTICATED, f"no hello with a token within {limits.AUTHENTICATION_SECONDS:g} s")
        )


ORDERLY_CLOSES = frozenset({1000, 1001})
"""Close codes of an agent that was stopped: it does not try to return."""


def why_closed(message: Message, client: str = "agent") -> str:
    """Return the reason of a disconnect message. `client` is what the client is called."""
    code = message.get("code", 1005)
    reason = message.get("reason") or ""
    names = {
        1000: f"closed by the {client}",
        1001: f"the {client} went away",
        1005: "the connection broke",
        1006: "the connection broke",
    }
    return f"{names.get(code, f'closed with {code}')}{f': {reason}' if reason else ''}"
