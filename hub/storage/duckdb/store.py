"""History in a DuckDB file."""

from __future__ import annotations

import asyncio
import functools
import shutil
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import duckdb
import structlog

from hub.model.batch import Entry, Series
from hub.model.store import (
    History,
    HistoryQuery,
    NewestReading,
    ReadingCounts,
    SeriesHistory,
    StoreCursor,
    StoreDescription,
    StoreUnavailable,
    WriteResult,
)
from hub.storage.duckdb import schema
from hub.storage.duckdb.answer import range_of
from hub.storage.duckdb.database import INTERRUPT_S, Database, Reader, explain, size_bytes, wal_bytes
from hub.storage.duckdb.history import read_history
from hub.storage.duckdb.scan import scan_history
from hub.storage.duckdb.stop import Stop
from hub.storage.duckdb.summary import Span
from hub.storage.duckdb.tables import Tables
from hub.storage.duckdb.upkeep import Keep, Upkeep
from hub.storage.priority import give_way

READERS = 2
"""Queries that are answered at the same time: a slow one does not hold up the others, and several slow ones leave the
processor to those who take in data."""

MAX_WAITING = 1024
"""Queries under way or waiting; beyond them callers are told that the store is busy. Each dashboard connection asks for
one at a time."""

MAX_SCANS = 4
"""Scans under way; beyond them callers are told that the store is busy. Each has 128 MB in memory, and holds on to the
tables as they were when it began."""

SCAN_WAL_BYTES = 512_000_000
"""While a scan holds on to the tables, what comes in stays in the write-ahead log and in memory: DuckDB brings it into
the file afterwards. At this size scans are ended: 30 million readings that came singly have come by then."""

MIN_FREE_BYTES = 64_000_000
"""Free room on the disk below which nothing is written: twice the write-ahead log, which has to fit into the file as
well. DuckDB gives up its open file when a checkpoint finds the disk full, and reads with it."""

LONG_SCAN = (
    "this reading took so long that too much came in meanwhile: take a shorter stretch of time or fewer series at "
    "once, or try again when less comes in"
)

UPKEEP_EVERY_S = 5.0
"""Between two looks at what is to be rolled up or is too old."""

