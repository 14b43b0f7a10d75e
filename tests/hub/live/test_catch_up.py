"""The start of a subscription over a real journal and a real store: no hole, no duplicate, never a silent loss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.live import catch_up as module
from hub.live.catch_up import catch_up
from hub.live.group import Group, GroupKey, Member
from hub.live.hub import LiveHub
from hub.live.outbox import Outbox
from hub.live.selection import selection
from hub.model.batch import Batch, Entry, EntryKind, Mark, Series
from hub.model.journal import EntrySource, JournalError
from hub.model.store import StoreCursor
from hub.storage.history_source import HistorySource
from tests.conditions import until
from tests.hub.storage.readings import open_store
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.frames import Kind, decode_update, readings

LEVEL = Series(1, "device", "level", "float")
NS = 1_000_000
"""Times are whole milliseconds, so that the frames have them exactly."""


def make(number: int) -> Entry:
    batch = Batch([number * NS], [(LEVEL, [float(number)])], readings=1, rising=True)
    return Entry(EntryKind.BATCH, "device", "e", number, time.time_ns(), "json", b"%d" % number, batch=batch)


class Hub:
    """Journal, store and live hub with one series."""

    def __init__(self, journal: Journal, store: object) -> None:
        self.journal = journal
        self.store: open_store = store  # type: ignore[valid-type]
        self.live = LiveHub(offset=journal.last_offset, clock=lambda: 1_000_000 * NS)
        self.live.add_series([LEVEL])
        reader = EntryReader(journal, lambda entry: make(int(entry.payload)).batch or Batch([], [], readings=0))
        self.source = HistorySource(journal, reader, store)  # type: ignore[arg-type]
        self.held: list[Entry] | None = None
        """Committed entries that the live hub does not know yet; None: it learns of each commit at once."""
        journal.listen(self)

    def committed(
        self, entries: Sequence[Entry], submitted: Sequence[Entry], marks: Mapping[EntrySource, Mark]
    ) -> None:
        if self.held is None:
            self.live.apply(entries)
        else:
            self.held += entries

    def commit_failed(self, sources: set[EntrySource], error: JournalError) -> None:
        raise error

    async def commit(self, *numbers: int) -> None:
        await self.journal.append([make(number) for number in numbers], [])

    async def write(self, up_to: int) -> None:
        """Store the entries up to this offset."""
        after = self.store.cursor.offset  # type: ignore[attr-defined]
        entries = [entry for entry in await self.journal.read(after) if entry.offset <= up_to]
        await self.store.write(entries, StoreCursor(self.journal.id, up_to))  # type: ignore[attr-defined]


class Dashboard:
    """One subscription: what it was sent, in order, and the values of its readings by kind of frame."""

    def __init__(self, hub: Hub, request: messages.Subscribe) -> None:
        self.hub = hub
        self.request = request
        self.outbox = Outbox(on_overflow=lambda: None)
        key = GroupKey(selection(request.devices, request.metrics), request.policy, request.period_ms)
        self.group: Group
        self.member: Member
        self.group, self.member = hub.live.join(request, key, self.outbox)
        self.messages: list[messages.LiveMessage] = []
        self.values: list[tuple[Kind, float | None]] = []
        self.offsets: list[int] = []

    async def catch_up(self) -> None:
        await catch_up(self.hub.live, self.hub.source, self.group, self.member, self.request, clock=lambda: 60_000 * NS)

    async def read(self, until: int) -> None:
        """Read frames until the subscription has this many values."""
        while len(self.values) < until:
            await self._read_frame()

    async def read_to_live(self) -> None:
        """Read frames until the subscription has caught up."""
        while not any(isinstance(message, messages.CaughtUp) for message in self.messages):
            await self._read_frame()

    async def _read_frame(self) -> None:
        frame = await self.outbox.next_frame()
        if isinstance(frame, bytes):
            update = decode_update(frame)
            self.offsets.append(update.offset)
            self.values += [(update.kind, value) for column in update.numbers for _, value in readings(column)]
        else:
            self.messages.append(LIVE_MESSAGES.decode(frame))

    @property
    def start(self) -> list[object]:
        """Return the kinds of the messages, and the reasons and starts that they name."""
        named = {messages.Subscribed: "start", messages.Reset: "reason", messages.CaughtUp: "offset"}
        return [getattr(message, named.get(type(message), "code")) for message in self.messages]


def subscribe(*, history: messages.History | None = None, cursor: messages.Cursor | None = None) -> messages.Subscribe:
    return messages.Subscribe(1, ["*"], ["*"], history=history, cursor=cursor, period_ms=20)


ALL = messages.History(span_ms=60_000, points=1000)


@asynccontextmanager
async def running(directory: Path, *, keep_bytes: int = 1 << 20) -> AsyncIterator[Hub]:
    journal = Journal(directory / "journal.db", keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=1 << 30)
    async with journal, open_store(directory) as store:
        await store.open()
        yield Hub(journal, store)


async def test_a_snapshot_is_followed_by_live_readings(tmp_path: Path) -> None:
    """Without history or cursor a dashboard gets the latest value, and then each later reading once."""
    async with running(tmp_path) as hub:
        await hub.commit(1, 2)
        dashboard = Dashboard(hub, subscribe())
        await dashboard.catch_up()
        await hub.commit(3)
        await dashboard.read(2)
        assert dashboard.values == [(Kind.SNAPSHOT, 2.0), (Kind.LIVE, 3.0)]
        assert dashboard.start == ["snapshot", 2]
        assert dashboard.offsets == [2, 3]


async def test_history_is_completed_from_the_journal(tmp_path: Path) -> None:
    """Stored readings come from the store, those after its cursor from the journal, later ones live: each once."""
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4)
        await hub.write(2)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        await dashboard.catch_up()
        await hub.commit(5)
        await dashboard.read(5)
        assert dashboard.values == [
            (Kind.HISTORY, 1.0),
            (Kind.HISTORY, 2.0),
            (Kind.MISSED, 3.0),
            (Kind.MISSED, 4.0),
            (Kind.LIVE, 5.0),
        ]
        assert dashboard.start == ["history", 4]


async def test_only_the_requested_span_of_history_is_sent(tmp_path: Path) -> None:
    """Readings before the span stay in the store."""
    async with running(tmp_path) as hub:
        await hub.commit(1_000, 59_000)
        await hub.write(2)
        dashboard = Dashboard(hub, subscribe(history=messages.History(span_ms=5_000, points=10)))
        await dashboard.catch_up()
        await dashboard.read_to_live()
        assert dashboard.values == [(Kind.HISTORY, 59_000.0)]


async def test_a_cursor_brings_exactly_what_was_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several reads of the journal, whose frames carry the offset of their newest entry."""
    monkeypatch.setattr(module, "READ_ENTRIES", 2)
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4, 5)
        dashboard = Dashboard(hub, subscribe(history=ALL, cursor=messages.Cursor(hub.journal.id, 2)))
        await dashboard.catch_up()
        await hub.commit(6)
        await dashboard.read(4)
        assert dashboard.values == [(Kind.MISSED, 3.0), (Kind.MISSED, 4.0), (Kind.MISSED, 5.0), (Kind.LIVE, 6.0)]
        assert (dashboard.start, dashboard.offsets) == (["cursor", 5], [4, 5, 6])


