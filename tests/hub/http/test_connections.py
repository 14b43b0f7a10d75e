"""Tests of the open connections: bounds without a credential, floods, and the log of episodes."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from hub.http.connections import MAX_OF_TOKEN, MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS, Connections
from hub.http.refusals import RefusalCause, RequestRefusals
from hub.model.identity import Identity, Role
from wire.errors import Code, WireError
from wire.frame_budget import Flood


class Direct:
    """The socket's side of a connection."""

    def __init__(self) -> None:
        self.on_flood: Any = None
        self.on_bad_frame: Any = None
        self.is_admitted = False

    def admit(self) -> None:
        self.is_admitted = True


class Peer:
    """A connection that records its end."""

    def __init__(self) -> None:
        self.ended: list[Code] = []

    def end(self, error: WireError) -> None:
        self.ended.append(error.code)


def opened(connections: Connections, address: str, credential: str | None = None) -> tuple[Peer, Direct]:
    """Open a connection from an address."""
    peer, direct = Peer(), Direct()
    scope = {"type": "websocket", "path": "/v1/live", "client": (address, 5)}
    identity = None if credential is None else Identity(credential, Role.DEVICE)
    connections.add(peer, scope, direct, identity)  # type: ignore[arg-type]
    return peer, direct


async def test_one_address_replaces_only_its_own_unauthenticated_connections() -> None:
    """The oldest is ended first, with `busy`. IPv6 addresses of one network are one address."""
    refusals = RequestRefusals()
    connections = Connections(refusals)
    other, _ = opened(connections, "198.51.100.1")
    signed, _ = opened(connections, "2001:db8::1", "token")
    own = [opened(connections, f"2001:db8::{number:x}")[0] for number in range(MAX_UNAUTHENTICATED_PER_ADDRESS + 2)]
    assert [peer.ended for peer in own[:3]] == [[Code.BUSY], [Code.BUSY], []]
    assert (other.ended, signed.ended) == ([], [])
    assert refusals.counts == {RefusalCause.TOO_MANY_CONNECTIONS: 2}


async def test_a_token_is_connected_until_its_last_connection_ends() -> None:
    """A connection without a token has none."""
    connections = Connections()
    opened(connections, "198.51.100.1")
    first, _ = opened(connections, "198.51.100.2", "token")
    second, _ = opened(connections, "198.51.100.3", "token")
    connections.remove(first)
    assert connections.token_ids() == ["token"]
    connections.remove(second)
    assert connections.token_ids() == []


async def test_all_addresses_together_have_a_bound() -> None:
    """The oldest connection of all is ended."""
    connections = Connections()
    peers = [opened(connections, f"198.51.{number // 250}.{number % 250}")[0] for number in range(MAX_UNAUTHENTICATED)]
    assert not any(peer.ended for peer in peers)
    opened(connections, "203.0.113.1")
    assert [peer.ended for peer in peers[:2]] == [[Code.BUSY], []]


async def test_an_authenticated_connection_does_not_count() -> None:
    """Neither one that had its token in a header, nor one that sent it later, nor one that is closed."""
    connections = Connections()
    for number in range(3 * MAX_UNAUTHENTICATED_PER_ADDRESS):
        peer, direct = opened(connections, "198.51.100.1", f"token {number}" if number % 3 == 0 else None)
        if number % 3 == 1:
            connections.authenticate(peer, Identity(f"token {number}", Role.DEVICE))
        assert direct.is_admitted is (number % 3 < 2)
        if number % 3 == 2:
            connections.remove(peer)
        assert not peer.ended


async def test_a_token_has_a_bound_of_connections() -> None:
    """One more ends the oldest; a closed one makes room. A gateway has a connection for each of its devices."""
    connections = Connections()
    most = MAX_OF_TOKEN[Role.DEVICE]
    own = [opened(connections, "198.51.100.1", "token")[0] for _ in range(most)]
    other, _ = opened(connections, "198.51.100.1", "other")
    connections.remove(own[5])
    own.append(opened(connections, "198.51.100.1", "token")[0])
    assert not any(peer.ended for peer in own)
    own.append(opened(connections, "198.51.100.1", "token")[0])
    assert [peer.ended for peer in own[:2]] == [[Code.BUSY], []]
    assert other.ended == []
    for _ in range(most + 1):
        peer, _ = opened(connections, "198.51.100.1")
        connections.authenticate(peer, Identity("gateway", Role.GATEWAY))
        assert not peer.ended


async def test_a_flood_ends_its_connection_and_is_logged_once() -> None:
    """Every one is counted; the log has one line per client and minute, below the level of errors."""
    refusals = RequestRefusals()
    connections = Connections(refusals)
    with capture_logs() as logs:
        for _ in range(50):
            peer, direct = opened(connections, "198.51.100.1", "token")
            direct.on_flood(Flood.FRAGMENTS)
            assert peer.ended == [Code.TOO_MANY_FRAMES]
            connections.remove(peer)
    assert refusals.counts == {RefusalCause.FLOOD: 50}
    (line,) = logs
    assert (line["log_level"], line["reason"], line["path"]) == ("info", "flood", "/v1/live")
    assert (line["peer"], line["detail"]) == ("198.51.100.1", "a message has at most 1,024 frames, empty ones included")


async def test_an_invalid_frame_is_counted() -> None:
    """Its connection is closed already, by the WebSocket itself."""
    refusals = RequestRefusals()
    peer, direct = opened(Connections(refusals), "198.51.100.1")
    direct.on_bad_frame("1002 invalid opcode")
    assert (refusals.counts, peer.ended) == ({RefusalCause.BAD_FRAME: 1}, [])


async def test_a_revoked_credential_ends_its_connections() -> None:
    """And no others. During shutdown a new connection is ended, too."""
    connections = Connections()
    first, _ = opened(connections, "198.51.100.1", "one")
    second, _ = opened(connections, "198.51.100.1", "two")
    connections.revoke({"one"})
    assert (first.ended, second.ended) == ([Code.REVOKED], [])
    connections.close()
    third, _ = opened(connections, "198.51.100.1")
    assert (second.ended, third.ended) == ([Code.SHUTTING_DOWN], [Code.SHUTTING_DOWN])
    for peer in (first, second, third):
        connections.remove(peer)
    await connections.empty()
