"""Devices on a real journal: what they submit is durable, acknowledged and counted, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.ingest.device import EPOCHS_KEPT, Device, Devices
from hub.journal.journal import Journal
from hub.model.batch import Entry, EntryKind
from hub.model.journal import JournalError
from tests.hub.journal.disks import Disk
from wire import device as messages
from wire import limits
from wire.errors import Code, WireError


class Hub:
    """A journal with its devices, and the entries that were reported as durable."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.shown: list[Entry] = []
        self.devices = Devices(journal, clock=lambda: 1, on_committed=self.show, latest_time_ns=lambda _: -1)

    def show(self, entries: Sequence[Entry]) -> None:
        self.shown += entries

    def submit(self, device: Device, seq: int, size_bytes: int = 1) -> None:
        device.received = seq
        entry = Entry(EntryKind.GAP, device.id, device.epoch, seq, 1, "json", bytes(size_bytes))
        self.journal.submit(device, entry)


@asynccontextmanager
async def running(path: Path, *, vfs: str | None = None) -> AsyncIterator[Hub]:
    async with Journal(path, keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30, vfs=vfs) as journal:
        yield Hub(journal)


async def test_a_drain_waits_for_what_was_submitted_a_moment_before(tmp_path: Path) -> None:
    """Also for what waits for its turn because a commit began just now."""
    async with running(tmp_path / "journal.db") as hub:
        device = hub.devices.device("d")
        device.begin_epoch("a")
        for seq in range(1, 6):
            hub.submit(device, seq)
            await hub.journal.drain()
            assert (len(hub.shown), device.durable.seq) == (seq, seq)


async def test_entries_in_a_commit_count_as_not_durable(tmp_path: Path) -> None:
    """The bound is on what is not on disk yet, so a commit under way makes no room before its end."""
    async with running(tmp_path / "journal.db") as hub:
        device = hub.devices.device("d")
        device.begin_epoch("a")
        half = limits.MAX_PENDING_BYTES // 2 + 1
        room = []
        for seq in (1, 2):
            hub.submit(device, seq, half)
            room.append(not hub.journal.congested)
            await asyncio.sleep(0)  # the first commit begins
        assert room == [True, False]
        await hub.journal.room()
        assert device.durable.seq >= 1
        await hub.journal.drain()
        assert not hub.journal.congested


async def test_a_paused_reader_resumes_when_its_entries_are_durable(tmp_path: Path) -> None:
    """Once, and also when the loop ends before."""
    async with running(tmp_path / "journal.db") as hub:
        device = hub.devices.device("d")
        device.begin_epoch("a")
        found = []
        hub.submit(device, 1)
        assert hub.journal.pending
        hub.journal.after_commit(lambda: found.append(device.durable.seq))
        await hub.journal.drain()
        assert (found, hub.journal.pending) == ([1], False)
        hub.submit(device, 2)
        await hub.journal.drain()
        assert found == [1]
        hub.journal.after_commit(lambda: found.append(-1))
    assert found == [1, -1]


async def test_a_device_remembers_where_its_earlier_epochs_ended(tmp_path: Path) -> None:
    """Over a restart, too, and only so many of them."""
    path = tmp_path / "journal.db"
    epochs = [f"{number:016x}" for number in range(EPOCHS_KEPT + 2)]
    async with running(path) as hub:
        device = hub.devices.device("d")
        for number, epoch in enumerate(epochs, 1):
            device.begin_epoch(epoch)
            assert device.acked == 0
            hub.submit(device, number)
            await hub.journal.drain()
            assert device.acked == number
    async with running(path) as hub:
        device = hub.devices.device("d")
        for epoch, last in ((epochs[-1], len(epochs)), (epochs[1], 2), (epochs[0], 0)):
            if epoch != device.epoch:
                device.begin_epoch(epoch)
            assert (device.received, device.acked) == (last, last)


class Session:
    """Session that records how it ended."""

    def __init__(self, device: Device) -> None:
        self.epoch = device.epoch
        self.acknowledged: list[int] = []
        self.ended: list[Code] = []

    def reject(self, reject: messages.Reject) -> None:
        raise AssertionError(reject.message)

    def acknowledge(self, seq: int) -> None:
        self.acknowledged.append(seq)

    def probe_clock(self) -> None:
        raise AssertionError("not in these tests")

    def end(self, error: WireError) -> None:
        self.ended.append(error.code)


async def test_a_failed_commit_rolls_back_everything_after_it(tmp_path: Path) -> None:
    """On a full disk the device returns to its durable mark, its session ends, and what it submitted since is gone."""
    disk = Disk()
    async with running(tmp_path / "journal.db", vfs=disk.name) as hub:
        device = hub.devices.device("d")
        device.begin_epoch("a")
        hub.submit(device, 1)
        await hub.journal.drain()
        device.session = session = Session(device)
        with disk.stopped():
            hub.submit(device, 2)
            await asyncio.to_thread(disk.wait_for_stop)
            hub.submit(device, 3)
            disk.is_full = True
        await hub.journal.drain()
        assert (device.received, device.durable.seq, len(hub.shown)) == (2, 2, 2)
        assert (session.acknowledged, session.ended) == ([2], [Code.STORAGE_FULL])
        with pytest.raises(WireError, match="room"):
            hub.devices.check_open()
        disk.is_full = False
        hub.submit(device, 3)
        await hub.journal.drain()
        assert (device.durable.seq, hub.devices.refusal, session.acknowledged) == (3, None, [2, 3])


async def test_appended_entries_share_the_commit_of_submitted_ones(tmp_path: Path) -> None:
    """One transaction takes both: the submitted entries first, each with its own answer, and live sees all of them."""
    async with running(tmp_path / "journal.db") as hub:
        device = hub.devices.device("d")
        device.begin_epoch("a")
        hub.submit(device, 1)
        appended = Entry(EntryKind.GAP, "e", "b", 7, 1, "json", b"")
        assert await hub.journal.append([appended], []) == 2
        assert [(entry.device, entry.offset) for entry in hub.shown] == [("d", 1), ("e", 2)]
        assert device.durable.seq == 1


async def test_a_source_is_notified_when_its_entries_are_durable(tmp_path: Path) -> None:
    """A callback is called once: after the commit, at once where nothing waits, and when the journal closes."""
    notified: list[tuple[int, bool]] = []
    async with running(tmp_path / "journal.db") as hub:
        device = hub.devices.device("d")
        device.begin_epoch("a")
        hub.submit(device, 1)
        durable = asyncio.Event()

        def done(error: JournalError | None) -> None:
            notified.append((device.durable.seq, error is None))
            durable.set()

        hub.journal.when_durable(done)
        await durable.wait()
        durable.clear()
        hub.journal.when_durable(done)
        await durable.wait()
        hub.journal.when_durable(done)
    assert notified == [(1, True), (1, True), (1, True)]
