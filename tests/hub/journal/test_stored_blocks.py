"""The rows of blocks in the file: those from an offset on, the oldest, and the intact ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hub.journal.schema import INSERT_BLOCK, connect_writer
from hub.journal.stored_blocks import KNOWN_BLOCKS, OldBlock, next_intact, read_blocks, read_old_blocks
from tests.hub.journal.entries import sealed_block


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    """A journal of 20 blocks of two entries each."""
    connection, _ = connect_writer(tmp_path / "journal.db", vfs=None, max_bytes=1 << 30)
    for first in range(1, 41, 2):
        connection.execute(INSERT_BLOCK, sealed_block(first))
    yield connection
    connection.close()


def test_the_intact_blocks_around_damaged_ones_are_found(connection: apsw.Connection) -> None:
    """Also where several follow each other, and where none follows."""
    connection.execute("UPDATE block SET entries = x'00' WHERE first_offset BETWEEN 9 AND 20 OR first_offset > 30")
    assert next_intact(connection, 1, 40) == 1
    assert next_intact(connection, 9, 40) == 21
    assert next_intact(connection, 31, 40) is None
    assert next_intact(connection, 9, 20) is None


def test_every_intact_block_is_found_from_every_offset(connection: apsw.Connection) -> None:
    """The search takes steps of growing length, and passes over none."""
    for intact in range(3, 41, 2):
        connection.execute("UPDATE block SET entries = CASE first_offset WHEN ? THEN entries ELSE x'00' END", (intact,))
        for offset in range(1, intact + 1):
            assert next_intact(connection, offset, 40) == intact
        connection.execute(INSERT_BLOCK.replace("INSERT", "INSERT OR REPLACE", 1), sealed_block(intact + 2))


def test_blocks_are_read_from_the_one_that_contains_the_offset(connection: apsw.Connection) -> None:
    """An offset within a block begins with this block, and one behind the end yields the last."""
    assert [row.first_offset for row in read_blocks(connection, 36)] == [35, 37, 39]
    assert [row.first_offset for row in read_blocks(connection, 37)] == [37, 39]
    assert [row.first_offset for row in read_blocks(connection, 99)] == [39]


def test_a_damaged_block_counts_as_old(connection: apsw.Connection) -> None:
    """Its end is known from its neighbour, and its time is the oldest, so that it is deleted first."""
    connection.execute("UPDATE block SET marks = x'c100', end_bytes = 9999999 WHERE first_offset = 5")
    blocks = read_old_blocks(connection, 2)
    assert blocks[:3] == [OldBlock(4, 300, 0), OldBlock(6, 300, 0), OldBlock(8, 700, 0)]
    assert [block.last_offset for block in blocks] == list(range(4, 41, 2))
    connection.execute("UPDATE block SET marks = x'c100' WHERE first_offset = 39")
    assert read_old_blocks(connection, 37) == [OldBlock(39, 0, 0)]


def test_the_oldest_blocks_are_bounded(connection: apsw.Connection) -> None:
    """The rest is read when these are deleted."""
    for first in range(41, 41 + 2 * KNOWN_BLOCKS, 2):
        connection.execute(INSERT_BLOCK, sealed_block(first))
    assert len(read_old_blocks(connection, 0)) == KNOWN_BLOCKS
