"""The record of a run: a kill is noticed at the next start, with its time and the devices that were connected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.event import Event
from hub.registry.database import open_database
from hub.registry.event import insert_events, select_events
from hub.registry.hub_run import ENDED_KIND, RENEWAL_NS, UncleanEnd, begin, end, renew
from hub.registry.registry import Registry
from hub.registry.schema import create_tables


def in_memory() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    create_tables(connection)
    return connection


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "registry.db")
    yield connection
    connection.close()


def record(connection: apsw.Connection, time_ns: int, *kinds: tuple[str | None, str]) -> None:
    insert_events(connection, [Event(0, device, time_ns, kind, "") for device, kind in kinds])


def test_a_first_start_and_a_start_after_a_stop_report_nothing(connection: apsw.Connection) -> None:
    """A data directory of an older version has no record of a run either."""
    assert begin(connection, 10, 0) is None
    end(connection)
    assert begin(connection, 20, 0) is None
    assert select_events(connection) == []


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_the_last_sign_of_life_is_the_newest_of_all(
    started: int, renewed: int, committed: int, recorded: int, set_back: bool
) -> None:
    """The start, a renewal, a commit or an event, but never after the next start, although the clock was set back."""
    connection = in_memory()
    begin(connection, started, 0)
    renew(connection, renewed)
    record(connection, recorded, ("a", "gap"))
    newest = max(started, renewed, committed, recorded)
    now = newest // 2 if set_back else newest + 5
    assert begin(connection, now, committed) == UncleanEnd(min(newest, now), [])
    newest_event = select_events(connection)[0]
    assert newest_event[1:4] == (None, min(newest, now), ENDED_KIND)


def test_devices_that_were_connected_get_an_event(connection: apsw.Connection) -> None:
    """A device counts if its last connect was in the killed run and no disconnect followed."""
    begin(connection, 10, 0)
    record(connection, 5, ("before", "connected"))
    record(connection, 11, ("on", "connected"), ("off", "connected"), ("again", "connected"), (None, "hub started"))
    record(connection, 12, ("off", "disconnected"), ("again", "superseded"), ("again", "connected"), ("on", "gap"))
    ended = begin(connection, 30, 20)
    assert ended is not None
    assert (ended.time_ns, sorted(ended.devices)) == (20, ["again", "on"])
    (newest, *_) = select_events(connection, "on")
    assert newest[1:] == ("on", 20, "disconnected", ENDED_KIND)
    (of_hub, *_) = select_events(connection, of_hub=True)
    assert of_hub.detail == "killed, or the power failed; 2 devices were connected"
    # They are disconnected now: another kill reports them only if they connected again.
    record(connection, 31, ("on", "connected"))
    again = begin(connection, 50, 40)
    assert again is not None
    assert again.devices == ["on"]


def test_events_of_the_hub_can_be_read_alone(connection: apsw.Connection) -> None:
    """The others are those of one device, or all."""
    record(connection, 1, ("a", "connected"), (None, "hub started"), ("b", "connected"))
    assert [event.kind for event in select_events(connection, of_hub=True)] == ["hub started"]
    assert [event.device for event in select_events(connection, "a")] == ["a"]
    assert len(select_events(connection)) == 3


async def test_a_registry_that_is_closed_has_stopped(tmp_path: Path) -> None:
    """Closing removes the record; a process that only reads and writes tokens does not touch it."""
    path, now = tmp_path / "registry.db", 1000
    async with Registry(path, clock=lambda: now) as registry:
        assert await registry.begin_run(0) is None
    async with Registry(path, clock=lambda: now) as registry:
        assert await registry.begin_run(0) is None
        async with Registry(path, clock=lambda: now):
            pass
        now += RENEWAL_NS
        registry.record_event(None, now, "hub started")
        await registry.events()
        # The process is killed here: another one opens the file and finds the record.
        async with Registry(path, clock=lambda: now + 5) as second:
            assert await second.begin_run(0) == UncleanEnd(now, [])
