"""The WebSocket endpoint of dashboards, /v1/live: a plain ASGI callable. The rules of the protocol are in hub.live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

import structlog
from starlette.types import Receive, Scope, Send

from hub.http.access import offered_subprotocols
from hub.http.authenticator import Authenticator
from hub.http.connections import Connections
from hub.http.refusals import RefusalCause, RequestRefused
from hub.http.server import upgrade_response
from hub.http.websocket import EXTENSION, DirectWebSocket
from hub.live.catch_up import CatchUpSource
from hub.live.hub import LiveHub
from hub.live.subscriber import Subscriber
from hub.model.identity import Action, Identity
from wire import limits
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.errors import CLOSE_FOR_CODE, Close, Code, WireError

_NOT_AUTHENTICATED = WireError(Code.NOT_AUTHENTICATED, "no valid token: send authenticate first, or sign in")
_WRONG_SUBPROTOCOL = RequestRefused(
    RefusalCause.WRONG_SUBPROTOCOL,
    f"subprotocol spoken here: {messages.SUBPROTOCOL}",
    f"offer {messages.SUBPROTOCOL}",
)
_NO_TOKEN = RequestRefused(
    RefusalCause.NOT_AUTHENTICATED,
    f"no valid token within {limits.AUTHENTICATION_SECONDS:g} s",
    "send authenticate first, or sign in",
    code=Code.NOT_AUTHENTICATED,
)
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
        refusals = self.authenticator.refusals
        offered = offered_subprotocols(scope)
        if scope["subprotocols"] and messages.SUBPROTOCOL not in offered:
            refusals.report_scope(scope, _WRONG_SUBPROTOCOL)
            await upgrade_response(HTTPStatus.BAD_REQUEST, _WRONG_SUBPROTOCOL.message)(scope, receive, send)
            return
        try:
            caller = await self._identify(scope)
        except RequestRefused as refused:
            await upgrade_response(HTTPStatus.TOO_MANY_REQUESTS, refused.message)(scope, receive, send)
            return
        ending = _Ending()
        direct: DirectWebSocket = scope["extensions"][EXTENSION]
        self.connections.add(ending, scope, direct, caller.identity)
        try:
            await send({"type": "websocket.accept", "subprotocol": messages.SUBPROTOCOL if offered else None})
            async with asyncio.TaskGroup() as tasks:
                viewer = Subscriber(
                    self.live,
                    self.source,
                    tasks,
                    fleet=self.fleet,
                    on_overflow=lambda: ending.end(_NOT_READING),
                )
                own = [
                    tasks.create_task(self._read(viewer, scope, caller, receive, ending), name="viewer read"),
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
            if ending.error is caller.without_token:
                refusals.report_scope(scope, caller.without_token)
            await _send_end(send, ending.error)

    async def _identify(self, scope: Scope) -> _Caller:
        """Return the caller by the head of its handshake. Raises RequestRefused after too many failures."""
        credential = self.authenticator.access.credential(scope)
        by_cookie = credential is not None and credential.kind == "session"
        if by_cookie:
            try:
                self.authenticator.access.check_origin(scope)
            except RequestRefused as refused:
                # A browser sends the cookie with the handshakes of every page on the host. A page of another origin
                # cannot keep it from doing so: the cookie does not count, and a token does.
                remedy = f"send authenticate with a token first, or {refused.remedy}"
                return _Caller(None, by_cookie, RequestRefused(refused.reason, refused.what, remedy))
        return _Caller(await self.authenticator.identify(scope), by_cookie, _NO_TOKEN)

    async def _read(self, viewer: Subscriber, scope: Scope, caller: _Caller, receive: Receive, ending: _Ending) -> None:
        loop = asyncio.get_running_loop()
        timeout = loop.call_later(limits.AUTHENTICATION_SECONDS, ending.end, caller.without_token)
        try:
            if caller.identity is not None:
                timeout.cancel()
                self._admit(viewer, caller.identity, ending, by_cookie=caller.by_cookie)
            while True:
                await viewer.outbox.control_room()
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
                    self._admit(viewer, identity, ending, by_cookie=False)
        except WireError as error:
            ending.end(error)
        finally:
            timeout.cancel()

    def _admit(self, viewer: Subscriber, identity: Identity | None, ending: _Ending, *, by_cookie: bool) -> None:
        """Open the session for a viewer, or replace the identity of an open one. Raises WireError for anyone else."""
        if identity is None:
            raise _NOT_AUTHENTICATED
        if not identity.may(Action.READ):
            raise WireError(Code.NOT_ALLOWED, f"a token of role {identity.role} may not watch")
        self.connections.authenticate(ending, identity)
        if not viewer.is_open:
            viewer.open(self.welcome(identity.role), replaceable=by_cookie)


class _Caller(NamedTuple):
    """The caller by the head of its handshake, and the error if no token follows."""

    identity: Identity | None
    by_cookie: bool
    without_token: RequestRefused


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
