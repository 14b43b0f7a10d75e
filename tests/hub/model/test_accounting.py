"""The accounting balance: whatever happens in whatever order, each accepted reading is in exactly one place."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.model.accounting import UNKNOWN, Accounting, Balance, CountedEntry, OffsetRange
from hub.model.batch import Batch, Entry, EntryKind
from hub.model.store import ReadingCounts, RefusedReadings

DEVICES = ("a", "b", "c")
READINGS = st.lists(st.tuples(st.sampled_from(DEVICES), st.integers(0, 5)), min_size=1, max_size=6)


def entry(offset: int, device: str, readings: int) -> Entry:
    """A committed entry, with a batch that only says how many readings it has; one with 0 is no batch."""
    content = Batch([], [], readings=readings) if readings else None
    kind = EntryKind.BATCH if readings else EntryKind.GAP
    return Entry(kind, device, "0" * 16, offset, 0, "json", b"", batch=content, offset=offset)


def left(accounting: Accounting) -> OffsetRange | None:
    """Return the uncounted part of the backlog, which changes from call to call."""
    return accounting.uncounted


def test_nothing_is_known_before_the_consumer_begins() -> None:
    """Entries committed before the beginning are counted as a part of the backlog."""
    accounting = Accounting(10)
    accounting.committed([entry(11, "a", 3)])
    assert accounting.balance("a") == UNKNOWN
    assert accounting.balance("a").difference(3) is None
    accounting.begin(9, {"a": ReadingCounts(5, 2, 1)})
    accounting.committed([entry(12, "a", 1)])
    assert left(accounting) == OffsetRange(9, 11)
    assert accounting.balance("a") == Balance(5, None, 1, 2)
    accounting.counted([CountedEntry(10, "b", 4), CountedEntry(11, "a", 3)], 11)
    assert left(accounting) is None
    assert accounting.balance("a") == Balance(5, 4, 1, 2)
    assert accounting.balance("b") == Balance(0, 4, 0, 0)


def test_missing_readings_are_a_difference() -> None:
    """Readings of an entry that cannot be decoded wait no longer and are stored nowhere; too many are reported, too."""
    accounting = Accounting(0)
    accounting.begin(0, {})
    accounting.committed([lost := entry(1, "a", 3)])
    lost.batch = None  # after the journal was read again
    assert accounting.written([lost], 1, count=lambda _: 3) == 0
    assert accounting.balance("a") == Balance(0, 0, 0, 0)
    assert accounting.balance("a").difference(3) == 3
    accounting.begin(1, {"a": ReadingCounts(4, 0)})
    assert accounting.balance("a").difference(3) == -1


def test_a_retention_may_be_quicker_than_the_news_of_a_write() -> None:
    """Nothing is less than 0 meanwhile, and the next look makes it right."""
    accounting = Accounting(0)
    accounting.begin(0, {})
    accounting.committed([one := entry(1, "a", 3)])
    accounting.expire({"a": 2})
    assert accounting.balance("a") == Balance(0, 3, 0, 0)
    accounting.written([one], 1)
    accounting.expire({"a": 2})
    assert accounting.balance("a") == Balance(1, 0, 0, 2)


@settings(max_examples=100, stateful_step_count=40)
class Flow(RuleBasedStateMachine):
    """A journal, a consumer with its durable state, and the accounting, in any order of what can happen to them.

    The model knows each entry and its outcome; the accounting gets the calls that the hub makes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[tuple[str, int]] = []
        self.accepted = dict.fromkeys(DEVICES, 0)
        # What the store has in memory, and what of it is on its disk.
        self.offset = 0
        self.counts = dict.fromkeys(DEVICES, ReadingCounts(0, 0, 0))
        self.durable = self.offset, self.counts
        self.piece: tuple[OffsetRange, list[CountedEntry], int] | None = None
        self.accounting = Accounting(0)

    def entries(self, first: int, last: int) -> list[Entry]:
        return [entry(offset, *self.journal[offset - 1]) for offset in range(first, last + 1)]

    @initialize(past=READINGS, stored=st.integers(0, 6))
    def have_a_past(self, past: list[tuple[str, int]], stored: int) -> None:
        self.commit(past)
        self.take(min(stored, len(past)), 0)
        self.crash(to_disk=True)

    def take(self, number: int, refuse: int) -> list[RefusedReadings]:
        """The store takes the next entries and refuses readings of the first of them."""
        refused = []
        counts = {device: list(count) for device, count in self.counts.items()}
        for one in self.entries(self.offset + 1, self.offset + number):
            readings = one.batch.readings if one.batch else 0
            no = min(refuse, readings)
            refuse -= no
            if no:
                refused.append(RefusedReadings(one, Batch([], [], readings=no), "field_conflict", "it is an integer"))
            counts[one.device][0] += readings - no
            counts[one.device][2] += no
        self.offset += number
        self.counts = {device: ReadingCounts(*count) for device, count in counts.items()}
        return refused

    @rule(group=READINGS)
    def commit(self, group: list[tuple[str, int]]) -> None:
        first = len(self.journal) + 1
        self.journal += group
        for device, readings in group:
            self.accepted[device] += readings
        self.accounting.committed(self.entries(first, len(self.journal)))

    @precondition(lambda self: self.begun and self.offset < len(self.journal))
    @rule(data=st.data(), refuse=st.integers(0, 3))
    def write(self, data: st.DataObject, refuse: int) -> None:
        number = data.draw(st.integers(1, len(self.journal) - self.offset))
        given = self.entries(self.offset + 1, self.offset + number)
        before = sum(count.stored for count in self.counts.values())
        refused = self.take(number, refuse)
        stored = sum(count.stored for count in self.counts.values()) - before
        assert self.accounting.written(given, self.offset, refused) == stored

    @precondition(lambda self: self.begun and self.offset < len(self.journal))
    @rule()
    def write_and_hear_nothing(self) -> None:
        """A write that failed for the caller and is there all the same: the writer finds the store further on."""
        self.take(1, 0)
        self.begin()

    @rule(data=st.data(), device=st.sampled_from(DEVICES))
    def expire(self, data: st.DataObject, device: str) -> None:
        stored, expired, refused = self.counts[device]
        gone = data.draw(st.integers(0, stored))
        self.counts = {**self.counts, device: ReadingCounts(stored - gone, expired + gone, refused)}
        self.accounting.expire({device: expired + gone})

    @rule()
    def save(self) -> None:
        self.durable = self.offset, self.counts

    @rule(to_disk=st.booleans())
    def crash(self, to_disk: bool) -> None:
        """The journal is as it was; a store whose state is on disk now and then goes back, and its counts with it."""
        if to_disk:
            self.save()
        self.offset, self.counts = self.durable
        self.accounting = Accounting(len(self.journal))
        self.begun = False
        self.piece = None

    @rule()
    def begin(self) -> None:
        self.accounting.begin(self.offset, self.counts)
        self.begun = True

    begun = False

    @precondition(lambda self: self.piece is None and self.accounting.uncounted is not None)
    @rule(most=st.integers(1, 4))
    def read_some_backlog(self, most: int) -> None:
        stretch = self.accounting.uncounted
        assert stretch is not None
        # As the journal gives them: beyond the backlog, too, where there is more.
        last = min(stretch.after + most, len(self.journal))
        found = [
            CountedEntry(one.offset, one.device, one.batch.readings if one.batch else 0)
            for one in self.entries(stretch.after + 1, last)
        ]
        self.piece = stretch, found, last

    @precondition(lambda self: self.piece is not None)
    @rule()
    def count_what_was_read(self) -> None:
        assert self.piece is not None
        (stretch, found, last), self.piece = self.piece, None
        left = self.accounting.uncounted
        if left is not None and left.after >= stretch.after:
            self.accounting.counted(found, last)

    @precondition(lambda self: self.piece is None and self.accounting.uncounted is not None)
    @rule(most=st.integers(2, 6), number=st.integers(1, 6))
    def write_while_counting(self, most: int, number: int) -> None:
        self.read_some_backlog(most)
        number = min(number, len(self.journal) - self.offset)
        given = self.entries(self.offset + 1, self.offset + number)
        self.take(number, 0)
        self.accounting.written(given, self.offset)
        self.count_what_was_read()

    @invariant()
    def balance(self) -> None:
        for device in DEVICES:
            found = self.accounting.balance(device)
            assert found.difference(self.accepted[device]) in (0, None)
            if self.begun:
                count = self.counts[device]
                assert (found.stored, found.expired, found.refused) == count
                waiting = sum(n for name, n in self.journal[self.offset :] if name == device)
                assert found.waiting == (None if self.accounting.uncounted else waiting)


TestFlow = Flow.TestCase
