"""The opening handshake of a WebSocket as HTTP sees it: which requests ask for it, and which of them are valid. Pure.

RFC 6455, 4.2.1 and 4.2.2. A request that is not a valid handshake is answered like any other, so that its sender learns
what is missing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from http import HTTPStatus

from starlette.types import Scope
from websockets.exceptions import InvalidHeader
from websockets.headers import parse_connection, parse_extension, parse_subprotocol

from hub.http.refusals import RefusalCause, RequestRefused, shown

VERSION = "13"
"""The only version of the protocol that there is (RFC 6455)."""

KEY_BYTES = 16

CLOSE = {"Connection": "close"}
"""After a refused handshake, some clients wait for the end of the connection."""

_LISTS: tuple[tuple[bytes, Callable[[str], object], str], ...] = (
    (b"connection", parse_connection, "Connection is not a list of options"),
    (b"sec-websocket-extensions", parse_extension, "Sec-WebSocket-Extensions is not a list of extensions"),
    (b"sec-websocket-protocol", parse_subprotocol, "Sec-WebSocket-Protocol is not a list of subprotocols"),
)
"""Headers that websockets parses, too. Its own answer to a fault would be in no log and no count."""

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade, close"}
"""Headers of an answer that asks for an upgrade (RFC 9110, 15.5.22)."""


def wants_websocket(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request asks for a WebSocket. `headers` has names in lower case."""
    return _tokens(headers, b"upgrade") == {"websocket"} and "upgrade" in _tokens(headers, b"connection")


def check_handshake(scope: Scope) -> None:
    """Raise RequestRefused for a request that is not a valid opening handshake. `scope` is the request's."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if scope["method"] != "GET":
        raise RequestRefused(
            RefusalCause.UPGRADE_REQUIRED,
            f"this is a WebSocket, which takes GET and not {shown(scope['method'])}",
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            headers={"Allow": "GET", **CLOSE},
        )
    if scope["http_version"] == "1.0" or not wants_websocket(headers):
        # An Upgrade in HTTP/1.0 has no meaning (RFC 9110, 7.8). Only a proxy sends the key of a handshake without it.
        is_lost = bool(_values(headers, b"sec-websocket-key") or _values(headers, b"upgrade"))
        raise RequestRefused(
            RefusalCause.UPGRADE_LOST if is_lost else RefusalCause.UPGRADE_REQUIRED,
            "this is a WebSocket, and the request arrived without Upgrade: websocket over HTTP/1.1",
            status=HTTPStatus.UPGRADE_REQUIRED,
            headers=UPGRADE,
        )
    if _values(headers, b"sec-websocket-version") != [VERSION]:
        raise RequestRefused(
            RefusalCause.BAD_UPGRADE,
            f"Sec-WebSocket-Version has to be {VERSION}",
            status=HTTPStatus.UPGRADE_REQUIRED,
            headers={**UPGRADE, "Sec-WebSocket-Version": VERSION},
        )
    fault = _fault(headers)
    if fault is not None:
        raise RequestRefused(RefusalCause.BAD_UPGRADE, fault, status=HTTPStatus.BAD_REQUEST, headers=CLOSE)


def _fault(headers: list[tuple[bytes, bytes]]) -> str | None:
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return f"Sec-WebSocket-Key has to be {KEY_BYTES} bytes in base64, once"
    if any(_values(headers, name) not in ([], ["0"]) for name in (b"content-length", b"transfer-encoding")):
        return "the request for a WebSocket has a body"
    if len(_values(headers, b"origin")) > 1:
        return "the request has several Origin headers"
    if len(_values(headers, b"upgrade")) > 1:
        return "the request has several Upgrade headers"
    return next((fault for name, parse, fault in _LISTS if not _all_parse(parse, _values(headers, name))), None)


def _all_parse(parse: Callable[[str], object], values: Iterable[str]) -> bool:
    try:
        for value in values:
            parse(value)
    except InvalidHeader:
        return False
    return True


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


def _tokens(headers: list[tuple[bytes, bytes]], name: bytes) -> set[str]:
    return {token.strip().lower() for value in _values(headers, name) for token in value.split(",")}


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False
