"""Accounting of the store: from the store's own counts, from what is written, and from the journal's backlog."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog

from hub.ingest.validate import count_readings
from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.model.accounting import Accounting, Balance, CountedEntry, OffsetRange
from hub.model.batch import Entry, Series
from hub.model.journal import JournalError, JournalTrimmed
from hub.model.store import ReadingCounts, Store, StoreError, WriteResult

COUNT_ENTRIES = 4_096
COUNT_BYTES = 1 << 20
"""Bounds of one piece of the backlog: about 10 ms of a thread, and 10 MB of memory for frames decoded to lists."""

REST = 1.0
"""After each piece the counting rests for this many times its duration: acknowledgements, and the store's consumer,
which reads the same file, have priority. 10 million frames of one reading are counted in a minute."""

CONSUMER = "store"
"""Name of the store among the journal's consumers."""

log = structlog.get_logger(__name__)


class AccountingService:
    """Keeps the accounting of the store. `run` counts the backlog; until then what waits is unknown."""

    def __init__(
        self, journal: Journal, reader: EntryReader, store: Store, *, series: Callable[[], Mapping[int, Series]]
    ) -> None:
        """`series` returns every known series by id."""
        self.consumer = CONSUMER
        self._reader = reader
        self._store = store
        self._series = series
        self._accounting = Accounting(journal.last_offset)
        self._offset = -1
        self._to_count = asyncio.Event()
        self._counted = asyncio.Event()
        self._journal = journal
        self._accepted: Callable[[], Mapping[str, int]] = dict
        self._on_lost: Callable[[Mapping[str, int]], None] = lambda readings: None
        self._expects_loss = False

    def follow_losses(
        self,
        accepted: Callable[[], Mapping[str, int]],
        report: Callable[[Mapping[str, int]], None],
        *,
        expects_loss: bool,
    ) -> None:
        """Report, by device, the readings by which the accounting differs after the journal has lost entries.

        `accepted` returns the accepted readings that are not counted as lost, by device. A positive difference is lost:
        accepted, and nowhere. A negative one is in the store, and the journal has lost that it was accepted. With
        `expects_loss` the journal has lost entries of which it knows nothing.
        """
        self._accepted, self._on_lost, self._expects_loss = accepted, report, expects_loss

    def committed(self, entries: Sequence[Entry]) -> None:
        """Count new entries, in the turn of the event loop in which their devices' marks become the durable ones."""
        self._accounting.committed(entries)

    async def begin(self, offset: int) -> None:
        """Continue from this offset. Where the accounting stands elsewhere, restart it with what the store counts.

        Called with no write under way. Raises StoreUnavailable.
        """
        if offset == self._offset:
            return
        counts = await self._counts()
        self._accounting.begin(offset, counts)
        self._offset = offset
        self._counted.clear()
        self._to_count.set()

    async def skipped(self, offset: int) -> None:
        """Restart after entries up to `offset`, which the journal has deleted or lost."""
        try:
            await self.begin(offset)
        except StoreError:
            self._offset = -1  # the next write restarts it

    def written(self, entries: Sequence[Entry], offset: int, written: WriteResult) -> None:
        """Count these entries as stored, up to `offset`, except what the store refused."""
        counted = self._accounting.written(entries, offset, written.refused, count=count_readings)
        self._offset = offset
        if counted != written.readings:
            log.error(
                "accounting reset, the store counts differently",
                entries_up_to=offset,
                given=counted,
                stored=written.readings,
            )
            self._offset = -1

    def known(self, entries: Sequence[CountedEntry]) -> None:
        """Count readings of the next write that the store had already."""
        self._accounting.known(entries)

    def rewritten(self, added: Mapping[int, int]) -> None:
        """Count readings that were written again because the store lacked them, by the id of their series."""
        series = self._series()
        by_device: Counter[str] = Counter()
        for id, count in added.items():
            by_device[series[id].device] += count
        self._accounting.added(by_device)

    async def refresh(self) -> None:
        """Count what retentions have deleted. Keep the last counts where the store is not available."""
        try:
            counts = await self._counts()
        except StoreError:
            return
        self._accounting.expire({device: count.expired for device, count in counts.items() if count.expired})

    def balance(self, device: str) -> Balance:
        """Return where a device's readings are."""
        return self._accounting.balance(device)

    async def counted(self) -> None:
        """Wait until the backlog is counted, or cannot be, while `run` runs."""
        await self._counted.wait()

    async def run(self) -> None:
        """Count the backlog whenever there is one, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._to_count.wait()
            self._to_count.clear()
            while (backlog := self._accounting.uncounted) is not None:
                began_s = clock()
                try:
                    await self._count_piece(backlog)
                except JournalError as error:
                    log.error("backlog of the store cannot be counted", after=backlog.after, error=str(error))
                    break
                await asyncio.sleep((clock() - began_s) * REST)
            self._counted.set()
            if self._accounting.uncounted is None:
                await self._count_lost()

    async def _count_lost(self) -> None:
        """Report the difference that a loss of the journal has made, unless it was reported before."""
        if not self._expects_loss and all(lost.counted for lost in self._journal.losses.ranges):
            return
        self._expects_loss = False
        # Every accepted reading outside the lost entries is stored, waits, is refused or has expired.
        differences = {
            device: self._accounting.balance(device).difference(accepted)
            for device, accepted in self._accepted().items()
        }
        self._on_lost({device: readings for device, readings in differences.items() if readings})
        try:
            await self._journal.losses.count()
        except JournalError as error:
            log.error("loss of the journal is not recorded, it is counted again", error=str(error))

    async def _count_piece(self, backlog: OffsetRange) -> None:
        try:
            entries, _ = await self._reader.read(
                backlog.after,
                max_entries=COUNT_ENTRIES,
                max_bytes=COUNT_BYTES,
                needs_batch=lambda entry: False,  # counting needs no decoded batch
            )
        except JournalTrimmed as error:
            # The store has passed these entries meanwhile, or will never get them.
            entries, last = [], error.first - 1
        else:
            last = entries[-1].offset if entries else backlog.up_to
        counted = await asyncio.to_thread(_count_all, entries)
        remaining = self._accounting.uncounted
        # After a restart from an earlier offset, something before this piece is missing: leave the piece out.
        if remaining is not None and remaining.after >= backlog.after:
            self._accounting.counted(counted, last)

    async def _counts(self) -> dict[str, ReadingCounts]:
        """Return what the store counts, by device. Unknown series belong to no device."""
        series = self._series()
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for id, counts in (await self._store.counts()).items():
            known = series.get(id)
            if known is not None:
                of_device = sums[known.device]
                for place, number in enumerate(counts):
                    of_device[place] += number
        return {device: ReadingCounts(*numbers) for device, numbers in sums.items()}


def _count_all(entries: Sequence[Entry]) -> list[CountedEntry]:
    return [CountedEntry(entry.offset, entry.device, count_readings(entry)) for entry in entries]
