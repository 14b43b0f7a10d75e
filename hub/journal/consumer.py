"""Consumers of the journal: the one loop that reads entries and feeds a sink, and the reader that it shares with
others.

To add a destination (another database, another broker, another hub), implement `Sink` and run a `Consumer` for it.
Models: the async writer of Benthos (batch and acknowledgement travel together), the WAL watcher of Prometheus (one loop
tails the log, destinations implement one interface).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Literal, NamedTuple, Protocol

import structlog

from hub.journal.journal import Journal
from hub.journal.refusals import Refusals
from hub.model.batch import Batch, Entry, EntryKind
from hub.model.journal import EntriesLost, JournalError, JournalTrimmed
from hub.model.store import RefusedReadings
from wire.backoff import full_jitter
from wire.errors import WireError

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
"""Bounds of the delay between two attempts on an unavailable sink."""

FLUSH_AFTER_S = 1.0
"""A sink that has not acknowledged everything is flushed when no entry has arrived for this long."""

RANGE_ENTRIES = 5_000
RANGE_BYTES = 4 << 20
"""Entries and payload bytes of one read of a range."""

log = structlog.get_logger(__name__)

Decode = Callable[[Entry], Batch]
"""Returns the batch of an entry that was read from the file. Called in a thread. Raises WireError."""

Phase = Literal["opening", "running", "waiting"]


class SinkUnavailable(Exception):
    """The sink cannot be reached or used now. The consumer opens it again later, after `retry_after_s` if it is
    given."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SinkClosed(Exception):
    """The sink's connection ended. The consumer opens it again at once: `open` waits for the next connection."""


class SinkLimits(NamedTuple):
    """Bounds of one write, and how long a write may take to finish when the hub stops."""

    entries: int
    size_bytes: int
    finish_s: float = 0.0


class SinkPace(NamedTuple):
    """Batching of a sink that keeps up.

    Writes begin at most every `interval_s`. A write waits up to `linger_s` after the last one began for `entries`.
    """

    interval_s: float = 0.0
    linger_s: float = 0.0
    entries: int = 1


class Sink(Protocol):
    """Destination of a consumer. Entries arrive in order; after a restart, those not acknowledged arrive again."""

    @property
    def limits(self) -> SinkLimits:
        """Return the bounds of a write."""

    @property
    def pace(self) -> SinkPace:
        """Return how to batch now."""

    async def open(self, acknowledge: Callable[[int], None]) -> int | None:
        """Make the sink ready; return the offset that it has everything up to, None to use the journal's cursor.

        Call `acknowledge` with an offset whenever everything up to it is durable in the sink, now or later: the journal
        may delete it then. Raises SinkUnavailable.
        """

    async def write(self, entries: Sequence[Entry]) -> Sequence[RefusedReadings]:
        """Write entries; return the readings that the sink will never take, and why.

        BATCH entries have their decoded batch; one whose batch is None cannot be decoded. Raises SinkUnavailable or
        SinkClosed: then `open` decides where to resume.
        """

    async def flush(self) -> None:
        """Make everything written durable, and acknowledge it. Raises SinkUnavailable."""

    async def close(self) -> None:
        """Release what `open` acquired. Called when the consumer stops, also when `open` failed."""


class ConsumerStatus(NamedTuple):
    """Status of a consumer.

    `since_ns` is when this phase began. `offset` is the last entry that is written, `acknowledged` the last that the
    sink reported as durable, `lag` how many entries the journal has after `offset`. `last_error` says why it waits.
    `missed` counts entries that the sink can never get: the journal had deleted or lost them, or they cannot be
    decoded. That happens only where a file of the data directory was damaged, lost or restored from a copy.
    """

    phase: Phase
    since_ns: int
    offset: int
    acknowledged: int
    lag: int
    last_error: str | None
    missed: int


async def _ignore(_: int) -> None:
    pass


