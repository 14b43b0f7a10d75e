"""Tests of requests through proxies: whose headers count, which client they name, and the path of the public URL."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect

from hub.http.forwarded import (
    LOOPBACK,
    MAX_PROXIES,
    ProxiedRequests,
    TrustedProxies,
    parse_client,
    parse_network,
    restore_client,
)
from hub.http.loop_share import LoopShares
from hub.http.server import Server, listen
from hub.http.websocket import DEVICE_PATH
from tests.tasks import running_task

PROXIES = TrustedProxies.of_settings(["10.0.0.0/8", "fd00::/8"], behind_proxy=True)

trusted_addresses = st.ip_addresses(network="10.0.0.0/8").map(str) | st.ip_addresses(network="fd00::/8").map(str)
strangers = (
    st.ip_addresses()
    .filter(lambda address: not (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped))
    .filter(lambda address: not PROXIES.trusts(address))
    .map(str)
)
latin = st.text(st.characters(max_codepoint=255), max_size=40)
kinds = st.sampled_from(["http", "websocket"])


def scope(peer: str, kind: str = "http", **headers: str | list[str]) -> dict[str, Any]:
    """Return the scope of a request from `peer`. An underscore in a header's name stands for a hyphen."""
    given = {"host": "inside", **headers}
    return {
        "type": kind,
        "scheme": "ws" if kind == "websocket" else "http",
        "client": (peer, 4711),
        "path": "/",
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, values in given.items()
            for value in ([values] if isinstance(values, str) else values)
        ],
    }


def restored(asked: dict[str, Any], proxies: TrustedProxies = PROXIES) -> tuple[str, str, list[str]]:
    """Return the client's address, the scheme and the Host headers after the proxies' headers were applied."""
    restore_client(asked, proxies)
    return asked["client"][0], asked["scheme"], [value.decode() for name, value in asked["headers"] if name == b"host"]


@given(strangers, latin, st.lists(trusted_addresses, min_size=1, max_size=5), kinds)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(
    client: str, invented: str, proxies: list[str], kind: str
) -> None:
    """Whatever the client itself writes into the header stays on the left and is never examined."""
    *reported, peer = proxies
    chain = ", ".join([invented, client, *reported])
    assert restored(scope(peer, kind, x_forwarded_for=chain))[0] == client


@given(strangers, latin, latin, latin, kinds)
def test_headers_of_another_peer_are_ignored(peer: str, client: str, scheme: str, host: str, kind: str) -> None:
    """The request stays as it is."""
    asked = scope(peer, kind, x_forwarded_for=client, x_forwarded_proto=scheme, x_forwarded_host=host)
    before = dict(asked)
    restore_client(asked, PROXIES)
    assert asked == before


@given(st.lists(latin, max_size=4), latin, latin, trusted_addresses, kinds)
def test_any_header_is_read_without_an_error(chains: list[str], scheme: str, host: str, peer: str, kind: str) -> None:
    """The client is always an address, the scheme one of two, and there is one Host."""
    asked = scope(peer, kind, x_forwarded_for=chains, x_forwarded_proto=scheme, x_forwarded_host=host)
    client, found, hosts = restored(asked)
    ipaddress.ip_address(client)
    assert found in (("ws", "wss") if kind == "websocket" else ("http", "https"))
    assert len(hosts) == 1


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        (["198.51.100.1, 192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        (["192.0.2.1", "::ffff:10.0.0.2"], "192.0.2.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("192.0.2.1, unknown", "10.0.0.1"),
        ("192.0.2.1, , 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, [10.0.0.2", "192.0.2.1"),
        ("", "10.0.0.1"),
        ("192.0.2.1, " + ", ".join(["10.0.0.2"] * MAX_PROXIES), "10.0.0.2"),
    ],
)
def test_the_forms_of_a_chain(chain: str | list[str], client: str) -> None:
    """Ports, brackets and several headers are read. A proxy that reports no address counts as the client itself."""
    assert restored(scope("10.0.0.1", x_forwarded_for=chain))[0] == client


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ({}, "http", "inside"),
        ({"x_forwarded_proto": "https"}, "https", "inside"),
        ({"x_forwarded_proto": "HTTPS", "x_forwarded_host": "Hub.example:8443"}, "https", "Hub.example:8443"),
        ({"x_forwarded_proto": "wss"}, "https", "inside"),
        ({"x_forwarded_proto": "gopher", "x_forwarded_host": "no host"}, "http", "inside"),
        # The client invented the first element, and the only proxy appended its own.
        ({"x_forwarded_for": "192.0.2.1", "x_forwarded_proto": "https, http"}, "http", "inside"),
        # Two proxies: the outer one did TLS.
        ({"x_forwarded_for": "192.0.2.1, 10.0.0.2", "x_forwarded_proto": "https, http"}, "https", "inside"),
        ({"x_forwarded_for": "192.0.2.1, 10.0.0.2", "x_forwarded_proto": "http, https, http"}, "https", "inside"),
        (
            {"x_forwarded_for": "192.0.2.1, 10.0.0.2", "x_forwarded_host": "a, hub.example, inner"},
            "http",
            "hub.example",
        ),
        # Two proxies, and the inner one replaced the header.
        ({"x_forwarded_for": "192.0.2.1, 10.0.0.2", "x_forwarded_proto": "https"}, "https", "inside"),
    ],
)
def test_scheme_and_host_are_those_of_the_proxy_next_to_the_client(
    headers: dict[str, str], scheme: str, host: str
) -> None:
    """The element of a list counts that the proxy next to the client has written."""
    assert restored(scope("10.0.0.1", **headers))[1:] == (scheme, [host])
    secure = {"http": "ws", "https": "wss"}[scheme]
    assert restored(scope("10.0.0.1", "websocket", **headers))[1:] == (secure, [host])


