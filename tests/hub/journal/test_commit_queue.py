"""Group commit: the calls that share a transaction, and the effect of a failure. The disk is real and can wait or
fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.journal import commit_queue
from hub.journal import journal as journal_module
from hub.journal.journal import Journal
from hub.model.journal import JournalError, JournalFull
from tests.hub.journal.disks import Disk
from tests.hub.journal.entries import make_entries, make_entry, make_mark


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def journal_of(path: Path, disk: Disk | None = None) -> Journal:
    return Journal(path, keep_bytes=1 << 20, keep_seconds=3600, max_bytes=1 << 30, vfs=disk.name if disk else None)


@pytest.fixture
async def journal(path: Path, disk: Disk) -> AsyncIterator[Journal]:
    async with journal_of(path, disk) as journal:
        await journal.append([make_entry()], [])
        yield journal


async def begun(*calls: asyncio.Future[int]) -> None:
    """Gives the calls the time to be made, not to end."""
    await asyncio.sleep(0)
    assert not any(call.done() for call in calls)


def call(journal: Journal, count: int = 1, *, size_bytes: int = 7) -> asyncio.Future[int]:
    return asyncio.ensure_future(journal.append(make_entries(count, size_bytes=size_bytes), []))


async def test_entries_that_arrive_during_a_commit_share_the_next(journal: Journal, disk: Disk) -> None:
    """While the disk is busy with one call, any number of calls wait for one sync."""
    with disk.stopped():
        first = call(journal)
        await begun(first)
        syncs = disk.syncs
        others = [call(journal) for _ in range(50)]
        await begun(first, *others)
    await asyncio.gather(first, *others)
    assert disk.syncs == syncs + 2
    assert [each.result() for each in others] == list(range(3, 53))


async def test_an_append_returns_only_after_the_sync(journal: Journal, disk: Disk) -> None:
    """Nothing is said to be durable, shown, or counted, before the disk has it."""
    with disk.stopped():
        waiting = call(journal)
        reader = asyncio.ensure_future(journal.wait(1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert not reader.done()
        assert journal.last_offset == 1
        assert await journal.read(1) == []
    assert await waiting == 2
    await reader


async def test_a_commit_is_bounded(journal: Journal, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls beyond the bound wait for the next commit; a single call is never divided."""
    monkeypatch.setattr(commit_queue, "COMMIT_BYTES", 1000)
    with disk.stopped():
        first = call(journal)
        await begun(first)
        syncs = disk.syncs
        others = [call(journal, size_bytes=size) for size in (400, 400, 400, 5000, 400)]
        await begun(first, *others)
    await asyncio.gather(first, *others)
    assert disk.syncs == syncs + 1 + 4


async def test_a_failed_commit_fails_its_own_calls(journal: Journal, disk: Disk) -> None:
    """The calls that share it fail and nothing of them is stored; calls before and after succeed."""
    with disk.stopped():
        before = call(journal)
        await begun(before)
        doomed = [call(journal, 3), call(journal, 2)]
        await begun(before, *doomed)
        await asyncio.to_thread(disk.wait_for_stop)
        disk.is_full = True
    assert await before == 2
    for each in doomed:
        with pytest.raises(JournalFull):
            await each
    disk.is_full = False
    assert await call(journal, 4) == 6
    assert [entry.offset for entry in await journal.read(0)] == [1, 2, 3, 4, 5, 6]


async def test_a_cancelled_call_leaves_no_entry(journal: Journal, disk: Disk) -> None:
    """A call that is cancelled while it waits for its turn is not stored; one whose commit has begun may be."""
    with disk.stopped():
        first = call(journal)
        await begun(first)
        leaving, staying = call(journal, 3), call(journal, 2)
        await begun(first, leaving, staying)
        leaving.cancel()
        first.cancel()
        await asyncio.sleep(0)
    assert await staying == 4


async def test_an_unwritable_call_does_not_stop_the_next(journal: Journal, disk: Disk) -> None:
    """A call that cannot be encoded takes those along that share its commit, and no other."""
    with disk.stopped():
        first = call(journal)
        await begun(first)
        bad = asyncio.ensure_future(journal.append([make_entry(device="\ud800")], []))
        await begun(first, bad)
    await first
    with pytest.raises(JournalError, match="cannot be written"):
        await bad
    assert await call(journal) == 3


async def test_a_cursor_is_written_though_nothing_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moved cursor gets a commit of its own soon: what a crash forgets is bounded by time."""
    monkeypatch.setattr(journal_module, "CURSOR_DELAY_S", 0.0)
    (tmp_path / "synced").mkdir()
    disk = Disk(tmp_path / "synced")
    async with journal_of(tmp_path / "journal.db", disk) as journal:
        await journal.append(make_entries(5), [])
        syncs = disk.syncs
        journal.consumer("store")
        journal.advance("store", 3)
        await asyncio.to_thread(disk.wait_for_syncs, syncs + 1)
        disk.cut_power(tmp_path / "later")
    async with journal_of(tmp_path / "later" / "journal.db") as journal:
        assert journal.consumers() == [("store", 3)]


async def test_a_cursor_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    """A refused commit does not lose the cursors that it had taken along; they go with the next."""
    (tmp_path / "synced").mkdir()
    disk = Disk(tmp_path / "synced")
    async with journal_of(tmp_path / "journal.db", disk) as journal:
        await journal.append(make_entries(5), [make_mark(5)])
        journal.consumer("store")
        journal.advance("store", 3)
        disk.is_full = True
        with pytest.raises(JournalFull):
            await call(journal)
        disk.is_full = False
        await call(journal)
        disk.cut_power(tmp_path / "later")
    async with journal_of(tmp_path / "later" / "journal.db") as journal:
        assert journal.consumers() == [("store", 3)]
        assert journal.last_offset == 6
