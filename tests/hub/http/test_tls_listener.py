"""Handshakes on the TLS port, on real sockets: what succeeds, what is refused and why, and the bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import structlog

from hub.http.acceptor import Acceptor
from hub.http.certificate import TlsFiles, load_tls
from hub.http.loop_share import CONNECTION_S, LoopShares, TurnQueues
from hub.http.refusals import RefusalCause, RequestRefusals
from hub.http.server import listen
from hub.http.tls_listener import (
    HURRIED_SECONDS,
    MAX_HANDSHAKE_RECORDS,
    MAX_PIECES,
    MAX_RECORDS_WITHOUT_DATA,
    RECORDS_WITHOUT_DATA_PER_S,
    WITHOUT_DATA_S,
    RecordBudget,
    TlsListener,
    TooManyRecords,
    classify_failure,
)
from tests.certificates import LOOPBACK, Authority, Issued
from tests.conditions import until
from tests.raw_tls import RawTls
from tests.tasks import running_task


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class CountedShares(LoopShares):
    """Shares with the sum of what was charged."""

    charged_s = 0.0

    def charge(self, address: str, seconds: float, now_s: float) -> None:
        self.charged_s += seconds
        super().charge(address, seconds, now_s)


class Port:
    """A TLS port under test; `refusals` has what it refused."""

    def __init__(self, server: Issued, authority: Authority, *, client_ca: bool = False, **bounds: float) -> None:
        files = TlsFiles(*server, client_ca=authority.certificate if client_ca else None)
        self.context = load_tls(files).context
        self.trusting = ssl.create_default_context(cafile=authority.certificate)
        self.refusals = RequestRefusals()
        self.shares = CountedShares()
        self._bounds = bounds

    @contextlib.asynccontextmanager
    async def listening(self, make_protocol: type[Echo] = Echo) -> AsyncIterator[Port]:
        with contextlib.closing(listen("127.0.0.1", 0)) as listener:
            self.address: tuple[str, int] = listener.getsockname()
            acceptor = Acceptor(listener, turns=TurnQueues(self.shares), refusals=self.refusals)
            serving = TlsListener(acceptor, lambda: self.context, self.refusals, make_protocol, **self._bounds)  # type: ignore[arg-type]
            async with running_task(serving.run()):
                yield self

    async def echo(self, context: ssl.SSLContext | None = None) -> bytes:
        """Return what comes back over a new connection."""
        reader, writer = await asyncio.open_connection(*self.address, ssl=context or self.trusting)
        try:
            writer.write(b"hello")
            return await reader.readexactly(5)
        finally:
            writer.transport.abort()

    async def refused(self, reason: RefusalCause) -> None:
        """Wait until a client was refused for this reason, and for no other one."""
        await until(lambda: self.refusals.counts)
        assert dict(self.refusals.counts) == {reason: 1}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Issued:
    return authority.issue("hub", *LOOPBACK)


def connect_in_clear_text(port: Port) -> socket.socket:
    return socket.create_connection(port.address)


async def test_a_handshake_gives_the_connection_to_its_protocol(authority: Authority, server: Issued) -> None:
    """Nothing is refused."""
    async with Port(server, authority).listening() as port:
        assert await port.echo() == b"hello"
        assert not port.refusals.counts


async def test_plain_http_gets_an_answer(authority: Authority, server: Issued) -> None:
    """The answer is 400 with a sentence. A client that still sends its body is not reset, and reads the answer."""
    async with Port(server, authority).listening() as port:
        reader, writer = await asyncio.open_connection(*port.address)
        writer.write(b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        for _ in range(10):
            writer.write(2_000 * b"x")
            await writer.drain()
            await asyncio.sleep(0.01)  # a reset would arrive
        writer.close()
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert json.loads(body)["detail"] == "this port speaks TLS; use https:// or wss:// in the client's URL"
        await port.refused(RefusalCause.TLS_PLAIN_HTTP)


async def test_other_protocols_are_refused(authority: Authority, server: Issued) -> None:
    """The connection ends, after an alert."""
    async with Port(server, authority).listening() as port:
        reader, writer = await asyncio.open_connection(*port.address)
        writer.write(b"\x10\x2e\x00\x04MQTT\x05" + 40 * b"\x00")
        await reader.read()
        writer.close()
        await port.refused(RefusalCause.TLS_NOT_TLS)


async def test_a_client_that_does_not_know_the_authority_is_reported(authority: Authority, server: Issued) -> None:
    """Its alert is the reason. Its address and the remedy are in the one log line."""
    unknowing = ssl.create_default_context()
    async with Port(server, authority).listening() as port:
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                # The client of Python's own sockets sends the alert; that of asyncio does not.
                with pytest.raises(ssl.SSLCertVerificationError):
                    await asyncio.to_thread(_shake_hands, port, unknowing)
            await until(lambda: port.refusals.counts[RefusalCause.TLS_UNKNOWN_AUTHORITY] == 3)
    (line,) = lines
    assert (line["reason"], line["peer"], line["log_level"]) == ("tls_unknown_authority", "127.0.0.1", "info")
    assert line["remedy"] == "give the client the authority of the hub's certificate: --ca FILE"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("owner", "ends", "alert"), [("other", 30, "UNKNOWN_CA"), ("own", -1, "ALERT_CERTIFICATE_EXPIRED")]
)
async def test_a_client_whose_certificate_is_refused_receives_the_reason(
    authority: Authority,
    server: Issued,
    version: ssl.TLSVersion,
    owner: str,
    ends: int,
    alert: str,
) -> None:
    """The alert arrives before the end of the connection, although the client has sent a request already."""
    by = authority if owner == "own" else Authority(authority.certificate.parent / f"other-{version.name}")
    own = by.issue("client", begins=timedelta(days=-3), ends=timedelta(days=ends))
    async with Port(server, authority, client_ca=True).listening() as port:
        port.trusting.load_cert_chain(*own)
        port.trusting.maximum_version = version
        with pytest.raises(ssl.SSLError) as error:
            await asyncio.to_thread(_shake_hands, port, port.trusting)
        assert alert in str(error.value.reason)
        await port.refused(RefusalCause.TLS_CLIENT_CERTIFICATE)


async def test_a_client_certificate_is_optional_for_the_handshake(authority: Authority, server: Issued) -> None:
    """Browsers have none. The endpoint of devices asks for it."""
    async with Port(server, authority, client_ca=True).listening() as port:
        assert await port.echo() == b"hello"
        port.trusting.load_cert_chain(*authority.issue("client"))
        assert await port.echo() == b"hello"


async def test_an_old_version_of_tls_is_refused(authority: Authority, server: Issued) -> None:
    """The hub speaks TLS 1.2 and 1.3."""
    async with Port(server, authority).listening() as port:
        # A hello of TLS 1.1 with one cipher suite and no extension.
        hello = b"\x03\x02" + 32 * b"\x00" + b"\x00" + b"\x00\x02\xc0\x13" + b"\x01\x00"
        reader, writer = await asyncio.open_connection(*port.address)
        writer.write(b"\x16\x03\x01\x00" + bytes([len(hello) + 4]) + b"\x01\x00\x00" + bytes([len(hello)]) + hello)
        assert await reader.read() == b"\x15\x03\x02\x00\x02\x02\x46"  # a fatal alert: protocol_version
        writer.close()
        await port.refused(RefusalCause.TLS_VERSION)


@pytest.mark.parametrize("beginning", [b"", b"\x16", b"\x16\x03\x01\x02\x00"])
async def test_a_handshake_that_never_ends_is_ended(authority: Authority, server: Issued, beginning: bytes) -> None:
    """A client that sends nothing, or only a beginning, is disconnected after the time for a handshake."""
    async with Port(server, authority, handshake_s=0.3).listening() as port:
        reader, writer = await asyncio.open_connection(*port.address)
        writer.write(beginning)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await port.refused(RefusalCause.TLS_TIMEOUT)


async def test_a_connection_without_data_is_no_failure(authority: Authority, server: Issued) -> None:
    """Load balancers check a port in this way. A client that hangs up during the handshake is counted."""
    async with Port(server, authority).listening() as port:
        connect_in_clear_text(port).close()
        connection = connect_in_clear_text(port)
        connection.sendall(b"\x16\x03\x01")
        connection.close()
        await port.refused(RefusalCause.TLS_CLOSED)


async def test_silent_clients_do_not_lock_others_out(authority: Authority, server: Issued) -> None:
    """At the bound, the oldest handshake is ended after a short time, and not after the time for a handshake."""
    async with Port(server, authority, handshake_s=600, max_handshakes=3).listening() as port:
        with contextlib.ExitStack() as silent:
            for _ in range(6):
                silent.enter_context(connect_in_clear_text(port))
            began_s = asyncio.get_running_loop().time()
            assert await port.echo() == b"hello"
            assert asyncio.get_running_loop().time() - began_s > HURRIED_SECONDS / 2
            assert port.refusals.counts[RefusalCause.TLS_TIMEOUT] >= 4


async def test_a_new_context_is_for_new_connections(authority: Authority, server: Issued) -> None:
    """An open connection continues with the old certificate, and the next one gets the new one."""
    async with Port(server, authority).listening() as port:
        reader, writer = await asyncio.open_connection(*port.address, ssl=port.trusting)
        port.context = load_tls(TlsFiles(*authority.issue("renewed", *LOOPBACK))).context
        _, newer = await asyncio.open_connection(*port.address, ssl=port.trusting)
        serials = [stream.get_extra_info("peercert")["serialNumber"] for stream in (writer, newer)]
        assert serials[0] != serials[1]
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        for stream in (writer, newer):
            stream.transport.abort()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), RefusalCause.TLS_TIMEOUT),
        (ConnectionResetError(), RefusalCause.TLS_CLOSED),
        (ssl.SSLEOFError(), RefusalCause.TLS_CLOSED),
        (ssl.SSLCertVerificationError(), RefusalCause.TLS_CLIENT_CERTIFICATE),
        ("PEER_DID_NOT_RETURN_A_CERTIFICATE", RefusalCause.TLS_CLIENT_CERTIFICATE),
        ("TLSV1_ALERT_UNKNOWN_CA", RefusalCause.TLS_UNKNOWN_AUTHORITY),
        ("SSLV3_ALERT_BAD_CERTIFICATE", RefusalCause.TLS_CERTIFICATE_REJECTED),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", RefusalCause.TLS_CERTIFICATE_REJECTED),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", RefusalCause.TLS_CERTIFICATE_REJECTED),
        ("UNSUPPORTED_PROTOCOL", RefusalCause.TLS_VERSION),
        ("NO_SHARED_CIPHER", RefusalCause.TLS_VERSION),
        ("WRONG_VERSION_NUMBER", RefusalCause.TLS_NOT_TLS),
        ("record layer failure", RefusalCause.TLS_NOT_TLS),
        ("INTERNAL_ERROR", RefusalCause.TLS_FAILED),
        (OSError(5, "x"), RefusalCause.TLS_FAILED),
    ],
)
def test_each_error_has_a_reason(error: BaseException | str, reason: RefusalCause) -> None:
    """OpenSSL's own reason decides, in the wording of any version."""
    if isinstance(error, str):
        given, error = error, ssl.SSLError(1, "x")
        error.reason = given
    assert classify_failure(error) is reason


