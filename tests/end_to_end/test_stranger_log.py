"""The log of a real hub while a stranger sends invalid bytes in every place: short lines, never an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from hub.http.openapi import DescriptionRoutes
from hub.http.routes import RESOURCES
from hub.http.routing import operations_of
from tests.end_to_end.hub import Hub, running_hub

UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
MASKED_TEXT = b"\x81\x84\0\0\0\0"
"""Head of a text frame of four bytes, with a mask that changes nothing."""
NOT_UTF8 = b"\xff\xfe\xc3\x28"
TARGETS = [
    b"/%ff%fe",
    b"/%00",
    b"/%0d%0aX-Injected:%20yes",
    b"/%e2%80%aegnp.exe",
    b"/%1b[2J",
    b"/v1/%ed%a0%80",
    b"/api/v1/devices/%c3%28",
    b"/\xff\xfe",
    b"/" + b"%e2%80%ae" * 500,
    b"//../..//%2e%2e",
]
HEADERS = [
    b"X-Name: \xff\xfe\xc3\x28\r\n",
    b"Origin: http://\xff\xfe\r\n",
    b"Cookie: telemetry_hub_session=\xff\xfe; \xc3=\x28\r\n",
    b"Authorization: Bearer \xff\xfe\r\n",
    b"Authorization: Basic \xff\xfe\r\n",
    b"Sec-WebSocket-Protocol: telemetry.live.v1, token.\xff\xfe\r\n",
    b"Sec-WebSocket-Extensions: \xff;;;\r\n",
    b"X-\xff: name\r\n",
]
JSON_OF_FOUR = b"Content-Type: application/json\r\nContent-Length: 4\r\n"
ANSWER_S = 10.0


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path_factory.mktemp("strangers") / "data") as hub:
        yield hub


async def send(hub: Hub, *parts: bytes, client: int = 1) -> bytes:
    """Send each part after the answer to the one before it has begun; return what the hub answers until it closes, or
    is silent. Each `client` has an address of its own, and so its own lines in the log."""
    port = int(hub.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{client}", 0))
    received = b""
    with contextlib.closing(writer), contextlib.suppress(TimeoutError, ConnectionError):
        for part in parts:
            writer.write(part)
            async with asyncio.timeout(ANSWER_S):
                received += await reader.read(65_536)
        async with asyncio.timeout(0.5):
            while data := await reader.read(65_536):
                received += data
    return received


def request(hub: Hub, target: bytes, headers: bytes, method: bytes = b"GET") -> bytes:
    host = hub.url.removeprefix("http://").encode()
    return method + b" " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + headers + b"\r\n"


@pytest.mark.deadline(120)
async def test_invalid_bytes_of_a_stranger_are_answered_and_make_no_error(hub: Hub) -> None:
    """In paths, headers and text frames, of requests and of upgrades, before and after a token. Each gets an answer. No
    line of the log is an error, has a traceback, is longer than a screen, or contains what the stranger sent raw."""
    admin = (await hub.admin()).encode()
    authorization = b"Authorization: Bearer " + admin + b"\r\n"
    requests = [
        *(request(hub, target, kind) for target in TARGETS for kind in (b"", UPGRADE)),
        *(request(hub, b"/api/v1/hub", header) for header in HEADERS),
        *(request(hub, path, UPGRADE + header) for path in (b"/v1/live", b"/v1/device") for header in HEADERS),
        request(hub, b"/api/v1/session", b"Content-Type: application/json\r\nContent-Length: 4\r\n", b"POST")
        + NOT_UTF8,
    ]
    answers = await asyncio.gather(*(send(hub, part, client=number) for number, part in enumerate(requests, 2)))
    assert [part for part, answer in zip(requests, answers, strict=True) if not answer.startswith(b"HTTP/1.1 ")] == []
    assert not any(b"X-Injected" in answer.partition(b"\r\n\r\n")[0] for answer in answers)
    for path in (b"/v1/live", b"/v1/device"):
        for more in (b"", authorization):
            upgrade = request(hub, path, UPGRADE + more)
            answer = await send(hub, upgrade, MASKED_TEXT + NOT_UTF8)
            assert answer.startswith(b"HTTP/1.1 101 ")
            # A close frame with 1007: the payload is no UTF-8 (RFC 6455, 8.1).
            assert b"\x03\xef" in answer, (path, more)
    async with httpx.AsyncClient(base_url=hub.url) as client:
        assert (await client.get("/health")).status_code == 200

    log = hub.log()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["level"] for line in lines} <= {"info"}, [line for line in lines if line["level"] != "info"]
    assert "Traceback" not in log
    assert max(len(line) for line in log.splitlines()) < 2_000
    assert all(character.isprintable() or character == "\n" for character in log)
    texts = [str(value) for line in lines for value in line.values()]
    assert all(text.isprintable() for text in texts)
    assert {"unknown_path", "bad_request"} <= {line.get("reason") for line in lines}
    assert any("\\u202e" in line.get("path", "") for line in lines)


INVALID_PARTS = {
    "nul": (b"%00", 400),
    "nul within": (b"a%00b", 400),
    "line break": (b"a%0d%0ab", 400),
    "parent": (b"%2e%2e", 404),
    "parents": (b"..%2f..%2f..%2fetc%2fpasswd", 404),
    "absolute": (b"%2fetc%2fpasswd", 404),
    "half of a pair": (b"%ed%a0%80", 404),
    "no UTF-8": (b"%ff%c3%28", 404),
    "direction": (b"%e2%80%ae", 404),
    "long": (b"a" * 3_500, 404),
    "long and escaped": (b"%61" * 1_200, 404),
    "longer than a line": (b"a" * 10_000, 414),
}
"""Parts of a path that no device, token, file or view has, and the status where no credential is needed. A path with
two of the long ones is still within the 8,192 bytes of a line."""

FOLDERS = ["/{file}", "/assets/{file}", "/device/{id}", "/api/{rest}", "/api/v1/devices/pump/{rest}", "/v1/{rest}"]
"""Paths of the page and paths that do not exist, beside those of the API."""


async def test_invalid_parts_of_every_path_are_not_found(hub: Hub) -> None:
    """The paths are those of every operation with a parameter, of the page, its files and downloads. A stranger is
    asked for a credential where one is needed, and otherwise gets the answer that there is nothing."""
    declared = [
        (operation.method, operation.path, operation.is_protected)
        for resource in (*RESOURCES, DescriptionRoutes)
        for operation in operations_of(resource)
        if "{" in operation.path
    ]
    assert {"/download/{file}", "/open/{code}", "/api/v1/devices/{device}"} <= {path for _, path, _ in declared}
    begin = len(hub.log())
    async with httpx.AsyncClient() as client:
        for method, path, is_protected in [*declared, *(("GET", folder, False) for folder in FOLDERS)]:
            for name, (part, status) in INVALID_PARTS.items():
                target = b"/".join(part if step.startswith("{") else step.encode() for step in path.split("/"))
                url = httpx.URL(hub.url).copy_with(raw_path=target)
                answer = await client.request(method, url)
                # The code of a one-time URL is a credential of its own.
                allowed = {401, 404} if is_protected else {403, 404} if path == "/open/{code}" else {404, 405}
                expected = {status} if status != 404 else allowed
                assert answer.status_code in expected, (method, path, name, answer.status_code, answer.text)
                assert answer.headers["content-type"] == "application/problem+json", (method, path, name)
                assert len(answer.text) < 12_000, (method, path, name)
    log = hub.log()[begin:]
    assert "Traceback" not in log
    assert all(json.loads(line)["level"] == "info" for line in log.splitlines()), log[:3000]
    assert max((len(line) for line in log.splitlines()), default=0) < 2_000
