"""The bounds of the quarantine."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.journal.quarantine import ROW_BYTES, Quarantine
from hub.model.batch import Entry, EntryKind
from hub.model.journal import QuarantineDecision, QuarantinedEntry
from tests.hub.journal.entries import make_entry


def refused(size_bytes: int = 0, code: str = "empty") -> Entry:
    return make_entry(kind=EntryKind.QUARANTINE, payload=bytes(size_bytes), reason=(code, ""))


commits = st.lists(
    st.tuples(
        st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.sampled_from("xyz")), max_size=6),
        st.lists(st.tuples(st.integers(1, 30), st.none() | st.sampled_from("xyz")), max_size=4),
    ),
    max_size=12,
)


@given(commits, st.booleans())
def test_the_newest_stay_within_the_bounds(
    commits: list[tuple[list[tuple[bool, int, str]], list[tuple[int, str | None]]]], restart: bool
) -> None:
    """The table holds the newest that fit, one at least, but for those that were settled; what the bounds made leave is
    counted, and totals count everything that ever came."""
    quarantine = Quarantine(max_entries=4, max_bytes=600)
    table: dict[int, QuarantinedEntry] = {}
    settled: set[int] = set()
    came: list[int] = []
    totals = Counter[str]()
    offset = 1
    for batches, verdicts in commits:
        entries = [refused(size, code) if bad else make_entry() for bad, size, code in batches]
        came += [offset + n for n, (bad, _, _) in enumerate(batches) if bad]
        totals.update(code for bad, _, code in batches if bad)
        given = [QuarantineDecision(at, None if code is None else (code, "again")) for at, code in verdicts]
        gone = {at for at, code in verdicts if code is None and at in table}
        quarantine.plan(entries, offset, given)  # a commit that failed changes nothing
        admission = quarantine.plan(entries, offset, given)
        assert (admission is None) == (
            not any(bad for bad, _, _ in batches) and not any(at in table for at, _ in verdicts)
        )
        if admission is not None:
            settled |= gone
            assert set(admission.removed) == gone
            table = {at: held for at, held in table.items() if at not in gone and at >= (admission.first_kept or 0)}
            for at, code in verdicts:
                if code is not None and at in table:
                    table[at] = table[at]._replace(code=code)
            table.update(
                (row.offset, QuarantinedEntry(row.offset, "a", row.code, row.received_ns, len(row.payload)))
                for row in admission.rows
            )
            quarantine.confirm(admission)
        if restart:
            quarantine = Quarantine(table.values(), quarantine.totals, quarantine.dropped, max_entries=4, max_bytes=600)
        assert dict(quarantine.entries) == table
        left = [at for at in came if at not in settled]
        assert list(table) == left[len(left) - len(table) :]
        assert len(table) <= 4
        assert len(table) <= 1 or sum(held.size_bytes + ROW_BYTES for held in table.values()) <= 600
        assert quarantine.dropped == len(left) - len(table)
        assert quarantine.totals == totals
        offset += len(entries)


def test_other_entries_are_not_its_business() -> None:
    """Batches and gaps are not admitted, nor counted."""
    assert Quarantine().plan([make_entry(), make_entry(kind=EntryKind.GAP)], 1) is None


def test_an_entry_without_a_reason_is_kept() -> None:
    """An entry is quarantined even without a reason."""
    admission = Quarantine().plan([make_entry(kind=EntryKind.QUARANTINE)], 5)
    assert admission is not None
    assert [(row.offset, row.code, row.message) for row in admission.rows] == [(5, "", "")]
