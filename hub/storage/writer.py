"""The store's consumer of the journal: what is accepted gets stored, once, however long it takes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import structlog

from hub.model.batch import Batch, Entry, EntryKind
from hub.model.journal import Journal, JournalError, JournalTrimmed
from hub.model.store import Store, StoreCursor, StoreError, StoreUnavailable, WriteResult
from hub.storage.bookkeeper import CONSUMER, Bookkeeper
from hub.storage.refusals import Refusals
from wire import limits
from wire.errors import WireError

WRITE_EVERY_S = 0.04
"""While it keeps up, the writer begins a write at most so often. At 35,000 batches/s a write then takes 5 ms of the
processor; where there is only one, that is how long it can hold up acknowledgements. Live does not wait for writes,
only history does."""

ROW_GROUP_READINGS = 122_880
"""A row group of DuckDB. A write that fills one goes into the file at once and not through the write-ahead log: 110 ns
a row instead of 175."""

FILL_EVERY_S = 0.25
"""How often a write begins where so much comes that it fills a row group in this time. What comes meanwhile stays far
below what the journal keeps in memory, so that nothing has to be read and decoded again."""

LITTLE_EVERY_S = 1.0
"""How often a write begins where little comes: it costs DuckDB 2 ms for each type of values, whatever its size, so that
a hub with little to do spends 1 % of a core on it."""

ENOUGH_ENTRIES = 2_000
"""With so many entries a write does not wait for LITTLE_EVERY_S: spread over them, its fixed cost is some microseconds
an entry."""

MAX_ENTRIES = 16_384
"""Entries of one write: what 60,000 batches/s bring in FILL_EVERY_S. Behind by more, it writes without a pause."""

MAX_BYTES = 8 << 20
"""Payload of one write: some 800,000 packed readings, which need 60 MB of memory on their way."""

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
"""Between two tries of a store that is not available: a random part of a bound that doubles from first to last."""

SAVE_AFTER_S = 1.0
"""After the last of many writes the store is asked to make its cursor durable, where it has left that for later."""

FINISH_S = 10.0
"""A write under way gets this long when the writer is stopped. What a server that hangs has not answered by then is
written again at the next start."""

log = structlog.get_logger(__name__)


Phase = Literal["opening", "running", "waiting"]


class WriterState(NamedTuple):
    """Where the writer stands, for /ready and /flow.

    `since_ns` is when this state began. `offset` is the last entry that is stored, `lag` how many the journal has after
    it. `last_error` says what is the matter while waiting. `missed` counts entries that the store can never get: the
    journal had deleted them before, or they cannot be decoded any more. Both happen only where a file of the data
    directory was lost, or put back from a copy.
    """

    phase: Phase
    since_ns: int
    offset: int
    lag: int
    last_error: str | None
    missed: int


class StoreWriter:
    """Feeds a store from a journal.

    The cursor is the store's own; the journal is told when it is durable, so that it may delete. A store that is down
    is tried again, for ever: nothing is dropped, the journal holds it meanwhile. What cannot be decoded, and what the
    store will never take, is put in quarantine and passed over: waiting would not help it, and everything behind it
    would wait, too.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        *,
        books: Bookkeeper,
        decode: Callable[[Entry], Batch],
        on_quarantined: Callable[[Sequence[Entry]], None],
        now_ns: Callable[[], int] = time.time_ns,
        jitter: Callable[[], float] = random.random,
        write_every_s: float = WRITE_EVERY_S,
        little_every_s: float = LITTLE_EVERY_S,
    ) -> None:
        """`decode` gives the batch of an entry that comes from the journal's file: in a thread, off the event loop. It
        may raise WireError. `on_quarantined` is given what the writer itself appends to the journal, once that is
        durable. `jitter` gives numbers from 0 to 1."""
        self._journal = journal
        self._store = store
        self._books = books
        self._decode = decode
        self._on_quarantined = on_quarantined
        self._now_ns = now_ns
        self._jitter = jitter
        self._write_every_s = write_every_s
        self._little_every_s = little_every_s
        self._phase: Phase = "opening"
        self._since_ns = now_ns()
        self._last_error: str | None = None
        self._offset = 0
        self._missed = 0
        self._refusals = Refusals(journal)
        # Up to here everything that cannot be decoded is in quarantine.
        self._judged = 0
        self._tries = 0
        self._began_s = -math.inf
        self._read_all = True
        # Of the newest write: readings for each second since the write before began.
        self._readings_per_s = 0.0
        self._started = False
        # Set where the journal was put back: it will use offsets again that the store takes for stored.
        self._put_back: str | None = None
        self._draining = asyncio.Event()
        # Another one after each move.
        self._moved = asyncio.Event()

    @property
    def state(self) -> WriterState:
        """Where the writer stands."""
        lag = max(0, self._journal.last_offset - self._offset)
        return WriterState(self._phase, self._since_ns, self._offset, lag, self._last_error, self._missed)

    async def run(self) -> None:
        """Stores what the journal has and gets, until cancelled; a write under way is finished first."""
        self._offset = self._journal.consumer(CONSUMER).offset
        while True:
            try:
                await self._find_offset()
                while True:
                    await self._store_next()
                    self._tries = 0
                    self._enter("running")
            except (StoreError, JournalError) as error:
                self._tries += 1
                self._enter("waiting", str(error))
                await self._pause_before_retry(error)

    async def drain(self, timeout_s: float) -> bool:
        """Stores what the journal has now, without pauses, while `run` runs. False where that took too long."""
        self._draining.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self.reached(self._journal.last_offset)
        except TimeoutError:
            return False
        finally:
            self._draining.clear()
        return True

    async def reached(self, offset: int) -> None:
        """Returns when all up to this offset is stored."""
        while self._offset < offset:
            await self._moved.wait()

    async def _find_offset(self) -> None:
        """Opens the store and goes where it is."""
        cursor = await self._store.open()
        journal = self._journal
        known = cursor.journal == journal.id
        if not self._started:
            self._started = True
            if known and cursor.offset > journal.last_offset:
                self._put_back = (
                    f"the journal ends at offset {journal.last_offset}, the store has {cursor.offset} of it already: "
                    "the journal was put back from a copy. Put back the store's copy of the same time, or move the "
                    "journal away so that a new one begins, and restart the hub"
                )
        if self._put_back is not None:
            raise StoreError(self._put_back)
        self._move(cursor.offset if known else journal.first_offset - 1)
        if not self._tries or self._offset >= journal.last_offset:
            self._enter("running")

    async def _store_next(self) -> None:
        """Waits for entries and stores those that are there, within the bounds of one write."""
        journal = self._journal
        await self._books.begin(self._offset)
        await self._save_when_idle()
        await journal.wait(self._offset)
        if self._read_all and journal.last_offset - self._offset < MAX_ENTRIES:
            await self._wait_for_more()
        before_s, self._began_s = self._began_s, asyncio.get_running_loop().time()
        end = journal.last_offset
        try:
            entries = await journal.read(self._offset, max_entries=MAX_ENTRIES, max_bytes=MAX_BYTES)
        except JournalTrimmed as error:
            missed = error.first - 1 - self._offset
            log.error("the journal has deleted entries that the store does not have", entries=missed, first=error.first)
            self._missed += missed
            self._move(error.first - 1)
            return
        if not entries:
            return
        last = entries[-1].offset
        if last - self._offset != len(entries):
            # The store would take them as they are: rather nothing than something twice or not at all.
            raise JournalError(f"the journal gave {len(entries)} entries for offsets {self._offset + 1} to {last}")
        cold = [entry for entry in entries if entry.kind is EntryKind.BATCH and entry.batch is None]
        if cold:
            refused = await asyncio.to_thread(self._decode_all, cold)
            await self._put_in_quarantine([entry for entry in refused if entry.offset > self._judged])
            self._judged = max(self._judged, last)
        self._read_all = last >= end
        written = await self._write(entries, StoreCursor(journal.id, last))
        self._readings_per_s = written.readings / max(self._began_s - before_s, WRITE_EVERY_S)

    async def _wait_for_more(self) -> None:
        """Waits until a write is worth its cost."""
        clock = asyncio.get_running_loop().time
        fills = self._readings_per_s * FILL_EVERY_S >= ROW_GROUP_READINGS
        every_s = max(self._write_every_s, FILL_EVERY_S if fills else 0.0)
        await self._pause(self._began_s + every_s - clock())
        rest_s = self._began_s + self._little_every_s - clock()
        if rest_s > 0 and not self._draining.is_set():
            enough = asyncio.ensure_future(self._journal.wait(self._offset + ENOUGH_ENTRIES - 1))
            hurry = asyncio.ensure_future(self._draining.wait())
            try:
                await asyncio.wait([enough, hurry], timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                enough.cancel()
                hurry.cancel()
                await asyncio.gather(enough, hurry, return_exceptions=True)

    async def _save_when_idle(self) -> None:
        """Where nothing comes for a while, makes durable what the store has left for later."""
        if self._store.cursor == StoreCursor(self._journal.id, self._offset):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVE_AFTER_S):
                await self._journal.wait(self._offset)
                return
        await self._store.save()
        self._tell_journal()

    async def _write(self, entries: list[Entry], cursor: StoreCursor) -> WriteResult:
        """Writes, and puts what the store refuses in quarantine; cancelled, it finishes that first."""
        write = asyncio.ensure_future(self._write_all(entries, cursor))
        try:
            return await asyncio.shield(write)
        except asyncio.CancelledError:
            await asyncio.wait([write], timeout=FINISH_S)
            write.cancel()
            await asyncio.gather(write, return_exceptions=True)
            raise

    async def _write_all(self, entries: list[Entry], cursor: StoreCursor) -> WriteResult:
        written = await self._store.write(entries, cursor)
        if written.refused:
            # Before the store's cursor is durable, so that a crash leaves nothing that is in neither of them.
            added = await self._refusals.keep(written.refused)
            self._on_quarantined(added)
        self._books.written(entries, cursor.offset, written)
        self._move(cursor.offset)
        if written.refused:
            await self._store.save()
            self._tell_journal()
        return written

    def _decode_all(self, entries: list[Entry]) -> list[Entry]:
        """Decodes; those that cannot be get an empty batch, and their reason."""
        refused = []
        for entry in entries:
            try:
                entry.batch = self._decode(entry)
            except WireError as error:
                entry.batch = Batch([], [], readings=self._books.readings_of(entry))
                entry.reason = error.code.value, f"cannot be stored: {error.message}"[: limits.MAX_MESSAGE]
                refused.append(entry)
        return refused

    async def _put_in_quarantine(self, refused: list[Entry]) -> None:
        if not refused:
            return
        entries = [
            Entry(EntryKind.QUARANTINE, e.device, e.epoch, e.seq, e.received_ns, e.format, e.payload, reason=e.reason)
            for e in refused
        ]
        self._on_quarantined(await self._refusals.put(entries, first_offset=refused[0].offset))
        self._missed += len(refused)
        log.error(
            "accepted batches cannot be decoded any more and are in quarantine instead of in the store; "
            "was registry.db lost, or put back from a copy?",
            batches=len(refused),
            first=refused[0].offset,
            reason=": ".join(refused[0].reason or ()),
        )

    def _move(self, offset: int) -> None:
        self._offset = offset
        self._tell_journal()
        self._moved.set()
        self._moved = asyncio.Event()

    def _tell_journal(self) -> None:
        """What the store has for good, the journal may delete."""
        cursor = self._store.cursor
        durable = cursor.offset if cursor.journal == self._journal.id else 0
        self._journal.advance(CONSUMER, min(self._offset, max(durable, self._journal.first_offset - 1)))

    def _enter(self, phase: Phase, error: str | None = None) -> None:
        if error is not None and error != self._last_error:
            log.error("the store is not available; the journal keeps everything", error=error)
        if phase != self._phase:
            self._phase = phase
            self._since_ns = self._now_ns()
            if error is None and self._last_error is not None:
                log.info("the store is available again")
        self._last_error = error

    async def _pause_before_retry(self, error: Exception) -> None:
        named_s = error.retry_after_s if isinstance(error, StoreUnavailable) else None
        bound_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(self._tries - 1, 16))
        if self._draining.is_set():
            await asyncio.sleep(self._jitter() * FIRST_RETRY_S)
        else:
            # A store that names a time is not asked before, and not by all hubs at once after it.
            await self._pause((named_s or 0.0) + self._jitter() * bound_s)

    async def _pause(self, seconds: float) -> None:
        """Waits, at least for one turn of the event loop, unless there is a drain."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                await self._draining.wait()
