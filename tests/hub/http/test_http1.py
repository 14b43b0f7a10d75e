"""Tests of HTTP connections on a real server, byte by byte: every request gets an answer, and no client costs much."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from time import thread_time

import msgspec
import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from hub.http.authenticator import VERIFIED
from hub.http.forwarded import LOOPBACK, TrustedProxies
from hub.http.http1 import MAX_WAITING_BYTES
from hub.http.long_bodies import MAX_LONG_BODY_BYTES, LongBodies
from hub.http.loop_share import BURST_S, LoopShares
from hub.http.refusals import RequestRefused
from hub.http.request import MAX_BODY_BYTES, MAX_CHUNKS, MAX_HEAD_BYTES, MAX_HEADERS, MAX_LINE_BYTES
from tests.conditions import until
from tests.hub.http.raw_http import WHOLE_S, Client, calling, serving
from tests.tasks import running_task

HASTE_S = 0.2
"""The time limits of a server whose deadlines are tested."""

ANSWER_BYTES = 12 << 20
"""More than the buffers of two sockets hold."""

NO_SHARE = 1e-6
"""Share of an address that, after its burst, has each request wait for the longest delay, on a slow machine, too."""

LITTLE = 1 << 14
"""Bytes that a client without interest reads in advance."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run the tests on the hub's own event loop: what a transport does at its limits differs between loops."""
    return "asyncio", {"debug": True, "use_uvloop": True}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path and the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = f"{scope['path']} {length}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def head(fields: str = "Accept: */*", method: str = "POST", path: str = "/x") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n".encode()


def upgrade(fields: str = "", path: str = "/quiet") -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    lines = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
    return head(f"{lines}\r\n{fields}".rstrip(), "GET", path)


async def test_a_body_up_to_the_bound_reaches_its_endpoint() -> None:
    """With a length and in chunks; then the next request uses the same connection."""
    async with serving(echo) as port, calling(port) as client:
        client.writer.write(head(f"Content-Length: {MAX_BODY_BYTES}") + bytes(MAX_BODY_BYTES))
        assert (await client.answer())[::2] == (200, b"/x %d" % MAX_BODY_BYTES)
        client.writer.write(head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n" + b"2\r\nde\r\n0\r\n\r\n")
        assert (await client.answer())[::2] == (200, b"/x 5")
        client.writer.write(head("Accept: */*", "GET"))
        assert (await client.answer())[::2] == (200, b"/x 0")


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
    async with serving(echo) as port, calling(port) as client:
        client.writer.write(sent)
        status, headers, body = await client.answer()
        assert (status, headers["content-type"], headers["connection"]) == (413, "application/problem+json", "close")
        assert "at most 65536 bytes" in msgspec.json.decode(body)["detail"]
        assert await client.is_closed()


async def test_a_missing_body_ends_the_request() -> None:
    """The answer is a 408 problem, and the connection is closed."""
    async with serving(echo, patience_s=HASTE_S) as port, calling(port) as client:
        client.writer.write(head("Content-Length: 10") + b"abc")
        status, headers, _ = await client.answer()
        assert (status, headers["content-type"], headers["connection"]) == (408, "application/problem+json", "close")
        assert await client.is_closed()


async def test_a_connection_without_a_request_is_closed() -> None:
    """A new connection, and one whose request was answered. Browsers open connections that they may never use."""
    async with serving(echo, patience_s=HASTE_S, keep_alive_s=HASTE_S) as port:
        async with calling(port) as client:
            assert await client.is_closed()
        async with calling(port) as client:
            client.writer.write(head())
            assert (await client.answer()).status == 200
            assert await client.is_closed()


async def test_a_missing_head_ends_the_connection() -> None:
    """The answer is a 408 problem, for the first request and a later one. Bytes that trickle in do not extend it."""

    async def trickle(client: Client) -> None:
        while True:
            client.writer.write(b"a")
            await asyncio.sleep(HASTE_S / 10)

    async with serving(echo, patience_s=5 * HASTE_S) as port:
        for earlier in (b"", head()):
            async with calling(port) as client:
                client.writer.write(earlier)
                if earlier:
                    assert (await client.answer()).status == 200
                client.writer.write(b"GET / HTTP/1.1\r\nHost: local")
                trickling = asyncio.create_task(trickle(client))
                assert (await client.answer()).status == 408
                trickling.cancel()
                assert await client.is_closed()


