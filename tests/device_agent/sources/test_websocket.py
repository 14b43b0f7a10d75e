"""A device that is a WebSocket server, on real sockets: its messages, its restarts, its certificate, and its floods."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from msgspec import ValidationError, convert
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from agent_client.websocket import MAX_FRAMES_PER_READ
from device_agent.sources.lines import MAX_MESSAGE_BYTES
from device_agent.sources.settings import SourceContext
from device_agent.sources.websocket import WebSocketSettings, parse_headers
from tests.certificates import LOOPBACK, Authority
from tests.conditions import until
from tests.device_agent.collected import Collected, collected

MANY = MAX_FRAMES_PER_READ + 100

Serve = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def device(serve_one: Serve, port: int = 0, **options: Any) -> AsyncIterator[int]:
    """A device that serves; its port."""

    async def handle(connection: ServerConnection) -> None:
        await serve_one(connection)
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", port, compression=None, close_timeout=1, **options) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def reading(url: str, *, retry_s: float = 0.01, **settings: object) -> AsyncIterator[Collected]:
    made = convert({"url": url, **settings}, WebSocketSettings, dec_hook=lambda kind, value: kind(value))
    source = made.source(SourceContext("boiler"))
    source._retry_s = retry_s
    async with collected(source) as found:
        yield found


async def test_messages_are_readings_in_any_format() -> None:
    """A message is one value or lines, as text or as bytes; it needs no line end, and a broken one costs itself."""

    async def send(connection: ServerConnection) -> None:
        for message in ('{"t": 21.5}', b'{"t": 22.5}\n{"t": 23.5}\n', '{\n "t": 24.5\n}', '{"t": ', '{"t": 25.5}'):
            await connection.send(message)

    async with device(send) as port, reading(f"ws://127.0.0.1:{port}/stream") as found:
        await found.until_values(*({"t": 21.5 + number} for number in range(5)))
    assert [refusal.code for refusal in found.refused] == ["syntax"]


async def test_other_formats_are_detected_from_the_first_messages() -> None:
    """A header in the first message counts for the others."""

    async def send(connection: ServerConnection) -> None:
        for message in ("time;t;h", *(f"{1795878000 + number};{number};40" for number in range(5))):
            await connection.send(message)

    async with device(send) as port, reading(f"ws://127.0.0.1:{port}") as found:
        await found.until_values(*({"t": number, "h": 40} for number in range(5)))
    assert found.counts.format == "csv"


async def test_pieces_of_a_stream_are_joined(tmp_path: Path) -> None:
    """Some bridges to a serial port send what they have, cut anywhere."""

    async def send(connection: ServerConnection) -> None:
        for message in ('5}\n{"t": 1}\n{"t', '": 2}\n', '{"t": 3}\n'):
            await connection.send(message)

    async with device(send) as port, reading(f"ws://127.0.0.1:{port}", stream=True) as found:
        await found.until_values({"t": 1}, {"t": 2}, {"t": 3})
    assert (found.refused, found.counts.skipped) == ([], 1)


async def test_a_device_gets_what_it_asks_for(tmp_path: Path) -> None:
    """Headers, also of a file, a subprotocol, and a first message, each time."""
    (tmp_path / "headers").write_text("Authorization: Bearer secret\n\n")
    connections: list[ServerConnection] = []

    async def send(connection: ServerConnection) -> None:
        connections.append(connection)
        assert await connection.recv() == '{"subscribe":"all"}'
        await connection.send(json.dumps({"t": len(connections)}))
        if len(connections) == 1:
            await connection.close(1012, "restart")

    settings: dict[str, Any] = {
        "send": ['{"subscribe":"all"}'],
        "headers": ["X-Site: north"],
        "header_file": str(tmp_path / "headers"),
        "subprotocols": ["v2.sensor", "v1.sensor"],
    }
    async with (
        device(send, subprotocols=[Subprotocol("v1.sensor")]) as port,
        reading(f"ws://127.0.0.1:{port}/a?key=1", **settings) as found,
    ):
        await found.until_values({"t": 1}, {"t": 2})
        assert found.source.health.name == f"ws://127.0.0.1:{port}/a"
    assert found.errors == ["no connection: the device closed the connection (1012): restart", None]
    for connection in connections:
        assert connection.request is not None
        assert (connection.request.path, connection.subprotocol) == ("/a?key=1", "v1.sensor")
        headers = connection.request.headers
        assert (headers["Authorization"], headers["X-Site"]) == ("Bearer secret", "north")


async def test_a_device_that_is_absent_is_a_failure_until_it_returns(unused_port: int) -> None:
    """The source connects by itself, also after the device has closed the connection in order."""

    async def send(connection: ServerConnection) -> None:
        await connection.send('{"t": 1}')
        await connection.close()

    async with reading(f"ws://127.0.0.1:{unused_port}") as found:
        await found.until_error("nothing listens there; is the device or the program running?")
        async with device(send, unused_port):
            await until(lambda: len(found.values) >= 2)
        await found.until_error("no connection: ")
    assert "no connection: the peer closed the connection" in found.errors


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "the device requires credentials: set a header, such as Authorization (HTTP 401)"),
        (404, "there is no WebSocket at this path of the device: check the URL (HTTP 404)"),
        (302, "the device does not answer as a WebSocket: check the URL (HTTP 302)"),
    ],
)
async def test_an_answer_that_is_no_upgrade_has_a_remedy(status: int, reason: str) -> None:
    """A redirect is not followed: it would take the headers elsewhere."""

    async def idle(connection: ServerConnection) -> None:
        pass

    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus(status), "no\n")
        response.headers["Location"] = "ws://127.0.0.1:1/"
        return response

    async with device(idle, process_request=refuse) as port, reading(f"ws://127.0.0.1:{port}") as found:
        await found.until_error(reason)


async def test_a_server_of_something_else_is_named() -> None:
    """It does not speak HTTP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, reading(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as found:
        await found.until_error("the device does not answer as a WebSocket: check the URL")


async def test_a_device_that_does_not_answer_pings_is_connected_again() -> None:
    """It may have lost its power; without pings a silence that is too long ends the connection."""
    connections = 0

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(OSError, EOFError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = re.findall(r"(?i)^sec-websocket-key: (\S+)", request, re.MULTILINE)[0]
            accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with reading(url, ping_s=0.1) as found:
            await until(lambda: connections >= 2 and any("set ping_s to 0" in (error or "") for error in found.errors))
        async with reading(url, ping_s=0, silence_s=0.1) as found:
            await found.until_error("nothing arrived for 0.1 s")


async def test_a_message_that_is_too_large_ends_the_connection() -> None:
    """The bound is a part of the error; the next connection is read."""
    sent = 0

    async def send(connection: ServerConnection) -> None:
        nonlocal sent
        sent += 1
        await connection.send("[" + " " * MAX_MESSAGE_BYTES + "]" if sent == 1 else '{"t": 1}')

    async with device(send) as port, reading(f"ws://127.0.0.1:{port}") as found:
        await found.until_values({"t": 1})
    assert found.errors[0] == f"no connection: the device sent a message of more than {MAX_MESSAGE_BYTES:,} bytes"


async def test_a_flood_of_pings_ends_the_connection() -> None:
    """Each would be answered. Many messages at once are no flood: a device may be that fast."""
    connections = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        connection.transport.write(b"".join(b"\x81\x01%d" % (number % 10) for number in range(MANY)))
        if connections == 1:
            connection.transport.write(b"\x89\x00" * 50_000)

    async with device(flood) as port, reading(f"ws://127.0.0.1:{port}", rules={"format": "value"}) as found:
        await until(lambda: connections == 2 and len(found.values) >= MANY)
    assert "more pings and pongs than a device does" in (found.errors[0] or "")


async def test_tls_trusts_an_authority_or_one_certificate(tmp_path: Path) -> None:
    """Devices sign their certificates themselves, and for any name."""
    # In debug mode asyncio reports each handshake that a client of this test's server ends.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    authority = Authority(tmp_path / "ca")
    named, other = authority.issue("device", *LOOPBACK), authority.issue("other", "DNS:sensor.local")

    async def send(connection: ServerConnection) -> None:
        await connection.send('{"t": 1}')

    for issued, settings, reason in (
        (named, {"ca": str(authority.certificate)}, ""),
        (other, {"pin": str(other.certificate)}, ""),
        (named, {}, "the device's certificate is not accepted (unable to get local issuer certificate)"),
        (other, {"ca": str(authority.certificate)}, "the device's certificate is not accepted (IP address mismatch"),
        (named, {"pin": str(other.certificate)}, "the device's certificate is not accepted"),
        (named, {"ca": str(tmp_path / "none")}, f"ca {tmp_path / 'none'}: No such file or directory"),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        async with (
            device(send, ssl=context) as port,
            reading(f"wss://127.0.0.1:{port}", retry_s=600, **settings) as found,
        ):
            await (found.until_error(reason) if reason else found.until_values({"t": 1}))
    async with device(send) as port, reading(f"wss://127.0.0.1:{port}") as found:
        await found.until_error("is it ws:// instead of wss://?")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "http://x"}, "is not the URL of a WebSocket: write ws://HOST/PATH or wss://HOST/PATH"),
        ({"url": "ws://"}, "is not the URL of a WebSocket"),
        ({"url": "ws://x/#a"}, "is not the URL of a WebSocket"),
        ({"url": "ws://u:p@x/"}, "the URL contains a password: set the header Authorization instead"),
        ({"url": "ws://x", "headers": ["secret"]}, "the header 'secret' is not valid: write Name: value"),
        ({"url": "ws://x", "pin": "f"}, "ca and pin are for a URL with wss://"),
        ({"url": "wss://x", "pin": "f", "ca": "g"}, "ca and pin exclude each other"),
        ({"url": "ws://x", "ping_s": -1}, "Expected `float` >= 0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, object], reason: str) -> None:
    """Each names the value, and never a secret."""
    with pytest.raises(ValidationError, match=reason):
        convert(settings, WebSocketSettings, dec_hook=lambda kind, value: kind(value))


@pytest.mark.parametrize("line", ["a", "a b: c", ": c", "a: b\r\nc: d", "a: \0", "a: €"])
def test_a_header_cannot_contain_others(line: str) -> None:
    """Its value is not in the error."""
    with pytest.raises(ValueError, match="is not valid: write Name: value"):
        parse_headers([line])


def test_problems_are_those_of_the_files(tmp_path: Path) -> None:
    """They are found before the source starts."""
    missing = WebSocketSettings(url="wss://x", header_file=tmp_path / "none")
    assert [key for key, _ in missing.problems()] == ["url"]
    assert list(WebSocketSettings(url="ws://x").problems()) == []
