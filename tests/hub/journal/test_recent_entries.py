"""The newest entries in memory."""

from __future__ import annotations

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.journal.recent_entries import MERGED_ENTRIES, SMALL_FACTOR, RecentEntries, memory_of
from hub.model.batch import Batch, Column, Entry, Series
from tests.hub.journal.entries import make_entries
from wire.model import Value

operations = st.lists(
    st.tuples(st.just("extend"), st.integers(0, 100) | st.integers(0, 3))
    | st.tuples(st.just("drop"), st.integers(0, 400))
    | st.tuples(st.just("read"), st.integers(0, 100)),
    max_size=40,
)


@given(operations, st.integers(0, 1000), st.data())
def test_a_tail_is_the_end_of_all_entries(operations: list[tuple[str, int]], before: int, data: st.DataObject) -> None:
    """Whatever was added and dropped, a read gives the very entries that follow on the offset, within its bounds."""
    tail = RecentEntries(before + 1, max_entries=200, max_memory_bytes=1400 * SMALL_FACTOR)
    everything: list[Entry] = []
    for operation, number in operations:
        if operation == "extend":
            entries = make_entries(number)
            for offset, entry in enumerate(entries, before + len(everything) + 1):
                entry.offset = offset
            everything += entries
            tail.extend(list(entries), 7 * number)
        elif operation == "drop":
            oldest = tail.first_offset
            tail.drop(before + number)
            assert oldest <= tail.first_offset <= max(oldest, before + number + 1)
        last_offset = before + len(everything)
        kept = last_offset + 1 - tail.first_offset
        assert 0 <= kept <= 200
        after = data.draw(st.integers(tail.first_offset - 1, last_offset))
        found = tail.read(after, max_entries=1 + number, max_bytes=35)
        expected = everything[after - before :][: min(1 + number, 5)]
        assert [id(entry) for entry in found] == [id(entry) for entry in expected]


def test_the_bounds_hold_for_count_and_bytes() -> None:
    """Beyond either bound the oldest entries leave; a commit larger than a bound leaves nothing."""
    tail = RecentEntries(1, max_entries=100, max_memory_bytes=1000 * SMALL_FACTOR)
    for first in range(1, 300, 2):
        entries = make_entries(2)
        for offset, entry in enumerate(entries, first):
            entry.offset = offset
        tail.extend(entries, 40)
    assert 300 - 100 <= tail.first_offset - 1 <= 300 - 50 + MERGED_ENTRIES
    assert tail.first_offset >= 301 - 1000 // 20
    (large,) = make_entries(1)
    large.payload = bytes(1000 * SMALL_FACTOR)
    tail.extend([large], len(large.payload))
    assert tail.first_offset == 302


@given(st.integers(1, 50), st.integers(1, 50))
def test_memory_is_that_of_what_was_decoded(rows: int, metrics: int) -> None:
    """Arrays take less of it than the same values as lists, and never less than they have."""
    (listed,), (packed,) = make_entries(1), make_entries(1)
    series = [Series(number, "device", f"m{number}", "float") for number in range(metrics)]
    values = np.arange(rows, dtype=np.float64)
    times = np.arange(rows)
    arrays: list[Column] = [(one, values) for one in series]
    packed.batch = Batch(times, arrays, readings=rows * metrics)
    objects: list[Value] = [*values.tolist()]
    lists: list[Column] = [(one, objects) for one in series]
    listed.batch = Batch(times.tolist(), lists, readings=rows * metrics)
    assert times.nbytes + metrics * values.nbytes < memory_of(packed) < memory_of(listed)
    assert memory_of(listed) > (metrics + 1) * (sys.getsizeof(objects) - sys.getsizeof([]))


def test_commits_of_one_do_not_become_a_long_list() -> None:
    """A reader that is a thousand commits of one behind, but in memory, gets them all at once."""
    tail = RecentEntries(1)
    for offset in range(1, 1001):
        (entry,) = make_entries(1)
        entry.offset = offset
        tail.extend([entry], 10)
    assert [entry.offset for entry in tail.read(0, max_entries=2000, max_bytes=1 << 20)] == list(range(1, 1001))


def test_dropped_entries_make_room_for_new_ones() -> None:
    """The memory in use is that of what is kept, so the same number of entries stays however many have passed."""
    recent = RecentEntries(1, max_memory_bytes=SMALL_FACTOR * 10 * 100)
    kept = []
    for first in range(1, 1_001, MERGED_ENTRIES // 8):
        entries = make_entries(MERGED_ENTRIES // 8, first_seq=first, size_bytes=10)
        recent.extend(entries, 10 * len(entries))
        kept.append(first + len(entries) - recent.first_offset)
    assert min(kept[20:]) > 0
    assert max(kept) <= 100
    recent.drop(10_000)
    recent.extend(make_entries(8, first_seq=2_000, size_bytes=10), 80)
    assert len(recent.read(recent.first_offset - 1, max_entries=100, max_bytes=1 << 20)) == 8
