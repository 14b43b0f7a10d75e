"""Tests of the spool on disk: it survives its process, and its disk can fail."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from device_agent.errors import SpoolError, SpoolFailed
from device_agent.spool import Entry, SqliteSpool, StoredBatch
from device_agent.spool.contract import ROW_BYTES
from device_agent.spool.durable import TAIL_BYTES
from tests.device_agent.batches import NUMBER, batch_of, lost, numbers
from wire.model import Metric

ROW = batch_of(1.0).size + ROW_BYTES


@asynccontextmanager
async def opened(path: Path, *, device: str = "boiler", max_bytes: int = 1 << 20) -> AsyncIterator[SqliteSpool]:
    async with SqliteSpool(path, device=device, max_bytes=max_bytes) as spool:
        yield spool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "boiler.spool"


async def test_everything_is_there_again_after_a_restart(path: Path) -> None:
    """Batches, gaps, numbers, definitions and the epoch outlive the process."""
    async with opened(path, max_bytes=3 * ROW) as spool:
        for number in range(6):
            await spool.append(batch_of(number), [NUMBER])
        spool.trim(1)
        epoch, before = spool.epoch, await spool.read(1, max_batches=99)
    assert re.fullmatch("[0-9a-f]{16}", epoch)
    async with opened(path, max_bytes=3 * ROW) as spool:
        assert (spool.epoch, spool.next_seq, spool.acked, spool.waiting) == (epoch, 7, 1, 3)
        assert spool.size_bytes == 3 * ROW
        assert list(spool.metrics.values()) == [NUMBER]
        assert await spool.read(1, max_batches=99) == before
        assert lost(before) == [(2, 3, "the spool was full")]


async def test_numbers_go_on_after_everything_was_acknowledged(path: Path) -> None:
    """An empty spool still knows its next number: no number is ever given twice in an epoch."""
    async with opened(path) as spool:
        for number in range(3):
            await spool.append(batch_of(number))
        spool.trim(3)
    async with opened(path) as spool:
        assert (spool.next_seq, spool.acked, spool.waiting) == (4, 3, 0)


async def test_a_hello_claims_no_more_than_a_hub_knows(path: Path) -> None:
    """Until a hub has confirmed the spool, hello_seq is what next_seq was before it was opened, over any runs."""
    async with opened(path) as spool:
        await spool.append(batch_of(1))
        assert spool.hello_seq == 1
        await spool.confirm()
        assert spool.hello_seq == spool.next_seq == 2
        await spool.append(batch_of(2))
        assert spool.hello_seq == 3
    for _ in range(2):
        async with opened(path) as spool:
            await spool.append(batch_of(3))
            assert spool.hello_seq == 3
    async with opened(path) as spool:
        await spool.begin_epoch("an older copy")
        assert (spool.hello_seq, spool.next_seq) == (1, 6)
        await spool.confirm()
    async with opened(path) as spool:
        assert spool.hello_seq == 6


async def test_a_new_spool_is_a_new_epoch(path: Path, tmp_path: Path) -> None:
    """Epochs are random: two spools never share one."""
    async with opened(path) as one, opened(tmp_path / "other") as other:
        assert one.epoch != other.epoch


async def test_appends_that_meet_share_a_commit(path: Path) -> None:
    """While one commit runs, whatever arrives waits for the next one, and all of it is in that one."""
    async with opened(path) as spool:
        commits = 0

        def count() -> bool:
            nonlocal commits
            commits += 1
            return False

        spool._file.connection.set_commit_hook(count)
        await asyncio.gather(*(spool.append(batch_of(number)) for number in range(200)))
        assert commits <= 3


async def test_a_cancelled_append_is_still_stored(path: Path) -> None:
    """Cancelling the wait for an append neither removes the batch nor affects another append."""
    async with opened(path) as spool:
        waiting = [asyncio.create_task(spool.append(batch_of(number))) for number in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await spool.wait(2)
        assert [entry.batch for entry in await spool.read(0, max_batches=9) if isinstance(entry, StoredBatch)] == [
            batch_of(number) for number in range(3)
        ]


async def test_closing_writes_what_was_appended(path: Path) -> None:
    """An append that is under way when the spool is closed is stored."""
    async with opened(path) as spool:
        appending = asyncio.create_task(spool.append(batch_of(1)))
        await asyncio.sleep(0)
    assert await appending == 1
    async with opened(path) as spool:
        assert spool.waiting == 1


async def test_a_backlog_is_read_from_the_file(path: Path) -> None:
    """Batches read from the file equal those kept in memory, and the two parts join without a gap."""
    padding = TAIL_BYTES // 20
    async with opened(path, max_bytes=1 << 30) as spool:
        for number in range(40):
            await spool.append(batch_of(number, padding=padding))
        entries: list[Entry] = []
        while more := await spool.read(len(entries), max_batches=3):
            entries += more
        assert entries == [StoredBatch(number + 1, batch_of(number, padding=padding)) for number in range(40)]
        assert sum(batch.size for batch in spool._tail.values()) <= TAIL_BYTES


async def test_an_acknowledgement_reaches_the_file_by_itself(path: Path) -> None:
    """A trim is written although nothing is appended afterwards."""
    async with opened(path) as spool:
        await spool.append(batch_of(1))
        spool.trim(1)
        while spool.size_bytes:
            await spool._changed.wait()
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert reader.execute("SELECT acked FROM life").fetchone() == (1,)
        reader.close()


async def test_a_commit_takes_acknowledgements_along(path: Path) -> None:
    """Readings all the time need no commit for acknowledgements alone."""
    async with opened(path) as spool:
        await spool.append(batch_of(1))
        spool.trim(1)
        timer = spool._trim_timer
        assert timer is not None
        await spool.append(batch_of(2))
        assert timer.cancelled()
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert reader.execute("SELECT acked FROM life").fetchone() == (1,)
        reader.close()


async def test_a_full_disk_refuses_and_recovers(path: Path) -> None:
    """Without room an append fails and stores nothing; with room again the numbers continue without a gap."""
    async with opened(path) as spool:
        await spool.append(batch_of(1))
        connection = spool._file.connection
        connection.pragma("max_page_count", connection.pragma("page_count"))
        with pytest.raises(SpoolError, match=r"the disk of the spool .* is full") as full:
            await asyncio.gather(*(spool.append(batch_of(number, padding=20_000)) for number in range(3)))
        assert not isinstance(full.value, SpoolFailed)
        assert (spool.next_seq, spool.waiting) == (2, 1)
        connection.pragma("max_page_count", 1 << 30)
        assert await spool.append(batch_of(2), [Metric("n")]) == 2
        assert numbers(await spool.read(0, max_batches=9)) == [(1, 1), (2, 2)]


async def test_a_commit_that_fails_leaves_no_trace(path: Path) -> None:
    """A failed commit leaves the numbers, the size and the gaps unchanged."""
    async with opened(path, max_bytes=2 * ROW) as spool:
        await spool.append(batch_of(1))
        connection = spool._file.connection
        connection.set_commit_hook(lambda: True)
        with pytest.raises(SpoolError):
            await asyncio.gather(*(spool.append(batch_of(number)) for number in range(5)))
        connection.set_commit_hook(None)
        assert await spool.append(batch_of(2)) == 2
        assert numbers(await spool.read(0, max_batches=9)) == [(1, 1), (2, 2)]
        assert (spool.size_bytes, spool.lost.batches) == (2 * ROW, 0)


class BrokenDisk(apsw.VFS):
    """The system's files, until an fsync fails."""

    broken = False

    def __init__(self) -> None:
        super().__init__("broken disk", base="unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's
        return BrokenFile("unix", name, flags)


class BrokenFile(apsw.VFSFile):
    """A file of a BrokenDisk."""

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's
        if BrokenDisk.broken:
            raise apsw.IOError("the cable is out")
        super().xSync(flags)


async def test_a_failed_disk_stops_the_spool(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an fsync that failed nothing is taken any more, even when the disk says it works again."""
    disk = BrokenDisk()
    monkeypatch.setattr(BrokenDisk, "broken", False)
    apsw.set_default_vfs("broken disk")
    try:
        async with opened(path) as spool:
            await spool.append(batch_of(1))
            BrokenDisk.broken = True
            with pytest.raises(SpoolFailed, match="the disk failed"):
                await spool.append(batch_of(2))
            BrokenDisk.broken = False
            with pytest.raises(SpoolFailed):
                await spool.append(batch_of(3))
        async with opened(path) as spool:
            assert spool.next_seq in (2, 3)
            assert numbers(await spool.read(0, max_batches=9))[0] == (1, 1)
    finally:
        apsw.set_default_vfs("unix")
        disk.unregister()
