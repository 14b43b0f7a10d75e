"""Refusals of requests: their reasons, the remedies for people, their counts, and one log line at a bounded rate.

A stranger decides how often a request is refused and what it contains. So the log has at most one line a minute for
each reason and client, and LINES_PER_MINUTE for each reason; the next line reports how many refusals had none. The
level is never above info, and values from outside are cut and escaped.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

import structlog

from wire.errors import Code, WireError
from wire.text import escaped

QUIET_S = 60.0
"""Time between two log lines for one reason and client: a client that retries is noticed, and does not fill the log."""

LINES_PER_MINUTE = 30
"""Log lines for one reason and all clients: a flood from many addresses costs the log at most 10 kB a minute."""

MAX_SOURCES = 4_096
"""Pairs of reason and client that are remembered, about 1 MB. At the bound the one that was silent for longest is
removed: its next refusal gets a line at once, within LINES_PER_MINUTE."""

MAX_RECENT = 128
"""Refused clients that `GET /api/v1/refusals` lists, in about 100 kB. At the bound the one that was silent for longest
is removed: a person looks for a device that tries now."""

MAX_SHOWN = 120
"""Characters of a value from outside that a log line or an answer repeats."""


class RefusalCause(StrEnum):
    """Reason of a refusal: a label in /metrics and a field of the log, so the set is fixed."""

    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_ALLOWED = "not_allowed"
    """The role of the token or cookie does not have the right."""
    TOO_MANY_FAILURES = "too_many_failures"
    UNKNOWN_PATH = "unknown_path"
    WRONG_SUBPROTOCOL = "wrong_subprotocol"
    UPGRADE_LOST = "upgrade_lost"
    """A WebSocket handshake without its header Upgrade: a proxy has removed it."""
    UPGRADE_REQUIRED = "upgrade_required"
    """A request for a WebSocket path that is no WebSocket handshake."""
    BAD_UPGRADE = "bad_upgrade"
    BAD_REQUEST = "bad_request"
    HEAD_TOO_LARGE = "head_too_large"
    BODY_TOO_LARGE = "body_too_large"
    TOO_SLOW = "too_slow"
    UNSUPPORTED_VERSION = "unsupported_version"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    FLOOD = "flood"
    BAD_FRAME = "bad_frame"
    NO_CLIENT_CERTIFICATE = "no_client_certificate"
    TLS_PLAIN_HTTP = "tls_plain_http"
    TLS_NOT_TLS = "tls_not_tls"
    TLS_UNKNOWN_AUTHORITY = "tls_unknown_authority"
    TLS_CERTIFICATE_REJECTED = "tls_certificate_rejected"
    """The client does not accept the hub's certificate."""
    TLS_CLIENT_CERTIFICATE = "tls_client_certificate"
    """The hub does not accept the client's certificate."""
    TLS_VERSION = "tls_version"
    TLS_TIMEOUT = "tls_timeout"
    TLS_CLOSED = "tls_closed"
    TLS_FLOOD = "tls_flood"
    """Records without data, or a record in tiny pieces."""
    TLS_FAILED = "tls_failed"


