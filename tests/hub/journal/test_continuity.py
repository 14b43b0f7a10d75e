"""Comparison of a journal with what the registry and the store have seen of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.journal.continuity import find_discontinuity
from hub.journal.schema import UNUSED_OFFSETS
from hub.model.journal import JournalPosition

OFFSETS = st.integers(0, 1 << 40)
NOWHERE = JournalPosition("", 0)


@given(OFFSETS, OFFSETS, OFFSETS, OFFSETS)
def test_no_offset_that_somebody_knows_is_used_again(present: int, recorded: int, stored: int, consumed: int) -> None:
    """New entries follow the highest known offset; a journal that reaches all of them has lost nothing."""
    lost = find_discontinuity(
        JournalPosition("a", present), JournalPosition("a", recorded), JournalPosition("a", stored), consumed=consumed
    )
    known = max(recorded, stored, consumed)
    if known <= present:
        assert lost is None
    else:
        assert lost is not None
        assert lost.continue_after == known + UNUSED_OFFSETS
        assert f"{known:,}" in lost.reason


@given(OFFSETS, OFFSETS, OFFSETS)
def test_another_journal_in_its_place_is_reported(present: int, recorded: int, stored: int) -> None:
    """Its offsets mean nothing to those who have seen the lost one, so any is free."""
    lost = find_discontinuity(
        JournalPosition("b", present), JournalPosition("a", recorded), JournalPosition("a", stored), consumed=0
    )
    assert lost is not None
    assert lost.continue_after is None
    assert "removed, emptied or replaced" in lost.reason


def test_a_new_hub_has_lost_nothing() -> None:
    """Nobody has recorded anything."""
    assert find_discontinuity(JournalPosition("a", 0), None, NOWHERE, consumed=0) is None
    assert find_discontinuity(JournalPosition("a", 5), None, JournalPosition("x", 9), consumed=5) is None
