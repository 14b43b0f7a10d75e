"""The one port: uvicorn around a router that gives each path to its endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hub.http.asgi import Endpoint, Message, Receive, Scope, Send, header, refuse
from hub.http.direct import DEVICE_PATH, DirectWebSocket
from hub.http.problem import problem
from wire import limits
from wire.errors import WireError

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 60.0
"""A peer that answers no ping for a minute is gone. Longer than the usual 20 s, because a dashboard in a hidden tab or
a slow one that is reading what waits for it keeps its socket; a device that comes back takes over at once anyway."""

BACKLOG = 4096
"""Connections that wait to be accepted: a fleet of thousands comes back within a second."""

SHUTDOWN_S = 5
"""Requests under way at shutdown get this long."""

MAX_BODY_BYTES = 64 * 1024
"""Of a request, told before anybody is known to have sent it. The longest that is of use makes a token: 1 kB."""

REQUEST_SECONDS = 20.0
"""A request's head has to be there this long after its connection or its first byte, and its body this long after its
head. A phone in a tunnel sends 64 KiB in that time; who sends a byte now and then would hold the socket for ever."""


class _Http(H11Protocol):
    """uvicorn's HTTP, which waits for the rest of a request's head no longer than it is given.

    The class's names are uvicorn 0.54's, which does not promise them: see hub.http.direct.
    """

    def __init__(self, *arguments: Any, patience_s: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience_s = patience_s
        self._hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is waited for from now on."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A part of a request. After it the connection waits for the rest of the next head, or for something else."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._hurry is None:
            self._hurry = self.loop.call_later(self._patience_s, self.transport.abort)

    def _unwatch(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


class BoundedBody:
    """Collects each request's body before its application sees anything of it, and refuses one that is too large (413)
    or too slow (408). What is refused is not read to its end: its connection is closed."""

    def __init__(self, application: Endpoint, *, patience_s: float = REQUEST_SECONDS) -> None:
        self._application = application
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection or request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        body = bytearray()
        # h11 has made sure that a length is a number.
        too_large = int(header(scope, b"content-length") or 0) > MAX_BODY_BYTES
        is_complete = False
        try:
            async with asyncio.timeout(self._patience_s):
                while not (is_complete or too_large):
                    message = await receive()
                    if message["type"] != "http.request":
                        return
                    body += message.get("body", b"")
                    is_complete = not message.get("more_body", False)
                    too_large = len(body) > MAX_BODY_BYTES
        except TimeoutError:
            detail = f"the body of a request has to be there within {self._patience_s:g} seconds"
            await _refuse_body(HTTPStatus.REQUEST_TIMEOUT, detail, scope, receive, send)
            return
        if too_large:
            detail = f"the body of a request has at most {MAX_BODY_BYTES} bytes here; readings go to {DEVICE_PATH}"
            await _refuse_body(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def collected() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._application(scope, collected, send)


async def _refuse_body(status: HTTPStatus, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    await problem(status, detail, {"Connection": "close"})(scope, receive, send)


class Router:
    """Gives WebSocket paths to their endpoints and all else to the HTTP application, if the Host is one of ours."""

    def __init__(self, endpoints: Mapping[str, Endpoint], http: Endpoint, *, check: Callable[[Scope], None]) -> None:
        self._endpoints = endpoints
        self._http = http
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection or request."""
        try:
            self._check(scope)
        except WireError as error:
            if scope["type"] == "websocket":
                await receive()
                await refuse(send, HTTPStatus.FORBIDDEN, error.message)
            else:
                await problem(HTTPStatus.FORBIDDEN, error.message)(scope, receive, send)
            return
        if scope["type"] != "websocket":
            await self._http(scope, receive, send)
            return
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            await receive()
            await refuse(send, 404, f"WebSocket endpoints here: {', '.join(self._endpoints)}")
            return
        await endpoint(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError when the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


class Server:
    """Serves an application on a listening socket; `run` ends by cancellation."""

    def __init__(
        self,
        application: Endpoint,
        listener: socket.socket,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        behind_proxy: bool = False,
        compression: bool = False,
        patience_s: float = REQUEST_SECONDS,
    ) -> None:
        # Connections are not limited in number: uvicorn's limit_concurrency counts WebSockets too: a fleet that is
        # connected would lock out the page and the API. What one costs that nobody is known on is bounded instead.
        config = uvicorn.Config(
            BoundedBody(application, patience_s=patience_s),
            http=partial(_Http, patience_s=patience_s),  # type: ignore[arg-type]  # a class with its last argument
            ws=DirectWebSocket,
            ws_max_size=limits.MAX_BATCH_BYTES,
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=PING_TIMEOUT_S,
            ws_per_message_deflate=compression,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=behind_proxy,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            timeout_graceful_shutdown=SHUTDOWN_S,
            backlog=BACKLOG,
        )
        self._server = uvicorn.Server(config)
        # Signals are the application's: it has more to stop than the server.
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self._listener = listener

    async def run(self) -> None:
        """Serves until cancelled; then requests under way are finished, at most SHUTDOWN_S long."""
        serving = asyncio.create_task(self._server.serve([self._listener]), name="uvicorn")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            await serving
            raise
