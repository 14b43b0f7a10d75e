"""Sink that stores the journal's entries in a store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import structlog

from hub.journal.consumer import SinkLimits, SinkPace, SinkUnavailable
from hub.journal.journal import Journal
from hub.model.accounting import CountedEntry
from hub.model.batch import REPAIRED, Entry, EntryKind
from hub.model.store import RefusedReadings, Store, StoreCursor, StoreError, StoreFileLost, StoreUnavailable
from hub.storage.accounting import AccountingService
from hub.storage.repaired import new_readings
from wire.text import plural

WRITE_INTERVAL_S = 0.04
"""A store that keeps up is written at most this often. At 35,000 batches/s a write then takes 5 ms of the processor;
on a machine with one, that is how long it can delay acknowledgements. Live does not wait for writes."""

ROW_GROUP_READINGS = 122_880
"""Size of a row group of DuckDB. A write that fills one goes into the file at once and not through the write-ahead log:
110 ns a row instead of 175."""

FILL_INTERVAL_S = 0.25
"""Interval of writes when the load fills a row group in this time. What arrives meanwhile stays far below what the
journal keeps in memory, so nothing has to be read and decoded again."""

LINGER_S = 1.0
"""Interval of writes under a light load: a write costs DuckDB 2 ms for each type of values, whatever its size, so that
a nearly idle hub spends 1 % of a core on it."""

LINGER_ENTRIES = 2_000
"""With this many entries a write does not wait for LINGER_S: its fixed cost is a few microseconds an entry."""

MAX_ENTRIES = 16_384
"""Entries of one write: what 60,000 batches/s bring in FILL_INTERVAL_S. A store that is further behind is written
without pauses."""

MAX_BYTES = 8 << 20
"""Payload of one write: about 800,000 packed readings, which need 60 MB of memory on their way."""

FINISH_S = 10.0
"""A write under way gets this long when the hub stops. What a server that hangs has not answered by then is written
again at the next start."""


log = structlog.get_logger(__name__)


class StoreSink:
    """Implements hub.journal.consumer.Sink for a store.

    The store has a cursor of its own, which the journal's cursor follows when it is durable.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        accounting: AccountingService,
        *,
        interval_s: float = WRITE_INTERVAL_S,
        linger_s: float = LINGER_S,
        on_known: Callable[[Sequence[CountedEntry]], None] = lambda known: None,
        on_loss: Callable[[str], None] = lambda loss: None,
    ) -> None:
        """`on_known` is called with entries that an agent sent again, and how many of their readings the store had.

        `on_loss` receives what the store had acknowledged in an earlier run and has lost since.
        """
        self.loss: str | None = None
        """Report on entries that the store acknowledged and lost, with what to do; None if it has all of them."""
        self._on_loss = on_loss
        self._on_known = on_known
        self._journal = journal
        self._store = store
        self._accounting = accounting
        self._interval_s = interval_s
        self._linger_s = linger_s
        self._acknowledge: Callable[[int], None] = lambda offset: None
        self._began_s = -math.inf
        # Readings of the newest write for each second since the write before it.
        self._readings_per_s = 0.0
        self._opened_before = False
        self._restored_error: str | None = None
        self._newest_at_start = journal.last_offset
        # The store may have the entries up to this offset, from another journal.
        self._doubtful_up_to = 0

    @property
    def limits(self) -> SinkLimits:
        """Return the bounds of a write."""
        return SinkLimits(MAX_ENTRIES, MAX_BYTES, FINISH_S)

    @property
    def pace(self) -> SinkPace:
        """Return how to batch: larger writes where the load fills a row group, rare ones where little arrives."""
        fills = self._readings_per_s * FILL_INTERVAL_S >= ROW_GROUP_READINGS
        return SinkPace(max(self._interval_s, FILL_INTERVAL_S if fills else 0.0), self._linger_s, LINGER_ENTRIES)

    async def open(self, acknowledge: Callable[[int], None]) -> int:
        """Open the store; return the offset that it has everything up to. Raises SinkUnavailable."""
        self._acknowledge = acknowledge
        journal = self._journal
        try:
            cursor = await self._store.open()
            is_known = cursor.journal == journal.id
            is_first, self._opened_before = not self._opened_before, True
            if is_first and is_known and cursor.offset > journal.last_offset:
                self._restored_error = (
                    f"the journal ends at offset {journal.last_offset}, but the store has its entries up to "
                    f"{cursor.offset}: the journal was restored from a copy while the store was not available. "
                    "Restart the hub: it then declares the missing entries lost, and continues behind them"
                )
            if self._restored_error is not None:
                # The journal will use offsets again that the store takes for stored.
                raise SinkUnavailable(self._restored_error)
            if is_first and not is_known and cursor.journal:
                self._doubtful_up_to = self._newest_at_start
            if is_first:
                self._report_loss(cursor.offset if is_known else 0)
            offset = cursor.offset if is_known else journal.first_offset - 1
            self._acknowledge_durable(offset)
            await self._accounting.begin(offset)
        except StoreError as error:
            raise _unavailable(error) from error
        return offset

    def _report_loss(self, stored: int) -> None:
        """Compare the offset that the store has with the one that it acknowledged in an earlier run."""
        acknowledged = self._journal.consumer(self._accounting.consumer).offset
        lost = self._journal.first_offset - 1 - stored
        if stored >= acknowledged or self._store.history_problem is not None:
            return  # a file that was set aside is reported already
        if lost <= 0:
            log.warning("store lacks entries, writing them again", stored=stored, acknowledged=acknowledged)
            return
        self.loss = (
            f"the store has the journal up to offset {stored}, and it had it up to {acknowledged}: its file was "
            f"removed or is an older copy. {plural(lost, 'entry', 'entries')} of these are not in the journal any "
            "more, and their readings are missing from the history. With a copy of history.duckdb, stop the hub and "
            "run `hub store rebuild --from COPY`"
        )
        log.error(
            "store has lost entries that it had acknowledged", stored=stored, acknowledged=acknowledged, lost=lost
        )
        self._on_loss(self.loss)

    async def write(self, entries: Sequence[Entry]) -> Sequence[RefusedReadings]:
        """Store the entries; return the readings that the store refuses. Raises SinkUnavailable."""
        before_s, self._began_s = self._began_s, asyncio.get_running_loop().time()
        last = entries[-1].offset
        known: list[CountedEntry] = []
        try:
            doubtful_up_to = self._doubtful_up_to
            if entries[0].offset <= doubtful_up_to or any(entry.reason == REPAIRED for entry in entries):
                entries, known = await new_readings(self._store, entries, doubtful_up_to=doubtful_up_to)
            # If the journal deleted entries before this one, the accounting restarts here.
            await self._accounting.begin(entries[0].offset - 1)
            decoded = [entry for entry in entries if entry.batch is not None or entry.kind is not EntryKind.BATCH]
            written = await self._store.write(decoded, StoreCursor(self._journal.id, last))
            self._accounting.known(known)
            self._accounting.written(entries, last, written)
            await self._accounting.begin(last)
        except StoreError as error:
            if isinstance(error, StoreFileLost) and self.loss is None:
                self.loss = str(error)
                self._on_loss(self.loss)
            raise _unavailable(error) from error
        if known:
            self._on_known(known)
        self._readings_per_s = written.readings / max(self._began_s - before_s, WRITE_INTERVAL_S)
        if not written.refused:
            self._acknowledge_durable(last)
        return written.refused

    async def flush(self) -> None:
        """Make the store's cursor durable where the store has left that for later. Raises SinkUnavailable."""
        try:
            cursor = await self._store.save()
        except StoreError as error:
            raise _unavailable(error) from error
        self._acknowledge_durable(cursor.offset)

    async def close(self) -> None:
        """Do nothing: the owner of the store closes it."""

    def _acknowledge_durable(self, offset: int) -> None:
        """Acknowledge what the store has durably, at most up to `offset`: the journal may delete it.

        Entries that the journal has deleted already count as acknowledged, also for a new store.
        """
        cursor = self._store.cursor
        durable = cursor.offset if cursor.journal == self._journal.id else 0
        self._acknowledge(min(offset, max(durable, self._journal.first_offset - 1)))


def _unavailable(error: StoreError) -> SinkUnavailable:
    retry_after_s = error.retry_after_s if isinstance(error, StoreUnavailable) else None
    return SinkUnavailable(str(error), retry_after_s=retry_after_s)
