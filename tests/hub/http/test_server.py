"""Tests of the cost of an unauthenticated connection, on a real server and byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest
import structlog
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hub.http.refusals import RefusalReason, Refusals, RequestRefused
from hub.http.server import MAX_BODY_BYTES, Router, Server, listen
from tests.tasks import running_task

HASTE_S = 0.2
"""The time limit of the server under test."""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def quiet(_: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket and wait for its end."""
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


@contextlib.asynccontextmanager
async def serving(**how: float) -> AsyncIterator[int]:
    """Run a server and return its port."""
    listener = listen("127.0.0.1", 0)
    server = Server(Router({"/quiet": quiet}, echo, check=lambda scope: None), listener, **how)  # type: ignore[arg-type]
    running = asyncio.create_task(server.run())
    try:
        yield listener.getsockname()[1]
    finally:
        running.cancel()
        await asyncio.wait([running])


class Client(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        return int(status.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def is_closed(self) -> bool:
        """Wait until the server closes, and return whether it sent nothing more."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def calling(port: int) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        client.writer.transport.abort()


def head(fields: str, method: str = "POST") -> bytes:
    return f"{method} /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n".encode()


async def test_a_body_up_to_the_bound_reaches_its_endpoint() -> None:
    """With a length and in chunks; then the next request uses the same connection."""
    async with serving() as port, calling(port) as client:
        client.writer.write(head(f"Content-Length: {MAX_BODY_BYTES}") + bytes(MAX_BODY_BYTES))
        assert (await client.answer())[::2] == (200, str(MAX_BODY_BYTES).encode())
        client.writer.write(head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n" + b"2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[::2] == (200, b"5")
        client.writer.write(head("Accept: */*", "GET"))
        assert (await client.answer())[::2] == (200, b"0")


@pytest.mark.parametrize(
    "sent",
    [
        head("Content-Length: 500000000"),
        head("Content-Length: 500000000\r\nExpect: 100-continue"),
        head("Content-Length: 500000000", "GET"),
        head("Transfer-Encoding: chunked") + b"%x\r\n" % (1 << 20) + bytes(MAX_BODY_BYTES + 1),
    ],
    ids=["length", "continue", "get", "chunks"],
)
async def test_a_larger_body_is_rejected_before_it_is_sent(sent: bytes) -> None:
    """The answer is a 413 problem, before most of the body is sent, and the connection is closed."""
    async with serving() as port, calling(port) as client:
        client.writer.write(sent)
        status, headers, body = await client.answer()
        assert (status, headers["content-type"], headers["connection"]) == (413, "application/problem+json", "close")
        assert "at most 65536 bytes" in msgspec.json.decode(body)["detail"]
        assert await client.is_closed()


async def test_a_missing_body_ends_the_request() -> None:
    """The answer is a 408 problem, and the connection is closed."""
    async with serving(patience_s=HASTE_S) as port, calling(port) as client:
        client.writer.write(head("Content-Length: 10") + b"abc")
        status, headers, _ = await client.answer()
        assert (status, headers["content-type"], headers["connection"]) == (408, "application/problem+json", "close")
        assert await client.is_closed()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: local"], ids=["nothing", "half"])
async def test_a_missing_head_ends_the_connection(begun: bytes) -> None:
    """After nothing, after half a head, and also after a served request."""
    async with serving(patience_s=HASTE_S) as port:
        async with calling(port) as client:
            client.writer.write(begun)
            assert await client.is_closed()
        async with calling(port) as client:
            client.writer.write(head("Accept: */*", "GET"))
            await client.answer()
            client.writer.write(begun or b"G")
            assert await client.is_closed()


async def test_a_connection_with_a_complete_head_has_no_time_limit() -> None:
    """A silent WebSocket stays open, while a younger silent connection is closed."""
    async with (
        serving(patience_s=HASTE_S) as port,
        connect(f"ws://127.0.0.1:{port}/quiet", proxy=None, ping_interval=None) as socket,
    ):
        async with calling(port) as client:
            assert await client.is_closed()
        await (await socket.ping())


async def test_a_refused_upgrade_is_answered_with_a_problem_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line at level info for each reason, and none of uvicorn's errors."""

    def check(scope: Scope) -> None:
        if dict(scope["headers"]).get(b"x-for") == b"evil":
            raise RequestRefused(RefusalReason.HOST_NOT_ALLOWED, "this hub is not known as evil", "add it")

    refusals = Refusals()
    listener = listen("127.0.0.1", 0)
    server = Server(Router({"/quiet": quiet}, echo, check=check, refusals=refusals), listener)
    port = listener.getsockname()[1]
    with structlog.testing.capture_logs() as lines:
        async with running_task(server.run()):
            for path, host, status, detail in (
                ("/other", "localhost", 404, "the WebSocket endpoints are /quiet"),
                ("/quiet", "evil", 403, "this hub is not known as evil; add it"),
                ("/quiet", "evil", 403, "this hub is not known as evil; add it"),
            ):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(f"ws://127.0.0.1:{port}{path}", additional_headers={"X-For": host}, proxy=None)
                response = refused.value.response
                assert response.status_code == status
                assert response.headers["Content-Type"] == "application/problem+json"
                assert response.body is not None
                assert msgspec.json.decode(response.body)["detail"].startswith(detail)
    assert [(line["reason"], line["path"], line["peer"], line["log_level"]) for line in lines] == [
        ("unknown_path", "/other", "127.0.0.1", "info"),
        ("host_not_allowed", "/quiet", "127.0.0.1", "info"),
    ]
    assert refusals.counts == {RefusalReason.UNKNOWN_PATH: 1, RefusalReason.HOST_NOT_ALLOWED: 2}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
