"""Entries that the store has acknowledged, read from the journal again: what it has lost of them, and the repair."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.model.accounting import OffsetRange
from hub.model.batch import Entry
from hub.model.journal import JournalTrimmed
from hub.model.store import (
    ComparedPart,
    LostReadings,
    MissingReadings,
    PartRange,
    ResentPart,
    Store,
)
from hub.storage.accounting import AccountingService
from wire.codec import AGENT_MESSAGES
from wire.device import Data
from wire.errors import WireError

PART_ENTRIES = 16_384
PART_BYTES = 8 << 20
"""Bounds of one part: one to two seconds, so that a caller sees progress."""

REST = 1.0
"""After each part the next one waits for this many times its duration: acknowledgements and the store's consumer, which
use the same processor, have priority."""


class StoreResend:
    """Compares the store with the entries that the journal still has, and writes missing readings again.

    A caller passes through the entries in parts, with the end of one as the begin of the next. One part at a time is in
    progress.
    """

    def __init__(self, journal: Journal, reader: EntryReader, store: Store, accounting: AccountingService) -> None:
        self._journal = journal
        self._reader = reader
        self._store = store
        self._accounting = accounting
        self._lock = asyncio.Lock()

    async def range_since(self, since_ns: int) -> OffsetRange:
        """Return the entries that arrived or were acknowledged since then, as far as the journal and the store have
        them. Raises StoreUnavailable and JournalError."""
        await self._store.counts()  # raises the reason why the store is not open
        cursor = self._store.cursor
        up_to = min(cursor.offset, self._journal.last_offset) if cursor.journal == self._journal.id else 0
        return OffsetRange(min(await self._journal.offset_since(since_ns), up_to), up_to)

    async def compare(self, part: OffsetRange, device: str | None = None) -> ComparedPart:
        """Return which readings of the first entries of a range the store lacks.

        `device` selects the entries of one device. Readings in quarantine, because the store refused them, are not
        missing. Raises StoreUnavailable and JournalError.
        """
        async with self._lock:
            began_s = asyncio.get_running_loop().time()
            entries, compared = await self._read(part, device)
            missing = await self._store.find_missing(entries)
            refused = await self._refused_times(entries, missing)
            lost = []
            for series, times_ns in missing:
                kept = np.setdiff1d(times_ns, refused.get((series.device, series.metric), ()), assume_unique=True)
                if len(kept):
                    lost.append(LostReadings(series.device, series.metric, len(kept), int(kept[0]), int(kept[-1])))
            await self._rest(began_s)
            return ComparedPart(compared, sorted(lost))

    async def resend(self, part: OffsetRange) -> ResentPart:
        """Write the missing readings of the first entries of a range again.

        Raises StoreUnavailable and JournalError.
        """
        async with self._lock:
            began_s = asyncio.get_running_loop().time()
            entries, compared = await self._read(part, None)
            result = await self._store.rewrite(entries)
            self._accounting.rewritten(result.added)
            await self._rest(began_s)
            return ResentPart(compared, result.readings, result.refused)

    async def _read(self, part: OffsetRange, device: str | None) -> tuple[list[Entry], PartRange]:
        """Return the decoded batches of the first entries of a range, without entries that are deleted meanwhile."""

        def is_wanted(entry: Entry) -> bool:
            return device is None or entry.device == device

        if part.after >= part.up_to:
            return [], PartRange(part.after, part.up_to, 0, 0, 0, 0)
        try:
            entries, errors = await self._reader.read(
                part.after,
                max_entries=min(PART_ENTRIES, part.up_to - part.after),
                max_bytes=PART_BYTES,
                needs_batch=is_wanted,
            )
        except JournalTrimmed as error:
            return [], PartRange(min(error.first - 1, part.up_to), part.up_to, 0, 0, 0, 0)
        batches = [entry for entry in entries if entry.batch is not None and is_wanted(entry)]
        readings = sum(entry.batch.readings for entry in batches if entry.batch is not None)
        return batches, PartRange(
            entries[-1].offset, part.up_to, entries[0].received_ns, len(batches), readings, len(errors)
        )

    async def _rest(self, began_s: float) -> None:
        await asyncio.sleep((asyncio.get_running_loop().time() - began_s) * REST)

    async def _refused_times(
        self, entries: Sequence[Entry], missing: Sequence[MissingReadings]
    ) -> dict[tuple[str, str], list[int]]:
        """Return the times of the readings in quarantine that the store refused of these entries, by device and
        metric."""
        devices = {series.device for series, _ in missing}
        # A refusal has the time of arrival, epoch and seq of its entry.
        origins = {(entry.device, entry.epoch, entry.seq) for entry in entries if entry.device in devices}
        arrivals = {entry.received_ns for entry in entries if entry.device in devices}
        offsets = [
            known.offset
            for known in self._journal.quarantine.index.values()
            if known.device in devices and known.received_ns in arrivals
        ]
        if not offsets:
            return {}
        quarantined = await self._journal.quarantine.entries(offsets)
        refused = [entry for entry in quarantined if (entry.device, entry.epoch, entry.seq) in origins]
        return await asyncio.to_thread(_times_of, refused)


def _times_of(refused: Iterable[Entry]) -> dict[tuple[str, str], list[int]]:
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for entry in refused:
        try:
            message = AGENT_MESSAGES[entry.format].decode(entry.payload)
        except WireError:
            continue  # an infinity, which no store of the kind that refuses can hold
        if isinstance(message, Data) and isinstance(message.time, list):
            for metric, values in message.values.items():
                if isinstance(values, list):
                    found[entry.device, metric] += [
                        time for time, value in zip(message.time, values, strict=False) if value is not None
                    ]
    return found
