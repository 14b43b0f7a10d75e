"""How much of the quarantine is kept, and what was ever put there. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hub.contract.batch import Entry, EntryKind

QUARANTINE_ENTRIES = 10_000
"""Kept for a person to look at: more than anybody reads. At this bound the oldest leave, and are counted."""

QUARANTINE_BYTES = 64 * 1024 * 1024
"""The same bound for large frames: 256 of the largest that an agent may send."""

ROW_BYTES = 128
"""What an entry in quarantine takes besides its payload."""

_QUARANTINE = EntryKind.QUARANTINE


class Row(NamedTuple):
    """An entry as it lies in the quarantine's table."""

    offset: int
    device: str
    epoch: str
    seq: int
    received_ns: int
    code: str
    message: str
    format: str
    payload: bytes


class Admission(NamedTuple):
    """What one commit changes: rows that come, the first offset that stays (None: all), and the totals after it."""

    rows: list[Row]
    first_kept: int | None
    dropped: int
    totals: dict[str, int]


class Quarantine:
    """The bounds of the quarantine: what is kept, and the totals by code since the journal was made."""

    def __init__(
        self,
        kept: Iterable[tuple[int, int]] = (),
        totals: Mapping[str, int] | None = None,
        dropped: int = 0,
        *,
        max_entries: int = QUARANTINE_ENTRIES,
        max_bytes: int = QUARANTINE_BYTES,
    ) -> None:
        """`kept` are the offsets and payload sizes that the table has, in order."""
        self._kept = deque((offset, size + ROW_BYTES) for offset, size in kept)
        self._kept_bytes = sum(size for _, size in self._kept)
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.totals = Counter(totals or {})
        self.dropped = dropped

    def admit(self, entries: Sequence[Entry], first_offset: int) -> Admission | None:
        """What has to be written for these entries, the first of which gets `first_offset`; None for none."""
        # Without the numbers at first: nearly always there is none, and this is asked for every entry.
        if not [entry for entry in entries if entry.kind is _QUARANTINE]:
            return None
        rows = [
            Row(offset, e.device, e.epoch, e.seq, e.received_ns, *(e.reason or ("", "")), e.format, e.payload)
            for offset, e in enumerate(entries, first_offset)
            if e.kind is _QUARANTINE
        ]
        added = [(row.offset, _size(row)) for row in rows]
        count = len(self._kept) + len(added)
        size = self._kept_bytes + sum(size for _, size in added)
        leaving = 0
        first_kept = None
        for offset, row_size in (*self._kept, *added):
            if count <= self._max_entries and (size <= self._max_bytes or count == 1):
                first_kept = offset if leaving else None
                break
            count, size, leaving = count - 1, size - row_size, leaving + 1
        totals = self.totals + Counter(row.code for row in rows)
        staying = [row for row in rows if first_kept is None or row.offset >= first_kept]
        return Admission(staying, first_kept, self.dropped + leaving, dict(totals))

    def done(self, admission: Admission) -> None:
        """The admission is durable."""
        while admission.first_kept is not None and self._kept and self._kept[0][0] < admission.first_kept:
            self._kept_bytes -= self._kept.popleft()[1]
        for row in admission.rows:
            self._kept.append((row.offset, _size(row)))
            self._kept_bytes += _size(row)
        self.totals = Counter(admission.totals)
        self.dropped = admission.dropped


def _size(row: Row) -> int:
    return len(row.payload) + ROW_BYTES
