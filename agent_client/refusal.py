"""The reason why a server refused an agent's WebSocket, as one sentence with the remedy. Pure.

A server answers the handshake with an HTTP response instead of an upgrade: the hub itself, a proxy in front of it, or
something that is no hub. The status, the headers and the body distinguish them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec

PROBLEM_MEDIA_TYPE = "application/problem+json"
HUB_PROBLEM = "urn:telemetry-hub:problem:"
"""Beginning of the type of every problem that a hub reports (docs/api.md, "Errors")."""

MAX_DETAIL = 300
"""Characters of a server's sentence that are repeated; the hub's own sentences are shorter."""

MAX_SERVER = 40
"""Characters of a server's name."""

PASS_UPGRADES = (
    "the proxy in front of the hub does not pass WebSocket upgrades: let it pass the headers Upgrade and Connection "
    "(nginx: proxy_http_version 1.1, and proxy_set_header for both)"
)

REASONS: Mapping[int, str] = {
    400: "the server takes the handshake for a bad request: a proxy may have changed it, or this is not a hub",
    401: "the hub does not know this token, or a proxy in front of it asks for a login: let it pass /v1/device",
    403: "a server forbids the connection: this token may not write as this device, or a proxy blocks /v1/device",
    404: "there is no hub at this address: check the host, the port and the path of the URL",
    405: "there is no hub at this address: check the host, the port and the path of the URL",
    408: "the server did not receive the handshake in time",
    426: PASS_UPGRADES,
    429: "the server receives too many requests",
    431: "the server does not accept headers as long as these: check the length of the token",
    500: "the server failed at the handshake; its log shows why",
    501: PASS_UPGRADES,
    502: "the proxy does not reach the hub: start the hub, or correct its address in the proxy",
    503: "the hub is busy or starts, or the proxy does not reach it",
    504: "the hub does not answer the proxy in time",
    505: "a proxy speaks HTTP/1.0, which has no upgrades: let it use HTTP/1.1 (nginx: proxy_http_version 1.1)",
}
"""Sentences for answers that are not the hub's own. The hub's answers contain a sentence."""

NOT_A_HUB = "this is not a hub, or a proxy sends the path elsewhere: check the host, the port and the path of the URL"

TLS_NEEDED = re.compile(rb"HTTP request (?:was sent )?to (?:an )?HTTPS", re.IGNORECASE)
"""Words with which nginx and programs in Go answer a request in clear text on a port with TLS."""

STATUS_LINE = re.compile(rb"HTTP/[0-9.]+ ([1-5][0-9]{2})(?![0-9])")

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class _Problem(msgspec.Struct):
    """A problem document (RFC 9457)."""

    type: str = ""
    detail: str = ""


class HandshakeAnswer(NamedTuple):
    """The HTTP response to a handshake. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def explain_answer(url: str, answer: HandshakeAnswer) -> str:
    """Return why this answer came instead of an upgrade, and what to do."""
    status = answer.status
    server = _printable(answer.headers.get("server", ""), MAX_SERVER)
    source = f"HTTP {status} from {server}" if server else f"HTTP {status}"
    return f"{_reason(url, answer)} ({source})"


def _reason(url: str, answer: HandshakeAnswer) -> str:
    status, headers, body = answer
    detail = hub_sentence(answer)
    if detail and status != 426:
        return f"the hub refused the connection: {detail}"
    if 300 <= status < 400:
        return _redirect(headers.get("location", ""))
    if TLS_NEEDED.search(body):
        return f"the server needs TLS: use {_with_scheme(url, 'wss')}"
    if status < 300:
        return NOT_A_HUB
    return REASONS.get(status, "the hub refused the connection, or this is not a hub")


def hub_sentence(answer: HandshakeAnswer) -> str:
    """Return the sentence of a hub's problem document; "" if the answer is no such document."""
    if not answer.headers.get("content-type", "").startswith(PROBLEM_MEDIA_TYPE):
        return ""
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return _printable(problem.detail, MAX_DETAIL) if problem.type.startswith(HUB_PROBLEM) else ""


def read_answer(beginning: bytes) -> HandshakeAnswer | None:
    """Return the answer that begins with these bytes as far as it can be read; None if it is not HTTP.

    For answers that the WebSocket library rejects: of HTTP/1.0, with a large or broken body, or with invalid headers.
    """
    head, _, body = beginning.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    status = STATUS_LINE.match(first)
    if status is None:
        return None
    fields = (line.decode("latin-1").partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, colon, value in fields if colon}
    return HandshakeAnswer(int(status[1]), headers, body)


def explain_no_http(url: str) -> str:
    """Return why a server that answers, but not in HTTP, is no hub, and what to do."""
    if urlsplit(url).scheme == "ws":
        return f"the server at {url} does not answer in HTTP: if it needs TLS, use {_with_scheme(url, 'wss')}"
    return f"the server at {url} does not answer in HTTP: check the host and the port"


def _redirect(location: str) -> str:
    target = ""
    with suppress(ValueError):
        parts = urlsplit(location)
        # The query could be a secret of the server; the address is enough.
        if parts.scheme in _SCHEMES and parts.hostname:
            target = urlunsplit((_SCHEMES[parts.scheme], parts.netloc.rpartition("@")[2], parts.path, "", ""))
    if not target:
        return "the server redirects to another path, and agents follow no redirect: check the path of the URL"
    # A redirect would also lose the token, which is for the given address only.
    return f"the server redirects, and agents follow no redirect: use the URL {_printable(target, MAX_DETAIL)}"


def _with_scheme(url: str, scheme: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme=scheme))


def _printable(text: str, limit: int) -> str:
    """Return a server's text for a terminal and a log: one line without control characters, cut."""
    one_line = " ".join(text.split())
    return "".join(character for character in one_line if character.isprintable())[:limit]
