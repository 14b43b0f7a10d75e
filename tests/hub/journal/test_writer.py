"""Disks that fail and disks that are full."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import structlog

from hub.journal import writer
from hub.journal.journal import Journal
from hub.journal.schema import MAX_WAL_BYTES, connect_reader, wal_path
from hub.journal.writer import free_bytes
from hub.model.batch import Entry
from hub.model.journal import JournalError, JournalFailed, JournalFull
from tests.hub.journal.disks import Disk
from tests.hub.journal.entries import content, make_entries, make_entry, make_mark

SMALL_DISK_BYTES = 8 << 20


def journal_of(path: Path, *, vfs: str | None = None, keep_bytes: int = 0, max_bytes: int = 1 << 30) -> Journal:
    return Journal(path, keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=max_bytes, vfs=vfs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of its own that is full after 8 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "journal-test", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted ({error}): run the tests as root")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


async def test_an_io_error_is_final(path: Path) -> None:
    """After a failed sync nothing is acknowledged, reads still work, and the log reports the failure."""
    disk = Disk()
    with structlog.testing.capture_logs() as logs:
        async with journal_of(path, vfs=disk.name, keep_bytes=1 << 20) as journal:
            journal.consumer("store")
            await journal.append(make_entries(3), [make_mark(3)])
            disk.fails = True
            calls = [asyncio.ensure_future(journal.append([make_entry()], [])) for _ in range(3)]
            for call in calls:
                with pytest.raises(JournalFailed, match="restart the hub"):
                    await call
            disk.fails = False
            with pytest.raises(JournalFailed):
                await journal.append([make_entry()], [make_mark(9)])
            assert journal.last_offset == 3
            assert len(await journal.read(0)) == 3
            journal.advance("store", 2)
            syncs = disk.syncs
        assert disk.syncs == syncs
    assert [entry["log_level"] for entry in logs] == ["error"]
    async with journal_of(path, keep_bytes=1 << 20) as journal:
        assert [content(entry)[0] for entry in await journal.read(0)][:3] == [1, 2, 3]
        assert journal.marks() == {"a": make_mark(3)}
        await journal.append([make_entry()], [])


async def test_an_io_error_in_a_checkpoint_is_final_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged entries are in the write-ahead log and stay; new ones fail."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 100_000)
    disk = Disk()
    async with journal_of(path, vfs=disk.name, keep_bytes=1 << 20) as journal:
        await journal.append([make_entry()], [])
        disk.fails_after = disk.syncs + 3
        await fill(journal, JournalFailed, "restart the hub", size_bytes=50_000)
        last = journal.last_offset
    async with journal_of(path, keep_bytes=1 << 20) as journal:
        assert journal.last_offset >= last > 1


async def test_any_failure_of_a_commit_is_reported(path: Path) -> None:
    """An error that nobody foresaw fails the journal instead of leaving appends without an answer."""
    disk = Disk()
    async with journal_of(path, vfs=disk.name) as journal:
        disk.breaks_with = RuntimeError("a defect")
        with pytest.raises(JournalFailed, match="a defect"):
            await journal.append([make_entry()], [])
        disk.breaks_with = None


async def test_no_other_file_system_error_is_swallowed(tmp_path: Path) -> None:
    """A directory where the file should be is an error at opening, and the thread is gone."""
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(JournalError, match="cannot be opened"):
        async with journal_of(tmp_path / "journal.db"):
            pass


async def test_a_full_disk_refuses_and_resumes(small_disk: Path) -> None:
    """Without room appends fail whole, reads work, stored entries stay, and with room appends succeed again."""
    path = small_disk / "journal.db"
    async with journal_of(path, keep_bytes=1 << 24) as journal:
        journal.consumer("store")
        entries = await fill(journal, JournalFull, "no room on the disk", size_bytes=30_000)
        assert len(entries) > 20
        for _ in range(3):
            with pytest.raises(JournalFull):
                await journal.append(make_entries(1, size_bytes=500_000), [make_mark(9999)])
        assert journal.last_offset == len(entries)
        found = [entry for after in range(0, len(entries), 10) for entry in await journal.read(after, max_entries=10)]
        assert [content(entry) for entry in found] == [content(entry) for entry in entries]
        resize(small_disk, 4 * SMALL_DISK_BYTES)
        assert await journal.append([make_entry()], []) == len(entries) + 1
    async with journal_of(path, keep_bytes=1 << 24) as journal:
        assert journal.last_offset == len(entries) + 1
        assert journal.marks() == {"a": make_mark(len(entries))}
        assert [entry.seq for entry in await journal.read(10, max_entries=3)] == [11, 12, 13]


async def test_a_journal_in_balance_does_not_need_more_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody else fills the disk, what the consumers have passed makes the room that new entries need."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 500_000)
    async with journal_of(small_disk / "journal.db") as journal:
        journal.consumer("store")
        for number in range(300):
            journal.advance("store", await journal.append(make_entries(1, size_bytes=50_000), []))
            if number == 100:
                with (small_disk / "other").open("wb") as other:
                    os.posix_fallocate(other.fileno(), 0, journal.free_bytes)
        assert journal.free_bytes < 50_000
        assert journal.last_offset == 300


async def test_a_log_is_emptied_on_a_full_disk(small_disk: Path) -> None:
    """On a disk that is nearly full the log is moved into the free pages of the database, and appends continue."""
    path = small_disk / "journal.db"
    async with journal_of(path) as journal:
        journal.consumer("store")
        await journal.append(make_entries(40, size_bytes=50_000), [])
    with (small_disk / "other").open("wb") as other:
        os.posix_fallocate(other.fileno(), 0, free_bytes(path) - 500_000)
    async with journal_of(path) as journal:
        refused = 0
        while journal.last_offset < 100:
            journal.advance("store", journal.last_offset)
            try:
                await journal.append(make_entries(1, size_bytes=50_000), [])
            except JournalFull:
                refused += 1
                assert refused < 30
        assert refused > 0


async def fill(
    journal: Journal, error: type[JournalError], match: str, *, size_bytes: int, advancing: str | None = None
) -> list[Entry]:
    """Appends entries, each with its mark, until they are refused; returns those that were not."""
    entries: list[Entry] = []
    with pytest.raises(error, match=match):
        await fill_forever(journal, entries, size_bytes, advancing)
    return entries


async def fill_forever(journal: Journal, entries: list[Entry], size_bytes: int, advancing: str | None) -> None:
    for seq in itertools.count(journal.last_offset + 1):
        entry = make_entry(seq, payload=bytes(size_bytes))
        await journal.append([entry], [make_mark(seq)])
        entries.append(entry)
        if advancing is not None:
            journal.advance(advancing, entry.offset)


def resize(small_disk: Path, size_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_bytes}", str(small_disk)], check=True)


async def test_the_error_at_the_bound_names_the_slowest_consumer(path: Path) -> None:
    """A journal at its bound fails appends with the name of the slowest consumer, until that one advances."""
    async with journal_of(path, max_bytes=2 << 20) as journal:
        journal.consumer("store")
        journal.consumer("bridge")
        reason = "bound of 2097152 bytes, since store has not processed"
        count = len(await fill(journal, JournalFull, reason, size_bytes=60_000, advancing="bridge"))
        assert 25 < count < 35
        assert path.stat().st_size <= 2 << 20
        with pytest.raises(JournalFull, match="store"):
            await journal.append(make_entries(1, size_bytes=60_000), [])
        journal.advance("store", count)
        for _ in range(50):
            count = await journal.append(make_entries(1, size_bytes=60_000), [make_mark(count + 1)])
            for consumer in ("store", "bridge"):
                journal.advance(consumer, count)
        assert path.stat().st_size <= 2 << 20
        with pytest.raises(JournalFull, match="if this lasts"):
            await journal.append(make_entries(1, size_bytes=3 << 20), [])
    async with journal_of(path, max_bytes=2 << 20) as journal:
        assert journal.last_offset == count
        assert journal.marks() == {"a": make_mark(count)}


async def test_the_bound_leaves_room_for_folding_many_marks(path: Path) -> None:
    """At its bound a journal with more dirty marks than one commit folds still gets free."""
    async with journal_of(path, max_bytes=2 << 20) as journal:
        journal.consumer("store")
        marks = [make_mark(1, device=f"{number:04}") for number in range(1500)]
        await journal.append([make_entry()], marks)
        count = len(await fill(journal, JournalFull, "store", size_bytes=60_000))
        journal.advance("store", journal.last_offset)
        # The first one starts the folding, which takes three commits, and the deletion comes behind it.
        await fill(journal, JournalFull, "if this lasts", size_bytes=60_000)
        await journal.append([make_entry()], [])
        await journal.append(make_entries(1, size_bytes=60_000), [])
    async with journal_of(path, max_bytes=2 << 20) as journal:
        assert len(journal.marks()) == 1501
        assert journal.marks()["a"].seq >= count


async def test_a_foreign_lock_rejects_entries_while_it_lasts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who holds the file's lock delays appends, and beyond the timeout has them refused, but not for ever."""
    monkeypatch.setattr("hub.journal.schema.BUSY_TIMEOUT_MS", 10)
    async with journal_of(path) as journal:
        await journal.append([make_entry()], [])
        foreign = apsw.Connection(str(path))
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalFull, match="another program"):
            await journal.append([make_entry()], [])
        foreign.execute("ROLLBACK")
        foreign.close()
        assert await journal.append([make_entry()], []) == 2


