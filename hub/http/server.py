"""The server on the hub's only port: uvicorn around the WebSocket endpoints and the HTTP application."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.http.acceptor import Acceptor, PlainListener
from hub.http.forwarded import ROOT, ProxiedRequests, TrustedProxies
from hub.http.handshake import check_handshake
from hub.http.http1 import KEEP_ALIVE_SECONDS, PROGRESS_SECONDS, REQUEST_SECONDS, HttpConnection
from hub.http.long_bodies import LongBodies
from hub.http.loop_share import LoopShares, TurnQueues
from hub.http.problem import problem_response
from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused
from hub.http.tls import PortTls
from hub.http.tls_listener import TlsListener
from hub.http.waiting import WaitingConnections
from hub.http.websocket import EXTENSION, DirectWebSocket
from wire import limits

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 60.0
"""A peer that answers no ping for a minute is disconnected. This is longer than the usual 20 s, so that a dashboard in
a hidden tab, or one that is slow to read, keeps its socket. A device that reconnects takes over at once anyway."""

BACKLOG = 4096
"""Connections that wait to be accepted: a fleet of thousands reconnects within a second."""

SHUTDOWN_S = 5
"""Time for running requests at shutdown."""


def upgrade_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> ASGIApp:
    """Return the answer that rejects a WebSocket upgrade with a problem (extension websocket.http.response)."""
    answer = problem_response(status, detail, headers)

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        # uvicorn does not take this answer for the end of the handshake, and would log an error.
        scope["extensions"][EXTENSION].handshake_complete = True

    return respond


class Router:
    """Passes WebSockets to their endpoints and requests to the HTTP application, if the Host is one of the hub's."""

    def __init__(
        self,
        endpoints: Mapping[str, ASGIApp],
        http: ASGIApp,
        *,
        check: Callable[[Scope], None],
        refusals: RequestRefusals | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._http = http
        self._check = check
        self._refusals = refusals or RequestRefusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request."""
        is_websocket = scope["type"] == "websocket"
        endpoint = self._endpoints.get(scope["path"])
        application = endpoint if is_websocket else self._http
        try:
            self._check(scope)
            if application is None:
                known = ", ".join(self._endpoints)
                raise RequestRefused(
                    RefusalCause.UNKNOWN_PATH,
                    f"the WebSocket endpoints are {known}",
                    status=HTTPStatus.NOT_FOUND,
                )
            if endpoint is not None and not is_websocket:
                check_handshake(scope)
        except RequestRefused as refused:
            self._refusals.report_scope(scope, refused)
            respond = upgrade_response if is_websocket else problem_response
            application = respond(refused.status, refused.message, refused.headers)
        assert application is not None
        await application(scope, receive, send)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError if the address is in use or does not belong to this machine."""
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
        application: ASGIApp,
        listener: socket.socket,
        *,
        tls: PortTls | None = None,
        proxies: TrustedProxies = TrustedProxies(),  # noqa: B008 - immutable
        base_path: str = ROOT,
        compression: bool = False,
        patience_s: float = REQUEST_SECONDS,
        keep_alive_s: float = KEEP_ALIVE_SECONDS,
        progress_s: float = PROGRESS_SECONDS,
        refusals: RequestRefusals | None = None,
        shares: LoopShares | None = None,
        max_connections: int | None = None,
        long_bodies: LongBodies | None = None,
    ) -> None:
        # uvicorn's limit_concurrency also counts WebSockets, so a connected fleet would lock out the page and the API.
        # Instead, connections that wait for a request, and the cost of each, are bounded.
        refusals = refusals or RequestRefusals()
        shares = shares or LoopShares()
        turns = TurnQueues(shares)
        config = uvicorn.Config(
            ProxiedRequests(application, proxies=proxies, base_path=base_path),
            http=partial(  # type: ignore[arg-type]  # a class with its last arguments
                HttpConnection,
                refusals=refusals,
                turns=turns,
                proxies=proxies,
                waiting=WaitingConnections(max_connections),
                long_bodies=long_bodies,
                patience_s=patience_s,
                keep_alive_s=keep_alive_s,
                progress_s=progress_s,
            ),
            ws=partial(DirectWebSocket, shares=shares),  # type: ignore[arg-type]
            ws_max_size=limits.MAX_BATCH_BYTES,
            ws_ping_interval=PING_INTERVAL_S,
            ws_ping_timeout=PING_TIMEOUT_S,
            ws_per_message_deflate=compression,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
            backlog=BACKLOG,
        )
        self._server = uvicorn.Server(config)
        # The application handles signals: it has more to stop than the server.
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self._listener = listener
        self._tls = tls
        self._refusals = refusals
        self._turns = turns
        self._max_connections = max_connections
        self._proxies = proxies

    async def run(self) -> None:
        """Serve until cancelled, then finish running requests within SHUTDOWN_S."""
        tls = self._tls
        # Connections are accepted here: uvicorn's server has no bound of them in one turn, nor by address.
        serving = asyncio.create_task(self._server.serve([]), name="uvicorn")
        connections = self._server.server_state.connections
        acceptor = Acceptor(
            self._listener,
            turns=self._turns,
            refusals=self._refusals,
            proxies=self._proxies,
            max_connections=self._max_connections,
            open_connections=lambda: len(connections),
        )
        listener: PlainListener | TlsListener = (
            PlainListener(acceptor, self._make_protocol)
            if tls is None
            else TlsListener(acceptor, lambda: tls.context, self._refusals, self._make_protocol)
        )
        try:
            await listener.run()
        finally:
            self._listener.close()  # uvicorn closes only its own
            self._server.should_exit = True
            await serving

    def _make_protocol(self) -> asyncio.Protocol:
        """Return the protocol of a connection, as uvicorn makes one for those that it accepts itself."""
        config = self._server.config
        make: Any = config.http_protocol_class
        return make(config=config, server_state=self._server.server_state, app_state={})  # type: ignore[no-any-return]