class EntryReader:
    """Reads entries of the journal with their decoded batches. Decoding runs in a thread."""

    def __init__(self, journal: Journal, decode: Decode) -> None:
        self._journal = journal
        self._decode = decode

    async def read(
        self,
        after: int,
        *,
        max_entries: int = RANGE_ENTRIES,
        max_bytes: int = RANGE_BYTES,
        needs_batch: Callable[[Entry], bool] = lambda entry: True,
    ) -> tuple[list[Entry], dict[int, WireError]]:
        """Return the entries after `after` within the bounds, and the reason for each that cannot be decoded, by
        offset.

        Entries for which `needs_batch` is False are not decoded. Raises JournalTrimmed and JournalError.
        """
        entries = await self._journal.read(after, max_entries=max_entries, max_bytes=max_bytes)
        cold = [
            entry for entry in entries if entry.kind is EntryKind.BATCH and entry.batch is None and needs_batch(entry)
        ]
        return entries, await asyncio.to_thread(self._decode_all, cold) if cold else {}

    async def read_range(
        self, after: int, up_to: int, *, needs_batch: Callable[[Entry], bool] = lambda entry: True
    ) -> AsyncIterator[list[Entry]]:
        """Yield the entries in (after, up_to] in pieces. Deleted ones are left out; undecodable ones have no batch."""
        while after < up_to:
            try:
                entries, _ = await self.read(
                    after, max_entries=min(RANGE_ENTRIES, up_to - after), needs_batch=needs_batch
                )
            except JournalTrimmed as error:
                after = error.first - 1
                continue
            if not entries:
                return
            yield entries
            after = entries[-1].offset

    def _decode_all(self, entries: Sequence[Entry]) -> dict[int, WireError]:
        errors: dict[int, WireError] = {}
        for entry in entries:
            try:
                entry.batch = self._decode(entry)
            except WireError as error:
                errors[entry.offset] = error
        return errors