async def test_the_write_ahead_log_stays_small(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is moved into the database between commits, and used again from its beginning."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 500_000)
    async with journal_of(path, keep_bytes=1 << 28) as journal:
        for _ in range(100):
            await journal.append(make_entries(1, size_bytes=100_000), [])
        assert wal_path(path).stat().st_size < 1_500_000
        assert path.stat().st_size > 5_000_000


async def test_a_log_that_a_reader_held_shrinks_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign reader keeps the log growing; when it has gone the log is emptied."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 500_000)
    monkeypatch.setattr(writer, "MAX_WAL_BYTES", 2_000_000)
    monkeypatch.setattr(writer, "CHECKPOINT_WAIT_MS", 1)
    assert MAX_WAL_BYTES > 2_000_000
    async with journal_of(path, keep_bytes=1 << 28) as journal:
        await journal.append([make_entry()], [])
        foreign = connect_reader(path, vfs=None)
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM block").fetchall()
        with structlog.testing.capture_logs() as logs:
            for _ in range(60):
                await journal.append(make_entries(1, size_bytes=100_000), [])
        assert wal_path(path).stat().st_size > 5_000_000
        assert "cannot be emptied" in logs[0]["event"]
        foreign.execute("COMMIT")
        foreign.close()
        for _ in range(20):
            await journal.append(make_entries(1, size_bytes=100_000), [])
        assert wal_path(path).stat().st_size < 2_000_000


async def test_a_disk_that_fills_up_is_reported_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log warns before there is no room, once and not with each checkpoint."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 50_000)
    monkeypatch.setattr(writer, "LOW_FREE_BYTES", 1 << 62)
    with structlog.testing.capture_logs() as logs:
        async with journal_of(path, keep_bytes=1 << 20) as journal:
            assert journal.free_bytes > 0
            for _ in range(5):
                await journal.append(make_entries(1, size_bytes=60_000), [])
    assert [entry["event"] for entry in logs] == ["disk of the journal is almost full"]
