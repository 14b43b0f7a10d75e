"""The one port: uvicorn around a router that gives each path to its endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import uvicorn

from hub.web.asgi import Endpoint, Receive, Scope, Send, refuse
from hub.web.direct import DirectWebSocket
from hub.web.problem import problem
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
    ) -> None:
        config = uvicorn.Config(
            application,
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
