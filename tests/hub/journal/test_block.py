"""The bytes of a block."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.journal.block import (
    BLOCK_BYTES,
    BLOCK_ENTRIES,
    BlockDamaged,
    decode_block,
    decode_marks,
    encode_block,
    encode_marks,
    limit_entries,
    size_of,
    split,
)
from hub.model.batch import Entry, Mark
from tests.hub.journal import entries as some
from tests.hub.journal.entries import content, make_entries, make_entry


@given(st.lists(some.entries), st.integers(1, 2**53 - 1))
def test_entries_come_back_as_they_were(entries: list[Entry], first_offset: int) -> None:
    """A block decodes to the entries it was made of, numbered from its first offset."""
    for offset, entry in enumerate(entries, first_offset):
        entry.offset = offset
    decoded = decode_block(encode_block(entries), first_offset)
    assert [content(entry) for entry in decoded] == [content(entry) for entry in entries]


@given(st.lists(some.marks))
def test_marks_come_back_as_they_were(marks: list[Mark]) -> None:
    """Marks decode to what was encoded."""
    assert decode_marks(encode_marks(marks)) == marks


@given(st.binary())
def test_other_bytes_are_damage(data: bytes) -> None:
    """Bytes that are no block and no marks give one error, whatever they are."""
    for decode in (lambda: decode_block(data, 1), lambda: decode_marks(data)):
        with contextlib.suppress(BlockDamaged):
            decode()


@given(st.lists(some.entries, min_size=1, max_size=3), st.data())
def test_a_cut_block_is_damage(entries: list[Entry], data: st.DataObject) -> None:
    """A block that lost its end, or whose columns differ in length, is never taken for a shorter one."""
    block = encode_block(entries)
    with pytest.raises(BlockDamaged):
        decode_block(block[: data.draw(st.integers(0, len(block) - 1))], 1)


@given(st.lists(st.integers(0, 3 * BLOCK_BYTES), max_size=12))
def test_blocks_are_bounded(sizes: list[int]) -> None:
    """Split gives every entry once, in order, in blocks within the bound, or of one entry that is larger."""
    payloads = {size: bytes(size) for size in set(sizes)}
    entries = [make_entry(payload=payloads[size]) for size in sizes]
    blocks = list(split(entries, size_of(entries)))
    assert [id(entry) for block in blocks for entry in block] == [id(entry) for entry in entries]
    assert all(blocks)
    assert all(len(block) == 1 or sum(len(entry.payload) for entry in block) <= BLOCK_BYTES for block in blocks)


def test_a_block_of_tiny_entries_is_bounded_in_number() -> None:
    """Entries without content do not make a block of any length."""
    entries = make_entries(2 * BLOCK_ENTRIES + 1, size_bytes=0)
    assert [len(block) for block in split(entries, size_of(entries))] == [BLOCK_ENTRIES, BLOCK_ENTRIES, 1]


@given(st.lists(st.integers(0, 20), max_size=20), st.integers(-1, 100))
def test_take_returns_the_first_entries_that_fit_and_at_least_one(sizes: list[int], max_bytes: int) -> None:
    """As many of the first entries as fit into the bytes; the first one fits always."""
    entries = [make_entry(payload=bytes(size)) for size in sizes]
    taken, used = limit_entries(entries, max_bytes)
    assert taken == entries[: len(taken)]
    assert used == sum(sizes[: len(taken)])
    assert len(taken) >= min(1, len(entries))
    assert used <= max_bytes or len(taken) <= 1
    if len(taken) < len(entries):
        assert used + sizes[len(taken)] > max_bytes
