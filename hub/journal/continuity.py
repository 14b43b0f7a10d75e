"""Comparison of a journal with what others have seen of it: registry, lock, store and consumers. Pure.

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
    present: JournalPosition,
    *,
    registry: JournalPosition | None,
    lock: JournalPosition | None,
    store: JournalPosition,
    consumed: int,
) -> Discontinuity | None:
    """Compare the journal's newest offset with what the registry and the lock's file have recorded, with the store's
    cursor, and with what its own consumers have `consumed`.

    Nobody may know the newest offset that was used, so UNUSED_OFFSETS are left out. Another journal has another id,
    with which its offsets mean nothing to those who have seen the lost one.
    """
    records = [record for record in (registry, lock) if record is not None]
    if records and all(record.id != present.id for record in records):
        newest = max(records, key=lambda record: record.offset)
        in_store = store.offset if store.id == newest.id else 0
        return Discontinuity(
            "journal.db was removed, emptied or replaced: the journal that this hub wrote last reached at least "
            f"offset {max(newest.offset, in_store):,}, and the store has its entries up to {in_store:,}. The others "
            "are lost",
            None,
        )
    seen = {"the registry": registry, "the file of the lock": lock, "the store": store}
    known = {name: position.offset for name, position in seen.items() if position and position.id == present.id}
    known["a consumer"] = consumed
    witness = max(known, key=lambda name: known[name])
    if known[witness] <= present.offset:
        return None
    return Discontinuity(
        f"{witness} knows offset {known[witness]:,}, but journal.db ends at {present.offset:,}: its end was lost, or "
        "it was replaced by an older copy",
        known[witness] + UNUSED_OFFSETS,
    )
