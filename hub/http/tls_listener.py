"""Handshakes on the hub's TLS port: accept, perform a bounded number at a time, count and report those that fail.

Connections are accepted here and not by the event loop's server. That server answers nothing to a client that does
not speak TLS, does not report why a handshake failed, and starts any number of them.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from hub.http.acceptor import Acceptor
from hub.http.exchange import serialize
from hub.http.linger import LINGER_S
from hub.http.problem import problem_response
from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused
from wire.errors import Code

HANDSHAKE_SECONDS = 10.0
"""Time for a handshake, from the accepted connection on: two round trips and a slow device's signature."""

MAX_HANDSHAKES = 512
"""Handshakes at a time: 48 kB of memory each, 4 kB while the client is silent, so 25 MB. At the bound, one that lasts
longer than HURRIED_SECONDS is ended for the next client; until then, clients wait in the listener's queue."""

HURRIED_SECONDS = 2.0
"""Longest time for a handshake at the bound."""

LINGER_BYTES = 64 * 1024
"""Data that are read and discarded after an answer or an alert."""

PLAIN_HTTP = RequestRefused(
    RefusalCause.TLS_PLAIN_HTTP, "this port speaks TLS", code=Code.BAD_MESSAGE, status=HTTPStatus.BAD_REQUEST
)
"""The refusal of a request without TLS."""


def classify_failure(error: BaseException) -> RefusalCause:
    """Return the reason of a handshake that ended with this error. Pure."""
    if isinstance(error, TimeoutError):
        return RefusalCause.TLS_TIMEOUT
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusalCause.TLS_CLIENT_CERTIFICATE
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return (
            RefusalCause.TLS_CLOSED if isinstance(error, ConnectionError | ssl.SSLEOFError) else RefusalCause.TLS_FAILED
        )
    reason = (error.reason or "").upper().replace(" ", "_")
    return next((failure for part, failure in _PARTS_OF_REASONS if part in reason), RefusalCause.TLS_FAILED)


_PARTS_OF_REASONS = [
    ("ALERT_UNKNOWN_CA", RefusalCause.TLS_UNKNOWN_AUTHORITY),
    ("ALERT_BAD_CERTIFICATE", RefusalCause.TLS_CERTIFICATE_REJECTED),
    ("ALERT_CERTIFICATE", RefusalCause.TLS_CERTIFICATE_REJECTED),
    ("ALERT_UNSUPPORTED_CERTIFICATE", RefusalCause.TLS_CERTIFICATE_REJECTED),
    ("CERTIFICATE_VERIFY_FAILED", RefusalCause.TLS_CLIENT_CERTIFICATE),
    ("DID_NOT_RETURN_A_CERTIFICATE", RefusalCause.TLS_CLIENT_CERTIFICATE),
    ("UNSUPPORTED_PROTOCOL", RefusalCause.TLS_VERSION),
    ("PROTOCOL_VERSION", RefusalCause.TLS_VERSION),
    ("VERSION_TOO_LOW", RefusalCause.TLS_VERSION),
    ("NO_SHARED_CIPHER", RefusalCause.TLS_VERSION),
    ("INAPPROPRIATE_FALLBACK", RefusalCause.TLS_VERSION),
    ("HTTP_REQUEST", RefusalCause.TLS_PLAIN_HTTP),
    ("WRONG_VERSION_NUMBER", RefusalCause.TLS_NOT_TLS),
    ("RECORD", RefusalCause.TLS_NOT_TLS),
]
"""Part of the reason that OpenSSL gives, and what it means here; the first one that is found applies."""


OnAlert = Callable[[bytes], None]

_on_alert: ContextVar[OnAlert] = ContextVar("on_alert")
"""The callback of the connection whose handshake begins. The event loop runs it in the context of its task."""


class AlertingContext(ssl.SSLContext):
    """TLS settings of an event loop's server whose clients receive the alert that explains a failed handshake.

    asyncio and uvloop close the connection without the alert that OpenSSL has prepared.
    """

    def __init__(self, *_: object) -> None:
        self.sslobject_class = _AlertingObject

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **named: Any
    ) -> ssl.SSLObject:
        """Return an object for one handshake, which calls the callback of the context if it fails."""
        made = super().wrap_bio(incoming, outgoing, *arguments, **named)
        assert isinstance(made, _AlertingObject)
        made.outgoing, made.on_alert = outgoing, _on_alert.get(None)
        return made