def test_the_default_is_this_machine_if_it_has_the_proxy() -> None:
    """With behind_proxy and no addresses, proxies on loopback are trusted; without it, none is."""
    chain = {"x_forwarded_for": "192.0.2.1"}
    default = TrustedProxies.of_settings((), behind_proxy=True)
    assert [restored(scope(peer, **chain), default)[0] for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == [
        "192.0.2.1"
    ] * 3
    assert restored(scope("10.0.0.1", **chain), default)[0] == "10.0.0.1"
    nobody = TrustedProxies.of_settings((), behind_proxy=False)
    assert restored(scope("127.0.0.1", **chain), nobody)[0] == "127.0.0.1"
    named = TrustedProxies.of_settings(["10.0.0.1"], behind_proxy=True)
    assert restored(scope("127.0.0.1", **chain), named)[0] == "127.0.0.1"


def test_the_bound_of_a_chain_leaves_room_for_real_ones() -> None:
    """No more than this number of proxies is examined; those before them are not reached."""
    chain = ", ".join(["192.0.2.1", *["10.0.0.9"] * (MAX_PROXIES - 1)])
    assert restored(scope("10.0.0.1", x_forwarded_for=chain))[0] == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("10.0.0.5/8", "'10.0.0.5/8' is an address within a network: write 10.0.0.0/8 or 10.0.0.5"),
        ("fd00::1/64", "write fd00::/64 or fd00::1"),
        ("10.0.0.1:443", "write 10.0.0.1, without a port"),
        ("[fd00::1]", "write fd00::1, without a port"),
        ("0.0.0.0/0", "every address, so any client could pretend to be another"),
        ("::/0", "every address"),
        ("*", "neither an address nor a network"),
        ("proxy.example", "write for example 172.18.0.2 or 172.18.0.0/16, and no host name"),
        ("10.0.0.0/33", "neither an address nor a network"),
        ("10.0.0.*", "neither an address nor a network"),
        ("", "neither an address nor a network"),
    ],
)
def test_an_invalid_network_is_rejected_with_what_to_write(text: str, advice: str) -> None:
    """The message names the setting and the text."""
    with pytest.raises(ValueError, match=r"^access\.trusted_proxies: ") as error:
        parse_network(text)
    assert advice in str(error.value)


@given(latin)
def test_any_text_is_a_network_or_rejected(text: str) -> None:
    """No other exception is raised; an address and a port are never taken for each other."""
    parse_client(text)
    try:
        parse_network(text)
    except ValueError as error:
        assert str(error).startswith("access.trusted_proxies: ")


def test_the_defaults_are_networks() -> None:
    """The constant is valid."""
    assert all(parse_network(text).is_loopback for text in LOOPBACK)


# Paths.


