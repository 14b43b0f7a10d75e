"""The session of one dashboard over a real journal and store, without its socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.live.outbox import MAX_DATA_BYTES
from hub.live.subscriber import Subscriber
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.storage.history_source import HistorySource
from tests.hub.storage.readings import open_store
from wire import live as messages
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.errors import Code, WireError
from wire.frames import Kind, Update, decode_update, readings

LEVEL = Series(1, "tank", "level", "float")
NS = 1_000_000
WELCOME = messages.Welcome("hub", "0.1.0", "0" * 16, 0, 0, "viewer")
FLEET = [messages.DeviceState("tank", connected=True)]


class Dashboard:
    """A subscriber and what it receives. `live` is the hub's side: readings are applied to it directly."""

    def __init__(self, live: LiveHub, source: HistorySource, tasks: asyncio.TaskGroup) -> None:
        self.live = live
        self.subscriber = Subscriber(live, source, tasks, fleet=lambda: FLEET, on_overflow=lambda: None)

    def send(self, message: messages.ViewerMessage) -> messages.Authenticate | None:
        return self.subscriber.receive(VIEWER_MESSAGES.encode(message).decode())

    async def receive(self) -> messages.LiveMessage | Update:
        frame = await self.subscriber.outbox.next_frame()
        return decode_update(frame) if isinstance(frame, bytes) else LIVE_MESSAGES.decode(frame.encode())

    async def subscribe(self, id: int) -> None:
        """Subscribe to everything, and read until the subscription is live."""
        self.send(messages.Subscribe(id, ["*"], ["*"]))
        while not isinstance(received := await self.receive(), messages.CaughtUp):
            assert not isinstance(received, messages.Error)

    def apply(self, number: int) -> None:
        """Apply one reading to the live hub, as a commit does."""
        batch = Batch([number * NS], [(LEVEL, [float(number)])], readings=1, rising=True)
        entry = Entry(EntryKind.BATCH, "tank", "e", number, 0, "json", b"", batch=batch)
        entry.offset = number
        self.live.apply([entry])


