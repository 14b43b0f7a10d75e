"""Events: bounded per device and in all, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.registry.database import SCHEMA, open_database
from hub.registry.event import MAX_KIND, MAX_PAGE, Event, PendingEvents, insert_events, select_events
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
    """Whatever arrives in whatever groups: each device (and the hub) has its last three, unless all have too many."""
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    arrived: list[Event] = []
    for group in groups:
        events = [event(device, len(arrived) + number) for number, device in enumerate(group)]
        arrived += events
        insert_events(connection, events, max_per_device=3, max_in_all=10)
    wanted = [e for n, e in enumerate(arrived) if sum(later.device == e.device for later in arrived[n + 1 :]) < 3]
    assert [e.time_ns for e in reversed(select_events(connection))] == [e.time_ns for e in wanted[-10:]]


def test_a_noisy_device_costs_the_others_nothing(connection: apsw.Connection) -> None:
    """Events beyond a device's own bound push out its own only, also when ids have run past the bound for all."""
    insert_events(connection, [event("quiet", 0)], max_per_device=5, max_in_all=20)
    for time_ns in range(100):
        insert_events(connection, [event("noisy", time_ns)], max_per_device=5, max_in_all=20)
    assert len(select_events(connection, "quiet")) == 1
    assert [e.time_ns for e in select_events(connection, "noisy")] == [99, 98, 97, 96, 95]


def test_pages_follow_each_other_without_hole_or_repetition(connection: apsw.Connection) -> None:
    """`before` the last id of a page is the next page, of one device or of all."""
    insert_events(connection, [event("ab"[number % 2], number) for number in range(20)])
    times: list[int] = []
    before = None
    while page := select_events(connection, "a", limit=3, before=before):
        times += [e.time_ns for e in page]
        before = page[-1].id
    assert times == list(range(18, -1, -2))
    assert [e.time_ns for e in select_events(connection, limit=2)] == [19, 18]


def test_the_hub_s_own_events_are_among_all(connection: apsw.Connection) -> None:
    """An event without a device is the hub's; asking for a device leaves it out."""
    insert_events(connection, [event(None, 1), event("a", 2)])
    assert [e.device for e in select_events(connection)] == ["a", None]
    assert [e.device for e in select_events(connection, "a")] == ["a"]


@pytest.mark.parametrize(("limit", "got"), [(-1, 0), (0, 0), (1, 1), (10**9, MAX_PAGE)])
def test_an_answer_is_bounded(connection: apsw.Connection, limit: int, got: int) -> None:
    """No page is larger than MAX_PAGE, whatever is asked for."""
    insert_events(connection, [event(None, n) for n in range(MAX_PAGE + 1)], max_per_device=2 * MAX_PAGE)
    assert len(select_events(connection, limit=limit)) == got


def test_long_text_is_cut() -> None:
    """An event is small, whatever a peer gave as its reason."""
    pending = PendingEvents()
    pending.add("a", 1, "k" * 1000, "d" * 10_000)
    (taken,) = pending.take()
    assert (len(taken.kind), len(taken.detail)) == (MAX_KIND, MAX_MESSAGE)


@given(st.integers(0, 12), st.integers(0, 12))
def test_events_that_could_not_be_written_come_first_again(given_back: int, later: int) -> None:
    """Order is kept, the newest are kept, and what there is no room for is counted."""
    pending = PendingEvents(max_events=10)
    for number in range(given_back):
        pending.add(None, number, "k", "")
    taken = pending.take()
    for number in range(later):
        pending.add(None, given_back + number, "k", "")
    pending.give_back(taken)
    total = given_back + later
    assert [e.time_ns for e in pending.take()] == list(range(total))[-10:]
    assert pending.dropped == max(0, given_back - 10) + max(0, later - 10) + max(
        0, min(10, given_back) + min(10, later) - 10
    )
