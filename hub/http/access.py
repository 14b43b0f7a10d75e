"""Access control: credentials, checks of Host and Origin, the session cookie, and addresses to listen on. Pure.

These are functions over ASGI scopes, without a clock or a disk. hub.http.authenticator finds the identity behind a
credential. The rights of an identity are in hub.model.identity.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from starlette.types import Scope

from hub.http.authority import (
    DEFAULT_PORTS,
    EVERY_ADDRESS,
    Authority,
    WebOrigin,
    host_name,
    is_loopback,
    parse_address,
    parse_authority,
    parse_origin,
    written,
)
from hub.http.refusals import RefusalCause, RequestRefused, shown
from hub.model.identity import Identity
from wire.live import TOKEN_SUBPROTOCOL

SESSION_COOKIE = "telemetry_hub_session"
"""Name of the cookie. A hub adds the first COOKIE_ID digits of its id: browsers share cookies between all ports of a
host, and two hubs of one name would sign each other's browsers out."""

COOKIE_ID = 8

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""Methods that change nothing. Another site's page cannot read the answer."""


class Credential(NamedTuple):
    """The credential of a request: a token, or the value of the session cookie."""

    kind: Literal["token", "session"]
    value: str


def find_credential(scope: Scope, cookie: str = SESSION_COOKIE) -> Credential | None:
    """Return the credential in the headers; None if there is none that can be parsed.

    Accepts `Authorization: Bearer TOKEN`, `Token TOKEN` (InfluxDB 2 clients) or `Basic` with the token as the password
    (InfluxDB 1 clients), else the subprotocol `token.TOKEN` of a WebSocket, else the cookie: a browser sends the cookie
    to every port of the host, so a token, even a wrong one, counts alone. The query string is never used, because logs
    and browser histories contain it.
    """
    authorizations = header_values(scope, b"authorization")
    if authorizations:
        token = _token(authorizations[0]) if len(authorizations) == 1 else None
        return Credential("token", token) if token else None
    tokens = [name for name in scope.get("subprotocols", ()) if name.startswith(TOKEN_SUBPROTOCOL)]
    if tokens:
        token = tokens[0].removeprefix(TOKEN_SUBPROTOCOL)
        return Credential("token", token) if token and len(tokens) == 1 else None
    for header in header_values(scope, b"cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == cookie and value:
                return Credential("session", value)
    return None


def offered_subprotocols(scope: Scope) -> list[str]:
    """Return the subprotocols of an upgrade except tokens. A token is never the answered subprotocol."""
    return [name for name in scope["subprotocols"] if not name.startswith(TOKEN_SUBPROTOCOL)]


def check_listen(host: str, *, tls: bool, behind_proxy: bool) -> None:
    """Raise ValueError if listening on this host would send tokens through a network in clear text."""
    if is_loopback(host) or tls or behind_proxy:
        return
    raise ValueError(
        f"refusing to listen on {host or 'every address'} without TLS: tokens and readings would cross the network in "
        "clear text. Give tls.certificate and tls.key; or set access.behind_proxy = true where a proxy in front of the "
        "hub does TLS; or listen on 127.0.0.1"
    )


@dataclass(frozen=True, slots=True)
class Access:
    """Checks of requests. `verify_token` and `verify_session` return the identity behind a secret, without waiting.

    `listen_host` is the address that the hub listens on. `hosts` are further names of the hub (ports are ignored).
    `origins` are other origins (`https://host[:port]`) whose pages may use the cookie. `base_path` is the path of the
    page, for its cookie, and `cookie` the cookie's name. Raises ValueError if one of these is invalid.
    """

    verify_token: Callable[[str], Identity | None]
    verify_session: Callable[[str], Identity | None]
    listen_host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    behind_proxy: bool = False
    base_path: str = "/"
    cookie: str = SESSION_COOKIE
    _allowed: frozenset[WebOrigin] = field(init=False)

    def __post_init__(self) -> None:
        for host in self.hosts:
            if host_name(host) is None:
                raise ValueError(f"access.allowed_hosts: {host!r} is not a host name")
        allowed = set()
        for text in self.origins:
            origin = parse_origin(text)
            if origin is None:
                raise ValueError(
                    f"access.allowed_origins: {text!r} is not an origin like https://host or https://host:port"
                )
            allowed.add(origin)
        object.__setattr__(self, "_allowed", frozenset(allowed))

    def check_host(self, scope: Scope) -> None:
        """Raise RequestRefused if a request or an upgrade is for another host than this hub.

        A page of another site can make its own name point to this machine (DNS rebinding), and then has the same origin
        as the hub. Its name in the Host header reveals it.
        """
        if _is_without_host(scope):
            return
        host = self._host(scope)
        if host is None:
            raise RequestRefused(
                RefusalCause.HOST_NOT_ALLOWED,
                "the request has no valid Host header, or several",
                "send one Host header with the hub's name",
            )
        if not self._is_mine(host.name):
            raise RequestRefused(
                RefusalCause.HOST_NOT_ALLOWED,
                f"this hub is not known as {shown(written(*host))}",
                f'if it is, add "{shown(host.name)}" to access.allowed_hosts',
            )

    def credential(self, scope: Scope) -> Credential | None:
        """Return the credential in the headers of a request to this hub; None if there is none that can be parsed."""
        return find_credential(scope, self.cookie)

    def session_cookie(self, value: str, *, max_age_s: int, secure: bool) -> tuple[bytes, bytes]:
        """Return the header that makes a browser keep a session, or delete it with a `max_age_s` of 0.

        `base_path` is that of the page: other programs on the same host do not get the cookie.

        SameSite=Lax and not Strict: the one-time URL may be opened from a mail or a chat, and a Strict cookie would not
        be sent with the redirect that follows it. Lax only permits GET requests, which change nothing.
        """
        attributes = f"Path={self.base_path}; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
        return b"set-cookie", f"{self.cookie}={value}; {attributes}".encode()

    def authenticate(self, scope: Scope) -> Identity | None:
        """Return the sender of this request; None without a valid credential.

        Raises RequestRefused for a cookie in a request that another site's page started.
        """
        credential = self.credential(scope)
        if credential is None:
            return None
        if credential.kind == "token":
            return self.verify_token(credential.value)
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            # Browsers send the cookie with requests of any page, and let any page open a WebSocket.
            self.check_origin(scope)
        return self.verify_session(credential.value)

    def is_secure(self, scope: Scope) -> bool:
        """Return whether the browser reaches the hub by TLS. Its cookie must then never be sent without TLS."""
        return self.behind_proxy or scope.get("scheme") in ("https", "wss")

    def allows_origin(self, scope: Scope) -> bool:
        """Return whether the page that started the request is of one of the allowed other origins."""
        return _origin_of(scope) in self._allowed

    def check_origin(self, scope: Scope) -> None:
        """Raise RequestRefused unless the page that started the request is the hub's own or of an allowed origin."""
        origin = _origin_of(scope)
        if origin is None:
            raise RequestRefused(
                RefusalCause.ORIGIN_NOT_ALLOWED,
                "a request with the cookie needs one Origin header with http:// or https://",
                "open the page from a web server; programs send a token",
            )
        if origin in self._allowed:
            return
        host = self._host(scope)
        # Without a port in the Host, it is that of the origin's scheme: behind a proxy the hub does not know its own.
        if host is None or (origin.name, origin.port) != (host.name, host.port or DEFAULT_PORTS[origin.scheme]):
            hub = "another host" if host is None else shown(written(*host))
            page = shown(str(origin))
            proxy = "" if host is not None and host.name == origin.name else "; a proxy must keep the Host header"
            raise RequestRefused(
                RefusalCause.ORIGIN_NOT_ALLOWED,
                f"the page comes from {page}, and this hub is {hub}",
                f'add "{page}" to access.allowed_origins{proxy}',
            )
        if scope.get("scheme") in ("https", "wss") and origin.scheme != "https":
            raise RequestRefused(
                RefusalCause.ORIGIN_NOT_ALLOWED,
                f"the page {shown(str(origin))} was loaded without TLS",
                "open it with https://",
            )

    def _host(self, scope: Scope) -> Authority | None:
        hosts = header_values(scope, b"host")
        return parse_authority(hosts[0]) if len(hosts) == 1 else None

    def _is_mine(self, name: str) -> bool:
        if is_loopback(name) or any(name == host_name(host) for host in self.hosts):
            return True
        if is_loopback(self.listen_host):
            return False
        if self.listen_host in EVERY_ADDRESS:
            # The machine's addresses are not known here. Rebinding needs a name, so any address is safe.
            return parse_address(name) is not None
        return name == host_name(self.listen_host)


def _is_without_host(scope: Scope) -> bool:
    """Return whether a request in HTTP/1.0, where Host is optional (RFC 9112, 3.2), comes from a program without it.

    A browser always sends Host. Its cookie and its Origin count only beside a Host that can be checked.
    """
    if scope["type"] != "http" or scope.get("http_version") != "1.0":
        return False
    return not {name for name, _ in scope["headers"]} & {b"host", b"cookie", b"origin"}


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of all headers with this name, which is in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _token(authorization: str) -> str | None:
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer" | "token":
            return rest
        case "basic":
            try:
                decoded = base64.b64decode(rest, validate=True).decode()
            except (binascii.Error, ValueError):
                return None
            return decoded.partition(":")[2]
    return None


def _origin_of(scope: Scope) -> WebOrigin | None:
    origins = header_values(scope, b"origin")
    return parse_origin(origins[0]) if len(origins) == 1 else None
