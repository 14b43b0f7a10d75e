"""Tests of the opening handshake as HTTP sees it."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from hub.http.handshake import check_handshake, wants_websocket
from hub.http.refusals import RefusalCause, RequestRefused

VALID = {
    b"host": b"h",
    b"connection": b"keep-alive, Upgrade",
    b"upgrade": b"WebSocket",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
}


def scope(headers: dict[bytes, bytes | None], **other: Any) -> dict[str, Any]:
    """Return the scope of a valid handshake with these changes. A header that is None is left out."""
    merged = {**VALID, **headers}
    pairs = [(name, value) for name, value in merged.items() if value is not None]
    return {"method": "GET", "http_version": "1.1", "path": "/v1/live", "headers": pairs, **other}


def test_the_handshake_of_a_client_is_valid() -> None:
    """That of websockets, with an extension and a subprotocol."""
    check_handshake(scope({}))
    request = ClientProtocol(parse_uri("ws://h/v1/live"), subprotocols=["a"]).connect()  # type: ignore[list-item]
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()]
    assert wants_websocket(headers)
    check_handshake({**scope({}), "headers": headers})


@pytest.mark.parametrize(
    ("change", "status", "header", "says"),
    [
        ({"method": "POST"}, 405, ("Allow", "GET"), "POST"),
        ({"method": "HEAD"}, 405, ("Allow", "GET"), "HEAD"),
        ({"http_version": "1.0"}, 426, ("Upgrade", "websocket"), "HTTP/1.1"),
        ({b"upgrade": None, b"connection": None}, 426, ("Upgrade", "websocket"), "Upgrade"),
        ({b"upgrade": b"h2c"}, 426, ("Upgrade", "websocket"), "Upgrade"),
        ({b"connection": b"close"}, 426, ("Upgrade", "websocket"), "Upgrade"),
        ({b"sec-websocket-version": b"8"}, 426, ("Sec-WebSocket-Version", "13"), "13"),
        ({b"sec-websocket-version": b"13, 8"}, 426, ("Sec-WebSocket-Version", "13"), "13"),
        ({b"sec-websocket-version": None}, 426, ("Sec-WebSocket-Version", "13"), "13"),
        ({b"sec-websocket-key": None}, 400, None, "Sec-WebSocket-Key"),
        ({b"sec-websocket-key": b"c2hvcnQ="}, 400, None, "Sec-WebSocket-Key"),
        ({b"sec-websocket-key": b"no base64!"}, 400, None, "Sec-WebSocket-Key"),
        ({b"sec-websocket-key": b"\xff"}, 400, None, "Sec-WebSocket-Key"),
        ({b"content-length": b"3"}, 400, None, "body"),
        ({b"transfer-encoding": b"chunked"}, 400, None, "body"),
        ({b"sec-websocket-extensions": b"a;;"}, 400, None, "Extensions"),
        ({b"sec-websocket-protocol": b"a b"}, 400, None, "Sec-WebSocket-Protocol"),
        ({b"sec-websocket-protocol": b""}, 400, None, "Sec-WebSocket-Protocol"),
        ({b"sec-websocket-protocol": b"token.a, b@c"}, 400, None, "Sec-WebSocket-Protocol"),
        ({b"connection": b"Upgrade, a b"}, 400, None, "Connection"),
    ],
)
def test_an_invalid_handshake_has_a_reason(
    change: dict[Any, Any], status: int, header: tuple[str, str] | None, says: str
) -> None:
    """Each refusal has its status (RFC 6455, 4.2.2; RFC 9110, 15.5.22) and names what is wrong."""
    headers = {name: value for name, value in change.items() if isinstance(name, bytes)}
    other = {name: value for name, value in change.items() if isinstance(name, str)}
    with pytest.raises(RequestRefused) as raised:
        check_handshake(scope(headers, **other))
    assert (raised.value.status, says in raised.value.message) == (status, True)
    assert "close" in (raised.value.headers or {})["Connection"]
    if header is not None:
        assert (raised.value.headers or {})[header[0]] == header[1]


def test_two_keys_origins_or_upgrades_are_refused() -> None:
    """A proxy and the hub could each use another one."""
    for name, second in ((b"sec-websocket-key", b"b"), (b"origin", b"b"), (b"upgrade", b"websocket")):
        twice = scope({})
        twice["headers"] = [*twice["headers"], (name, VALID.get(name, b"a")), (name, second)]
        with pytest.raises(RequestRefused) as raised:
            check_handshake(twice)
        assert raised.value.status == 400


def test_an_empty_body_is_no_body() -> None:
    """Some devices send Content-Length: 0 with every request."""
    check_handshake(scope({b"content-length": b"0"}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b"upgrade": None}, RefusalCause.UPGRADE_LOST),
        ({b"upgrade": None, b"sec-websocket-key": None}, RefusalCause.UPGRADE_REQUIRED),
        ({b"sec-websocket-version": b"8"}, RefusalCause.BAD_UPGRADE),
    ],
)
def test_a_handshake_that_a_proxy_has_changed_is_recognised(change: dict[bytes, Any], reason: RefusalCause) -> None:
    """It still has the key. The remedy names the proxy's setting."""
    with pytest.raises(RequestRefused) as raised:
        check_handshake(scope(change))
    assert raised.value.reason is reason
    assert ("proxy" in raised.value.message) == (reason is RefusalCause.UPGRADE_LOST)