@asynccontextmanager
async def opened(path: Path, *, is_authenticated: bool = True) -> AsyncIterator[Dashboard]:
    journal_path = path / "journal.db"
    async with (
        Journal(journal_path, keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal,
        open_store(path) as store,
        asyncio.TaskGroup() as tasks,
    ):
        live = LiveHub(offset=0, clock=lambda: 1_000_000 * NS)
        live.add_series([LEVEL])
        reader = EntryReader(journal, lambda entry: entry.batch or Batch([], [], readings=0))
        dashboard = Dashboard(live, HistorySource(journal, reader, store), tasks)
        if is_authenticated:
            dashboard.subscriber.open(WELCOME)
            assert await dashboard.receive() == WELCOME
        yield dashboard
        dashboard.subscriber.close()


async def test_a_token_is_returned_to_the_endpoint(tmp_path: Path) -> None:
    """The endpoint verifies it, and opens the session. Before that, nothing else is allowed."""
    async with opened(tmp_path, is_authenticated=False) as dashboard:
        asked = messages.Authenticate("secret")
        assert dashboard.send(asked) == asked
        with pytest.raises(WireError) as error:
            dashboard.send(messages.Ping(1.0))
        assert error.value.code is Code.UNEXPECTED_MESSAGE


async def test_pings_and_the_fleet_are_answered(tmp_path: Path) -> None:
    """The fleet is the whole list; changes follow while the session is open."""
    async with opened(tmp_path) as dashboard:
        dashboard.send(messages.Ping(12.5))
        assert await dashboard.receive() == messages.Pong(12.5)
        dashboard.send(messages.WatchFleet())
        assert await dashboard.receive() == messages.Fleet(FLEET)


async def test_a_subscription_gets_its_schema_and_then_readings(tmp_path: Path) -> None:
    """Live frames start with the reading after the snapshot."""
    async with opened(tmp_path) as dashboard:
        dashboard.apply(1)
        dashboard.send(messages.Subscribe(7, ["tank"], ["*"], period_ms=20))
        schema = await dashboard.receive()
        assert isinstance(schema, messages.Schema)
        assert [(one.device, one.metric) for one in schema.series] == [("tank", "level")]
        assert isinstance(await dashboard.receive(), messages.Subscribed)
        snapshot = await dashboard.receive()
        assert isinstance(snapshot, Update)
        assert (snapshot.kind, snapshot.subscription) == (Kind.SNAPSHOT, 7)
        assert await dashboard.receive() == messages.CaughtUp(7, 1)
        dashboard.apply(2)
        update = await dashboard.receive()
        assert isinstance(update, Update)
        assert update.kind is Kind.LIVE
        assert [value for column in update.numbers for _, value in readings(column)] == [2.0]


async def test_an_ended_subscription_receives_nothing(tmp_path: Path) -> None:
    """The other subscriptions of the connection continue."""
    async with opened(tmp_path) as dashboard:
        await dashboard.subscribe(1)
        await dashboard.subscribe(2)
        dashboard.send(messages.Unsubscribe(1))
        dashboard.apply(1)
        assert isinstance(await dashboard.receive(), Update)
        dashboard.send(messages.Unsubscribe(2))
        dashboard.apply(2)
        dashboard.send(messages.Ping(1.0))
        assert await dashboard.receive() == messages.Pong(1.0)
        await dashboard.subscribe(3)


async def test_a_second_subscription_with_one_id_is_an_error_of_that_id(tmp_path: Path) -> None:
    """The first one and the session continue."""
    async with opened(tmp_path) as dashboard:
        await dashboard.subscribe(1)
        dashboard.send(messages.Subscribe(1, ["*"], ["*"]))
        error = await dashboard.receive()
        assert isinstance(error, messages.Error)
        assert (error.code, error.id) == (Code.DUPLICATE_SUBSCRIPTION, 1)
        dashboard.apply(1)
        assert isinstance(await dashboard.receive(), Update)


async def test_a_binary_frame_ends_the_session(tmp_path: Path) -> None:
    """Dashboards send text only."""
    async with opened(tmp_path) as dashboard:
        with pytest.raises(WireError) as error:
            dashboard.subscriber.receive(VIEWER_MESSAGES.encode(messages.Ping(1.0)))
        assert error.value.code is Code.WRONG_FRAME


async def test_a_slow_dashboard_gets_the_latest_value_when_it_has_room(tmp_path: Path) -> None:
    """`serve_lagging` sends nothing while the outbox is full, and one frame with the count afterwards."""
    async with opened(tmp_path) as dashboard:
        await dashboard.subscribe(1)
        ((group, member, _),) = dashboard.subscriber._subscriptions.values()
        outbox = dashboard.subscriber.outbox
        assert outbox.offer(bytes(MAX_DATA_BYTES))
        for number in (1, 2, 3):
            dashboard.apply(number)
            dashboard.live.flush(group)
        assert member.conflated == 3
        dashboard.subscriber.serve_lagging()
        assert member.conflated == 3
        await outbox.next_frame()
        dashboard.subscriber.serve_lagging()
        update = await dashboard.receive()
        assert isinstance(update, Update)
        assert update.conflated == 3
        assert [value for column in update.numbers for _, value in readings(column)] == [3.0]
        assert (member.conflated, outbox.data_bytes) == (0, 0)


async def test_closing_leaves_every_group(tmp_path: Path) -> None:
    """Nothing is collected for a dashboard that has left."""
    async with opened(tmp_path) as dashboard:
        await dashboard.subscribe(1)
        dashboard.send(messages.WatchFleet())
        assert isinstance(await dashboard.receive(), messages.Fleet)
        dashboard.subscriber.close()
        dashboard.apply(1)
        dashboard.live.fleet.state_changed(FLEET[0])
        assert not dashboard.live._groups
        assert dashboard.subscriber.outbox.data_bytes == 0
