"""Damage of a file's content."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.damage.kinds import FLIPS, PAGE_BYTES, Damage, Kind, damaged, damages

CONTENTS = st.binary(min_size=1, max_size=3 * PAGE_BYTES)
NUMBERS = st.integers(0, FLIPS - 1)


@given(CONTENTS, NUMBERS)
def test_a_flip_changes_one_bit(content: bytes, number: int) -> None:
    """Exactly one bit differs, and the same number gives the same bit again."""
    flip = Damage(Kind.FLIP, number)
    changed = damaged(content, flip, name="a", older=None)
    assert changed is not None
    assert len(changed) == len(content)
    assert sum((before ^ after).bit_count() for before, after in zip(content, changed, strict=True)) == 1
    assert damaged(content, flip, name="a", older=None) == changed


@given(CONTENTS, NUMBERS)
def test_zeros_replace_one_page(content: bytes, number: int) -> None:
    """The length stays, one page is zero, and the others are unchanged."""
    changed = damaged(content, Damage(Kind.ZEROS, number), name="a", older=None)
    assert changed is not None
    pages = [
        (content[at : at + PAGE_BYTES], changed[at : at + PAGE_BYTES]) for at in range(0, len(content), PAGE_BYTES)
    ]
    assert len(changed) == len(content)
    assert any(not any(after) for _, after in pages)
    assert sum(before != after for before, after in pages) <= 1


@given(CONTENTS, NUMBERS)
def test_a_cut_leaves_a_beginning(content: bytes, number: int) -> None:
    """The rest is a shorter beginning of the file."""
    changed = damaged(content, Damage(Kind.CUT, number), name="a", older=None)
    assert changed is not None
    assert len(changed) < len(content)
    assert content.startswith(changed)


def test_a_whole_file_is_emptied_removed_or_replaced() -> None:
    """An emptied file exists, a removed one does not, and an older copy may not exist either."""
    content, older = b"new", b"old"
    assert damaged(content, Damage(Kind.EMPTIED, 0), name="a", older=older) == b""
    assert damaged(content, Damage(Kind.REMOVED, 0), name="a", older=older) is None
    assert damaged(content, Damage(Kind.OLDER, 0), name="a", older=older) == older
    assert damaged(content, Damage(Kind.OLDER, 0), name="a", older=None) is None
    assert damaged(content, Damage(Kind.NONE, 0), name="a", older=older) == content


def test_every_place_of_a_file_is_tried_once() -> None:
    """A file has 200 flips, and no damage is listed twice."""
    listed = list(damages())
    assert len(listed) == len(set(listed))
    assert sum(damage.kind is Kind.FLIP for damage in listed) == 200
    assert {damage.kind for damage in listed} == set(Kind) - {Kind.NONE}
