"""Tests of the bounds of waiting connections: nobody's connections are closed for those of another address."""

from __future__ import annotations

import pytest

from hub.http.waiting import WaitingConnections


class Connection:
    """A connection that only has an identity: the caller of `add` closes the one that it returns."""

    def make_room(self) -> None:
        raise AssertionError("the bounds choose a connection and close none")


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.http.waiting.MAX_WAITING_CONNECTIONS", 6)
    monkeypatch.setattr("hub.http.waiting.MAX_WAITING_PER_ADDRESS", 4)


def test_an_address_replaces_its_own_oldest_connection() -> None:
    """Whatever other addresses have waited for longer."""
    waiting = WaitingConnections()
    assert waiting.add(Connection(), "other") is None
    own = [Connection() for _ in range(5)]
    assert [waiting.add(connection, "own") for connection in own] == [None, None, None, None, own[0]]


def test_the_address_that_has_most_makes_room_for_all() -> None:
    """A trusted proxy has no bound of its own."""
    waiting = WaitingConnections()
    first = Connection()
    assert waiting.add(first, "victim") is None
    many = [Connection() for _ in range(5)]
    assert [waiting.add(connection, None) for connection in many] == [None] * 5
    assert waiting.add(Connection(), "another") is many[0]
    waiting.remove(many[0])
    waiting.remove(many[0])
    assert len(waiting) == 6


def test_few_file_descriptors_reduce_the_bounds() -> None:
    """An address has an eighth of the possible connections."""
    waiting = WaitingConnections(max_connections=16)
    own = [Connection() for _ in range(3)]
    assert [waiting.add(connection, "own") for connection in own] == [None, None, own[0]]