async def test_a_cursor_at_the_end_is_live_at_once(tmp_path: Path) -> None:
    """Nothing was missed: there is no frame before the next reading."""
    async with running(tmp_path) as hub:
        await hub.commit(1, 2)
        dashboard = Dashboard(hub, subscribe(cursor=messages.Cursor(hub.journal.id, 2)))
        await dashboard.catch_up()
        await hub.commit(3)
        await dashboard.read(1)
        assert (dashboard.values, dashboard.start) == ([(Kind.LIVE, 3.0)], ["cursor", 2])


@pytest.mark.parametrize(("ahead", "same_journal", "limit", "reason"), [
    (0, False, 10, "other_journal"),
    (1, True, 10, "other_journal"),
    (-3, True, 2, "too_much"),
    (-2, True, 2, None),
])  # fmt: skip
async def test_a_cursor_that_cannot_be_resumed_is_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, same_journal: bool, limit: int, reason: str | None
) -> None:
    """Another journal's, one beyond the newest entry, and one too far back; exactly at the limit it is served."""
    monkeypatch.setattr(module, "MAX_MISSED_ENTRIES", limit)
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4)
        await hub.write(4)
        cursor = messages.Cursor(hub.journal.id if same_journal else "another", 4 + ahead)
        dashboard = Dashboard(hub, subscribe(history=ALL, cursor=cursor))
        await dashboard.catch_up()
        await dashboard.read_to_live()
        assert dashboard.start == ([reason, "history", 4] if reason else ["cursor", 4])
        assert [value for _, value in dashboard.values] == ([1.0, 2.0, 3.0, 4.0] if reason else [3.0, 4.0])


