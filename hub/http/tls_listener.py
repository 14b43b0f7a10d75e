"""Handshakes and records on the hub's TLS port: a bounded number at a time; those that fail are counted and reported.

Connections are accepted here and not by the event loop's server. That server answers nothing to a client that does
not speak TLS, does not report why a handshake failed, and starts any number of them.

Records without data never reach the protocol of the connection, which bounds and charges everything else. So they are
counted here. OpenSSL receives one record at a time, because in one call it reads all records up to the next data.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
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

MAX_RECORDS_WITHOUT_DATA = 32
RECORDS_WITHOUT_DATA_PER_S = 1
"""Records of an open connection without data that are accepted at once, and a second: updates of the key, warnings and
empty records. Clients update a key once in hours. Each update costs its sender 27 bytes and the hub up to 30 µs."""

MAX_HANDSHAKE_RECORDS = 64
"""Records of a client's handshake. The longest one has a chain of certificates, in records of 512 bytes or more."""

MAX_PIECES = 512
"""Reads of the socket that one record may take. The largest one has 16 kB, which is 32 bytes each."""

MAX_UNCHARGED_RECORDS = 256
"""Records of one read of the socket that are not charged: more are not made by data, but by records of a few bytes."""

RECORD_S = 10e-6
WITHOUT_DATA_S = 50e-6
"""Time of the event loop that is charged to the address for a record beyond those, and for one without data."""

RECORD_HEADER = 5
"""Bytes of a record before its content; the last two are the length (RFC 8446, 5.1)."""

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
    if isinstance(error, TooManyRecords):
        return RefusalCause.TLS_FLOOD
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


class TooManyRecords(ssl.SSLError):
    """A client sends more records without data, or smaller pieces of records, than any client needs."""

    def __str__(self) -> str:
        # SSLError shows the tuple of its arguments.
        return str(self.args[0])


@dataclass(slots=True)
class RecordBudget:
    """Counts of one connection's records. The methods raise TooManyRecords. Pure: the clock is an argument."""

    is_open: bool = False
    """True after the handshake."""
    without_data: float = 0.0
    """Records of the handshake; then the level of a leaky bucket (ITU-T I.371)."""
    measured_s: float = 0.0
    pieces: int = 0
    """Reads of the socket that the current record has taken."""

    def open(self, now_s: float) -> None:
        """Begin the counts of an open connection."""
        self.is_open, self.without_data, self.measured_s = True, 0.0, now_s

    def count_without_data(self, now_s: float) -> None:
        """Count a complete record that contains no data."""
        most = MAX_HANDSHAKE_RECORDS
        if self.is_open:
            most = MAX_RECORDS_WITHOUT_DATA
            leaked = (now_s - self.measured_s) * RECORDS_WITHOUT_DATA_PER_S
            self.without_data, self.measured_s = max(0.0, self.without_data - leaked), now_s
        self.without_data += 1
        if self.without_data > most:
            raise TooManyRecords(f"at most {most} TLS records without data are accepted at once")

    def count_piece(self, *, is_last: bool) -> None:
        """Count a piece of a record."""
        self.pieces = 0 if is_last else self.pieces + 1
        if self.pieces > MAX_PIECES:
            raise TooManyRecords(f"a TLS record may arrive in at most {MAX_PIECES} pieces")


@dataclass(slots=True, frozen=True)
class TlsCallbacks:
    """Callbacks of one connection: to send an alert, to report the end of an open one, to charge its address."""

    send_alert: Callable[[bytes], None]
    report: Callable[[TooManyRecords], None]
    charge: Callable[[float], None]


_callbacks: ContextVar[TlsCallbacks] = ContextVar("tls_callbacks")
"""The callbacks of the connection whose handshake begins. The event loop runs it in the context of its task."""


class BoundedContext(ssl.SSLContext):
    """TLS settings of an event loop's server whose connections have bounds and send the alert of a failed handshake.

    asyncio and uvloop close the connection without the alert that OpenSSL has prepared.
    """

    def __init__(self, *_: object) -> None:
        self.sslobject_class = _BoundedObject

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **named: Any
    ) -> ssl.SSLObject:
        """Return an object for one connection. It takes the callbacks from the context of its caller."""
        record = ssl.MemoryBIO()
        made = super().wrap_bio(record, outgoing, *arguments, **named)
        assert isinstance(made, _BoundedObject)
        made.begin(incoming, record, outgoing)
        return made


class _BoundedObject(ssl.SSLObject):
    """The TLS of one connection, which passes the bytes that arrive to OpenSSL record by record."""

    def begin(self, incoming: ssl.MemoryBIO, record: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._record, self._outgoing = incoming, record, outgoing
        self._callbacks = _callbacks.get(None)
        self._budget = RecordBudget()
        self._header = b""
        self._missing = 0
        self._records = 0

    def do_handshake(self) -> None:
        try:
            self._with_records(super().do_handshake)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self._callbacks is not None and (alert := self._outgoing.read()):
                self._callbacks.send_alert(alert)
            raise
        self._budget.open(time.monotonic())

    def read(self, *arguments: Any) -> Any:
        if self.pending():
            return super().read(*arguments)
        # A call without input would raise an error, which costs more than the rest.
        is_complete = self._pass_piece()
        data = self._with_records(super().read, *arguments, is_complete=is_complete)
        self._charge_records()
        return data

    def unwrap(self) -> Any:
        return self._with_records(super().unwrap)

    def _with_records(self, operation: Callable[..., Any], *arguments: Any, is_complete: bool = False) -> Any:
        """Call an operation until it succeeds or all bytes were passed. Raises what it raises, and TooManyRecords."""
        try:
            while True:
                try:
                    return operation(*arguments)
                except ssl.SSLWantReadError:
                    if is_complete:
                        self._charge(WITHOUT_DATA_S)
                        self._budget.count_without_data(time.monotonic())
                    if not self._incoming.pending:
                        raise
                is_complete = self._pass_piece()
        except TooManyRecords as error:
            if self._budget.is_open and self._callbacks is not None:
                self._callbacks.report(error)
            raise

    def _pass_piece(self) -> bool:
        """Pass what has arrived of the current record to OpenSSL; return whether the record is complete."""
        if not self._incoming.pending:
            self._records = 0
            return False
        if not self._missing:
            part = self._incoming.read(RECORD_HEADER - len(self._header))
            self._record.write(part)
            self._header += part
            if len(self._header) == RECORD_HEADER:
                self._missing = int.from_bytes(self._header[-2:])
                self._header = b""
        part = self._incoming.read(self._missing) if self._missing else b""
        self._record.write(part)
        self._missing -= len(part)
        is_last = not (self._missing or self._header)
        self._records += is_last
        self._budget.count_piece(is_last=is_last)
        return is_last

    def _charge_records(self) -> None:
        if self._records > MAX_UNCHARGED_RECORDS:
            self._charge(RECORD_S)

    def _charge(self, seconds: float) -> None:
        if self._callbacks is not None:
            self._callbacks.charge(seconds)


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

        def report(error: TooManyRecords) -> None:
            self._record(RefusalCause.TLS_FLOOD, peer, str(error))

        _callbacks.set(TlsCallbacks(send_alert, report, partial(self._acceptor.charge, peer)))
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
