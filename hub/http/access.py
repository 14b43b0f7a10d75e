"""Access control: credentials, Host and Origin checks, the session cookie, addresses to listen on, and authentication.

Everything but Authenticator is pure: functions over ASGI scopes, without a clock or a disk. The rights of an identity
are in hub.model.identity.

Repeated failures to authenticate delay the answer, and then close the connection. This protects the hub's time and its
log. It is not what keeps tokens from being guessed (160 random bits do that), so it never affects a valid credential: a
credential is verified first, and only a rejected one counts as a failure.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from starlette.types import Scope

from hub.http.leaky_bucket import LeakyBuckets
from hub.http.refusals import RefusalCause, RequestRefusals, RequestRefused, client_of, peer_of, shown
from hub.model.identity import Identity
from wire.errors import Code
from wire.live import TOKEN_SUBPROTOCOL

SESSION_COOKIE = "telemetry_hub_session"

VERIFIED = "telemetry.verified"
"""Key in the state of a scope (ASGI's `state`, which every copy of the scope shares) that is True once the credential
of the request was verified."""

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""Methods that change nothing. Another site's page cannot read the answer."""

DEFAULT_PORTS = {"http": 80, "https": 443}

FREE_FAILURES = 5
"""Failures without a delay: for a person who mistypes, or a few agents whose token was revoked."""

CLOSE_FROM = 20
"""From this number of failures, no answer is prepared. It also bounds the answers that wait for one address."""

DELAY_STEP_S = 0.25
"""Added delay of each failure beyond the free ones. The last delay is 3.75 s, less than an unauthenticated connection
may last anyway."""

DECAY_PER_S = 0.5
"""Failures expire at this rate: an agent that reconnects every few seconds is never delayed, a loop always."""

MAX_ADDRESSES = 4_096
"""About 1 MB. At the bound the address with the oldest last failure is removed and starts again: an attacker with that
many addresses is not slowed down, and no other client is locked out."""

MAX_SIGN_IN_BURST = 30
"""Sign-ins of one token at once: a room of dashboards that starts together, or a person who tries many browsers."""

SIGN_INS_PER_S = 1 / 6
"""Sign-ins of one token in the long run: each one writes to the disk, and may end another session of the token."""

MAX_SIGN_IN_TOKENS = 1_024
"""Tokens whose sign-ins are counted, in about 200 kB. At the bound the one that signed in first starts again."""

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


class Credential(NamedTuple):
    """The credential of a request: a token, or the value of the session cookie."""

    kind: Literal["token", "session"]
    value: str


class Authority(NamedTuple):
    """Host and port as in URLs: the name in lower case, an address in its shortest form, None for the default port."""

    name: str
    port: int | None


class WebOrigin(NamedTuple):
    """The origin of a page (RFC 6454)."""

    scheme: str
    name: str
    port: int

    def __str__(self) -> str:
        """Return the origin as browsers write it and settings contain it."""
        return f"{self.scheme}://{_written(self.name, None if self.port == DEFAULT_PORTS[self.scheme] else self.port)}"


def find_credential(scope: Scope) -> Credential | None:
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
            if name == SESSION_COOKIE and value:
                return Credential("session", value)
    return None


def offered_subprotocols(scope: Scope) -> list[str]:
    """Return the subprotocols of an upgrade except tokens. A token is never the answered subprotocol."""
    return [name for name in scope["subprotocols"] if not name.startswith(TOKEN_SUBPROTOCOL)]


def parse_authority(text: str) -> Authority | None:
    """Return the host and port of a Host header or of a URL; None if the text is neither."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    name, port = match.groups()
    number = int(port) if port else None
    if number is not None and number > 65_535:
        return None
    if name.startswith("["):
        address = _address(name[1:-1])
        return Authority(str(address), number) if isinstance(address, IPv6Address) else None
    # A final dot makes a name absolute; it is the same host.
    return Authority(name.lower().removesuffix("."), number)


def parse_origin(text: str) -> WebOrigin | None:
    """Return a web origin; None for anything else, including the "null" of pages without an origin."""
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest)
    if not separator or authority is None or scheme.lower() not in DEFAULT_PORTS:
        return None
    scheme = scheme.lower()
    return WebOrigin(scheme, authority.name, DEFAULT_PORTS[scheme] if authority.port is None else authority.port)


def is_loopback(host: str) -> bool:
    """Return whether the host (a name or an address) is certainly this machine and not reachable from elsewhere."""
    if host.lower() == "localhost":
        return True
    address = _address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


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
    page, for its cookie. Raises ValueError if one of these is invalid.
    """

    verify_token: Callable[[str], Identity | None]
    verify_session: Callable[[str], Identity | None]
    listen_host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    behind_proxy: bool = False
    base_path: str = "/"
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
                f"this hub is not known as {shown(_written(*host))}",
                f'if it is, add "{shown(host.name)}" to access.allowed_hosts',
            )

    def authenticate(self, scope: Scope) -> Identity | None:
        """Return the sender of this request; None without a valid credential.

        Raises RequestRefused for a cookie in a request that another site's page started.
        """
        credential = find_credential(scope)
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
            hub = "another host" if host is None else shown(_written(*host))
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
            return _address(name) is not None
        return name == host_name(self.listen_host)


