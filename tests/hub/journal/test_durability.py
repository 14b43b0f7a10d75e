"""The embedded journal as a whole: kills, power cuts, two processes, and where reads come from."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.journal import writer
from hub.journal.journal import Journal
from hub.model.batch import Mark
from hub.model.journal import JournalError
from tests.hub.journal.appender import DEVICES, EPOCH, entry_at, journal_at
from tests.hub.journal.disks import Disk
from tests.hub.journal.entries import content, make_entries, make_entry, make_mark

ROOT = Path(__file__).resolve().parents[3]
KILLS = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def journal_of(path: Path, *, vfs: str | None = None, keep_bytes: int = 1 << 20) -> Journal:
    return Journal(path, keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=1 << 30, vfs=vfs)


def test_it_is_a_journal(path: Path) -> None:
    """It has everything that the contract asks for, as the type checker sees it."""
    journal: Journal = journal_of(path)
    assert journal.last_offset == 0


async def test_acknowledged_readings_survive_a_kill(path: Path) -> None:
    """A process is killed at random moments: every offset that it had named is there, whole, and marks agree."""
    acknowledged = 0
    for _ in range(KILLS):
        named = await asyncio.to_thread(append_and_kill, path, random.uniform(0, 0.15))
        acknowledged = max([acknowledged, *named])
        async with journal_at(path) as journal:
            assert journal.last_offset >= acknowledged
            after = 0
            while entries := await journal.read(after, max_entries=16_384):
                expected = [content(entry_at(offset)) for offset in range(after + 1, entries[-1].offset + 1)]
                assert [content(entry) for entry in entries] == expected
                after = entries[-1].offset
            assert after == journal.last_offset
            newest = [entry_at(offset) for offset in range(max(1, after - DEVICES + 1), after + 1)]
            marks = {e.device: Mark(e.device, EPOCH, e.seq, batches=e.seq) for e in newest}
            assert journal.marks() == marks
            assert journal.consumer("store").offset <= after
    assert acknowledged > 0


def append_and_kill(path: Path, after_s: float) -> list[int]:
    """The offsets that a process named before it was killed, so long after its first."""
    command = [sys.executable, "-m", "tests.hub.journal.appender", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        named = [process.stdout.readline()]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.kill()
        named += process.stdout.readlines()
    # A line without its end was cut by the kill.
    return [int(line) for line in named if line.endswith("\n")]


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20_000)), min_size=1, max_size=8), st.booleans())
async def test_acknowledged_readings_survive_a_power_cut(commits: list[tuple[int, int]], checkpoints: bool) -> None:
    """With nothing on the disk but what was synced, every append that had returned is there, with its mark."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(writer, "CHECKPOINT_BYTES", 30_000 if checkpoints else 1 << 30)
        root = Path(directory)
        (root / "synced").mkdir()
        disk = Disk(root / "synced")
        expected: list[tuple[object, ...]] = []
        async with journal_of(root / "journal.db", vfs=disk.name) as journal:
            for number, (count, size_bytes) in enumerate(commits, 1):
                entries = make_entries(count, size_bytes=size_bytes // (count or 1))
                await journal.append(entries, [make_mark(number)])
                expected += [content(entry) for entry in entries]
                disk.cut_power(root / f"cut-{number}")
                async with journal_of(root / f"cut-{number}" / "journal.db") as left:
                    assert left.last_offset == len(expected)
                    assert left.marks() == {"a": make_mark(number)}
                    if expected:
                        found = await left.read(len(expected) - 5, max_entries=100) if len(expected) > 5 else []
                        assert [content(entry) for entry in found] == expected[-5:] * bool(found)


async def test_two_hubs_cannot_share_a_journal(path: Path) -> None:
    """The second one fails while the first has the journal open, and succeeds afterwards."""
    async with journal_of(path) as first:
        await first.append([make_entry()], [])
        with pytest.raises(JournalError, match="in use by another process"):
            async with journal_of(path):
                pass
        await first.append([make_entry()], [])
    async with journal_of(path) as second:
        assert second.last_offset == 2


async def test_a_failed_opening_releases_everything(path: Path) -> None:
    """After an error at opening the lock is free, and the same object can be opened when the reason is gone."""
    path.write_bytes(b"x" * 5000)
    journal = journal_of(path)
    with pytest.raises(JournalError, match="is damaged"):
        await journal.__aenter__()
    path.unlink()
    async with journal:
        assert await journal.append([make_entry()], []) == 1


async def test_closing_twice_is_closing(path: Path) -> None:
    """Close may be called again, and before opening."""
    journal = journal_of(path)
    await journal.close()
    async with journal:
        await journal.append([make_entry()], [])
        await journal.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.db", "journal.db.lock"]


async def test_entries_that_all_consumers_have_leave_the_memory(path: Path) -> None:
    """Entries stay in memory until every consumer has dealt with them; afterwards the file serves who comes back."""
    async with journal_of(path) as journal:
        journal.consumer("store")
        entries = make_entries(200)
        await journal.append(entries[:100], [])
        await journal.append(entries[100:], [])
        assert all(entry.batch is not None for entry in await journal.read(0))
        journal.advance("store", 100)
        await journal.append([make_entry()], [])
        assert all(entry.batch is not None for entry in await journal.read(100))
        from_file = await journal.read(0)
        assert [content(entry) for entry in from_file[:200]] == [content(entry) for entry in entries]
        assert all(entry.batch is None for entry in from_file)


async def test_a_seam_between_file_and_memory_is_no_hole(path: Path) -> None:
    """A reader that begins in the file arrives in memory without missing or repeating an entry."""
    async with journal_of(path) as journal:
        journal.consumer("store")
        for count in (3, 4, 5, 6):
            await journal.append(make_entries(count), [])
            journal.advance("store", 7)
        for max_entries in (1, 2, 3, 5, 100):
            offsets: list[int] = []
            while entries := await journal.read(len(offsets), max_entries=max_entries):
                offsets += [entry.offset for entry in entries]
            assert offsets == list(range(1, 19))


async def test_the_file_does_not_grow_under_steady_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed pages are used again: ten times the kept tail passes through, and the file stays near the tail's size."""
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1 << 20)
    async with journal_of(path, keep_bytes=2 << 20) as journal:
        journal.consumer("store")
        for _ in range(200):
            journal.advance("store", await journal.append(make_entries(10, size_bytes=10_000), []))
        assert path.stat().st_size < 4 << 20
        assert journal.size_bytes < 8 << 20
        assert journal.first_offset > 1500


async def test_entries_that_have_to_be_read_again_are_deleted_too(path: Path) -> None:
    """After an outage more blocks are old than are known in memory: they are found in the file and go."""
    async with journal_of(path, keep_bytes=0) as journal:
        journal.consumer("store")
        for _ in range(600):
            await journal.append([make_entry()], [])
        journal.advance("store", 600)
        while journal.first_offset <= 600:
            await journal.append([make_entry()], [])
            await asyncio.sleep(0)
            journal.advance("store", journal.last_offset)
            assert journal.last_offset < 2000


def test_a_tail_must_fit_into_the_bound(path: Path) -> None:
    """A journal that shall keep more than half of what it may hold would refuse data for old data's sake."""
    with pytest.raises(ValueError, match="keep_bytes"):
        Journal(path, keep_bytes=600, keep_seconds=1, max_bytes=1000)
