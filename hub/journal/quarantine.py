"""How much of the quarantine is kept, and what was ever put there. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from hub.model.batch import Entry, EntryKind
from hub.model.journal import Held, Verdict

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
    """What one commit changes, and the totals after it.

    Rows that come, the first offset that stays (None: all), rows that leave for another reason than the bounds, and
    those that get another reason.
    """

    rows: list[Row]
    first_kept: int | None
    settled: list[int]
    renamed: list[Verdict]
    dropped: int
    totals: dict[str, int]


class Quarantine:
    """The bounds of the quarantine: what is kept, and the totals by code since the journal was made."""

    def __init__(
        self,
        kept: Iterable[Held] = (),
        totals: Mapping[str, int] | None = None,
        dropped: int = 0,
        *,
        max_entries: int = QUARANTINE_ENTRIES,
        max_bytes: int = QUARANTINE_BYTES,
    ) -> None:
        """`kept` is what the table has, in order."""
        self._kept = OrderedDict((held.offset, held) for held in kept)
        self._kept_bytes = sum(_size(held) for held in self._kept.values())
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.kept: Mapping[int, Held] = MappingProxyType(self._kept)
        self.totals = Counter(totals or {})
        self.dropped = dropped

    def admit(self, entries: Sequence[Entry], first_offset: int, verdicts: Sequence[Verdict] = ()) -> Admission | None:
        """What has to be written for these entries, the first of which gets `first_offset`, and for these verdicts;
        None for nothing. A verdict on what is not there any more changes nothing."""
        # Without the numbers at first: nearly always there is none, and this is asked for every entry.
        if not verdicts and not [entry for entry in entries if entry.kind is _QUARANTINE]:
            return None
        verdicts = [verdict for verdict in verdicts if verdict.offset in self._kept]
        settled = {verdict.offset for verdict in verdicts if verdict.reason is None}
        rows = [
            Row(offset, e.device, e.epoch, e.seq, e.received_ns, *(e.reason or ("", "")), e.format, e.payload)
            for offset, e in enumerate(entries, first_offset)
            if e.kind is _QUARANTINE
        ]
        if not verdicts and not rows:
            return None
        staying = (held for held in self._kept.values() if held.offset not in settled)
        count = len(self._kept) - len(settled) + len(rows)
        size = self._kept_bytes - sum(_size(self._kept[offset]) for offset in settled)
        size += sum(_size(_held(row)) for row in rows)
        leaving = 0
        first_kept = None
        for held in chain(staying, map(_held, rows)):
            if count <= self._max_entries and (size <= self._max_bytes or count == 1):
                first_kept = held.offset if leaving else None
                break
            count, size, leaving = count - 1, size - _size(held), leaving + 1
        return Admission(
            [row for row in rows if first_kept is None or row.offset >= first_kept],
            first_kept,
            sorted(settled),
            [verdict for verdict in verdicts if verdict.reason is not None and verdict.offset not in settled],
            self.dropped + leaving,
            dict(self.totals + Counter(row.code for row in rows)),
        )

    def done(self, admission: Admission) -> None:
        """The admission is durable."""
        for offset in admission.settled:
            self._kept_bytes -= _size(self._kept.pop(offset))
        while admission.first_kept is not None and self._kept and next(iter(self._kept)) < admission.first_kept:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])
        for offset, reason in admission.renamed:
            if reason is not None and offset in self._kept:
                self._kept[offset] = self._kept[offset]._replace(code=reason[0])
        for row in admission.rows:
            self._kept[row.offset] = _held(row)
            self._kept_bytes += _size(self._kept[row.offset])
        self.totals = Counter(admission.totals)
        self.dropped = admission.dropped


def _held(row: Row) -> Held:
    return Held(row.offset, row.device, row.code, row.received_ns, len(row.payload))


def _size(held: Held) -> int:
    return held.size_bytes + ROW_BYTES
