"""Reading the file: portions, bounds, damage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from hub.journal import schema
from hub.journal.block import encode_marks, size_of
from hub.journal.reader import KEPT_BLOCKS, EntriesUnreadable, FileReader
from hub.journal.schema import connect_writer
from hub.journal.state import JournalState
from tests.hub.journal.entries import make_entries


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Journal of 6 commits of 10 entries of 100 bytes."""
    path = tmp_path / "journal.db"
    connection, found = connect_writer(path, vfs=None, max_bytes=1 << 30)
    state = JournalState(found, keep_bytes=1 << 20, keep_seconds=1000)
    for number in range(6):
        entries = make_entries(10, first_seq=10 * number + 1, size_bytes=100)
        commit = state.prepare(entries, [], size_bytes=size_of(entries), now_ns=0)
        for sql, values in commit.statements:
            connection.execute(sql, values)
        state.confirm(commit)
    connection.close()
    return path


@pytest.fixture
async def reader(path: Path) -> AsyncIterator[FileReader]:
    reader = FileReader(path, vfs=None)
    yield reader
    await reader.close()


@pytest.mark.parametrize(("max_entries", "max_bytes"), [(7, 10_000), (10, 10_000), (1000, 350), (1000, 1), (25, 2000)])
async def test_portions_join_without_a_seam(reader: FileReader, max_entries: int, max_bytes: int) -> None:
    """Reading on from the last offset gives every entry once, whatever the bounds, within and across blocks."""
    seqs: list[int] = []
    while entries := await reader.entries(len(seqs), 60, max_entries=max_entries, max_bytes=max_bytes):
        assert [entry.offset for entry in entries] == [entry.seq for entry in entries]
        assert len(entries) <= max_entries
        assert len(entries) == 1 or 100 * len(entries) <= max_bytes
        seqs += [entry.seq for entry in entries]
    assert seqs == list(range(1, 61))


async def test_readers_at_different_places_do_not_disturb_each_other(reader: FileReader) -> None:
    """More readers than there are kept blocks, taking turns, each get what follows on theirs."""
    places = {reader_number: 10 * reader_number for reader_number in range(KEPT_BLOCKS + 2)}
    for _ in range(4):
        for number, after in places.items():
            entries = await reader.entries(after, 60, max_entries=2, max_bytes=10_000)
            assert [entry.offset for entry in entries] == [after + 1, after + 2]
            places[number] = after + 2


async def test_a_block_that_is_read_in_portions_is_decoded_once(reader: FileReader) -> None:
    """The same objects are handed out as long as the block is kept."""
    await reader.entries(0, 60, max_entries=3, max_bytes=10_000)
    first = await reader.entries(3, 60, max_entries=3, max_bytes=10_000)
    again = await reader.entries(3, 60, max_entries=3, max_bytes=10_000)
    assert [id(entry) for entry in first] == [id(entry) for entry in again]


async def test_nothing_is_read_beyond_what_is_known(reader: FileReader) -> None:
    """An entry that was committed, and not yet reported, is not handed out."""
    assert [entry.offset for entry in await reader.entries(10, 12, max_entries=100, max_bytes=10_000)] == [11, 12]
    assert await reader.entries(12, 12, max_entries=100, max_bytes=10_000) == []


async def test_deleted_entries_are_missing_at_the_beginning(reader: FileReader, path: Path) -> None:
    """A read from a deleted offset reports the range up to the next entry."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.execute(schema.DELETE_BLOCKS, (21,))
    connection.close()
    with pytest.raises(EntriesUnreadable) as missing:
        await reader.entries(5, 60, max_entries=100, max_bytes=100)
    assert (missing.value.first, missing.value.last, missing.value.rows) == (6, 20, [])
    assert (await reader.entries(20, 60, max_entries=100, max_bytes=100))[0].offset == 21


async def test_old_blocks_are_listed_from_the_oldest(reader: FileReader) -> None:
    """Trimming gets the last offset of each block, and the journal's size up to there."""
    blocks = await reader.old_blocks(20)
    assert [block.last_offset for block in blocks] == [30, 40, 50, 60]
    sizes = {later.end_bytes - block.end_bytes for block, later in pairwise(blocks)}
    assert len(sizes) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE block SET entries = CAST(entries || 'x' AS BLOB) WHERE first_offset = 21",
        "UPDATE block SET checksum = checksum + 1 WHERE first_offset = 21",
        "UPDATE block SET entries = x'', checksum = 0 WHERE first_offset = 21",
        f"UPDATE block SET entries = x'{encode_marks([]).hex()}', checksum = 0 WHERE first_offset = 21",
        "DELETE FROM block WHERE first_offset = 21",
    ],
)
async def test_a_damaged_block_is_reported_and_its_neighbours_are_read(
    reader: FileReader, path: Path, damage: str
) -> None:
    """Entries that are not what was written are never returned: the range is reported, and reading continues behind."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.execute(damage)
    connection.close()
    assert [entry.seq for entry in await reader.entries(15, 60, max_entries=100, max_bytes=10_000)] == [
        16,
        17,
        18,
        19,
        20,
    ]
    for after in (20, 25):
        with pytest.raises(EntriesUnreadable) as found:
            await reader.entries(after, 60, max_entries=100, max_bytes=10_000)
        assert (found.value.first, found.value.last) == (after + 1, 30)
        assert [row.first_offset for row in found.value.rows] == ([] if damage.startswith("DELETE") else [21])
    assert (await reader.entries(30, 60, max_entries=100, max_bytes=10_000))[0].seq == 31


async def test_a_block_is_read_although_its_seal_is_damaged(reader: FileReader, path: Path) -> None:
    """Its entries have a checksum of their own, and the block before it proves their offsets."""
    connection, _ = connect_writer(path, vfs=None, max_bytes=1 << 30)
    connection.execute("UPDATE block SET marks = x'c100000000' WHERE first_offset = 21")
    connection.close()
    assert [entry.seq for entry in await reader.entries(15, 60, max_entries=20, max_bytes=10_000)] == list(
        range(16, 36)
    )


async def test_a_page_of_zeros_hides_no_entry_behind_it(tmp_path: Path) -> None:
    """Every entry outside the page is read; those in it are reported as one range."""
    path = tmp_path / "journal.db"
    connection, contents = connect_writer(path, vfs=None, max_bytes=1 << 30)
    state = JournalState(contents, keep_bytes=1 << 30, keep_seconds=1e9)
    for seq in range(1, 201):
        commit = state.prepare(make_entries(1, first_seq=seq, size_bytes=500), [], size_bytes=550, now_ns=0)
        for sql, values in commit.statements:
            connection.execute(sql, values)
        state.confirm(commit)
    connection.close()
    pages = path.stat().st_size // schema.PAGE_BYTES
    with path.open("r+b") as file:
        file.seek((pages - 3) * schema.PAGE_BYTES)
        file.write(bytes(schema.PAGE_BYTES))
    reader = FileReader(path, vfs=None)
    found: list[int] = []
    lost: list[int] = []
    try:
        after = 0
        while after < 200:
            try:
                entries = await reader.entries(after, 200, max_entries=7, max_bytes=10_000)
                found += [entry.seq for entry in entries]
                after = entries[-1].offset
            except EntriesUnreadable as damage:
                lost += range(damage.first, damage.last + 1)
                after = damage.last
    finally:
        await reader.close()
    assert sorted(found + lost) == list(range(1, 201))
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert 5 < len(lost) < 20