class Consumer:
    """Feeds a sink from the journal.

    The journal's cursor moves only when the sink acknowledges. An unavailable sink is tried again for ever: nothing is
    discarded, the journal keeps it. Readings that the sink will never take, and entries that cannot be decoded, go to
    quarantine and are passed over: waiting would not help them, and everything behind them would wait, too.
    """

    def __init__(
        self,
        journal: Journal,
        name: str,
        sink: Sink,
        *,
        decode: Decode,
        quarantine: bool = True,
        needs_batch: Callable[[Entry], bool] = lambda entry: True,
        on_skip: Callable[[int], Awaitable[None]] = _ignore,
        now_ns: Callable[[], int] = time.time_ns,
        random: Callable[[], float] = random.random,
    ) -> None:
        """`name` identifies the durable cursor. Without `quarantine` undecodable and refused ones are only counted as
        missed.

        `needs_batch` says which entries the sink uses; others arrive without a batch. `on_skip` is called with the last
        of entries that the journal has deleted or lost before they were consumed. `random` returns numbers from
        [0, 1).
        """
        self.name = name
        self._journal = journal
        self._sink = sink
        self._reader = EntryReader(journal, decode)
        self._needs_batch = needs_batch
        self._on_skip = on_skip
        self._now_ns = now_ns
        self._random = random
        self._refusals = Refusals(journal, name) if quarantine else None
        # Everything up to here that cannot be decoded is in quarantine.
        self._quarantined_up_to = 0
        self._phase: Phase = "opening"
        self._since_ns = now_ns()
        self._last_error: str | None = None
        self._offset = self._acknowledged = 0
        self._missed = 0
        self._attempt = 0
        self._began_s = -math.inf
        self._caught_up = True
        self._draining = asyncio.Event()
        self._reopening = asyncio.Event()
        self._opened: object = None
        # Replaced after each move.
        self._moved = asyncio.Event()

    @property
    def status(self) -> ConsumerStatus:
        """Return the current status."""
        lag = max(0, self._journal.last_offset - self._offset)
        return ConsumerStatus(
            self._phase, self._since_ns, self._offset, self._acknowledged, lag, self._last_error, self._missed
        )

    def register(self, *, at_end: bool = False) -> None:
        """Register the cursor with the journal. A new consumer begins `at_end`, or with the oldest entry.

        Call it before anything more is accepted: from then on the journal keeps what the sink has not acknowledged.
        """
        is_new = all(cursor.name != self.name for cursor in self._journal.consumers())
        self._offset = self._acknowledged = self._journal.consumer(self.name).offset
        if is_new and at_end:
            self._acknowledge(self._journal.last_offset)
            self._offset = self._acknowledged

    async def run(self) -> None:
        """Feed the sink until cancelled. A write under way may finish within the sink's `finish_s`."""
        self.register()
        try:
            while True:
                try:
                    await self._open()
                    while True:
                        await self._write_next()
                        self._attempt = 0
                        self._enter("running")
                except SinkClosed as error:
                    self._enter("waiting", str(error) or None)
                except (SinkUnavailable, JournalError) as error:
                    self._enter("waiting", str(error))
                    await self._pause_before_retry(error)
        finally:
            await self._sink.close()

    async def drain(self, timeout_s: float) -> bool:
        """Write what the journal has now, without pauses. Return False where that took longer than `timeout_s`."""
        self._draining.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self.reached(self._journal.last_offset)
        except TimeoutError:
            return False
        finally:
            self._draining.clear()
        return True

    def reopen(self) -> None:
        """Open the sink again, also while no entries arrive. A sink calls this when its connection has ended."""
        self._reopening.set()

    async def reached(self, offset: int, *, acknowledged: bool = False) -> None:
        """Wait until everything up to this offset is written, or acknowledged as durable."""
        while (self._acknowledged if acknowledged else self._offset) < offset:
            await self._moved.wait()

    async def _open(self) -> None:
        # A late acknowledgement of an earlier opening must not move the cursor of this one.
        opened = self._opened = object()
        self._reopening.clear()

        def acknowledge(offset: int) -> None:
            if self._opened is opened:
                self._acknowledge(offset)

        offset = await self._sink.open(acknowledge)
        self._offset = self._journal.consumer(self.name).offset if offset is None else offset
        self._notify_moved()
        if not self._attempt or self._offset >= self._journal.last_offset:
            self._enter("running")

    async def _write_next(self) -> None:
        """Wait for entries and write them, within the bounds of one write."""
        await self._flush_when_idle()
        await self._wait_for_entries()
        limits = self._sink.limits
        if self._caught_up and self._journal.last_offset - self._offset < limits.entries:
            await self._linger(self._sink.pace)
        self._began_s = asyncio.get_running_loop().time()
        end = self._journal.last_offset
        try:
            entries, errors = await self._reader.read(
                self._offset,
                max_entries=limits.entries,
                max_bytes=limits.size_bytes,
                needs_batch=self._needs_batch,
            )
        except JournalTrimmed as error:
            missed = error.first - 1 - self._offset
            if isinstance(error, EntriesLost):
                log.error("journal has lost entries before they were consumed", consumer=self.name, reason=str(error))
            else:
                log.error("journal has deleted entries before they were consumed", consumer=self.name, entries=missed)
            self._missed += missed
            self._offset = error.first - 1
            self._acknowledge(self._offset)
            await self._on_skip(self._offset)
            return
        if not entries:
            return
        last = entries[-1].offset
        if last - self._offset != len(entries):
            # The sink would take them as they are. Writing nothing is better than losing or repeating an entry.
            raise JournalError(f"the journal returned {len(entries)} entries for offsets {self._offset + 1} to {last}")
        if errors:
            await self._miss([entry for entry in entries if entry.offset in errors], errors)
        self._caught_up = last >= end
        await self._finish(self._write(entries))

    async def _wait_for_entries(self) -> None:
        """Wait for entries. Raises SinkClosed when the sink is to be opened again."""
        if self._journal.last_offset <= self._offset:
            grown = asyncio.ensure_future(self._journal.wait(self._offset))
            reopening = asyncio.ensure_future(self._reopening.wait())
            try:
                await asyncio.wait([grown, reopening], return_when=asyncio.FIRST_COMPLETED)
                if grown.done():
                    grown.result()
            finally:
                grown.cancel()
                reopening.cancel()
                await asyncio.gather(grown, reopening, return_exceptions=True)
        if self._reopening.is_set():
            raise SinkClosed

    async def _write(self, entries: list[Entry]) -> None:
        refused = await self._sink.write(entries)
        if refused and self._refusals is None:
            self._missed += len(refused)
        elif refused and self._refusals is not None:
            # In quarantine before the sink's position is durable: after a crash each reading is in one of the two.
            await self._refusals.keep(refused)
        self._offset = entries[-1].offset
        self._notify_moved()
        if refused:
            await self._sink.flush()

    async def _finish(self, write: Coroutine[None, None, None]) -> None:
        """Await the write; when cancelled, let it finish first."""
        task = asyncio.ensure_future(write)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=self._sink.limits.finish_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise

    async def _miss(self, entries: Sequence[Entry], errors: dict[int, WireError]) -> None:
        """Count entries that cannot be decoded, and put them in quarantine once."""
        fresh = [entry for entry in entries if entry.offset > self._quarantined_up_to]
        if not fresh:
            return
        if self._refusals is not None:
            await self._refusals.keep_undecodable(fresh, errors)
        self._quarantined_up_to = fresh[-1].offset
        self._missed += len(fresh)
        log.error(
            "accepted batches cannot be decoded, was registry.db lost or restored from a copy?",
            consumer=self.name,
            batches=len(fresh),
            first=fresh[0].offset,
            reason=errors[fresh[0].offset].message,
        )

    async def _linger(self, pace: SinkPace) -> None:
        """Wait until a write is worth its cost."""
        clock = asyncio.get_running_loop().time
        await self._pause(self._began_s + pace.interval_s - clock())
        rest_s = self._began_s + pace.linger_s - clock()
        if rest_s > 0 and not self._draining.is_set():
            enough = asyncio.ensure_future(self._journal.wait(self._offset + pace.entries - 1))
            draining = asyncio.ensure_future(self._draining.wait())
            try:
                await asyncio.wait([enough, draining], timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                enough.cancel()
                draining.cancel()
                await asyncio.gather(enough, draining, return_exceptions=True)

    async def _flush_when_idle(self) -> None:
        """Flush the sink when nothing arrives for a while and it has not acknowledged everything."""
        if self._acknowledged >= self._offset:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_AFTER_S):
                await self._journal.wait(self._offset)
                return
        await self._sink.flush()

    def _acknowledge(self, offset: int) -> None:
        """Record that everything up to `offset` is durable in the sink."""
        if offset != self._acknowledged:
            self._acknowledged = offset
            self._journal.advance(self.name, offset)
            self._notify_moved()

    def _notify_moved(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _enter(self, phase: Phase, error: str | None = None) -> None:
        if error is not None and error != self._last_error:
            log.error("sink is not available, the journal keeps everything", consumer=self.name, error=error)
        if phase != self._phase:
            self._phase = phase
            self._since_ns = self._now_ns()
            if error is None and self._last_error is not None:
                log.info("sink is available again", consumer=self.name)
        self._last_error = error

    async def _pause_before_retry(self, error: Exception) -> None:
        delay_s = full_jitter(self._attempt, first=FIRST_RETRY_S, maximum=MAX_RETRY_S, random=self._random)
        self._attempt += 1
        if self._draining.is_set():
            await asyncio.sleep(self._random() * FIRST_RETRY_S)
            return
        # A sink that names a delay is not asked before, and not by all hubs at the same moment after it.
        named_s = error.retry_after_s if isinstance(error, SinkUnavailable) else None
        await self._pause((named_s or 0.0) + delay_s)

    async def _pause(self, seconds: float) -> None:
        """Wait, at least for one turn of the event loop, unless the consumer is drained."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                await self._draining.wait()