async def test_a_cursor_before_the_journal_is_reset(tmp_path: Path) -> None:
    """Its entries are deleted: the dashboard gets a reset, and history from the store."""
    async with running(tmp_path, keep_bytes=0) as hub:
        hub.journal.consumer("store")
        number = 0
        while hub.journal.first_offset < 5:
            number += 1
            await hub.commit(number)
            await hub.write(number)
            hub.journal.advance("store", number)
            assert number < 100
        dashboard = Dashboard(hub, subscribe(history=ALL, cursor=messages.Cursor(hub.journal.id, 1)))
        await dashboard.catch_up()
        await dashboard.read_to_live()
        assert dashboard.start == ["cursor", "too_old", "history", number]
        assert [value for _, value in dashboard.values] == [float(n) for n in range(1, number + 1)]


async def test_a_store_too_far_behind_leads_to_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard learns why it has no complete history, and is live from the latest value on."""
    monkeypatch.setattr(module, "MAX_MISSED_ENTRIES", 2)
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4)
        await hub.write(1)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        await dashboard.catch_up()
        await dashboard.read_to_live()
        assert dashboard.values == [(Kind.HISTORY, 1.0), (Kind.SNAPSHOT, 4.0)]
        assert dashboard.start == ["history", "unavailable", 4]


async def test_a_store_as_far_behind_as_allowed_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is the number of entries that may be missed."""
    monkeypatch.setattr(module, "MAX_MISSED_ENTRIES", 3)
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4)
        await hub.write(1)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        await dashboard.catch_up()
        await dashboard.read_to_live()
        assert dashboard.values == [(Kind.HISTORY, 1.0), *((Kind.MISSED, value) for value in (2.0, 3.0, 4.0))]
        assert dashboard.start == ["history", 4]


async def test_a_slow_dashboard_gets_every_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """History and what it missed wait until it has room."""
    monkeypatch.setattr("hub.live.outbox.MAX_DATA_BYTES", 1)
    monkeypatch.setattr(module, "READ_ENTRIES", 1)
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4)
        await hub.write(2)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        group = dashboard.group
        for frame in group.frames(Kind.SNAPSHOT, group.latest(), 0, subscription=1):
            assert dashboard.outbox.offer(frame), "an empty outbox has room"
        catching_up = asyncio.create_task(dashboard.catch_up())
        await until(lambda: not dashboard.outbox._room.is_set())
        await dashboard.read(5)
        await catching_up
        later = [(Kind.HISTORY, 1.0), (Kind.HISTORY, 2.0), (Kind.MISSED, 3.0), (Kind.MISSED, 4.0)]
        assert dashboard.values == [(Kind.SNAPSHOT, 4.0), *later]


async def test_a_store_ahead_of_the_live_hub_gives_no_reading_twice(tmp_path: Path) -> None:
    """The subscription waits until the live hub has what the history contains already."""
    async with running(tmp_path) as hub:
        await hub.commit(1, 2)
        hub.held = []
        await hub.commit(3)
        await hub.write(3)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        catching_up = asyncio.create_task(dashboard.catch_up())
        await dashboard.read(3)
        hub.live.apply(hub.held)
        hub.held = None
        await catching_up
        await hub.commit(4)
        await dashboard.read(4)
        assert dashboard.values == [*((Kind.HISTORY, value) for value in (1.0, 2.0, 3.0)), (Kind.LIVE, 4.0)]
        assert dashboard.start == ["history", 3]


async def test_entries_committed_meanwhile_arrive_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a dashboard catches up, commits continue: at the seam there is no hole and no duplicate."""
    monkeypatch.setattr(module, "READ_ENTRIES", 3)
    async with running(tmp_path) as hub:
        await hub.commit(*range(1, 51))
        await hub.write(20)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        catching_up = asyncio.create_task(dashboard.catch_up())
        for number in range(51, 101):
            await hub.commit(number)
        await catching_up
        await dashboard.read(100)
        assert [value for _, value in dashboard.values] == [float(number) for number in range(1, 101)]


async def test_a_snapshot_contains_what_was_committed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readings of the time in which the store was asked are in the snapshot or live, never in both."""
    monkeypatch.setattr(module, "MAX_MISSED_ENTRIES", 2)
    async with running(tmp_path) as hub:
        await hub.commit(1, 2, 3, 4)
        await hub.write(1)
        dashboard = Dashboard(hub, subscribe(history=ALL))
        catching_up = asyncio.create_task(dashboard.catch_up())
        await asyncio.sleep(0)  # the query has begun
        await hub.commit(5)
        await catching_up
        await hub.commit(6)
        while not dashboard.values or dashboard.values[-1][1] != 6.0:
            await dashboard.read(len(dashboard.values) + 1)
        values = [value for _, value in dashboard.values if value is not None]
        assert values == sorted(set(values))
        assert Kind.SNAPSHOT in [kind for kind, _ in dashboard.values]
