"""Checksums of rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from integrity.checksum import Cell, row_checksum


@given(data=st.binary(min_size=1, max_size=300), position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_the_checksum(data: bytes, position: int, bit: int) -> None:
    """No single bit can change unnoticed."""
    changed = bytearray(data)
    changed[position % len(data)] ^= 1 << bit
    assert row_checksum(("a", 1, data)) != row_checksum(("a", 1, bytes(changed)))


def test_cells_do_not_run_into_each_other() -> None:
    """The border between two cells, the type of a cell and the order count."""
    rows: list[tuple[Cell, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        (b"ab", "c"),
        ("c", "ab"),
        ("ab", "c", None),
        (1, "c"),
        ("1", "c"),
        (),
    ]
    assert len({row_checksum(row) for row in rows}) == len(rows)