class Authenticator:
    """Finds the identity behind a request. `refresh` reads the tokens that other processes have changed."""

    def __init__(
        self, access: Access, refresh: Callable[[], Awaitable[None]], refusals: RequestRefusals | None = None
    ) -> None:
        self.access = access
        self.refusals = refusals or RequestRefusals()
        self._refresh = refresh
        self._failures = FailedAttempts()

    def recognise(self, scope: Scope) -> Identity | None:
        """Return the owner of the valid token in the headers, without waiting. Nothing counts as a failure."""
        credential = find_credential(scope)
        valid = credential is not None and credential.kind == "token"
        return self.access.verify_token(credential.value) if valid and credential is not None else None

    async def identify(self, scope: Scope) -> Identity | None:
        """Return the sender of this request; None without a valid credential.

        Raises RequestRefused for a cookie in a request that another site's page started, and, with code BUSY, after too
        many failures from one address.
        """
        if find_credential(scope) is None:
            return None
        return await self._verify(scope, lambda: self.access.authenticate(scope))

    async def identify_token(self, scope: Scope, token: str) -> Identity | None:
        """Return the owner of a token in a message of this connection; None if the token is not valid.

        Raises RequestRefused after too many failures from one address.
        """
        return await self._verify(scope, lambda: self.access.verify_token(token))

    async def _verify(self, scope: Scope, find: Callable[[], Identity | None]) -> Identity | None:
        try:
            identity = find()
            if identity is None:
                await self._refresh()
                identity = find()
            if identity is None:
                await self._penalise(scope)
        except RequestRefused as refused:
            self.refusals.report_scope(scope, refused)
            raise
        if identity is not None:
            scope.setdefault("state", {})[VERIFIED] = True
        return identity

    async def _penalise(self, scope: Scope) -> None:
        """Wait after an invalid token. Raises RequestRefused after too many of them."""
        delay_s = self._failures.record_failure(peer_of(scope), asyncio.get_running_loop().time())
        if delay_s is None:
            raise RequestRefused(
                RefusalCause.TOO_MANY_FAILURES,
                "too many attempts with invalid tokens",
                "stop the client that sends one, and wait a minute",
                code=Code.BUSY,
            )
        self.refusals.report_scope(scope, RequestRefused(RefusalCause.NOT_AUTHENTICATED, "the token is not valid"))
        await asyncio.sleep(delay_s)


def is_verified(scope: Scope) -> bool:
    """Return whether the Authenticator has found the identity behind this request."""
    return VERIFIED in scope.get("state", {})


class FailedAttempts:
    """Failures by client address, which expire with time. `now_s` is the time of a monotonic clock."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        # The level is bounded, so that it expires within a minute.
        self._levels = LeakyBuckets(leak_per_s=DECAY_PER_S, capacity=CLOSE_FROM, max_sources=max_addresses)

    def __len__(self) -> int:
        return len(self._levels)

    def record_failure(self, address: str, now_s: float) -> float | None:
        """Count a failure of this address.

        Return the seconds to wait before the answer, or None to end the connection at once.
        """
        level = self._levels.add(client_of(address), 1, now_s)
        return None if level >= CLOSE_FROM else max(0.0, level - FREE_FAILURES) * DELAY_STEP_S


class SignInRate:
    """Rate of the sign-ins of each token. `now_s` is the time of a monotonic clock."""

    def __init__(self, max_tokens: int = MAX_SIGN_IN_TOKENS) -> None:
        self._levels = LeakyBuckets(leak_per_s=SIGN_INS_PER_S, capacity=MAX_SIGN_IN_BURST, max_sources=max_tokens)

    def record(self, token_id: str, now_s: float) -> float:
        """Count a sign-in and return 0, or return the seconds after which the token may open another session."""
        excess = max(0.0, self._levels.level(token_id, now_s) + 1 - MAX_SIGN_IN_BURST)
        # A refused sign-in does not count, and yet its token is active.
        self._levels.add(token_id, 0 if excess else 1, now_s)
        return excess / SIGN_INS_PER_S


def session_cookie(value: str, *, max_age_s: int, secure: bool, path: str = "/") -> tuple[bytes, bytes]:
    """Return the header that makes a browser keep a session, or delete it with a `max_age_s` of 0.

    `path` is that of the page: other programs on the same host do not get the cookie.

    SameSite=Lax and not Strict: the one-time URL may be opened from a mail or a chat, and a Strict cookie would not be
    sent with the redirect that follows it. Lax only permits GET requests, which change nothing.
    """
    attributes = f"Path={path}; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
    return b"set-cookie", f"{SESSION_COOKIE}={value}; {attributes}".encode()


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


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def host_name(host: str) -> str | None:
    """Return a configured host in the form of a Host header; None if it is not a host."""
    authority = parse_authority(f"[{host}]" if ":" in host and _address(host) is not None else host)
    return None if authority is None else authority.name


def _written(name: str, port: int | None) -> str:
    """Return a host and a port as URLs contain them."""
    host = f"[{name}]" if ":" in name else name
    return host if port is None else f"{host}:{port}"


def _origin_of(scope: Scope) -> WebOrigin | None:
    origins = header_values(scope, b"origin")
    return parse_origin(origins[0]) if len(origins) == 1 else None