async def send_records(port: Port, *, updates: int, data: bytes = b"", piece: int = 1 << 20) -> bytes:
    """Return the bytes that come back: of a client that sends these records with the end of its handshake."""

    def send() -> bytes:
        client = RawTls(port.address)
        try:
            records = b"".join(client.data(bytes([byte])) + client.key_updates(1) for byte in data)
            records += client.key_updates(updates) + client.data(b"end")
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.connection.sendall(client.finished)
            for at in range(0, len(records), piece):
                client.connection.sendall(records[at : at + piece])
            client.connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := client.connection.recv(1 << 16):
                received += part
            return received
        except OSError:
            return b""
        finally:
            client.close()

    return await asyncio.to_thread(send)


async def test_a_client_may_update_its_key(authority: Authority, server: Issued) -> None:
    """Its data arrive, also in pieces of one byte, and nothing is refused."""
    async with Port(server, authority).listening() as port:
        for piece in (1, 1 << 20):
            assert await send_records(port, updates=MAX_RECORDS_WITHOUT_DATA // 2, data=b"abc", piece=piece)
        assert not port.refusals.counts


@pytest.mark.parametrize("data", [b"", 2_000 * b"x"], ids=["alone", "between data"])
async def test_a_flood_of_records_without_data_is_ended(authority: Authority, server: Issued, data: bytes) -> None:
    """The connection ends at the bound, however much has arrived. The address is charged, and one line is logged."""
    ended: list[Exception | None] = []

    class Ending(Echo):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.append(exc)

    async with Port(server, authority).listening(Ending) as port:
        with structlog.testing.capture_logs() as lines:
            for _ in range(2):
                await send_records(port, updates=2_000, data=data)
            await until(lambda: len(ended) == 2)
        assert all(isinstance(error, TooManyRecords) for error in ended)
        assert dict(port.refusals.counts) == {RefusalCause.TLS_FLOOD: 2}
        (line,) = [line for line in lines if line["event"] == "request refused"]
        assert (line["reason"], line["peer"]) == ("tls_flood", "127.0.0.1")
        assert line["detail"] == "at most 32 TLS records without data are accepted at once"
        # No record behind the bound was read. Those of the handshake count, too.
        records = (port.shares.charged_s / 2 - CONNECTION_S) / WITHOUT_DATA_S
        assert MAX_RECORDS_WITHOUT_DATA <= records < 2 * MAX_RECORDS_WITHOUT_DATA


async def test_a_handshake_in_tiny_records_is_ended(authority: Authority, server: Issued) -> None:
    """A message of a handshake may be split into records, but not into one for each byte."""
    async with Port(server, authority).listening() as port:
        reader, writer = await asyncio.open_connection(*port.address)
        # The beginning of a hello that is 4 kB long.
        for byte in b"\x01\x00\x10\x00\x03\x03" + 2 * MAX_HANDSHAKE_RECORDS * b"\x00":
            writer.write(b"\x16\x03\x01\x00\x01" + bytes([byte]))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        await port.refused(RefusalCause.TLS_FLOOD)


def test_a_record_has_a_bounded_number_of_pieces() -> None:
    """The bound is for each record."""
    budget = RecordBudget()
    for _ in range(3):
        for _ in range(MAX_PIECES):
            budget.count_piece(is_last=False)
        budget.count_piece(is_last=True)
    for _ in range(MAX_PIECES):
        budget.count_piece(is_last=False)
    with pytest.raises(TooManyRecords):
        budget.count_piece(is_last=False)


def test_records_without_data_are_accepted_at_a_rate() -> None:
    """After the burst, one is accepted whenever the time for it has passed."""
    budget = RecordBudget()
    budget.open(0.0)
    for _ in range(MAX_RECORDS_WITHOUT_DATA):
        budget.count_without_data(0.0)
    for number in range(1, 100):
        budget.count_without_data(number / RECORDS_WITHOUT_DATA_PER_S)
    with pytest.raises(TooManyRecords):
        budget.count_without_data(99.5 / RECORDS_WITHOUT_DATA_PER_S)


def _shake_hands(port: Port, context: ssl.SSLContext) -> None:
    """Perform a handshake, send a request and wait for the answer, which is an alert."""
    with (
        socket.create_connection(port.address) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        secured.sendall(b"GET / HTTP/1.1\r\n\r\n")
        secured.recv(1)
