"""Accounting of one consumer of the journal: the position of every accepted reading, by device. Pure.

accepted = stored + waiting + refused + expired + damaged, at any moment. Accepted, and damaged (lost by the journal's
disk before it was stored), are in the device's own mark. The other four are counted here, each by itself, so that a
difference is found and not hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from hub.model.batch import Entry, EntryKind
from hub.model.store import ReadingCounts, RefusedReadings


class CountedEntry(NamedTuple):
    """Number of readings of an entry, with its device."""

    offset: int
    device: str
    readings: int


class OffsetRange(NamedTuple):
    """Offsets of the journal: those after `after`, up to `up_to`."""

    after: int
    up_to: int


class Balance(NamedTuple):
    """Balance of a device's readings. `waiting` is None while it is counted; all are None before the consumer
    begins."""

    stored: int | None
    waiting: int | None
    refused: int | None
    expired: int | None

    def difference(self, accepted: int) -> int | None:
        """Return how many accepted readings are in none of these, negative for too many; None where one is unknown."""
        if self.stored is None or self.waiting is None or self.refused is None or self.expired is None:
            return None
        return accepted - self.stored - self.waiting - self.refused - self.expired


UNKNOWN = Balance(None, None, None, None)


class Accounting:
    """ReadingCounts of a consumer, updated in the turn of the event loop in which something happens, so they are
    consistent.

    The backlog that exists when a consumer begins is counted afterwards, in pieces, in the order of the journal, while
    new entries are committed and old ones are written: `uncounted` is what is left of it.
    """

    def __init__(self, last_offset: int) -> None:
        """`last_offset` is the journal's newest entry."""
        self._last = last_offset
        self._begun = False
        # The backlog is counted up to `_front` and ends at `_end`. Later entries are counted as they are committed.
        self._front = self._end = last_offset
        self._stored: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._expired: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def begin(self, offset: int, counts: Mapping[str, ReadingCounts]) -> None:
        """Restart from a consumer that has processed everything up to `offset`, with these counts by device.

        Call it again where the consumer resumes from another offset than the last one that was written.
        """
        self._begun = True
        self._front = offset
        self._end = self._last
        self._stored = defaultdict(int, {device: count.stored for device, count in counts.items()})
        self._refused = defaultdict(int, {device: count.refused for device, count in counts.items()})
        self._expired = defaultdict(int, {device: count.expired for device, count in counts.items()})
        self._waiting = defaultdict(int)

    def committed(self, entries: Sequence[Entry]) -> None:
        """Count new entries, with their offsets and decoded batches; the hot path."""
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

    def written(
        self,
        entries: Sequence[Entry],
        offset: int,
        refused: Iterable[RefusedReadings] = (),
        *,
        count: Callable[[Entry], int] = lambda entry: 0,
    ) -> int:
        """Count entries that the consumer has processed, up to `offset`; return how many readings became stored.

        A BATCH entry without a batch could not be decoded: `count` returns its readings, which are stored nowhere. That
        is a difference.
        """
        waiting, stored, front, end = self._waiting, self._stored, self._front, self._end
        added = 0
        for entry in entries:
            batch = entry.batch
            if batch is None and entry.kind is not EntryKind.BATCH:
                continue
            readings = batch.readings if batch is not None else count(entry)
            if entry.offset <= front or entry.offset > end:
                waiting[entry.device] -= readings
            if batch is not None:
                stored[entry.device] += readings
                added += readings
        for refusal in refused:
            stored[refusal.entry.device] -= refusal.batch.readings
            self._refused[refusal.entry.device] += refusal.batch.readings
            added -= refusal.batch.readings
        self._front = max(front, offset)
        return added

    def known(self, entries: Iterable[CountedEntry]) -> None:
        """Count readings that the consumer has already, of entries that it is about to process. They do not wait."""
        for offset, device, readings in entries:
            if offset <= self._front or offset > self._end:
                self._waiting[device] -= readings

    def added(self, readings: Mapping[str, int]) -> None:
        """Count readings that the store lacked and has again, by device. They were accepted and written before."""
        if self._begun:
            for device, count in readings.items():
                self._stored[device] += count

    def expire(self, expired: Mapping[str, int]) -> None:
        """Count what a retention has deleted: the total of each device since the store was created.

        A retention may delete readings before their write was counted. Then the rest is counted by a later call.
        """
        if not self._begun:
            return
        for device, total in expired.items():
            gone = max(0, min(total - self._expired[device], self._stored[device]))
            self._expired[device] += gone
            self._stored[device] -= gone

    @property
    def uncounted(self) -> OffsetRange | None:
        """Return what is left of the backlog; None when it is counted, and before the consumer has begun."""
        return OffsetRange(self._front, self._end) if self._begun and self._front < self._end else None

    def counted(self, entries: Iterable[CountedEntry], up_to: int) -> None:
        """Count entries of the backlog, from `uncounted.after` to `up_to`. What was written since is left out."""
        for offset, device, readings in entries:
            if self._front < offset <= self._end:
                self._waiting[device] += readings
        self._front = max(self._front, up_to)

    def balance(self, device: str) -> Balance:
        """Return where a device's readings are."""
        if not self._begun:
            return UNKNOWN
        return Balance(
            self._stored.get(device, 0),
            self._waiting.get(device, 0) if self._front >= self._end else None,
            self._refused.get(device, 0),
            self._expired.get(device, 0),
        )
