"""HTTP/1.1 for uvicorn: an asyncio protocol that bounds what one connection costs the hub.

- Requests are read within the limits and the time of hub.http.request, also those that become WebSockets. A refused
  request is answered with a problem document; then the connection is closed.
- One request runs at a time. Requests that arrive meanwhile wait in the socket; each is processed in a turn of its own.
- A client that reads its answer too slowly is disconnected.

The module replaces uvicorn's own protocol, which hands an upgrade to the parser of websockets with other limits, and
never answers a request that this parser rejects. uvicorn calls the class as it calls its own, through
`uvicorn.Config(http=...)`, and needs `shutdown`. Of uvicorn, only the class of WebSockets is used: see `_switch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from time import thread_time
from typing import Any

import structlog
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.http11 import Request as HandshakeRequest

from hub.http.authenticator import is_verified
from hub.http.exchange import Exchange, serialize
from hub.http.forwarded import TrustedProxies, restore_client
from hub.http.handshake import check_handshake, wants_websocket
from hub.http.linger import LINGER_PAUSE_S, LINGER_S
from hub.http.long_bodies import MAX_LONG_BODY_BYTES, LongBodies
from hub.http.loop_share import CONNECTION_S, SHORT_TURN_PAUSE_S, TurnQueues
from hub.http.problem import ProblemCode, problem_response
from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused, client_of, peer_of
from hub.http.request import Request, RequestReader, Stage
from hub.http.tls import TRANSPORT
from hub.http.waiting import WaitingConnections

REQUEST_SECONDS = 20.0
"""Time to receive a request's head, after the connection or its first byte, and then its body. A phone with a weak
signal sends 64 KiB in that time. A client that sends a byte now and then would otherwise hold the socket forever."""

LONG_BODY_SECONDS = 120.0
"""Time to receive a long body. One of the usual size, 200 kB, arrives in that time at 14 kbit/s."""

KEEP_ALIVE_SECONDS = 5.0
"""Time between an answer and the first byte of the next request. The page and scripts send theirs at once."""

MAX_WAITING_BYTES = 64 * 1024
"""Received bytes that wait while a request runs: another head fits. With more, the connection is closed after the
answer, and the client has to repeat what was not answered (RFC 9112, 9.3.2)."""

REQUEST_S = 0.001
"""Time of the event loop that a request is charged when it begins. It is corrected when its time is known."""

UPGRADE_S = 0.003
"""Time of the event loop that a WebSocket is charged: its objects, its tasks, and its end without a token."""

PROGRESS_SECONDS = 30.0
MIN_PROGRESS_BYTES = 32 * 1024
"""A client has to read so many bytes of a waiting answer in that time, 1 kB/s. One that reads nothing would hold its
socket, up to one answer in memory, and for an export one of the store's few scans."""

SLOW = "read the answer faster, or request less"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

SURPLUS = "too many newer connections wait for a request, too"

log = structlog.get_logger(__name__)

REPLACED_HEAD = b"GET / HTTP/1.1\r\n\r\n"
"""A head for the parser of websockets, which then expects frames. The head that counts was validated here."""


