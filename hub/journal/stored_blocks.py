"""The rows of the journal's blocks: how the oldest ones, those from an offset on, and intact ones are found."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple

import apsw

from hub.journal.block import BlockDamaged, BlockRow

KNOWN_BLOCKS = 256
"""Number of the oldest blocks that are known at a time; more are read from the file when those are deleted. It also
bounds the blocks of one trim."""

UNREADABLE = (apsw.CorruptError, UnicodeDecodeError)
"""Exceptions of a read of a damaged page."""

READ_BLOCKS = "SELECT first_offset, count, end_bytes, received_ns, checksum, marks, entries FROM block"
_READ_OLD_BLOCKS = """
SELECT first_offset, count, end_bytes, received_ns, checksum, marks, x'' FROM block
WHERE first_offset > ? ORDER BY first_offset LIMIT ?"""


class OldBlock(NamedTuple):
    """Position of a block. `end_bytes` is the journal's size up to the block's end, since the journal began."""

    last_offset: int
    end_bytes: int
    received_ns: int


def read_old_blocks(connection: apsw.Connection, after: int) -> list[OldBlock]:
    """Return the oldest blocks that begin after this offset, KNOWN_BLOCKS at most.

    A block whose position is damaged counts as old, so that it is deleted as soon as the consumers have passed it.
    """
    rows = [BlockRow.of(row) for row in connection.execute(_READ_OLD_BLOCKS, (after, KNOWN_BLOCKS))]
    blocks: list[OldBlock] = []
    end_bytes = 0
    for number, row in enumerate(rows):
        try:
            row.open_marks()
            blocks.append(OldBlock(row.last_offset, row.end_bytes, row.received_ns))
            end_bytes = row.end_bytes
        except BlockDamaged:
            following = rows[number + 1].first_offset if number + 1 < len(rows) else row.first_offset + 1
            blocks.append(OldBlock(following - 1, end_bytes, 0))
    return blocks


def read_blocks(connection: apsw.Connection, offset: int) -> Generator[BlockRow, None, None]:
    """Yield the rows of the blocks from the one that contains this offset, unverified, in the order of the file.

    Raises one of UNREADABLE where a page is damaged. Close the generator: it holds a read transaction.
    """
    begin = "coalesce((SELECT max(first_offset) FROM block WHERE first_offset <= ?), 0)"
    with closing(
        connection.execute(f"{READ_BLOCKS} WHERE first_offset >= {begin} ORDER BY first_offset", (offset,))
    ) as rows:
        for row in rows:
            yield BlockRow.of(row)


def next_intact(connection: apsw.Connection, offset: int, up_to: int) -> int | None:
    """Return the first offset of the first intact block from `offset` on; None if there is none up to `up_to`.

    It works around damaged pages: a search by key reads only the pages on its way, so it finds what is behind them. Its
    steps grow, so an intact page between damaged pages can be passed over.
    """
    failed, found, step = offset - 1, None, 1
    probe = offset
    while probe <= up_to:
        first = _intact_from(connection, probe, up_to)
        if first is not None:
            found = first
            break
        failed, probe, step = probe, probe + step, step * 2
    if found is None:
        return None
    probe = min(probe, found)
    while probe - failed > 1:
        middle = (failed + probe) // 2
        first = _intact_from(connection, middle, up_to)
        if first is None:
            failed = middle
        else:
            found, probe = first, middle
    return found


def _intact_from(connection: apsw.Connection, offset: int, up_to: int) -> int | None:
    """Return the first offset of the first intact block that begins at or behind this offset.

    None if there is none up to `up_to`, or before a page whose keys cannot be read.
    """
    keys = "SELECT first_offset FROM block WHERE first_offset BETWEEN ? AND ? ORDER BY first_offset"
    try:
        first: int
        for (first,) in connection.execute(keys, (offset, up_to)):
            if _is_intact(connection, first):
                return first
    except UNREADABLE:
        pass
    return None


def _is_intact(connection: apsw.Connection, first_offset: int) -> bool:
    try:
        row = connection.execute(f"{READ_BLOCKS} WHERE first_offset = ?", (first_offset,)).get
        if row is None:
            return False
        BlockRow.of(row).open_entries()
    except (*UNREADABLE, BlockDamaged):
        return False
    return True
