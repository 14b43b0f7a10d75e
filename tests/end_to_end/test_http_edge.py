"""Tests of a real hub whose port is used by programs that are no clients of it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.end_to_end.browser import open_browser, open_page
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.witness import MAX_PROCESSOR, check_not_delayed, churning, flooding

ENDPOINTS = ("/v1/device", "/v1/live", "/v1/plain")


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path_factory.mktemp("hub") / "data") as hub:
        yield hub


def head(path: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/{version}", "Host: localhost", *fields, "", "")).encode()


def upgrade(path: str, *fields: str, ws_version: int = 13, **other: str) -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    needed = "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Version: {ws_version}"
    return head(path, *needed, f"Sec-WebSocket-Key: {key}", *fields, **other)


async def exchange(hub: Hub, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return status, headers and body of the answer, after which the hub closes the connection."""
    host, _, port = hub.url.partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    try:
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}, body


REFUSED: dict[str, tuple[bytes, int]] = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "garbage": ("größer als".encode()[2:], 400),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "nul": (head("/%00"), 400),
    "head": (head("/", *[f"Cookie: {'c' * 30_000}"] * 3), 431),
    "chunks": (head("/", "Transfer-Encoding: chunked") + b"1\r\na\r\n" * 2000, 413),
    **{
        f"{path} {name}": refused
        for path in ENDPOINTS
        for name, refused in {
            "line": (upgrade(path, f"Cookie: {'c' * 40_000}"), 431),
            "headers": (upgrade(path, *["a: b"] * 200), 431),
            "target": (upgrade(f"{path}?{'a' * 9000}"), 414),
            "body": (upgrade(path, "Content-Length: 3") + b"abc", 400),
            "version": (upgrade(path, ws_version=8), 426),
            "old": (upgrade(path, version="1.0"), 426),
            "key": (upgrade(path).replace(b"-Key: ", b"-Key: a"), 400),
            "subprotocol": (upgrade(path, "Sec-WebSocket-Protocol: a b"), 400),
            "no subprotocol": (upgrade(path, "Sec-WebSocket-Protocol: "), 400),
            "connection": (upgrade(path).replace(b"Connection: Upgrade", b"Connection: Upgrade, a b"), 400),
            "plain": (head(path), 426),
            "post": (head(path, "Content-Length: 2", method="POST") + b"{}", 405),
        }.items()
    },
    "upgrade at a page": (upgrade("/flow"), 404),
    "upgrade elsewhere": (upgrade("/v1/other"), 404),
    "unknown": (head("/nothing", "Connection: close"), 404),
    "slashes": (head("//", "Connection: close"), 404),
    "parent": (head("/../../etc/passwd", "Connection: close"), 404),
    "long name": (head(f"/assets/{'a' * 5000}", "Connection: close"), 404),
}


async def test_every_refused_request_is_answered_and_logged_once(hub: Hub) -> None:
    """Each gets a problem document, and the hub closes. The log has one line for each reason, and never an error."""
    begin = len(hub.log())
    for _ in range(3):
        for name, (sent, status) in REFUSED.items():
            answer = await exchange(hub, sent)
            assert (answer[0], answer[1]["content-type"]) == (status, "application/problem+json"), name
            problem = msgspec.json.decode(answer[2])
            assert (problem["status"], bool(problem["detail"])) == (status, True), name
    lines = [json.loads(line) for line in hub.log()[begin:].splitlines()]
    assert {line["event"] for line in lines} == {"request refused"}
    assert {line["level"] for line in lines} == {"info"}
    reasons = [line["reason"] for line in lines]
    assert sorted(reasons) == sorted(set(reasons)), "one line a minute for each reason"
    assert set(reasons) == {
        *("bad_request", "unsupported_version", "head_too_large", "body_too_large", "bad_upgrade", "upgrade_lost"),
        *("upgrade_required", "unknown_path"),
    }


async def test_a_browser_with_cookies_of_other_servers_is_live(hub: Hub, chromium: Path) -> None:
    """9 kB of cookies on the host: the page loads and its WebSocket connects."""
    async with open_browser(chromium) as browser:
        page = await open_page(browser, hub)
        cookies: list[Any] = [{"name": f"other{n}", "value": "c" * 3000, "url": hub.url} for n in range(3)]
        await page.context.add_cookies(cookies)
        received = asyncio.Event()
        page.on("websocket", lambda socket: socket.on("framereceived", lambda _: received.set()))
        await page.reload()
        await received.wait()


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "chunks of one byte": (head("/api/v1/session", "Transfer-Encoding: chunked", method="POST"), b"1\r\na\r\n"),
    "chunks to a socket": (upgrade("/v1/device", "Transfer-Encoding: chunked"), b"1\r\na\r\n"),
    "requests": (b"", head("/health")),
    "bad requests": (b"", b"\r"),
    "headers": (b"GET / HTTP/1.1\r\n", b"a:b\r\n"),
    "refused upgrades": (upgrade("/v1/live", ws_version=8), b"x"),
    "a made-up token": (b"", head("/metrics", "Authorization: Bearer x")),
    "a made-up cookie": (b"", head("/api/v1/openapi.json", "Cookie: telemetry_hub_session=x")),
    "a wrong parameter": (b"", head("/api/v1/devices?x=1", "Authorization: Bearer x")),
}


CHURNS = {"connect": b"", "request": head("/health"), "upgrade": upgrade("/v1/live")}


@pytest.mark.deadline(180)
async def test_a_flood_of_requests_does_not_delay_a_device(hub: Hub) -> None:
    """Neither bodies in tiny chunks, nor requests that wait, nor what is no request, on several connections."""
    floods = {name: partial(flooding, hub, *sent) for name, sent in FLOODS.items()}
    await check_not_delayed(hub, floods, max_processor=MAX_PROCESSOR)


@pytest.mark.deadline(90)
async def test_a_thousand_connections_do_not_delay_a_device(hub: Hub) -> None:
    """They have the share of one address together, and take their turns one after the other."""
    flood = partial(flooding, hub, b"", head("/metrics"), connections=1000)
    await check_not_delayed(hub, {"flood": flood}, max_processor=MAX_PROCESSOR)


@pytest.mark.deadline(90)
async def test_connections_that_come_and_go_do_not_delay_a_device(hub: Hub) -> None:
    """Their address is charged for each of them that the hub opens."""
    churns = {name: partial(churning, hub, sent) for name, sent in CHURNS.items()}
    await check_not_delayed(hub, churns, max_processor=MAX_PROCESSOR)
