"""The commit loop on a real journal: what is submitted is durable, acknowledged and counted, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hub.ingest.device import EPOCHS_KEPT, Device
from hub.ingest.intake import Intake
from hub.journal.sqlite_journal import SqliteJournal
from hub.model.batch import Entry, EntryKind
from hub.model.journal import JournalError
from wire import limits


class Loop:
    """A commit loop with its journal, and what it has shown."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.shown: list[Entry] = []
        self.intake = Intake(
            journal,
            clock=lambda: 1,
            on_committed=self.show,
            on_device=lambda _: None,
            live_time=lambda _: -1,
        )

    def show(self, entries: Sequence[Entry]) -> None:
        self.shown += entries

    def submit(self, device: Device, seq: int, size_bytes: int = 1) -> None:
        device.received = seq
        entry = Entry(EntryKind.GAP, device.id, device.epoch, seq, 1, "json", bytes(size_bytes))
        self.intake.submit(device, entry)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Loop]:
    async with SqliteJournal(path, keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal:
        loop = Loop(journal)
        task = asyncio.create_task(loop.intake.run())
        try:
            yield loop
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_drain_waits_for_what_was_submitted_a_moment_before(tmp_path: Path) -> None:
    """Also for what waits for its turn because a commit began just now."""
    async with running(tmp_path / "journal.db") as loop:
        device = loop.intake.device("d")
        device.begin_epoch("a")
        for seq in range(1, 6):
            loop.submit(device, seq)
            await loop.intake.drain()
            assert (len(loop.shown), device.durable.seq) == (seq, seq)


async def test_what_is_being_committed_counts_as_not_durable(tmp_path: Path) -> None:
    """The bound is on what is not on disk yet, so a commit under way makes no room before its end."""
    async with running(tmp_path / "journal.db") as loop:
        device = loop.intake.device("d")
        device.begin_epoch("a")
        half = limits.MAX_PENDING_BYTES // 2 + 1
        room = []
        for seq in (1, 2):
            loop.submit(device, seq, half)
            room.append(not loop.intake.congested)
            await asyncio.sleep(0)  # the first commit begins
        assert room == [True, False]
        await loop.intake.room()
        assert device.durable.seq >= 1
        await loop.intake.drain()
        assert not loop.intake.congested


async def test_who_rests_goes_on_when_what_it_submitted_is_durable(tmp_path: Path) -> None:
    """Once, and also when the loop ends before."""
    async with running(tmp_path / "journal.db") as loop:
        device = loop.intake.device("d")
        device.begin_epoch("a")
        found = []
        loop.submit(device, 1)
        assert loop.intake.pending
        loop.intake.rest(lambda: found.append(device.durable.seq))
        await loop.intake.drain()
        assert (found, loop.intake.pending) == ([1], False)
        loop.submit(device, 2)
        await loop.intake.drain()
        assert found == [1]
        loop.intake.rest(lambda: found.append(-1))
    assert found == [1, -1]


async def test_a_device_remembers_where_its_earlier_epochs_ended(tmp_path: Path) -> None:
    """Over a restart, too, and only so many of them."""
    path = tmp_path / "journal.db"
    epochs = [f"{number:016x}" for number in range(EPOCHS_KEPT + 2)]
    async with running(path) as loop:
        device = loop.intake.device("d")
        for number, epoch in enumerate(epochs, 1):
            device.begin_epoch(epoch)
            assert device.acked == 0
            loop.submit(device, number)
            await loop.intake.drain()
            assert device.acked == number
    async with running(path) as loop:
        device = loop.intake.device("d")
        for epoch, last in ((epochs[-1], len(epochs)), (epochs[1], 2), (epochs[0], 0)):
            if epoch != device.epoch:
                device.begin_epoch(epoch)
            assert (device.received, device.acked) == (last, last)


async def test_who_submitted_learns_when_it_is_durable(tmp_path: Path) -> None:
    """Once, after the commit; at once where nothing is on its way; with an error where the loop ends before."""
    told: list[tuple[int, bool]] = []
    async with running(tmp_path / "journal.db") as loop:
        device = loop.intake.device("d")
        device.begin_epoch("a")
        loop.submit(device, 1)
        durable = asyncio.Event()

        def done(error: JournalError | None) -> None:
            told.append((device.durable.seq, error is None))
            durable.set()

        loop.intake.when_durable(done)
        await durable.wait()
        durable.clear()
        loop.intake.when_durable(done)
        await durable.wait()
        loop.intake.when_durable(done)
    assert told == [(1, True), (1, True), (1, False)]
