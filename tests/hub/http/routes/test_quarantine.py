"""Tests of how the quarantine is counted."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.http.routes.quarantine import MAX_DEVICE_COUNTS, count
from hub.model.batch import SOURCE_REFUSED
from hub.model.journal import QuarantinedEntry

held_entries = st.builds(
    QuarantinedEntry,
    st.just(0),
    st.sampled_from("abc"),
    st.sampled_from(["empty", "not_finite"]),
    st.integers(0, 99),
    st.integers(0, 9),
)


@given(st.lists(held_entries, max_size=20))
def test_every_entry_is_counted_once_by_reason_and_by_device(entries: list[QuarantinedEntry]) -> None:
    """The sums of both lists are the total, and the largest number is first."""
    entries = [entry._replace(offset=offset) for offset, entry in enumerate(entries, 1)]
    counts = count(entries, dropped=0)
    assert counts.entries == len(entries) == counts.newest
    assert counts.size_bytes == sum(entry.size_bytes for entry in entries)
    assert {counted.code: counted.entries for counted in counts.codes} == Counter(entry.code for entry in entries)
    by_device = Counter((entry.code, entry.device) for entry in entries)
    assert {(counted.code, counted.device): counted.entries for counted in counts.devices} == by_device
    for counted in counts.codes:
        times = [entry.received_ns for entry in entries if entry.code == counted.code]
        assert (counted.oldest_ns, counted.newest_ns) == (min(times), max(times))
    for ranked in ([counted.entries for counted in counts.codes], [counted.entries for counted in counts.devices]):
        assert ranked == sorted(ranked, reverse=True)


def test_all_but_reports_of_sources_can_be_retried() -> None:
    """Batches are validated again, messages of brokers decoded again."""
    expected = {"type_conflict": True, "field_conflict": True, "decoder": True, SOURCE_REFUSED: False}
    held = [QuarantinedEntry(offset, "d", code, 0, 1) for offset, code in enumerate(expected, 1)]
    assert {counted.code: counted.retryable for counted in count(held, dropped=0).codes} == expected


def test_only_the_devices_with_most_entries_are_listed() -> None:
    """The number of the others is returned."""
    held = (QuarantinedEntry(offset, f"d{offset}", "empty", 0, 1) for offset in range(1, MAX_DEVICE_COUNTS + 8))
    counts = count(held, dropped=3)
    assert (len(counts.devices), counts.left_out, counts.dropped) == (MAX_DEVICE_COUNTS, 7, 3)
    assert counts.codes[0].devices == MAX_DEVICE_COUNTS + 7
