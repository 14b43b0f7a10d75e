"""Comparison of a journal with what others have seen of it: registry, lock, store and consumers. Pure.

A journal that was removed, cut or replaced by an older copy looks intact by itself.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.journal.schema import UNUSED_OFFSETS
from hub.model.journal import JournalPosition


class Discontinuity(NamedTuple):
    """A loss that the comparison shows.

    New entries get their offsets after `continue_after`; if it is None, no offset has to be left out.
    """

    reason: str
    continue_after: int | None


class ForeignJournal(NamedTuple):
    """A journal of another hub: what was found, what it means for the data, and what to do."""

    what: str
    consequence: str = "its entries do not belong into this history, so the hub does not start, and stores none of them"
    next_step: str = (
        "restore the journal.db of this hub with `hub restore`. Without a copy, move journal.db and journal.db-wal to "
        "another folder: the hub then begins a new journal, reports what is lost, and agents send again what they keep"
    )


def find_foreign_owner(
    present: JournalPosition,
    *,
    owner: str,
    hub: str,
    registry: JournalPosition | None,
    lock: JournalPosition | None,
    store: JournalPosition,
) -> ForeignJournal | None:
    """Return why this journal is not one of the hub with the id `hub`; None if it may be.

    `owner` is the id of the hub in the journal, empty in a file of a version that did not record it. A journal that the
    registry or the store has seen belongs to them whatever its owner is: the registry may be new or restored.
    `registry` is None for one that was replaced itself. The file of the lock decides only where the registry knows
    nothing: it may have been copied together with the journal.
    """
    if owner == hub or present.id == store.id:
        return None
    if registry is not None:
        is_known = registry.id == present.id
    elif lock is not None:
        is_known = lock.id == present.id
    else:
        # No record: the owner decides, if the store has entries of another journal.
        is_known = not (owner and store.id)
    if is_known:
        return None
    return ForeignJournal(f"it is the journal of {f'hub {owner}' if owner else 'another hub'}, and this is hub {hub}")


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
        return _disagreement(present, registry, lock)
    return Discontinuity(
        f"{witness} knows offset {known[witness]:,}, but journal.db ends at {present.offset:,}: its end was lost, or "
        "it was replaced by an older copy",
        known[witness] + UNUSED_OFFSETS,
    )


def _disagreement(
    present: JournalPosition, registry: JournalPosition | None, lock: JournalPosition | None
) -> Discontinuity | None:
    """Return what a record of another journal means; None if both records are of this one."""
    for name, record in (("registry.db", registry), ("journal.db.lock", lock)):
        if record is not None and record.id != present.id:
            return Discontinuity(
                f"{name} has recorded another journal than journal.db: it was replaced, or is an older copy. Whether "
                "journal.db has lost its end is not certain",
                None,
            )
    return None