class HttpConnection(asyncio.Protocol):
    """One connection: its requests, until it is closed or becomes a WebSocket."""

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        refusals: RequestRefusals,
        turns: TurnQueues,
        proxies: TrustedProxies,
        waiting: WaitingConnections,
        long_bodies: LongBodies | None = None,
        patience_s: float = REQUEST_SECONDS,
        keep_alive_s: float = KEEP_ALIVE_SECONDS,
        progress_s: float = PROGRESS_SECONDS,
    ) -> None:
        self.config = config
        self.server_state = server_state
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.writable = asyncio.Event()
        self.writable.set()
        self.keeps_alive = True
        self._refusals = refusals
        self._turns = turns
        self._shares = turns.shares
        self._proxies = proxies
        self._waiting = waiting
        self._patience_s = patience_s
        self._keep_alive_s = keep_alive_s
        self._progress_s = progress_s
        self._long_bodies = long_bodies
        self._reader = RequestReader() if long_bodies is None else RequestReader(long_bodies.may_be_long)
        self._client: tuple[str, int] | None = None
        self._peer = ""
        # True after an answer to a request with a valid credential.
        self._is_trusted = False
        self._is_proxy = False
        # True until its first turn.
        self._is_new = True
        # What the connection costs: its address was charged when it was accepted. That of a proxy is charged to the
        # client of its first request instead.
        self._paid_s = CONNECTION_S
        self._delay: asyncio.TimerHandle | None = None
        # The path of the latest request, which the log shows with a client that does not read its answer.
        self._path = ""
        self._exchange: Exchange | None = None
        self._is_reading = True
        # True from the start of a request until the next one may start.
        self._is_busy = False
        self._waits_for_writable = False
        # True once everything was answered, while received bytes are discarded.
        self._lingers = False
        self._stage: Stage | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._progress: asyncio.TimerHandle | None = None
        self._written = 0
        self._flushed = 0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self.transport = transport  # type: ignore[assignment]  # uvicorn's loops make transports of this kind
        self._client = get_remote_addr(transport)  # type: ignore[arg-type]
        self._peer = self._client[0] if self._client else ""
        self._is_proxy = self._proxies.is_proxy(self._peer)
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn calls `shutdown` only
        self._wait_for(Stage.HEAD, self._patience_s)

    def data_received(self, data: bytes) -> None:
        """Read requests, or keep the bytes until the current request is answered."""
        if self._lingers:
            self._pause()
            self._delay = self.loop.call_later(LINGER_PAUSE_S, self._resume)
            return
        self._reader.receive(data)
        if not self._is_busy:
            self._begin_turn()
            return
        self._pause()
        if self._exchange is not None and self._reader.waiting_bytes > MAX_WAITING_BYTES:
            self.keeps_alive = False
            self._reader.discard()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the current request."""
        self.server_state.connections.discard(self)
        self._wait_for(None, 0)
        self._turns.leave(self)
        self._cancel_timers()
        self._release_body()
        self.writable.set()
        if self._exchange is not None:
            self._exchange.disconnected.set()

    def pause_writing(self) -> None:
        """Let the answer wait: the client reads more slowly than the hub writes."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Continue the answer, or the next request."""
        self.writable.set()
        if self._waits_for_writable:
            self._waits_for_writable = False
            self._begin_turn()

    # Called by uvicorn.

    def shutdown(self) -> None:
        """Close the connection, after the answer to a running request."""
        self.keeps_alive = False
        if self._exchange is None:
            self.transport.close()

    # Reading.

    def _begin_turn(self) -> None:
        """Continue to read as soon as the client has read its answers and its address has a share of the loop left."""
        self._is_busy = True
        if self._is_ending:
            return
        if not self.writable.is_set():
            # The next answer would only add to one that the client does not read.
            self._waits_for_writable = True
            self._wait_for(None, 0)
            return
        if self._is_trusted or self._turns.has_room(self._peer, self.loop.time()):
            self._advance()
            return
        self._pause()
        if self._stage is None:
            # A connection in the queue waits like one without a request, and its time is bounded, too.
            self._wait_for(Stage.IDLE, self._patience_s)
        self._turns.wait(self._peer, self, self._advance, is_first=self._is_new)

    @property
    def _is_ending(self) -> bool:
        return self._lingers or self.transport.is_closing()

    def _advance(self) -> None:
        """Start the next request, or wait for the rest of it."""
        self._is_busy = self._is_new = False
        if self._is_ending:
            return
        begin_s = thread_time()
        request: Request | None = None
        refusal: RequestRefused | None = None
        try:
            request = self._reader.next_request()
            if self._long_bodies is not None and self._reader.stage is Stage.LONG_BODY:
                self._long_bodies.reserve(self, self._reader.body_bytes)
        except RequestRefused as refused:
            refusal = refused
            if self._reader.admitted is None:
                self._refuse(refused)
        spent_s = thread_time() - begin_s
        if request is not None:
            self._start(request, spent_s)
            return
        if not self._is_trusted:
            self._shares.charge(self._peer, spent_s, self.loop.time())
        if refusal is not None:
            if self._reader.admitted is not None:
                self._refuse_body(self._reader.admitted, refusal)
            return
        if (head := self._reader.to_admit) is not None:
            self._admit(head)
            return
        self._resume()
        if self._reader.must_continue():
            self.write(CONTINUE)
        stage = self._reader.stage
        if stage is not Stage.IDLE:
            self._wait_for(stage, LONG_BODY_SECONDS if stage is Stage.LONG_BODY else self._patience_s)
        elif self._stage is None:
            # Not on a new connection, which has one deadline for its first byte and the rest of the head.
            self._wait_for(stage, self._keep_alive_s)

    def _admit(self, head: Request) -> None:
        """Read nothing until the client of a long body is known."""
        self._wait_for(None, 0)
        self._is_busy = True
        self._pause()
        task = self.loop.create_task(self._finish_admission(head))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    async def _finish_admission(self, head: Request) -> None:
        """Read the long body of a client that may send it, or let the application answer without the body."""
        assert self._long_bodies is not None
        scope = self._scope(head)
        self._shares.charge(peer_of(scope), REQUEST_S, self.loop.time())
        try:
            await self._long_bodies.admit(scope)
            self._reader.admit(MAX_LONG_BODY_BYTES)
        except RequestRefused as refused:
            self._refuse_body(head, refused)
            return
        except Exception:
            # A defect of the hub ends the connection that met it, and no other.
            log.exception("admission of a long body failed")
            self.transport.abort()
            return
        self._shares.refund(peer_of(scope), REQUEST_S, self.loop.time())
        self._is_trusted = self._is_trusted or not self._is_proxy
        self._advance()

    def _refuse_body(self, head: Request, refused: RequestRefused) -> None:
        """Run a request whose body is not read: what asks for it gets the refusal. Then nothing can be read."""
        if self._is_ending:
            return
        self._pause()
        self._reader.discard()
        self._release_body()
        self.keeps_alive = False
        self._start(head, 0.0, refused)

    def _release_body(self) -> None:
        if self._long_bodies is not None:
            self._long_bodies.release(self)

    def _start(self, request: Request, spent_s: float, refused: RequestRefused | None = None) -> None:
        """Run a request that has already taken some time, or make it wait for its client's share of the loop.

        `refused` is why its body was not read.
        """
        self._wait_for(None, 0)
        self._is_busy = True
        exchange = Exchange(self, request, self._scope(request), spent_s, refused)
        # The connection of a trusted proxy has the requests of many clients.
        is_proxied = exchange.client != self._peer
        if is_proxied and not self._turns.has_room(exchange.client, self.loop.time()):
            self._pause()
            self._turns.wait(exchange.client, self, partial(self._run, exchange))
        else:
            self._run(exchange)

    def _run(self, exchange: Exchange) -> None:
        if self._is_ending:
            return
        request = exchange.request
        self._path = request.path
        if self._is_proxy:
            self._shares.charge(exchange.client, self._paid_s, self.loop.time())
        # Nobody knows yet whether its credential is valid.
        exchange.charged_s = exchange.spent_s + REQUEST_S
        self._shares.charge(exchange.client, exchange.charged_s, self.loop.time())
        if wants_websocket(request.headers) and self._is_handshake(exchange.scope):
            self._shares.charge(exchange.client, UPGRADE_S, self.loop.time())
            self._switch(request, exchange.charged_s + UPGRADE_S)
            return
        self._exchange = exchange
        task = self.loop.create_task(exchange.run(self.config.loaded_app))
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def _scope(self, request: Request) -> Scope:
        root = self.config.root_path
        scope: Scope = {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": request.version,
            "server": get_local_addr(self.transport),
            "client": self._client,
            "scheme": "https" if is_ssl(self.transport) else "http",
            "method": request.method,
            "root_path": root,
            "path": root + request.path,
            "raw_path": root.encode() + request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "state": self.app_state.copy(),
            "extensions": {TRANSPORT: self.transport},
        }
        restore_client(scope, self._proxies)
        return scope

    def end_exchange(self, exchange: Exchange) -> None:
        """Continue after a request. Its answer is not complete if the hub failed, or the client did not read it."""
        self._exchange = None
        self._release_body()
        self.server_state.total_requests += 1
        self._is_trusted = is_verified(exchange.scope)
        if self._is_trusted:
            self._shares.refund(exchange.client, exchange.charged_s + self._paid_s, self.loop.time())
        else:
            self._shares.charge(exchange.client, exchange.spent_s - exchange.charged_s, self.loop.time())
        if self._is_trusted or self._is_proxy:
            self._paid_s = 0.0
        if exchange.is_complete and self.keeps_alive:
            # In a turn of its own, so that a connection with many waiting requests gets one in each turn.
            self.loop.call_later(0 if self._is_trusted else SHORT_TURN_PAUSE_S, self._begin_turn)
        else:
            self._close()

    def _pause(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self.transport.pause_reading()

    def _resume(self) -> None:
        if not self._is_reading and not self.transport.is_closing():
            self._is_reading = True
            self.transport.resume_reading()

    # Time.

    def _wait_for(self, stage: Stage | None, seconds: float) -> None:
        """Close the connection if the stage lasts too long. Bytes do not extend the time of the same stage."""
        if stage is self._stage:
            return
        self._stage = stage
        self._waiting.remove(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if stage is not None:
            self._timer = self.loop.call_later(seconds, self._expire)
            surplus = self._waiting.add(self, None if self._is_proxy else client_of(self._peer))
            if surplus is not None:
                surplus.make_room()

    def make_room(self) -> None:
        """Close this connection for a newer one."""
        refused = RequestRefused(RefusalCause.TOO_MANY_CONNECTIONS, SURPLUS, status=HTTPStatus.SERVICE_UNAVAILABLE)
        if self._reader.stage is not Stage.IDLE:
            self._refuse(refused)
        else:
            self._report(refused)
            self._close()

    def _expire(self) -> None:
        self._timer = None
        if self._reader.stage is Stage.IDLE:
            self.transport.close()
            return
        if self._is_busy:
            self.make_room()
            return
        part = "head" if self._reader.stage is Stage.HEAD else "body"
        patience_s = LONG_BODY_SECONDS if self._reader.stage is Stage.LONG_BODY else self._patience_s
        what = f"the {part} of a request has to arrive within {patience_s:g} seconds"
        self._refuse(RequestRefused(RefusalCause.TOO_SLOW, what, status=HTTPStatus.REQUEST_TIMEOUT))

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._progress, self._delay):
            if timer is not None:
                timer.cancel()
        self._timer = self._progress = self._delay = None

    # Writing and closing.

    def write(self, data: bytes) -> None:
        """Write a part of an answer, and observe whether the client reads it."""
        self._written += len(data)
        self.transport.write(data)
        if self._progress is None and self.transport.get_write_buffer_size() > 0:
            self._flushed = self._written - self.transport.get_write_buffer_size()
            self._progress = self.loop.call_later(self._progress_s, self._check_progress)

    def _check_progress(self) -> None:
        self._progress = None
        waiting = self.transport.get_write_buffer_size()
        if waiting == 0:
            return
        flushed = self._written - waiting
        if flushed - self._flushed < MIN_PROGRESS_BYTES:
            self._report(RequestRefused(RefusalCause.TOO_SLOW, f"{waiting} bytes of the answer wait to be read", SLOW))
            self.transport.abort()
            return
        self._flushed = flushed
        self._progress = self.loop.call_later(self._progress_s, self._check_progress)

    def _report(self, refused: RequestRefused) -> None:
        self._refusals.report(
            refused.reason, path=self._path, peer=self._peer, remedy=refused.remedy, detail=refused.what
        )

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer a request that cannot be read, and close: nothing that follows it can be read."""
        self._path = ""
        self._report(refused)
        is_unknown = refused.status is HTTPStatus.NOT_IMPLEMENTED
        code = ProblemCode.WRONG_REQUEST if is_unknown else None
        response = problem_response(refused.status, refused.message, refused.headers, code)
        self.write(serialize(response, self.server_state.default_headers))
        self._reader.discard()
        self._close(lingers=True)

    def _close(self, *, lingers: bool = False) -> None:
        """Close after everything is sent. The client of a refused request may still be sending."""
        self._wait_for(None, 0)
        if self.transport.is_closing():
            return
        if not self._is_reading:
            # A close with bytes that were not read resets the connection, too.
            lingers = True
            self._resume()
        if not lingers or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._lingers = True
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self._end_linger)

    def _end_linger(self) -> None:
        self._timer = None
        if self.transport.get_write_buffer_size() > 0:
            # `_check_progress` bounds this.
            self._timer = self.loop.call_later(LINGER_S, self._end_linger)
        else:
            self.transport.close()

    # WebSockets.

    def _is_handshake(self, scope: Scope) -> bool:
        """Return whether the request becomes a WebSocket. Any other is answered by the application, with the reason."""
        try:
            check_handshake(scope)
        except RequestRefused:
            return False
        return self.config.ws_protocol_class is not None

    def _switch(self, request: Request, charged_s: float) -> None:
        """Hand the connection over to the class of WebSockets, with the request that was read here."""
        self._wait_for(None, 0)
        self._cancel_timers()
        self._resume()
        self.server_state.connections.discard(self)
        make: Callable[..., Any] = self.config.ws_protocol_class  # type: ignore[assignment]
        socket = make(config=self.config, server_state=self.server_state, app_state=self.app_state)
        # Given back when the client turns out to have a valid token.
        socket.paid_s = self._paid_s + charged_s
        self.transport.set_protocol(socket)
        socket.connection_made(self.transport)
        socket.conn.receive_data(REPLACED_HEAD)
        socket.conn.events_received()
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers])
        target = request.raw_path + (b"?" + request.query if request.query else b"")
        socket.handle_connect(HandshakeRequest(target.decode("ascii"), headers))
        early = self._reader.discard()
        if early:
            socket.data_received(early)
