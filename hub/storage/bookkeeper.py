"""Keeps the store's books: with what the store counts, what the writer does, and the journal's backlog."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog

from hub.model.batch import Entry, Series
from hub.model.books import Balance, Books, Counted, Stretch
from hub.model.journal import Journal, JournalError, JournalTrimmed
from hub.model.store import ReadingCounts, Store, StoreError, WriteResult

COUNT_ENTRIES = 4_096
COUNT_BYTES = 1 << 20
"""Of one piece of the backlog: some 10 ms of a thread, and 10 MB of memory where frames are decoded to lists."""

REST = 1.0
"""After each piece the counting rests for so many times what it took: taking in data, and the writer, who reads the
same file, go before it. 10 million frames of one reading are counted in a minute."""

CONSUMER = "store"
"""The name of the store's writer among the journal's consumers."""

log = structlog.get_logger(__name__)


class Bookkeeper:
    """The books of the store's writer.

    The backlog is counted by `run`, beside everything else; until then what waits is not known.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        *,
        count: Callable[[Entry], int],
        series: Callable[[], Mapping[int, Series]],
    ) -> None:
        """`count` gives the readings of an entry that comes from the journal's file, in a thread; `series` every known
        series by id."""
        self.consumer = CONSUMER
        self._journal = journal
        self._store = store
        self._count = count
        self._series = series
        self._books = Books(journal.last_offset)
        self._offset = -1
        self._to_count = asyncio.Event()
        self._counted = asyncio.Event()

    def committed(self, entries: Sequence[Entry]) -> None:
        """New entries, in the turn of the event loop in which their devices' marks become the durable ones."""
        self._books.committed(entries)

    async def begin(self, offset: int) -> None:
        """The writer goes on from this offset: where that is not where the books stand, they begin with what the store
        has. Called with no write under way. Raises StoreUnavailable.
        """
        if offset == self._offset:
            return
        counts = await self._counts()
        self._books.begin(offset, counts)
        self._offset = offset
        self._counted.clear()
        self._to_count.set()

    def written(self, entries: Sequence[Entry], offset: int, written: WriteResult) -> None:
        """The store has these entries, but for what it refused; called as the writer moves to `offset`."""
        counted = self._books.written(entries, offset, written.refused)
        self._offset = offset
        if counted != written.readings:
            log.error(
                "the store counts what it was given otherwise; the books begin anew with what it has",
                entries_up_to=offset,
                given=counted,
                stored=written.readings,
            )
            self._offset = -1

    def readings_of(self, entry: Entry) -> int:
        """How many readings an entry has, also one that cannot be decoded any more; from any thread."""
        return self._count(entry)

    async def refresh(self) -> None:
        """Takes over what retentions have deleted. Where the store cannot tell, what was known holds on."""
        try:
            counts = await self._counts()
        except StoreError:
            return
        self._books.expire({device: count.expired for device, count in counts.items() if count.expired})

    def of(self, device: str) -> Balance:
        """Where a device's readings are."""
        return self._books.of(device)

    async def counted(self) -> None:
        """Returns when the backlog is counted, or cannot be, while `run` runs."""
        await self._counted.wait()

    async def run(self) -> None:
        """Counts the backlog when there is one, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._to_count.wait()
            self._to_count.clear()
            while (stretch := self._books.uncounted) is not None:
                began_s = clock()
                try:
                    await self._count_some(stretch)
                except JournalError as error:
                    log.error("what waits for the store cannot be counted", after=stretch.after, error=str(error))
                    break
                await asyncio.sleep((clock() - began_s) * REST)
            self._counted.set()

    async def _count_some(self, stretch: Stretch) -> None:
        try:
            entries = await self._journal.read(stretch.after, max_entries=COUNT_ENTRIES, max_bytes=COUNT_BYTES)
        except JournalTrimmed as error:
            # The writer has passed them meanwhile, or will never get them.
            entries, last = [], error.first - 1
        else:
            last = entries[-1].offset if entries else stretch.up_to
        counted = await asyncio.to_thread(self._count_all, entries)
        remaining = self._books.uncounted
        # Where the books began anew meanwhile, with an earlier offset, something is missing before this piece.
        if remaining is not None and remaining.after >= stretch.after:
            self._books.counted(counted, last)

    def _count_all(self, entries: Sequence[Entry]) -> list[Counted]:
        return [Counted(entry.offset, entry.device, self._count(entry)) for entry in entries]

    async def _counts(self) -> dict[str, ReadingCounts]:
        """What the store counts, by device. Series that nobody knows are nobody's."""
        series = self._series()
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for id, counts in (await self._store.counts()).items():
            known = series.get(id)
            if known is not None:
                of_device = sums[known.device]
                for place, number in enumerate(counts):
                    of_device[place] += number
        return {device: ReadingCounts(*numbers) for device, numbers in sums.items()}
