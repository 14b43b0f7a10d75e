"""Checksums of rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from integrity.checksum import Cell, corrected, row_checksum


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


CELLS = st.lists(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=12) | st.text(max_size=12), min_size=1
)


@given(cells=CELLS, data=st.data())
def test_one_wrong_bit_is_corrected(cells: list[Cell], data: st.DataObject) -> None:
    """Wherever it is: in an integer, in bytes, in a text (which may be no UTF-8 then), or in the checksum."""
    checksum = row_checksum(cells)
    assert corrected(cells, checksum) == tuple(cells)
    assert corrected(cells, checksum ^ 1 << data.draw(st.integers(0, 31))) == tuple(cells)
    place = data.draw(st.integers(0, len(cells) - 1))
    match cells[place]:
        case int(number):
            stored = number.to_bytes(8, "big", signed=True)
            damaged: Cell = int.from_bytes(flipped(stored, data), "big", signed=True)
        case str(text) if text:
            damaged = flipped(text.encode(), data).decode("utf-8", "surrogateescape")
        case bytes(content) if content:
            damaged = flipped(content, data)
        case _:
            return
    assert corrected([*cells[:place], damaged, *cells[place + 1 :]], checksum) == tuple(cells)


def flipped(content: bytes, data: st.DataObject) -> bytes:
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(cells=CELLS, number=st.integers(0, 2**63 - 1))
def test_other_damage_is_not_corrected(cells: list[Cell], number: int) -> None:
    """Cells that differ in more than one bit are rejected, and never replaced by a third content."""
    checksum = row_checksum([*cells, number])
    damaged = number ^ 0b111 if number.bit_length() > 3 else number + 1_000
    assert corrected([*cells, damaged], checksum) is None
