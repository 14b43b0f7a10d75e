"""Requests through proxies: the client in front of trusted proxies, and the path below the public URL.

A proxy connects to the hub in the name of its clients. It reports the client in `X-Forwarded-For`, and in
`X-Forwarded-Proto` and `X-Forwarded-Host` what the client asked for. A client can send these headers, too, so they
count only where a trusted proxy has written them. Each proxy of a chain appends the address of its own peer, so the
chain is read from its right end: the first address there that belongs to no trusted proxy is the client.

`Forwarded` (RFC 7239) is ignored. A proxy that writes only the other headers passes on what a client put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_network

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.http.authority import Address, parse_address, parse_authority

LOOPBACK = ("127.0.0.0/8", "::1")
"""The trusted proxies of a hub that is behind a proxy on its own machine."""

MAX_PROXIES = 16
"""Proxies of one chain that are examined; real chains have three. At the bound the last of them counts as the client.
A header can hold thousands of trusted addresses, and a request would cost milliseconds."""

SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}
"""Schemes of a request and of a WebSocket by `X-Forwarded-Proto`. Traefik sends wss for a WebSocket."""

ROOT = "/"

RESERVED = frozenset(
    {
        *("access", "add", "api", "assets", "board", "commands", "device", "download", "flow", "health", "metrics"),
        *("mqtt", "open", "quarantine", "ready", "sign-in", "tokens", "try", "v1"),
    }
)
"""First parts of the hub's own paths. If the base path began with one of them, a path that a proxy has stripped could
look like one that it has not."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks of the proxies whose headers count."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of_settings(cls, texts: Iterable[str], *, behind_proxy: bool) -> TrustedProxies:
        """Return the proxies with these addresses and networks; without any, those that `behind_proxy` states.

        Raises ValueError for a text that is neither, with what to write instead.
        """
        given = tuple(texts) or (LOOPBACK if behind_proxy else ())
        return cls(tuple(parse_network(text) for text in given))

    def trusts(self, address: Address) -> bool:
        """Return whether a proxy has this address."""
        return any(address in network for network in self.networks)

    def is_proxy(self, peer: str) -> bool:
        """Return whether the peer of a connection is a proxy. Its connections have the requests of many clients."""
        address = parse_address(peer)
        return address is not None and self.trusts(address)

    def find_client(self, peer: Address, chain: Sequence[str]) -> tuple[Address, int]:
        """Return the client of a request from a trusted `peer`, and how many proxies of the chain are in between.

        `chain` is `X-Forwarded-For` from left to right. If a proxy reported something that is no address, that proxy
        counts as the client.
        """
        client, proxies = peer, 0
        for text in reversed(chain[-MAX_PROXIES:]):
            before = parse_client(text) if self.trusts(client) else None
            if before is None:
                break
            client, proxies = before, proxies + 1
        return client, proxies


def parse_network(text: str) -> Network:
    """Return the network of a setting; an address is the network of itself alone.

    Raises ValueError with what to write instead.
    """
    try:
        network = ip_network(text.strip())
    except ValueError:
        raise ValueError(f"access.trusted_proxies: {text!r} is {_network_problem(text.strip())}") from None
    if network.prefixlen == 0:
        raise ValueError(
            f"access.trusted_proxies: {text!r} is every address, so any client could pretend to be another: write the "
            "addresses of the proxies, for example 172.18.0.2 or 172.18.0.0/16"
        )
    return network


def _network_problem(text: str) -> str:
    """Return what is wrong with the text, and what to write instead."""
    try:
        return f"an address within a network: write {ip_network(text, strict=False)} or {text.partition('/')[0]}"
    except ValueError:
        address = parse_client(text)
    if address is not None:
        return f"no address: write {address}, without a port"
    return "neither an address nor a network: write for example 172.18.0.2 or 172.18.0.0/16, and no host name"


def parse_client(text: str) -> Address | None:
    """Return the address in one element of `X-Forwarded-For`, which may have a port; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)


class ProxiedRequests:
    """Passes each request and upgrade on as its client sent it to the proxy: client, scheme, host, and path.

    `base_path` is the path of the public URL, which begins and ends with a slash. A proxy may pass it on or strip it:
    a path that does not begin with it is used as it is.
    """

    def __init__(self, application: ASGIApp, *, proxies: TrustedProxies, base_path: str = ROOT) -> None:
        self._application = application
        self._proxies = proxies
        self._base_path = base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request. The scope is changed in place: a WebSocket's connection uses it, too."""
        if self._proxies.networks:
            restore_client(scope, self._proxies)
        path = scope["path"]
        if self._base_path != ROOT:
            if path == self._base_path[:-1] and scope["type"] == "http":
                redirect = RedirectResponse(self._base_path, HTTPStatus.PERMANENT_REDIRECT)
                await redirect(scope, receive, send)
                return
            if path.startswith(self._base_path):
                scope["path"] = path[len(self._base_path) - 1 :]
        await self._application(scope, receive, send)


def restore_client(scope: Scope, proxies: TrustedProxies) -> None:
    """Set client, scheme and Host to what trusted proxies report. A missing or malformed header changes nothing."""
    client = scope.get("client")
    peer = parse_address(client[0]) if client else None
    if peer is None or not proxies.trusts(peer):
        return
    address, between = proxies.find_client(peer, _elements(scope, b"x-forwarded-for"))
    if between:
        scope["client"] = (str(address), 0)
    schemes = SCHEMES.get(_reported(scope, b"x-forwarded-proto", between).lower())
    if schemes is not None:
        scope["scheme"] = schemes[scope["type"] == "websocket"]
    host = _reported(scope, b"x-forwarded-host", between)
    if parse_authority(host) is not None:
        headers = [header for header in scope["headers"] if header[0] != b"host"]
        scope["headers"] = [(b"host", host.encode("latin-1")), *headers]


def _reported(scope: Scope, name: bytes, between: int) -> str:
    """Return what the proxy next to the client reports, an empty text without it.

    A proxy appends to the list, or it replaces the list. A list that is shorter than the chain was replaced, and its
    first element is from the proxy that is nearest to the client of those that did not.
    """
    elements = _elements(scope, name)
    return elements[max(len(elements) - max(between, 1), 0)] if elements else ""


def _elements(scope: Scope, name: bytes) -> list[str]:
    """Return the elements of every header of this name, which is one list (RFC 9110, 5.3)."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return [element.strip() for element in ",".join(values).split(",")] if values else []