async def test_a_connection_with_a_complete_head_has_no_time_limit() -> None:
    """A silent WebSocket stays open, while a younger silent connection is closed."""
    async with (
        serving(echo, patience_s=HASTE_S) as port,
        connect(f"ws://127.0.0.1:{port}/quiet", proxy=None, ping_interval=None) as socket,
    ):
        async with calling(port) as client:
            assert await client.is_closed()
        await (await socket.ping())


FIELD = "a: b"
REFUSED: dict[str, tuple[bytes, int]] = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "garbage": ("größer".encode()[2:], 400),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "nul": (head(path="/%00"), 400),
    "chunking": (head("Transfer-Encoding: chunked") + b"1\r\na\r\n" * (MAX_CHUNKS + 1), 413),
    **{
        f"{name}, {kind}": (make(fields), status)
        for kind, make in (("request", lambda fields: head(fields, "GET")), ("upgrade", upgrade))
        for name, fields, status in (
            ("line", f"Cookie: {'c' * MAX_LINE_BYTES}", 431),
            ("headers", "\r\n".join([FIELD] * MAX_HEADERS), 431),
            ("head", "\r\n".join([f"a: {'b' * (MAX_LINE_BYTES - 10)}"] * 3), 431),
            ("endless head", f"Cookie: {'c' * MAX_HEAD_BYTES * 10}", 431),
            ("large body", "Content-Length: 100000", 413),
            ("conflict", "Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        )
    },
    "target": (head(method="GET", path=f"/{'a' * 9000}"), 414),
    "upgrade target": (upgrade(path=f"/quiet?{'a' * 9000}"), 414),
    "upgrade body": (upgrade("Content-Length: 3") + b"abc", 400),
    "upgrade chunked": (upgrade("Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n", 400),
    "upgrade 1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
    "upgrade version": (upgrade().replace(b"Version: 13", b"Version: 12"), 426),
    "upgrade key": (upgrade().replace(b"-Key: ", b"-Key: a"), 400),
    "upgrade path": (upgrade(path="/other"), 404),
    "plain get": (head(method="GET", path="/quiet"), 426),
    "post": (head(path="/quiet"), 405),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_every_refused_request_gets_an_answer(sent: bytes, status: int) -> None:
    """The answer is a problem document, whether the request asks for a WebSocket or not; then the connection is closed.

    Nothing is logged as an error.
    """
    with capture_logs() as logs:
        async with serving(echo) as port, calling(port) as client:
            client.writer.write(sent)
            answer = await client.answer()
            assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
            problem = msgspec.json.decode(answer.body)
            assert (problem["status"], bool(problem["detail"]), bool(problem["code"])) == (status, True, True)
            assert "close" in answer.headers["connection"]
            assert await client.is_closed()
            if status == 426:
                assert answer.headers["upgrade"] == "websocket"
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error")]


@pytest.mark.parametrize("fields", [f"Cookie: {'c' * 9000}", "\r\n".join([FIELD] * 150)], ids=["cookies", "headers"])
async def test_a_large_head_reaches_the_application(fields: str) -> None:
    """9 kB of other servers' cookies on the same host, and many headers, for a request and for a WebSocket."""
    async with serving(echo) as port, calling(port) as client:
        client.writer.write(head(fields, "GET"))
        assert (await client.answer()).status == 200
        client.writer.write(upgrade(fields))
        assert (await client.answer()).status == 101


async def test_a_websocket_has_its_whole_request() -> None:
    """Its scope has the path, the query and every header; a frame that came with the request is delivered."""
    scopes: list[Scope] = []
    received: list[object] = []

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        received.append((await receive())["bytes"])

    async with serving(echo, endpoint) as port, calling(port) as client:
        frame = b"\x82\x83\x00\x00\x00\x00abc"
        client.writer.write(upgrade("Cookie: a=1\r\nCookie: b=\xe4", path="/quiet?q=%20") + frame)
        assert (await client.answer()).status == 101
        assert await client.is_closed()
    assert received == [b"abc"]
    (scope,) = scopes
    assert (scope["path"], scope["query_string"], scope["scheme"]) == ("/quiet", b"q=%20", "ws")
    assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1", "b=\xe4".encode()]


async def test_waiting_requests_are_answered_in_order() -> None:
    """Pipelined requests, with and without a body, also a WebSocket at the end."""
    async with serving(echo) as port, calling(port) as client:
        count = 200
        for number in range(count):
            body = bytes(number % 7)
            client.writer.write(head(f"Content-Length: {len(body)}", path=f"/{number}") + body)
        client.writer.write(upgrade())
        for number in range(count):
            assert (await client.answer()).body == f"/{number} {number % 7}".encode()
        assert (await client.answer()).status == 101


async def test_more_waiting_requests_than_the_bound_end_the_connection() -> None:
    """The running request is still answered. The client learns by the end that the others were not."""
    running, may_end = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        running.set()
        await may_end.wait()
        await echo(scope, receive, send)

    async with serving(slow) as port, calling(port) as client:
        client.writer.write(head(path="/first"))
        await running.wait()
        client.writer.write(head("a: b" + "b" * 1000) * (MAX_WAITING_BYTES // 1000 + 1))
        await asyncio.sleep(HASTE_S)
        may_end.set()
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"/first 0", "close")
        assert await client.is_closed()


async def test_the_connection_that_waits_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running request and a WebSocket do not count. A begun request gets a 503 problem."""
    monkeypatch.setattr("hub.http.waiting.MAX_WAITING_CONNECTIONS", 2)
    running, may_end = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        running.set()
        await may_end.wait()
        await echo(scope, receive, send)

    async with serving(slow) as port, calling(port) as busy, asyncio.timeout(WHOLE_S):
        busy.writer.write(head("Connection: close"))
        await running.wait()
        async with calling(port) as websocket:
            websocket.writer.write(upgrade())
            assert (await websocket.answer()).status == 101
            async with calling(port) as begun, calling(port) as silent:
                begun.writer.write(b"GET /")
                async with calling(port) as newer:
                    assert (await begun.answer()).status == 503
                    async with calling(port):
                        assert await silent.is_closed()
                        may_end.set()
                        assert (await busy.answer()).status == 200
                        newer.writer.write(head())
                        assert (await newer.answer()).status == 200


async def flood(client: Client, data: bytes) -> None:
    """Send until the server ends the connection."""
    while True:
        client.writer.write(data)
        await client.writer.drain()
        await asyncio.sleep(0)


async def test_a_refused_client_may_still_send() -> None:
    """A reset would take the answer from it."""
    async with serving(echo) as port, calling(port) as client:
        client.writer.write(b"\x00")
        assert (await client.answer()).status == 400
        for _ in range(3):
            client.writer.write(b"more")
            await client.writer.drain()
            await asyncio.sleep(HASTE_S / 4)
        assert await client.is_closed()


async def test_a_refused_client_that_sends_on_is_disconnected() -> None:
    """Its bytes are discarded for a moment, so that it can read the answer, but not forever."""
    async with serving(echo) as port, calling(port) as client, asyncio.timeout(WHOLE_S):
        client.writer.write(b"\x00")
        with pytest.raises(ConnectionError):
            await flood(client, bytes(MAX_WAITING_BYTES))


async def costly(scope: Scope, receive: Receive, send: Send) -> None:
    """Use the event loop for a while, except at /. Only the token "good" is verified; every answer is a success."""
    begin_s = thread_time()
    while scope["path"] != "/" and thread_time() - begin_s < BURST_S / 10:
        pass
    if (b"authorization", b"Bearer good") in scope["headers"]:
        scope["state"][VERIFIED] = True
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_only_a_client_without_a_valid_credential_has_a_share() -> None:
    """It waits once it has used it, also with a wrong token, while a client with a valid token continues."""
    order: list[str] = []

    async def request(port: int, name: str, fields: str, *, count: int = 20, path: str = "/costly") -> None:
        async with calling(port) as client:
            for _ in range(count):
                client.writer.write(head(fields, path=path))
                await client.answer()
        order.append(name)

    async with (
        serving(costly, shares=LoopShares(share=NO_SHARE)) as port,
        asyncio.timeout(WHOLE_S),
        running_task(request(port, "anonymous", "Accept: */*")),
        running_task(request(port, "wrong", "Authorization: Bearer bad")),
    ):
        await request(port, "valid", "Authorization: Bearer good", count=30, path="/")
        assert order == ["valid"]


async def test_each_client_of_a_trusted_proxy_has_its_own_share() -> None:
    """On connections of the proxy, one client's requests wait, and those of another do not."""
    order: list[str] = []

    async def request(client: Client, address: str, path: str) -> None:
        client.writer.write(head(f"X-Forwarded-For: {address}", path=path))
        await client.answer()
        order.append(address)

    proxies = TrustedProxies.of_settings(LOOPBACK, behind_proxy=True)
    shares = LoopShares(share=NO_SHARE)
    async with serving(costly, proxies=proxies, shares=shares) as port, calling(port) as one, calling(port) as other:
        for _ in range(11):
            await request(one, "192.0.2.1", "/costly")
        order.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(request(one, "192.0.2.1", "/"))
            tasks.create_task(request(other, "192.0.2.2", "/"))
    assert order == ["192.0.2.2", "192.0.2.1"]


async def large(_: Scope, receive: Receive, send: Send) -> None:
    """Answer with a large body in parts."""
    assert (await receive())["type"] == "http.request"
    part = bytes(1 << 16)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _part in range(ANSWER_BYTES // len(part)):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def at_once(_: Scope, receive: Receive, send: Send) -> None:
    """Answer with a large body in one part."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(ANSWER_BYTES)})


@pytest.mark.parametrize("application", [large, at_once])
@pytest.mark.parametrize("fields", ["Accept: */*", "Connection: close"], ids=["keep-alive", "close"])
async def test_a_client_that_does_not_read_is_disconnected(
    application: Callable[[Scope, Receive, Send], object], fields: str
) -> None:
    """Within the time for progress. The application sees the end, and its task ends."""
    ended = asyncio.Event()

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope, receive, send)  # type: ignore[misc]
        ended.set()

    async with serving(observed, progress_s=HASTE_S) as port, calling(port, limit=LITTLE) as client:
        client.writer.write(head(fields))
        async with asyncio.timeout(WHOLE_S):
            with pytest.raises(ConnectionError):
                await flood(client, b"G")
            await ended.wait()


async def test_a_slow_client_gets_its_whole_answer() -> None:
    """One that reads steadily, for several times the time for progress."""
    async with serving(large, progress_s=5 * HASTE_S) as port, calling(port, limit=LITTLE) as client:
        client.writer.write(head("Connection: close"))
        size = 0
        async with asyncio.timeout(WHOLE_S):
            while piece := await client.reader.read(1 << 19):
                size += len(piece)
                await asyncio.sleep(HASTE_S * 8 * len(piece) / ANSWER_BYTES)
        assert size > ANSWER_BYTES


async def test_waiting_requests_do_not_run_while_their_client_does_not_read() -> None:
    """Each answer would otherwise add to the memory of the ones before."""
    count = 0

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal count
        count += 1
        await at_once(scope, receive, send)

    async with serving(counted, progress_s=HASTE_S) as port, calling(port, limit=LITTLE) as client:
        client.writer.write(head() * 20)
        async with asyncio.timeout(WHOLE_S):
            with pytest.raises(ConnectionError):
                await flood(client, b"G")
        assert count == 1


async def test_a_failed_request_is_answered() -> None:
    """With a 500 problem if nothing was sent, else by the end of the connection. The log has the origin."""

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ValueError("deliberate")

    with capture_logs() as logs:
        async with serving(failing) as port:
            async with calling(port) as client:
                client.writer.write(head())
                assert (await client.answer()).status == 500
            async with calling(port) as client:
                client.writer.write(head(path="/late"))
                with pytest.raises(asyncio.IncompleteReadError):
                    await client.answer()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["request failed"] * 2


async def test_a_head_request_has_the_headers_only() -> None:
    """The length is that of a GET, and the next answer follows at once."""
    async with serving(echo) as port, calling(port) as client:
        client.writer.write(head(method="HEAD") + head(path="/next"))
        first = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert "content-length: 4" in first
        assert (await client.answer()).body == b"/next 0"


async def test_an_old_client_is_answered_and_closed() -> None:
    """HTTP/1.0 without a Host, and Connection: close."""
    async with serving(echo) as port:
        for sent in (b"GET /old HTTP/1.0\r\n\r\n", head("Connection: close", path="/old")):
            async with calling(port) as client:
                client.writer.write(sent)
                assert (await client.answer())[::2] == (200, b"/old 0")
                assert await client.is_closed()


LONG_BYTES = 4 << 20
"""A long body that the buffers of two sockets do not hold."""


def long_bodies(*, has_right: bool = True) -> LongBodies:
    """Return the admission of long bodies to /long."""

    async def may_write(_: Scope) -> bool:
        return has_right

    return LongBodies(("/long",), may_write)


async def test_a_client_with_the_right_may_send_a_long_body() -> None:
    """With a length, in chunks, and after a 100 (Continue); then the next request uses the same connection."""
    bodies = long_bodies()
    async with serving(echo, long_bodies=bodies) as port, calling(port) as client:
        client.writer.write(head(f"Content-Length: {LONG_BYTES}", path="/long") + bytes(LONG_BYTES))
        assert (await client.answer())[::2] == (200, b"/long %d" % LONG_BYTES)
        chunk = b"%x\r\n%s\r\n" % (1 << 16, bytes(1 << 16))
        client.writer.write(head("Transfer-Encoding: chunked", path="/base/long") + 20 * chunk + b"0\r\n\r\n")
        assert (await client.answer())[::2] == (200, b"/base/long %d" % (20 << 16))
        client.writer.write(head("Content-Length: 70000\r\nExpect: 100-continue", path="/long"))
        assert (await client.answer()).status == 100
        client.writer.write(bytes(70_000) + head("Accept: */*", "GET"))
        assert (await client.answer())[::2] == (200, b"/long 70000")
        assert (await client.answer())[::2] == (200, b"/x 0")
    assert bodies.total_bytes == 0


async def read_or_refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the status of the refusal of the body, or 204."""
    status = 204
    try:
        await receive()
    except RequestRefused as refused:
        status = refused.status
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("sent", "has_right", "status"),
    [
        (head("Content-Length: 70000", path="/long"), False, 401),
        (head("Content-Length: 70000\r\nExpect: 100-continue", path="/long"), False, 401),
        (head("Transfer-Encoding: chunked", path="/long") + b"3\r\nabc\r\n", False, 401),
        (head(f"Content-Length: {MAX_LONG_BODY_BYTES + 1}", path="/long"), True, 413),
        (head("Transfer-Encoding: chunked", path="/long") + b"%x\r\n" % (MAX_LONG_BODY_BYTES + 1), True, 413),
    ],
    ids=["length", "continue", "chunks", "too long", "too long a chunk"],
)
async def test_the_application_answers_for_a_body_that_is_not_read(sent: bytes, has_right: bool, status: int) -> None:
    """It learns why, never mistakes the body for an empty one, and the connection is closed after its answer."""
    bodies = long_bodies(has_right=has_right)
    async with serving(read_or_refuse, long_bodies=bodies) as port, calling(port) as client:
        client.writer.write(sent + bytes(1 << 16))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await client.is_closed()
    assert bodies.total_bytes == 0


async def test_the_bytes_of_all_long_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the bound gets a 503 with the time of the next attempt; a closed connection makes room."""
    monkeypatch.setattr("hub.http.long_bodies.MAX_ALL_BYTES", 150_000)
    bodies = long_bodies()
    async with serving(read_or_refuse, long_bodies=bodies) as port:
        async with calling(port) as first:
            first.writer.write(head("Content-Length: 120000", path="/long") + bytes(100_000))
            await until(lambda: bodies.total_bytes == 100_000)
            async with calling(port) as second:
                second.writer.write(head("Content-Length: 100000", path="/long") + bytes(99_999))
                assert (await second.answer()).status == 503
        await until(lambda: bodies.total_bytes == 0)
        async with calling(port) as third:
            third.writer.write(head("Content-Length: 100000", path="/long") + bytes(100_000))
            assert (await third.answer()).status == 204