async def serve(path: str, base_path: str, kind: str = "http") -> tuple[str | None, int | None, str | None]:
    """Return the path that the application gets, and the status and location of an answer without it."""
    reached: list[str] = []
    answers: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        answers.append(message)

    proxied = ProxiedRequests(application, proxies=TrustedProxies(), base_path=base_path)
    await proxied({**scope("192.0.2.1", kind), "path": path}, receive, send)
    if reached:
        return reached[0], None, None
    headers = dict(answers[0]["headers"])
    return None, answers[0]["status"], headers[b"location"].decode()


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("path", "inner"),
    [
        ("/telemetry/", "/"),
        ("/telemetry/api/v1/hub", "/api/v1/hub"),
        ("/telemetry//api", "//api"),
        ("/telemetry/telemetry/", "/telemetry/"),
        ("/", "/"),
        ("/api/v1/hub", "/api/v1/hub"),
        ("/telemetryx/api", "/telemetryx/api"),
    ],
)
async def test_the_base_path_is_removed_if_the_proxy_passed_it(path: str, inner: str, kind: str) -> None:
    """A path without it comes from a proxy that strips it, or from this machine. It is removed once."""
    assert await serve(path, "/telemetry/", kind) == (inner, None, None)
    assert await serve(path, "/", kind) == (path, None, None)


async def test_the_base_path_without_its_slash_leads_to_the_page() -> None:
    """Relative addresses need the slash."""
    assert await serve("/telemetry", "/telemetry/") == (None, 308, "/telemetry/")
    assert await serve("/telemetry", "/telemetry/", "websocket") == ("/telemetry", None, None)


# A real server.


@contextlib.asynccontextmanager
async def serving(seen: list[Scope], proxies: TrustedProxies, shares: LoopShares | None = None) -> AsyncIterator[int]:
    """Run a server below /telemetry/ that offers compression; yield its port. `seen` gets the scope of each request."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope))
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    listener = listen("127.0.0.1", 0)
    server = Server(application, listener, proxies=proxies, base_path="/telemetry/", compression=True, shares=shares)
    async with running_task(server.run()):
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("proxies", "client", "secure", "host"),
    [
        (["127.0.0.1"], "192.0.2.1", True, b"hub.example"),
        (["192.0.2.9"], "127.0.0.1", False, b"inside"),
    ],
)
async def test_a_server_applies_them_to_requests_and_websockets(
    proxies: list[str], client: str, secure: bool, host: bytes
) -> None:
    """The application sees the client, the scheme, the host and the path within the hub, or, if the peer is no trusted
    proxy, the peer itself. A WebSocket of an agent is not compressed below a path either."""
    headers = {
        "X-Forwarded-For": "198.51.100.7, 192.0.2.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "hub.example",
    }
    seen: list[Scope] = []
    async with serving(seen, TrustedProxies.of_settings(proxies, behind_proxy=True)) as port:
        async with httpx.AsyncClient(headers={"Host": "inside", **headers}) as browser:
            answer = await browser.get(f"http://127.0.0.1:{port}/telemetry/api")
            assert answer.status_code == 204
        for path, extensions in (("/v1/live", 1), (DEVICE_PATH, 0)):
            url = f"ws://127.0.0.1:{port}/telemetry{path}"
            async with connect(url, additional_headers=headers, proxy=None) as connection:
                assert len(connection.protocol.extensions) == extensions
    assert [scope["path"] for scope in seen] == ["/api", "/v1/live", DEVICE_PATH]
    assert [scope["client"][0] for scope in seen] == [client] * 3
    assert [scope["scheme"] for scope in seen] == (["https", "wss", "wss"] if secure else ["http", "ws", "ws"])
    assert dict(seen[0]["headers"])[b"host"] == host


class NotedShares(LoopShares):
    """Shares that note who was charged."""

    def __init__(self) -> None:
        super().__init__()
        self.charged: list[str] = []

    def charge(self, address: str, seconds: float, now_s: float) -> None:
        self.charged.append(address)
        super().charge(address, seconds, now_s)


async def test_a_websocket_behind_the_proxy_is_charged_to_its_client() -> None:
    """Each frame before a token costs the share of the client and not that of the proxy, which all clients have."""
    shares = NotedShares()
    async with serving([], TrustedProxies.of_settings(["127.0.0.1"], behind_proxy=True), shares) as port:
        url = f"ws://127.0.0.1:{port}/telemetry/v1/live"
        async with connect(url, additional_headers={"X-Forwarded-For": "192.0.2.1"}, proxy=None) as connection:
            upgrades = len(shares.charged)
            for _ in range(3):
                await (await connection.ping())
    assert set(shares.charged[upgrades:]) == {"192.0.2.1"}
