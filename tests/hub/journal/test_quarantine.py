"""The bounds of the quarantine."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.contract.batch import Entry, EntryKind
from hub.journal.quarantine import ROW_BYTES, Quarantine
from tests.hub.journal.entries import make_entry


def refused(size_bytes: int = 0, code: str = "empty") -> Entry:
    return make_entry(kind=EntryKind.QUARANTINE, payload=bytes(size_bytes), reason=(code, ""))


@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.sampled_from("xyz")), max_size=6), max_size=12),
    st.booleans(),
)
def test_the_newest_stay_within_the_bounds(commits: list[list[tuple[bool, int, str]]], restart: bool) -> None:
    """The table holds the newest that fit, one at least; what left is counted, and totals count everything."""
    quarantine = Quarantine(max_entries=4, max_bytes=600)
    table: dict[int, int] = {}
    everything: list[tuple[int, int]] = []
    totals = Counter[str]()
    offset = 1
    for commit in commits:
        entries = [refused(size, code) if bad else make_entry() for bad, size, code in commit]
        everything += [(offset + n, size) for n, (bad, size, _) in enumerate(commit) if bad]
        totals.update(code for bad, _, code in commit if bad)
        quarantine.admit(entries, offset)  # a commit that failed changes nothing
        admission = quarantine.admit(entries, offset)
        assert (admission is None) == (not any(bad for bad, _, _ in commit))
        if admission is not None:
            if admission.first_kept is not None:
                table = {at: size for at, size in table.items() if at >= admission.first_kept}
            table.update((row.offset, len(row.payload)) for row in admission.rows)
            quarantine.done(admission)
        if restart:
            quarantine = Quarantine(
                sorted(table.items()), quarantine.totals, quarantine.dropped, max_entries=4, max_bytes=600
            )
        assert list(table.items()) == everything[len(everything) - len(table) :]
        assert len(table) <= 4
        assert len(table) <= 1 or sum(table.values()) + ROW_BYTES * len(table) <= 600
        assert quarantine.dropped == len(everything) - len(table)
        assert quarantine.totals == totals
        offset += len(entries)
    assert bool(table) == bool(everything)


def test_other_entries_are_not_its_business() -> None:
    """Batches and gaps are not admitted, nor counted."""
    assert Quarantine().admit([make_entry(), make_entry(kind=EntryKind.GAP)], 1) is None


def test_an_entry_without_a_reason_is_kept_all_the_same() -> None:
    """What is to be quarantined is, even when nobody said why."""
    admission = Quarantine().admit([make_entry(kind=EntryKind.QUARANTINE)], 5)
    assert admission is not None
    assert [(row.offset, row.code, row.message) for row in admission.rows] == [(5, "", "")]
