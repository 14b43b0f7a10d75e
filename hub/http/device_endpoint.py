"""/v1/device: agents. A plain ASGI callable whose messages come by a direct call each; the rules are in
hub.ingest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from hub.http.asgi import Message, Receive, Scope, Send, refuse
from hub.http.connections import Connections
from hub.http.direct import Direct, direct_of
from hub.ingest.conversation import Conversation, Directory, Step
from hub.ingest.intake import Intake
from wire import device as messages
from wire import limits
from wire.codec import FORMAT_OF_SUBPROTOCOL, HUB_MESSAGES, Format
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError

CLOSING_S = 5.0
"""An agent that does not take what is still to be sent to it is cut off after this long."""

WINDOWS_WAITING = 2
"""Frames that wait for one agent: rejects, at most a window of them, and a few more; this many windows are room enough.
Who reads none of them is closed."""

log = structlog.get_logger(__name__)


class AgentConnection:
    """Sends to one agent. A task exists only while there is something to send: an idle connection costs none."""

    __slots__ = (
        "_ack",
        "_cut",
        "_direct",
        "_ending",
        "_format",
        "_frames",
        "_is_text",
        "_max_frames",
        "_send",
        "_task",
    )

    def __init__(self, send: Send, direct: Direct, format: Format, *, window: int) -> None:
        self._send = send
        self._direct = direct
        self._format: Format = format
        self._is_text = format == "json"
        self._max_frames = max(16, WINDOWS_WAITING * window)
        # A list, although it is taken from in front: it is nearly always empty, and an empty deque has 0.7 kB.
        self._frames: list[bytes] = []
        self._ack: bytes | None = None
        self._ending: WireError | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ending(self) -> bool:
        """Whether the connection is being closed from this side."""
        return self._ending is not None

    def send(self, frame: bytes) -> None:
        """Sends a frame after those that wait already."""
        if len(self._frames) >= self._max_frames:
            self.end(WireError(Code.BUSY, "the agent does not read what it is sent"))
            return
        self._frames.append(frame)
        self._start()

    def send_ack(self, frame: bytes) -> None:
        """Sends an acknowledgement after the other frames; one that still waits is replaced."""
        if self._task is None and self._direct.write(frame, self._is_text):
            return
        self._ack = frame
        self._start()

    def end(self, error: WireError) -> None:
        """Sends the error and closes with the code that belongs to it."""
        if self._ending is None:
            self._ending = error
            self._cut = asyncio.get_running_loop().call_later(CLOSING_S, self._direct.abort)
            self._start()

    async def close(self) -> None:
        """Returns when nothing is being sent any more, at most CLOSING_S later."""
        if self._cut is not None:
            self._cut.cancel()
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=CLOSING_S)
            task.cancel()

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            while self._direct.is_open:
                if self._frames:
                    frame = self._frames.pop(0)
                elif self._ack is not None:
                    frame, self._ack = self._ack, None
                else:
                    break
                await self._send(self._message(frame))
            if self._ending is not None and self._direct.is_open:
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
        if self._direct.is_open:
            await self._send({"type": "websocket.close", "code": int(code), "reason": error.code.value})

    def _message(self, frame: bytes) -> Message:
        if self._is_text:
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
        direct = direct_of(scope)
        connection = AgentConnection(send, direct, format, window=self._window)

        def known(credential: str) -> None:
            timeout.cancel()
            self._connections.add(connection, credential)

        directory = self._directory_for(scope, known)
        conversation = Conversation(
            self._intake, directory, connection, format=format, hub=self._hub, window=self._window
        )
        self._connections.add(connection)
        timeout = asyncio.get_running_loop().call_later(limits.AUTHENTICATION_SECONDS, _check_hello, conversation)
        why = "the hub stopped"
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = _Reading(conversation, connection, direct, self._intake, tasks, is_text=format == "json")
                direct.attach(reading.take)
                await send({"type": "websocket.accept", "subprotocol": chosen})
                while (event := await receive())["type"] == "websocket.receive":
                    # Only what an agent sent before its upgrade was answered comes the long way.
                    text = event.get("text")
                    reading.take(event["bytes"] if text is None else text.encode(), text is not None)
                reading.stop()
            why = _why_closed(event)
        finally:
            timeout.cancel()
            self._connections.remove(connection)
            conversation.close(why)
            await connection.close()


class _Reading:
    """Gives a connection's messages to its conversation, one after the other, as they are read.

    What was taken in rests until it is durable, so that many short reads become few longer ones; acknowledgements come
    no later. A step that has to wait (who the agent is, new metrics, room for more) holds the reading back, too. What
    was read by then is kept meanwhile; it is at most what the system gave at once, a few hundred kilobytes.
    """

    __slots__ = (
        "_behind",
        "_connection",
        "_conversation",
        "_direct",
        "_intake",
        "_is_text",
        "_resting",
        "_task",
        "_tasks",
    )

    def __init__(
        self,
        conversation: Conversation,
        connection: AgentConnection,
        direct: Direct,
        intake: Intake,
        tasks: asyncio.TaskGroup,
        *,
        is_text: bool,
    ) -> None:
        self._conversation = conversation
        self._connection = connection
        self._direct = direct
        self._intake = intake
        self._tasks = tasks
        self._resting = False
        self._is_text = is_text
        self._behind: list[tuple[bytes, bool]] = []
        self._task: asyncio.Task[None] | None = None

    def take(self, frame: bytes, is_text: bool) -> None:
        """One message."""
        if self._task is not None:
            self._behind.append((frame, is_text))
            return
        step = self._begin(frame, is_text)
        if step is not None:
            self._direct.hold()
            self._task = self._tasks.create_task(self._wait(step))
        elif not self._resting and self._intake.pending:
            self._resting = True
            self._direct.hold()
            self._intake.rest(self._rested)

    def _rested(self) -> None:
        self._resting = False
        if self._task is None:
            self._direct.release()

    def stop(self) -> None:
        """The connection is gone: what waits is given up, nothing of it was acknowledged."""
        if self._task is not None:
            self._task.cancel()

    def _begin(self, frame: bytes, is_text: bool) -> Step | None:
        """Takes in a message, or as much of it as needs no waiting; the rest is what it returns."""
        if self._connection.ending:
            return None
        try:
            if is_text is not self._is_text:
                kind = "text" if self._is_text else "binary"
                raise WireError(Code.WRONG_FRAME, f"this conversation is in {kind} frames only")
            step = self._conversation.receive(frame)
        except WireError as error:
            self._end(error, frame, is_text)
            return None
        if step is None and self._intake.congested:
            return self._intake.room
        return step

    async def _wait(self, step: Step | None) -> None:
        done = 0
        while step is not None:
            try:
                await step()
            except WireError as error:
                self._conversation.end(error)
            step = None
            while step is None and done < len(self._behind):
                step = self._begin(*self._behind[done])
                done += 1
        self._behind.clear()
        self._task = None
        if not self._resting:
            self._direct.release()

    def _end(self, error: WireError, frame: bytes, is_text: bool) -> None:
        """Ends the conversation; text that is not UTF-8 ends it one layer below."""
        if is_text:
            try:
                frame.decode()
            except UnicodeDecodeError:
                self._direct.refuse_text()
                return
        self._conversation.end(error)


def _check_hello(conversation: Conversation) -> None:
    if conversation.device is None:
        conversation.end(
            WireError(Code.NOT_AUTHENTICATED, f"no hello with a token within {limits.AUTHENTICATION_SECONDS:g} s")
        )


def _why_closed(message: Message) -> str:
    """A disconnect message in words."""
    code = message.get("code", 1005)
    reason = message.get("reason") or ""
    names = {
        1000: "closed by the agent",
        1001: "the agent went away",
        1005: "the connection broke",
        1006: "the connection broke",
    }
    return f"{names.get(code, f'closed with {code}')}{f': {reason}' if reason else ''}"
