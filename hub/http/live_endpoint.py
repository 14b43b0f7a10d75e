"""The WebSocket endpoint of dashboards, /v1/live: a plain ASGI callable. The rules of the protocol are in hub.live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.types import Receive, Scope, Send

from hub.http.access import Authenticator
from hub.http.server import Connections, upgrade_response
from hub.live.catch_up import CatchUpSource
from hub.live.hub import LiveHub
from hub.live.subscriber import Subscriber
from hub.model.identity import Action, Identity
from wire import limits
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError

_NOT_AUTHENTICATED = WireError(Code.NOT_AUTHENTICATED, "no valid token: send authenticate first, or sign in")
_NOT_READING = WireError(Code.BUSY, "the dashboard does not read the messages that it receives")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LiveEndpoint:
    """Serves dashboards: one task reads, one sends, and those of the subscriptions catch up."""

    live: LiveHub
    source: CatchUpSource
    connections: Connections
    authenticator: Authenticator
    fleet: Callable[[], list[messages.DeviceState]]
    welcome: Callable[[str], messages.Welcome]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one dashboard, from the upgrade to the close."""
        await receive()
        offered: list[str] = scope["subprotocols"]
        if offered and messages.SUBPROTOCOL not in offered:
            await upgrade_response(400, f"subprotocol spoken here: {messages.SUBPROTOCOL}")(scope, receive, send)
            return
        try:
            identity = await self.authenticator.identify(scope)
        except WireError as error:
            await upgrade_response(403, error.message)(scope, receive, send)
            return
        await send({"type": "websocket.accept", "subprotocol": messages.SUBPROTOCOL if offered else None})
        ending = _Ending()
        self.connections.add(ending)
        try:
            async with asyncio.TaskGroup() as tasks:
                viewer = Subscriber(
                    self.live,
                    self.source,
                    tasks,
                    fleet=self.fleet,
                    on_overflow=lambda: ending.end(_NOT_READING),
                )
                own = [
                    tasks.create_task(self._read(viewer, scope, identity, receive, ending), name="viewer read"),
                    tasks.create_task(_pump(viewer, send), name="viewer send"),
                    tasks.create_task(ending.requested(), name="viewer end"),
                ]
                await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
                viewer.close()
                for task in own:
                    task.cancel()
        finally:
            self.connections.remove(ending)
        if ending.error is not None:
            await _send_end(send, ending.error)

    async def _read(
        self, viewer: Subscriber, scope: Scope, identity: Identity | None, receive: Receive, ending: _Ending
    ) -> None:
        loop = asyncio.get_running_loop()
        timeout = loop.call_later(limits.AUTHENTICATION_SECONDS, ending.end, _NOT_AUTHENTICATED)
        try:
            if identity is not None:
                timeout.cancel()
                self._admit(viewer, identity, ending)
            while True:
                event = await receive()
                if event["type"] != "websocket.receive":
                    return
                frame = event.get("text")
                if frame is not None and len(frame.encode()) > limits.MAX_LIVE_MESSAGE_BYTES:
                    raise WireError(Code.TOO_LARGE, f"a message has at most {limits.MAX_LIVE_MESSAGE_BYTES} bytes")
                authenticate = viewer.receive(event["bytes"] if frame is None else frame)
                if authenticate is not None:
                    identity = await self.authenticator.identify_token(scope, authenticate.token)
                    timeout.cancel()
                    self._admit(viewer, identity, ending)
        except WireError as error:
            ending.end(error)
        finally:
            timeout.cancel()

    def _admit(self, viewer: Subscriber, identity: Identity | None, ending: _Ending) -> None:
        if identity is None:
            raise _NOT_AUTHENTICATED
        if not identity.may(Action.READ):
            raise WireError(Code.NOT_ALLOWED, f"a token of role {identity.role} may not watch")
        self.connections.add(ending, identity.token_id)
        viewer.open(self.welcome(identity.role))


class _Ending:
    """The request to close a dashboard's connection, for which the sender waits."""

    def __init__(self) -> None:
        self.error: WireError | None = None
        self._requested = asyncio.Event()

    def end(self, error: WireError) -> None:
        if self.error is None:
            self.error = error
            self._requested.set()

    async def requested(self) -> None:
        await self._requested.wait()


async def _pump(viewer: Subscriber, send: Send) -> None:
    """Send waiting frames as fast as the dashboard reads: `send` waits while the socket's buffer is full."""
    outbox = viewer.outbox
    try:
        while True:
            frame = await outbox.next_frame()
            kind = "bytes" if isinstance(frame, bytes) else "text"
            await send({"type": "websocket.send", kind: frame})
            viewer.serve_lagging()
    except OSError:
        return  # the dashboard has disconnected; the reader sees it too


async def _send_end(send: Send, error: WireError) -> None:
    code = CLOSE_FOR_CODE.get(error.code, Close.INTERNAL_ERROR)
    frame = LIVE_MESSAGES.encode(messages.Error(error.code, error.message))
    try:
        async with asyncio.timeout(1.0):
            await send({"type": "websocket.send", "text": frame.decode()})
            await send({"type": "websocket.close", "code": int(code), "reason": error.code.value})
    except (OSError, TimeoutError):
        log.debug("dashboard disconnected before the error was sent", code=error.code.value)
