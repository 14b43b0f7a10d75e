"""Comparison of a journal with what others have seen of it: the registry's record and the store's cursor. Pure.

A journal that was removed, cut or replaced by an older copy looks intact by itself.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.journal.schema import UNUSED_OFFSETS
from hub.model.journal import JournalPosition


class Discontinuity(NamedTuple):
    """A loss that the comparison shows: why, and the offset after which new entries get theirs; None: any is free."""

    reason: str
    continue_after: int | None


def find_discontinuity(
    present: JournalPosition, recorded: JournalPosition | None, stored: JournalPosition, *, consumed: int
) -> Discontinuity | None:
    """Compare the journal's newest offset with those that the registry recorded, that the store has, and that its own
    consumers have `consumed`.

    Nobody may know the newest offset that was used, so UNUSED_OFFSETS are left out. Another journal has another id,
    with which its offsets mean nothing to those who have seen the lost one.
    """
    if recorded is not None and recorded.id != present.id:
        in_store = stored.offset if stored.id == recorded.id else 0
        return Discontinuity(
            "journal.db was removed, emptied or replaced: the journal that this hub wrote last reached at least "
            f"offset {max(recorded.offset, in_store):,}, and the store has its entries up to {in_store:,}. The others "
            "are lost",
            None,
        )
    known = {"the registry": recorded.offset if recorded is not None else 0, "a consumer": consumed}
    if stored.id == present.id:
        known["the store"] = stored.offset
    witness = max(known, key=lambda name: known[name])
    if known[witness] <= present.offset:
        return None
    return Discontinuity(
        f"{witness} knows offset {known[witness]:,}, but journal.db ends at {present.offset:,}: it was cut, or "
        "replaced by an older copy",
        known[witness] + UNUSED_OFFSETS,
    )