REMEDIES: Mapping[RefusalCause, str] = {
    RefusalCause.NOT_AUTHENTICATED: "create a token with `hub token create`, or sign in again with `hub token url`",
    RefusalCause.NOT_ALLOWED: "use a token with another role; docs/security.md lists the roles",
    RefusalCause.TOO_MANY_FAILURES: "stop the client that sends an invalid token, and wait a minute",
    RefusalCause.UNKNOWN_PATH: "correct the path in the client's URL",
    RefusalCause.WRONG_SUBPROTOCOL: "offer a subprotocol that the endpoint speaks; docs/protocol.md lists them",
    RefusalCause.UPGRADE_LOST: (
        "let the proxy in front of the hub pass WebSocket upgrades (nginx: proxy_http_version 1.1; "
        'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade")'
    ),
    RefusalCause.UPGRADE_REQUIRED: "open this path with a WebSocket client; the HTTP API is at /api/v1",
    RefusalCause.BAD_UPGRADE: "use a WebSocket client of version 13 (RFC 6455)",
    RefusalCause.BAD_REQUEST: "correct the client: the request is not valid HTTP/1.1",
    RefusalCause.HEAD_TOO_LARGE: "send a shorter URL and shorter headers; delete this host's cookies in a browser",
    RefusalCause.BODY_TOO_LARGE: "send a smaller body",
    RefusalCause.TOO_SLOW: "check the client and its network: the request did not arrive in time",
    RefusalCause.UNSUPPORTED_VERSION: "use HTTP/1.1",
    RefusalCause.TOO_MANY_CONNECTIONS: "close connections of this client, or wait",
    RefusalCause.FLOOD: "correct the client: it sends more than docs/protocol.md allows",
    RefusalCause.BAD_FRAME: "correct the client: it violates RFC 6455",
    RefusalCause.NO_CLIENT_CERTIFICATE: (
        "give the agent --client-certificate FILE and --client-key FILE with one that the authority in the hub's "
        "tls.client_ca has signed"
    ),
    RefusalCause.TLS_PLAIN_HTTP: "use https:// or wss:// in the client's URL",
    RefusalCause.TLS_NOT_TLS: "check which program connects to this port: it does not speak TLS",
    RefusalCause.TLS_UNKNOWN_AUTHORITY: "give the client the authority of the hub's certificate: --ca FILE",
    RefusalCause.TLS_CERTIFICATE_REJECTED: "check the names and the end of the hub's certificate: hub config check",
    RefusalCause.TLS_CLIENT_CERTIFICATE: "give the client a valid certificate of the authority in tls.client_ca",
    RefusalCause.TLS_VERSION: "update the client: the hub speaks TLS 1.2 and 1.3",
    RefusalCause.TLS_TIMEOUT: "check the client and its network: the handshake did not end in time",
    RefusalCause.TLS_CLOSED: "read the client's log: it may not accept the hub's certificate",
    RefusalCause.TLS_FLOOD: "stop the client: it sends TLS records without data, which no usual client does",
    RefusalCause.TLS_FAILED: "check the client: its handshake failed",
}
"""The remedy of each reason. HOST_NOT_ALLOWED and ORIGIN_NOT_ALLOWED name the value for the setting instead."""


class RequestRefused(WireError):
    """A request that is refused for its head. `what` is the fault, `remedy` what to do; the message contains both.

    `status` and `headers` are those of the HTTP answer.
    """

    def __init__(
        self,
        reason: RefusalCause,
        what: str,
        remedy: str = "",
        *,
        code: Code = Code.NOT_ALLOWED,
        status: HTTPStatus = HTTPStatus.FORBIDDEN,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.reason = reason
        self.status = status
        self.headers = headers
        self.what = what
        self.remedy = remedy or REMEDIES[reason]
        super().__init__(code, f"{what}; {self.remedy}")


class SilentRefusals(NamedTuple):
    """RequestRefusals without a line of their own since the last line: of this client, and of other clients."""

    same_client: int
    other_clients: int


@dataclass(slots=True)
class _RefusedClient:
    """RequestRefusals of one client for one reason."""

    last_s: float
    quiet_until_s: float = float("-inf")
    silent: int = 0


@dataclass(slots=True)
class _Minute:
    """Log lines for one reason in the current minute."""

    ends_s: float = float("-inf")
    lines: int = 0
    silent: int = 0


@dataclass(slots=True)
class RefusalLimiter:
    """The decision which refusals get a log line. Pure: `now_s` is the time of a monotonic clock."""

    max_sources: int = MAX_SOURCES
    _sources: OrderedDict[tuple[RefusalCause, str], _RefusedClient] = field(default_factory=OrderedDict)
    _minutes: dict[RefusalCause, _Minute] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._sources)

    def record(self, reason: RefusalCause, address: str, now_s: float) -> SilentRefusals | None:
        """Count a refusal. Return what its log line reports, or None if it gets no line."""
        source = self._source(reason, client_of(address), now_s)
        if now_s < source.quiet_until_s:
            source.silent += 1
            return None
        minute = self._minutes.setdefault(reason, _Minute())
        if now_s >= minute.ends_s:
            minute.ends_s, minute.lines = now_s + QUIET_S, 0
        if minute.lines >= LINES_PER_MINUTE:
            source.silent += 1
            return None
        minute.lines += 1
        silent = SilentRefusals(source.silent, minute.silent)
        source.silent = minute.silent = 0
        source.quiet_until_s = now_s + QUIET_S
        return silent

    def last_s(self, reason: RefusalCause, address: str) -> float | None:
        """Return the time of the client's last refusal for this reason; None if it is not known."""
        source = self._sources.get((reason, client_of(address)))
        return None if source is None else source.last_s

    @property
    def silent(self) -> int:
        """RequestRefusals that no line has reported yet."""
        waiting: list[_RefusedClient | _Minute] = [*self._sources.values(), *self._minutes.values()]
        return sum(part.silent for part in waiting)

    def _source(self, reason: RefusalCause, client: str, now_s: float) -> _RefusedClient:
        """Return the source, now the newest one. The oldest one leaves its count to the lines of other clients."""
        key = reason, client
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _RefusedClient(now_s)
            if len(self._sources) > self.max_sources:
                (old_reason, _), old = self._sources.popitem(last=False)
                self._minutes.setdefault(old_reason, _Minute()).silent += old.silent
        source.last_s = now_s
        self._sources.move_to_end(key)
        return source


