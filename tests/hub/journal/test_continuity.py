"""Comparison of a journal with what the registry and the store have seen of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.journal.continuity import find_discontinuity, find_foreign_owner
from hub.journal.schema import UNUSED_OFFSETS
from hub.model.journal import JournalPosition

OFFSETS = st.integers(0, 1 << 40)
NOWHERE = JournalPosition("", 0)


@given(OFFSETS, st.lists(st.none() | OFFSETS, min_size=3, max_size=3), OFFSETS)
def test_no_offset_that_somebody_knows_is_used_again(present: int, seen: list[int | None], consumed: int) -> None:
    """New entries follow the highest known offset; a journal that reaches all of them has lost nothing."""
    registry, lock, store = (None if offset is None else JournalPosition("a", offset) for offset in seen)
    lost = find_discontinuity(
        JournalPosition("a", present), registry=registry, lock=lock, store=store or NOWHERE, consumed=consumed
    )
    known = max(consumed, *(offset or 0 for offset in seen))
    if known <= present:
        assert lost is None
    else:
        assert lost is not None
        assert lost.continue_after == known + UNUSED_OFFSETS
        assert f"{known:,}" in lost.reason


@given(OFFSETS, OFFSETS, OFFSETS, st.booleans())
def test_another_journal_in_its_place_is_reported(present: int, recorded: int, stored: int, in_lock: bool) -> None:
    """Its offsets mean nothing to those who have seen the lost one, so any is free."""
    record = JournalPosition("a", recorded)
    lost = find_discontinuity(
        JournalPosition("b", present),
        registry=None if in_lock else record,
        lock=record if in_lock else None,
        store=JournalPosition("a", stored),
        consumed=0,
    )
    assert lost is not None
    assert lost.continue_after is None
    assert "removed, emptied or replaced" in lost.reason


def test_a_new_hub_has_lost_nothing() -> None:
    """Nobody has recorded anything, or the store has not stored anything yet since a loss that was reported."""
    here, other = JournalPosition("a", 5), JournalPosition("x", 9)
    assert find_discontinuity(here, registry=None, lock=None, store=NOWHERE, consumed=0) is None
    assert find_discontinuity(here, registry=here, lock=here, store=other, consumed=5) is None


def test_one_record_of_another_journal_is_reported() -> None:
    """Nothing is known to be lost, and the report names the file that was replaced."""
    here, other = JournalPosition("a", 5), JournalPosition("x", 9)
    for registry, lock, name in ((here, other, "journal.db.lock"), (other, here, "registry.db")):
        found = find_discontinuity(here, registry=registry, lock=lock, store=NOWHERE, consumed=5)
        assert found is not None
        assert found.continue_after is None
        assert found.reason.startswith(name)


HERE, THERE = JournalPosition("a", 5), JournalPosition("x", 9)


@pytest.mark.parametrize(
    ("owner", "registry", "lock", "store", "is_foreign"),
    [
        ("hub", THERE, THERE, THERE, False),
        ("hub", None, None, NOWHERE, False),
        ("other", THERE, THERE, THERE, True),
        ("other", THERE, HERE, THERE, True),
        ("other", THERE, HERE, NOWHERE, True),
        ("other", HERE, THERE, THERE, False),
        ("other", THERE, THERE, HERE, False),
        ("other", None, HERE, NOWHERE, False),
        ("other", None, THERE, NOWHERE, True),
        ("other", None, None, THERE, True),
        ("other", None, None, NOWHERE, False),
        ("", THERE, THERE, THERE, True),
        ("", None, None, THERE, False),
        ("", None, None, NOWHERE, False),
    ],
)
def test_a_journal_belongs_to_its_hub_or_to_those_who_know_it(
    owner: str, registry: JournalPosition | None, lock: JournalPosition | None, store: JournalPosition, is_foreign: bool
) -> None:
    """The file of the lock, which may have been copied with the journal, counts only where the registry knows none."""
    found = find_foreign_owner(HERE, owner=owner, hub="hub", registry=registry, lock=lock, store=store)
    assert (found is not None) is is_foreign
