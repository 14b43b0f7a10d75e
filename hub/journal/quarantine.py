"""The bounds of the quarantine, and what a commit changes in it. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from hub.model.batch import Entry, EntryKind
from hub.model.journal import QuarantineDecision, QuarantinedEntry

QUARANTINE_ENTRIES = 10_000
"""Entries kept for a person to read. At this bound the oldest are deleted and counted."""

QUARANTINE_BYTES = 64 * 1024 * 1024
"""The same bound for large frames: 256 of the largest that an agent may send."""

ROW_BYTES = 128
"""Size of an entry in quarantine besides its payload."""

_QUARANTINE = EntryKind.QUARANTINE


class QuarantineRow(NamedTuple):
    """Row of the quarantine table."""

    offset: int
    device: str
    epoch: str
    seq: int
    received_ns: int
    code: str
    message: str
    format: str
    payload: bytes


class QuarantineChange(NamedTuple):
    """Change that one commit makes to the quarantine, and the totals after it.

    `rows` are added. Entries below `first_kept` are deleted because of the bounds (None: no entry). `removed` leave
    because of a decision. `updated` get another reason.
    """

    rows: list[QuarantineRow]
    first_kept: int | None
    removed: list[int]
    updated: list[QuarantineDecision]
    dropped: int
    totals: dict[str, int]


class Quarantine:
    """Index of the quarantine: which entries it contains, within which bounds, and the totals by code."""

    def __init__(
        self,
        entries: Iterable[QuarantinedEntry] = (),
        totals: Mapping[str, int] | None = None,
        dropped: int = 0,
        *,
        max_entries: int = QUARANTINE_ENTRIES,
        max_bytes: int = QUARANTINE_BYTES,
    ) -> None:
        """Start with the table's `entries`, in order. `totals` count by code since the journal was created."""
        self._entries = OrderedDict((entry.offset, entry) for entry in entries)
        self._size_bytes = sum(_size(entry) for entry in self._entries.values())
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.entries: Mapping[int, QuarantinedEntry] = MappingProxyType(self._entries)
        self.totals = Counter(totals or {})
        self.dropped = dropped

    def plan(
        self, entries: Sequence[Entry], first_offset: int, decisions: Sequence[QuarantineDecision] = ()
    ) -> QuarantineChange | None:
        """Return what a commit of `entries`, the first of which gets `first_offset`, changes; None for no change.

        A decision about an entry that is not in quarantine any more changes nothing.
        """
        # Without the offsets at first: nearly always there is no such entry, and every entry is examined.
        if not decisions and not [entry for entry in entries if entry.kind is _QUARANTINE]:
            return None
        decisions = [decision for decision in decisions if decision.offset in self._entries]
        removed = {decision.offset for decision in decisions if decision.reason is None}
        rows = [
            QuarantineRow(offset, e.device, e.epoch, e.seq, e.received_ns, *(e.reason or ("", "")), e.format, e.payload)
            for offset, e in enumerate(entries, first_offset)
            if e.kind is _QUARANTINE
        ]
        if not decisions and not rows:
            return None
        first_kept, leaving = self._apply_bounds(removed, rows)
        return QuarantineChange(
            [row for row in rows if first_kept is None or row.offset >= first_kept],
            first_kept,
            sorted(removed),
            [decision for decision in decisions if decision.reason is not None and decision.offset not in removed],
            self.dropped + leaving,
            dict(self.totals + Counter(row.code for row in rows)),
        )

    def confirm(self, change: QuarantineChange) -> None:
        """Record that the change is durable."""
        for offset in change.removed:
            self._size_bytes -= _size(self._entries.pop(offset))
        while change.first_kept is not None and self._entries and next(iter(self._entries)) < change.first_kept:
            self._size_bytes -= _size(self._entries.popitem(last=False)[1])
        for offset, reason in change.updated:
            if reason is not None and offset in self._entries:
                self._entries[offset] = self._entries[offset]._replace(code=reason[0])
        for row in change.rows:
            self._entries[row.offset] = _index_entry(row)
            self._size_bytes += _size(self._entries[row.offset])
        self.totals = Counter(change.totals)
        self.dropped = change.dropped

    def _apply_bounds(self, removed: set[int], rows: Sequence[QuarantineRow]) -> tuple[int | None, int]:
        """Return the first offset that stays (None: no entry has to leave) and how many leave because of the bounds."""
        staying = (entry for entry in self._entries.values() if entry.offset not in removed)
        count = len(self._entries) - len(removed) + len(rows)
        size = self._size_bytes - sum(_size(self._entries[offset]) for offset in removed)
        size += sum(_size(_index_entry(row)) for row in rows)
        leaving = 0
        for entry in chain(staying, map(_index_entry, rows)):
            if count <= self._max_entries and (size <= self._max_bytes or count == 1):
                return (entry.offset if leaving else None), leaving
            count, size, leaving = count - 1, size - _size(entry), leaving + 1
        return None, leaving


def _index_entry(row: QuarantineRow) -> QuarantinedEntry:
    return QuarantinedEntry(row.offset, row.device, row.code, row.received_ns, len(row.payload))


def _size(entry: QuarantinedEntry) -> int:
    return entry.size_bytes + ROW_BYTES