STEP_REST_S = 0.6
"""After a step of rolling up or deleting, which is 0.3 s at most: a third of the thread's time while it catches up."""

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class DuckdbStore:
    """Implements hub.model.store.Store; an async context manager.

    Entering begins to open the file and does not wait for it: the hub takes in data meanwhile, and where opening fails,
    too. `open` tries again; it is the writer's to call. Readings wait for an opening under way, and where there is
    none they raise StoreUnavailable with the reason.

    `registry` is the id of the registry that gives the series their ids; a file that was filled with those of another
    one stays closed. `keep` says how long readings and their rollups are kept; without it, for ever. One thread writes,
    READERS threads read, each with its own connection.
    """

    def __init__(
        self,
        path: Path,
        *,
        registry: str,
        memory_limit: str = "1GB",
        threads: int = 1,
        keep: Keep | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        scan_wal_bytes: int = SCAN_WAL_BYTES,
    ) -> None:
        self._path = path
        self._registry = registry
        self._memory_limit = memory_limit
        self._threads = threads
        self._min_free_bytes = min_free_bytes
        self._scan_wal_bytes = scan_wal_bytes
        self._upkeep = Upkeep(keep or Keep())
        self._upkeeping: asyncio.Task[None] | None = None
        self._writer = ThreadPoolExecutor(1, "store-writer", initializer=give_way)
        self._readers = ThreadPoolExecutor(READERS, "store-reader", initializer=give_way)
        self._opening: asyncio.Future[StoreCursor] | None = None
        self._waiting = 0
        self._scans: set[Stop] = set()
        # Set by the writer's thread, together: both or none.
        self._opened: tuple[Database, Tables] | None = None
        self._trouble = "the store is not open yet"

    async def __aenter__(self) -> Self:
        self._begin_opening()
        self._upkeeping = asyncio.create_task(self._keep_up(), name="store upkeep")
        self._upkeeping.add_done_callback(_report)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finishes a write under way, interrupts readings, saves and closes the file."""
        if self._upkeeping is not None:
            self._upkeeping.cancel()
            await asyncio.wait([self._upkeeping])
        try:
            await self._in_writer(self._close)
        finally:
            self._writer.shutdown(wait=False)
            self._readers.shutdown(wait=False, cancel_futures=True)

    @property
    def cursor(self) -> StoreCursor:
        """The durable cursor; of no journal before the store was open."""
        return StoreCursor("", 0) if self._opened is None else self._opened[1].cursor

    async def open(self) -> StoreCursor:
        """Opens the file where it is not open. Raises StoreUnavailable."""
        if self._opened is not None:
            return self._opened[1].cursor
        return await asyncio.shield(self._begin_opening())

    async def write(self, entries: Sequence[Entry], cursor: StoreCursor) -> WriteResult:
        """Stores readings and cursor in one transaction; refuses nothing. Raises StoreUnavailable."""
        return WriteResult(await self._in_writer(self._write, entries, cursor))

    async def save(self) -> StoreCursor:
        """The durable cursor; there is nothing left to do."""
        return self.cursor

    async def query(self, query: HistoryQuery) -> History:
        """The readings asked for. Cancelling interrupts the query. Raises StoreUnavailable."""
        _, tables = await self._ready()
        spans: dict[int, Span] = {}
        for summary in tables.summaries.values():
            spans |= summary.spans(query.series)
        return await self._read(lambda reader: read_history(reader, query, spans))

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        """Every reading, one series after the other, in pieces of SCAN_READINGS. Raises StoreUnavailable."""
        database, _ = await self._ready()
        if len(self._scans) >= MAX_SCANS:
            raise StoreUnavailable(f"the store is busy: {len(self._scans)} scans are under way")
        within = range_of(start_ns, end_ns)
        stop = Stop()

        def scanned() -> Generator[SeriesHistory, None, None]:
            with stop.reader_of(database) as reader:
                yield from scan_history(reader, series, within)

        pieces = scanned()
        self._scans.add(stop)
        try:
            while True:
                await self._ready()
                piece = await self._in_reader(lambda: next(pieces, None), stop)
                if piece is None:
                    return
                yield piece
        finally:
            self._scans.discard(stop)
            # A piece that was cancelled may still be read: then the generator ends in its thread.
            if not stop.called:
                pieces.close()

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """The newest reading of each series that has one, by id; from memory. Raises StoreUnavailable."""
        _, tables = await self._ready()
        found: dict[int, NewestReading] = {}
        for summary in tables.summaries.values():
            found |= summary.latest(series)
        return found

    async def counts(self) -> dict[int, ReadingCounts]:
        """What became of each series' readings, by id; from memory. Raises StoreUnavailable."""
        _, tables = await self._ready()
        counts: dict[int, ReadingCounts] = {}
        for summary in tables.summaries.values():
            counts |= summary.counts()
        return counts

    async def import_counts(self, counts: Sequence[tuple[Series, ReadingCounts]]) -> None:
        """Takes over what is expired and refused elsewhere. Raises StoreUnavailable."""
        await self._in_writer(self._change, lambda tables: tables.import_counts(counts))

    async def delete_before(self, time_ns: int) -> int:
        """Deletes readings older than this; returns how many. Raises StoreUnavailable."""
        return await self._in_writer(self._change, lambda tables: tables.delete_before(time_ns))

    async def describe(self) -> StoreDescription:
        """What there is. Raises StoreUnavailable."""
        return await self._read(self._describe)

    def _begin_opening(self) -> asyncio.Future[StoreCursor]:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._in_writer(self._open))
            # Nobody may be waiting for it; the reason is kept besides.
            self._opening.add_done_callback(lambda opening: opening.cancelled() or opening.exception())
        return self._opening

    async def _ready(self) -> tuple[Database, Tables]:
        if self._opened is None and self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening])
        if self._opened is None:
            raise StoreUnavailable(self._trouble)
        return self._opened

    async def _keep_up(self) -> None:
        """Rolls up and deletes what is too old, step by step, for as long as the store is entered."""
        while True:
            self._end_long_scans()
            try:
                done = await self._in_writer(self._step)
            except StoreUnavailable as error:
                log.warning("the store's rollups and retentions wait", error=str(error))
                done = False
            # Also between two steps others come first.
            await asyncio.sleep(STEP_REST_S if done else UPKEEP_EVERY_S)

    def _end_long_scans(self) -> None:
        if self._scans and wal_bytes(self._path) > self._scan_wal_bytes:
            for stop in self._scans:
                stop(LONG_SCAN)

    async def _in_writer(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, functools.partial(call, *args, **kwargs))

    async def _read(self, read: Callable[[Reader], T]) -> T:
        database, _ = await self._ready()
        stop = Stop()

        def answer() -> T:
            with stop.reader_of(database) as reader:
                return read(reader)

        return await self._in_reader(answer, stop)

    async def _in_reader(self, read: Callable[[], T], stop: Stop) -> T:
        """Runs a reading in one of the threads for that; interrupts it where it is cancelled."""
        if self._waiting >= MAX_WAITING:
            raise StoreUnavailable(f"the store is busy: {self._waiting} queries are waiting")
        loop = asyncio.get_running_loop()
        ended = threading.Event()

        def run() -> T:
            try:
                return read()
            finally:
                ended.set()

        def interrupt() -> None:
            if stop() and not ended.is_set():
                # A query that was just about to start has not noticed.
                loop.call_later(INTERRUPT_S, interrupt)

        self._waiting += 1
        try:
            return await loop.run_in_executor(self._readers, run)
        except asyncio.CancelledError:
            interrupt()
            raise
        except duckdb.Error as error:
            raise (StoreUnavailable(stop.reason) if stop.reason else explain(error, self._path)) from error
        finally:
            self._waiting -= 1

    # The rest runs in the writer's thread.

    def _open(self) -> StoreCursor:
        if self._opened is not None:
            return self._opened[1].cursor
        try:
            database = Database(self._path, memory_limit=self._memory_limit, threads=self._threads)
            try:
                tables = Tables(database.writer, registry=self._registry)
            except BaseException:
                # Whatever it was: a file that stays open is locked, and no later try could open it.
                database.close()
                raise
        except (duckdb.Error, StoreUnavailable) as error:
            trouble = error if isinstance(error, StoreUnavailable) else explain(error, self._path)
            self._trouble = str(trouble)
            raise trouble from error
        self._opened = database, tables
        return tables.cursor

    def _write(self, entries: Sequence[Entry], cursor: StoreCursor) -> int:
        free = shutil.disk_usage(self._path.parent).free
        if free < self._min_free_bytes:
            raise StoreUnavailable(
                f"no room on the disk of {self._path}: make room, and the hub goes on by itself "
                f"({free // 1_000_000} MB are free)"
            )
        return self._change(lambda tables: tables.append(entries, cursor))

    def _step(self) -> bool:
        if self._opened is None or shutil.disk_usage(self._path.parent).free < self._min_free_bytes:
            return False
        return self._change(lambda tables: self._upkeep.step(tables, now_ns=time.time_ns(), now_s=time.monotonic()))

    def _change(self, change: Callable[[Tables], T]) -> T:
        if self._opened is None:
            raise StoreUnavailable(self._trouble)
        database, tables = self._opened
        try:
            return change(tables)
        except duckdb.Error as error:
            trouble = explain(error, self._path)
            try:
                tables.load()
            except (duckdb.Error, StoreUnavailable):
                # After some errors DuckDB wants its file to be opened anew.
                self._trouble = str(trouble)
                self._opened = None
                database.close()
            raise trouble from error

    def _describe(self, reader: Reader) -> StoreDescription:
        readings = reader.fetch(schema.READ_READINGS)["readings"]
        ends = reader.fetch(schema.READ_ENDS)
        there = bool(len(ends["oldest_ns"]))
        return StoreDescription(
            kind="duckdb",
            location=str(self._path),
            readings=int(readings[0]),
            size_bytes=size_bytes(self._path),
            oldest_ns=int(ends["oldest_ns"].min()) if there else None,
            newest_ns=int(ends["newest_ns"].max()) if there else None,
        )

    def _close(self) -> None:
        if self._opened is not None:
            database, tables = self._opened
            self._opened = None
            self._trouble = "the hub is stopping"
            try:
                tables.save()
            except duckdb.Error as error:
                # Costs the next opening some time, nothing else.
                log.warning("the store's summaries are not saved", error=str(error))
            database.close()


def _report(upkeep: asyncio.Task[None]) -> None:
    if not upkeep.cancelled() and (error := upkeep.exception()) is not None:
        log.error("the store rolls up and deletes nothing any more, restart the hub", exc_info=error)