class _AlertingObject(ssl.SSLObject):
    outgoing: ssl.MemoryBIO
    on_alert: OnAlert | None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.on_alert is not None and (alert := self.outgoing.read()):
                self.on_alert(alert)
            raise
        self.on_alert = None


class TlsListener:
    """Accepts connections, and makes a protocol for each one whose handshake succeeds; `run` ends by cancellation."""

    def __init__(
        self,
        acceptor: Acceptor,
        context: Callable[[], ssl.SSLContext],
        refusals: RequestRefusals,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        handshake_s: float = HANDSHAKE_SECONDS,
        max_handshakes: int = MAX_HANDSHAKES,
    ) -> None:
        self._acceptor = acceptor
        self._context = context
        self._refusals = refusals
        self._make_protocol = make_protocol
        self._handshake_s = handshake_s
        self._max_handshakes = max_handshakes
        self._handshakes: dict[asyncio.Task[None], asyncio.Timeout] = {}
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Accept connections until cancelled, then end the handshakes that are under way."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._room()
                connection, peer = await self._acceptor.accept()
                deadline = asyncio.timeout(self._handshake_s)
                task = loop.create_task(self._open(connection, peer, deadline))
                self._handshakes[task] = deadline
                task.add_done_callback(self._forget)
                # Handshakes proceed also while clients arrive without a pause.
                await asyncio.sleep(0)
        finally:
            self._acceptor.close()
            pending = list(self._handshakes)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._handshakes[task]
        self._ended.set()

    async def _room(self) -> None:
        """Wait until another handshake may begin: one ends, or the oldest one has lasted HURRIED_SECONDS."""
        loop = asyncio.get_running_loop()
        while len(self._handshakes) >= self._max_handshakes:
            oldest = next(iter(self._handshakes.values()))
            ends_s = oldest.when()
            hurried_s = loop.time() if ends_s is None else ends_s - self._handshake_s + HURRIED_SECONDS
            self._ended.clear()
            try:
                async with asyncio.timeout_at(hurried_s):
                    await self._ended.wait()
            except TimeoutError:
                # One that has failed, and only sends its alert, ends by itself within LINGER_S.
                with suppress(RuntimeError):
                    oldest.reschedule(loop.time())
                await self._ended.wait()

    async def _open(self, connection: socket.socket, peer: str, deadline: asyncio.Timeout) -> None:
        """Perform the handshake of one connection, and record why it fails."""
        is_ours = True
        copies: list[socket.socket] = []

        def send_alert(alert: bytes) -> None:
            # The event loop closes its socket at once, and what the client still sends would then discard the alert.
            copies.append(connection.dup())
            copies[0].send(alert)

        _on_alert.set(send_alert)
        try:
            async with deadline:
                first = await _first_byte(connection)
                if first.isalpha():
                    self._record(RefusalCause.TLS_PLAIN_HTTP, peer)
                    answer = serialize(problem_response(PLAIN_HTTP.status, PLAIN_HTTP.message), [])
                    await asyncio.get_running_loop().sock_sendall(connection, answer)
                    await _linger(connection)
                elif first:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    is_ours = False
                    await asyncio.get_running_loop().connect_accepted_socket(
                        self._make_protocol,
                        connection,
                        ssl=self._context(),
                        ssl_handshake_timeout=self._handshake_s,
                    )
        except OSError as error:
            self._record(classify_failure(error), peer, getattr(error, "reason", None) or str(error))
            if copies:
                await _linger(copies[0])
        finally:
            for own in [*copies, *([connection] if is_ours else [])]:
                own.close()

    def _record(self, reason: RefusalCause, peer: str, detail: str = "") -> None:
        self._refusals.report(reason, path="", peer=peer, detail=detail)


async def _first_byte(connection: socket.socket) -> bytes:
    """Wait for the first byte and leave it in the socket; b"" if the client closes instead."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        while True:
            with suppress(BlockingIOError):
                return connection.recv(1, socket.MSG_PEEK)
            readable.clear()
            await readable.wait()
    finally:
        loop.remove_reader(connection)


async def _linger(connection: socket.socket) -> None:
    """End the sending direction, and read what the client still sends until it closes."""
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES
    with suppress(OSError):
        async with asyncio.timeout(LINGER_S):
            connection.shutdown(socket.SHUT_WR)
            while left > 0 and (data := await loop.sock_recv(connection, left)):
                left -= len(data)
