"""The history of events is bounded for each device and in all, and is read newest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.event import Event
from hub.registry.database import open_database
from hub.registry.event import MAX_KIND, MAX_PAGE, PendingEvents, insert_events, select_events
from hub.registry.schema import create_tables
from wire.limits import MAX_MESSAGE

names = st.sampled_from(["a", "b", "c", None])


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "registry.db")
    yield connection
    connection.close()


def event(device: str | None, time_ns: int) -> Event:
    return Event(0, device, time_ns, "connected", "")


@given(st.lists(st.lists(names, max_size=12), max_size=6))
def test_each_device_keeps_its_newest_events(groups: list[list[str | None]]) -> None:
    """In any order of arrival each device and the hub keep their last three events, within the bound for all."""
    connection = apsw.Connection(":memory:")
    create_tables(connection)
    arrived: list[Event] = []
    for group in groups:
        events = [event(device, len(arrived) + number) for number, device in enumerate(group)]
        arrived += events
        insert_events(connection, events, max_per_device=3, max_in_all=10)
    wanted = [e for n, e in enumerate(arrived) if sum(later.device == e.device for later in arrived[n + 1 :]) < 3]
    assert [e.time_ns for e in reversed(select_events(connection))] == [e.time_ns for e in wanted[-10:]]


def test_a_noisy_device_displaces_only_its_own_events(connection: apsw.Connection) -> None:
    """This also holds when the ids have passed the bound for all devices."""
    insert_events(connection, [event("quiet", 0)], max_per_device=5, max_in_all=20)
    for time_ns in range(100):
        insert_events(connection, [event("noisy", time_ns)], max_per_device=5, max_in_all=20)
    assert len(select_events(connection, "quiet")) == 1
    assert [e.time_ns for e in select_events(connection, "noisy")] == [99, 98, 97, 96, 95]


def test_commands_displace_no_other_event(connection: apsw.Connection) -> None:
    """Nor do others displace the record of who sent what."""
    bounds = {"max_per_device": 2, "max_commands_per_device": 3}
    for time_ns in range(10):
        for kind in ("offline", "command", "command succeeded"):
            insert_events(connection, [Event(0, "pump", time_ns, kind, "")], **bounds)
    found = [(e.time_ns, e.kind) for e in select_events(connection, "pump")]
    assert found == [
        (9, "command succeeded"), (9, "command"), (9, "offline"), (8, "command succeeded"), (8, "offline")
    ]  # fmt: skip


def test_pages_have_no_gap_and_no_repetition(connection: apsw.Connection) -> None:
    """With `before` set to the last id of a page the next page follows, for one device or for all."""
    insert_events(connection, [event("ab"[number % 2], number) for number in range(20)])
    times: list[int] = []
    before = None
    while page := select_events(connection, "a", limit=3, before=before):
        times += [e.time_ns for e in page]
        before = page[-1].id
    assert times == list(range(18, -1, -2))
    assert [e.time_ns for e in select_events(connection, limit=2)] == [19, 18]


def test_events_of_the_hub_are_listed_with_all_events(connection: apsw.Connection) -> None:
    """An event without a device belongs to the hub; a query for one device omits it."""
    insert_events(connection, [event(None, 1), event("a", 2)])
    assert [e.device for e in select_events(connection)] == ["a", None]
    assert [e.device for e in select_events(connection, "a")] == ["a"]


@pytest.mark.parametrize(("limit", "got"), [(-1, 0), (0, 0), (1, 1), (10**9, MAX_PAGE)])
def test_an_answer_is_bounded(connection: apsw.Connection, limit: int, got: int) -> None:
    """No page is larger than MAX_PAGE."""
    insert_events(connection, [event(None, n) for n in range(MAX_PAGE + 1)], max_per_device=2 * MAX_PAGE)
    assert len(select_events(connection, limit=limit)) == got


def test_long_text_is_cut() -> None:
    """An event is small even if a peer sends a long reason."""
    pending = PendingEvents()
    pending.add("a", 1, "k" * 1000, "d" * 10_000)
    (taken,) = pending.drain()
    assert (len(taken.kind), len(taken.detail)) == (MAX_KIND, MAX_MESSAGE)


@given(st.integers(0, 12), st.integers(0, 12))
def test_unwritten_events_keep_their_order(given_back: int, later: int) -> None:
    """Restored events precede newer ones, and the events beyond the bound are counted."""
    pending = PendingEvents(max_events=10)
    for number in range(given_back):
        pending.add(None, number, "k", "")
    taken = pending.drain()
    for number in range(later):
        pending.add(None, given_back + number, "k", "")
    pending.restore(taken)
    total = given_back + later
    assert [e.time_ns for e in pending.drain()] == list(range(total))[-10:]
    assert pending.dropped == max(0, given_back - 10) + max(0, later - 10) + max(
        0, min(10, given_back) + min(10, later) - 10
    )
