"""The books of one consumer of the journal: what became of every accepted reading, by device. Pure.

accepted = stored + waiting + refused + expired, at any moment. Accepted is the device's own mark; the other four are
counted here, each by itself, so that a difference is found and not hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hub.model.batch import Entry
from hub.model.store import ReadingCounts, RefusedReadings


class Counted(NamedTuple):
    """An entry that was counted: how many readings of which device it has."""

    offset: int
    device: str
    readings: int


class Stretch(NamedTuple):
    """Offsets of the journal: those after `after`, up to `up_to`."""

    after: int
    up_to: int


class Balance(NamedTuple):
    """Where readings are. `waiting` is None while it is being counted, the others while the consumer has not begun."""

    stored: int | None
    waiting: int | None
    refused: int | None
    expired: int | None

    def difference(self, accepted: int) -> int | None:
        """How many accepted readings are in none of these, less than 0 for too many; None where one is not known."""
        if self.stored is None or self.waiting is None or self.refused is None or self.expired is None:
            return None
        return accepted - self.stored - self.waiting - self.refused - self.expired


UNKNOWN = Balance(None, None, None, None)


class Books:
    """Counts in the turn of the event loop in which something happens, so every look at them finds them whole.

    What a consumer has still to do when it begins (its backlog) is counted afterwards, in pieces, in the order of the
    journal, while new entries are committed and old ones are written: `uncounted` says what is left of it.
    """

    def __init__(self, last_offset: int) -> None:
        """`last_offset` is the journal's newest entry."""
        self._last = last_offset
        self._begun = False
        # The backlog is counted up to `_front` and ends at `_end`; what comes after it is counted as it is committed.
        self._front = self._end = last_offset
        self._stored: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._expired: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def begin(self, offset: int, counts: Mapping[str, ReadingCounts]) -> None:
        """The consumer has dealt with all up to `offset`, which came to these counts by device; all else is forgotten.

        Also where it goes on from another offset than the one it came to by writing.
        """
        self._begun = True
        self._front = offset
        self._end = self._last
        self._stored = defaultdict(int, {device: count.stored for device, count in counts.items()})
        self._refused = defaultdict(int, {device: count.refused for device, count in counts.items()})
        self._expired = defaultdict(int, {device: count.expired for device, count in counts.items()})
        self._waiting = defaultdict(int)

    def committed(self, entries: Sequence[Entry]) -> None:
        """New entries, with their offsets and decoded batches; the hot path."""
        if not entries:
            return
        self._last = max(self._last, entries[-1].offset)
        if not self._begun:
            return
        waiting = self._waiting
        for entry in entries:
            batch = entry.batch
            if batch is not None:
                waiting[entry.device] += batch.readings

    def written(self, entries: Sequence[Entry], offset: int, refused: Iterable[RefusedReadings] = ()) -> int:
        """The consumer has dealt with these entries, up to `offset`, but for what it refused. Returns how many readings
        that makes stored.

        An entry that has a reason could not be given to it: its readings are stored nowhere, which is a difference.
        """
        waiting, stored, front, end = self._waiting, self._stored, self._front, self._end
        added = 0
        for entry in entries:
            batch = entry.batch
            if batch is None or not batch.readings:
                continue
            if entry.offset <= front or entry.offset > end:
                waiting[entry.device] -= batch.readings
            if entry.reason is None:
                stored[entry.device] += batch.readings
                added += batch.readings
        for one in refused:
            stored[one.entry.device] -= one.batch.readings
            self._refused[one.entry.device] += one.batch.readings
            added -= one.batch.readings
        self._front = max(front, offset)
        return added

    def expire(self, expired: Mapping[str, int]) -> None:
        """A retention has deleted so many readings of each device since the store was made.

        It may have been quicker than the news that they were written: then the rest is told again later.
        """
        if not self._begun:
            return
        for device, total in expired.items():
            gone = max(0, min(total - self._expired[device], self._stored[device]))
            self._expired[device] += gone
            self._stored[device] -= gone

    @property
    def uncounted(self) -> Stretch | None:
        """What is left of the backlog to count; None when it is counted, and before the consumer has begun."""
        return Stretch(self._front, self._end) if self._begun and self._front < self._end else None

    def counted(self, entries: Iterable[Counted], up_to: int) -> None:
        """The entries of the backlog from `uncounted.after` to `up_to`, as it was when they were read.

        What was written since is left out: it waits no longer.
        """
        for offset, device, readings in entries:
            if self._front < offset <= self._end:
                self._waiting[device] += readings
        self._front = max(self._front, up_to)

    def of(self, device: str) -> Balance:
        """Where a device's readings are."""
        if not self._begun:
            return UNKNOWN
        return Balance(
            self._stored.get(device, 0),
            self._waiting.get(device, 0) if self._front >= self._end else None,
            self._refused.get(device, 0),
            self._expired.get(device, 0),
        )