@dataclass(slots=True)
class RefusedAttempts:
    """Refusals of one client for one reason at one path: their number, and what the newest one reports."""

    reason: RefusalCause
    path: str
    peer: str = ""
    detail: str = ""
    remedy: str = ""
    count: int = 0
    last_ns: int = 0


class RequestRefusals:
    """Counts and logs the refusals of a hub. `counts` is for /metrics.

    `clock` is monotonic, in seconds; `now_ns` is the time of the day.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.counts: Counter[RefusalCause] = Counter()
        self._clock = clock
        self._now_ns = now_ns
        self._recent: OrderedDict[tuple[RefusalCause, str, str], RefusedAttempts] = OrderedDict()
        self._limiter = RefusalLimiter()
        self._log = structlog.get_logger(__name__)

    def report(self, reason: RefusalCause, *, path: str, peer: str, remedy: str = "", detail: str = "") -> None:
        """Count a refusal, and log it unless this client or this reason had its lines for now.

        `peer` is the address of the client; `detail` says what exactly is wrong.
        """
        self.counts[reason] += 1
        self._remember(reason, path=path, peer=peer, remedy=remedy, detail=detail)
        silent = self._limiter.record(reason, peer, self._clock())
        if silent is None:
            return
        fields = {
            "path": shown(path),
            "peer": shown(peer),
            "reason": reason.value,
            "detail": shown(detail, 2 * MAX_SHOWN),
            "remedy": remedy or REMEDIES[reason],
            "not_logged": silent.same_client,
            "not_logged_others": silent.other_clients,
        }
        self._log.info("request refused", **{name: value for name, value in fields.items() if value})

    def recent(self) -> list[RefusedAttempts]:
        """Return the clients that were refused, the newest first. Requests for unknown paths are not among them."""
        return [
            replace(
                attempts,
                path=shown(attempts.path),
                peer=shown(attempts.peer),
                detail=shown(attempts.detail, 2 * MAX_SHOWN),
            )
            for attempts in reversed(self._recent.values())
        ]

    def _remember(self, reason: RefusalCause, *, path: str, peer: str, remedy: str, detail: str) -> None:
        """Count a refusal of a client. A flood of them costs as little as possible: texts are escaped when listed."""
        if reason is RefusalCause.UNKNOWN_PATH:
            return  # scanners send many, and the answer names the cause to a device that sends one
        key = reason, client_of(peer), path[: MAX_SHOWN + 1]
        attempts = self._recent.get(key)
        if attempts is None:
            attempts = self._recent[key] = RefusedAttempts(reason, key[2])
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        attempts.peer, attempts.detail = peer[: MAX_SHOWN + 1], detail[: 2 * MAX_SHOWN + 1]
        attempts.remedy = remedy or REMEDIES[reason]
        attempts.count += 1
        attempts.last_ns = self._now_ns()
        self._recent.move_to_end(key)

    def report_scope(self, scope: Mapping[str, Any], refused: RequestRefused) -> None:
        """Report the refusal of an ASGI request or upgrade."""
        self.report(refused.reason, path=scope["path"], peer=peer_of(scope), remedy=refused.remedy, detail=refused.what)

    def was_refused(self, reason: RefusalCause, peer: str, *, within_s: float) -> bool:
        """Return whether a request of this client was refused for this reason within the last seconds."""
        last_s = self._limiter.last_s(reason, peer)
        return last_s is not None and self._clock() - last_s <= within_s


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """Return a text from outside for a log line: cut, and with control and bidirectional characters escaped."""
    return f"{escaped(text[:limit])}…" if len(text) > limit else escaped(text)


def peer_of(scope: Mapping[str, Any]) -> str:
    """Return the address of the client of an ASGI request; "" if it is not known."""
    client = scope.get("client")
    return client[0] if client else ""


def client_of(address: str) -> str:
    """Return the client of an address: of IPv6 the first 64 bits, because one machine has all addresses below them."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
