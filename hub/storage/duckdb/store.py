"""History in a DuckDB file."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Self, TypeVar, TypeVarTuple

import duckdb
import structlog

from hub.model.batch import Entry, Series
from hub.model.store import (
    History,
    HistoryQuery,
    MissingReadings,
    NewestReading,
    ReadingCounts,
    RewriteResult,
    SeriesHistory,
    StoreCursor,
    StoreDescription,
    StoreFileLost,
    StorePart,
    StoreUnavailable,
    WriteResult,
)
from hub.storage.duckdb import schema
from hub.storage.duckdb.columns import slices_by_series
from hub.storage.duckdb.database import (
    INTERRUPT_S,
    Database,
    DatabaseDamaged,
    SnapshotReader,
    explain,
    files_set_aside,
    set_aside,
    set_log_aside,
    size_bytes,
    wal_bytes,
)
from hub.storage.duckdb.history import read_history, scan_history
from hub.storage.duckdb.summary import add_counts, join_spans
from hub.storage.duckdb.tables import Tables
from hub.storage.duckdb.upkeep import RetentionPeriods, Upkeep
from hub.storage.duckdb.verify import verify_part
from hub.storage.operating_system import lower_priority
from hub.storage.query import clip_range
from integrity.open_file import OpenFile

READERS = 2
"""Queries that run at the same time. A slow query does not block the others, and several slow ones leave the processor
to the intake of data."""

MAX_WAITING = 1024
"""Queries in progress or waiting. Beyond this number, a query fails because the store is busy. Each dashboard
connection sends one at a time."""

MAX_SCANS = 4
"""Scans in progress. Beyond this number, a scan fails because the store is busy. Each holds 128 MB in memory and a
snapshot of the tables."""

SCAN_WAL_BYTES = 512_000_000
"""While a scan holds its snapshot, new data stays in the write-ahead log and in memory, and DuckDB moves it into the
file afterwards. At this size, scans are ended: 30 million readings that came one by one have arrived by then."""

MIN_FREE_BYTES = 64_000_000
"""Free disk space that is kept, so that no checkpoint begins without room: see `_require_room`. It covers what the
journal on the same disk writes during a checkpoint of 0.3 s. If a checkpoint finds the disk full, DuckDB gives up its
open file, and reads fail with it."""

CHECKPOINT_FACTOR = 2
"""Space that a checkpoint may need, in sizes of the write-ahead log: its rows are written into the file, and the last
row group of each table that they belong to is written again."""

LONG_SCAN = (
    "the scan was ended because too much data arrived while it ran: request a shorter time range or fewer series at "
    "once, or try again when less data arrives"
)

HEADER_BYTES = 12_288
"""Size of the headers of a DuckDB file. A checkpoint may make a file smaller, and never smaller than this."""

UPKEEP_EVERY_S = 5.0
"""Time between two checks for data to roll up or to delete."""

STEP_REST_S = 0.6
"""Pause after an upkeep step, which takes 0.3 s at most: a third of the thread's time while it catches up."""

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DuckdbStore:
    """A store in a DuckDB file. Implements hub.model.store.Store; an async context manager.

    Entering starts to open the file and does not wait for it: the hub takes in data meanwhile, and also if opening
    fails. The writer calls `open`, which tries again. Reads wait for an opening in progress. If there is none, they
    raise StoreUnavailable with the reason.

    `registry` is the id of the registry that assigned the series ids. A file that was filled with another registry
    stays closed. `retention` says how long readings and their rollups are kept; by default they are kept forever. One
    thread writes and READERS threads read, each with its own connection.

    With `on_set_aside`, a damaged file is renamed, the next opening creates a new one, and the function receives what
    happened, on the event loop. Without it, a damaged file stays as it is, and the store stays closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        registry: str,
        memory_limit: str = "1GB",
        threads: int = 1,
        retention: RetentionPeriods | None = None,
        on_set_aside: Callable[[str], None] | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        scan_wal_bytes: int = SCAN_WAL_BYTES,
    ) -> None:
        self._path = path
        self._registry = registry
        self._memory_limit = memory_limit
        self._threads = threads
        self._min_free_bytes = min_free_bytes
        self._scan_wal_bytes = scan_wal_bytes
        self._on_set_aside = on_set_aside
        self._upkeep = Upkeep(retention or RetentionPeriods())
        self._upkeep_task: asyncio.Task[None] | None = None
        self._writer = ThreadPoolExecutor(1, "store-writer", initializer=lower_priority)
        self._readers = ThreadPoolExecutor(READERS, "store-reader", initializer=lower_priority)
        self._opening: asyncio.Future[StoreCursor] | None = None
        self._waiting = 0
        self._scans: set[SnapshotReader] = set()
        # The writer's thread sets both together.
        self._opened: tuple[Database, Tables] | None = None
        self._problem = "the store is not open yet"
        self._read_problem: str | None = None
        self._set_aside = _notice(files_set_aside(path))
        self._file: OpenFile | None = None
        self._file_problem: str | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._begin_opening()
        self._upkeep_task = asyncio.create_task(self._run_upkeep(), name="store upkeep")
        self._upkeep_task.add_done_callback(_log_upkeep_failure)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Finish a write in progress, interrupt reads, save and close the file."""
        if self._upkeep_task is not None:
            self._upkeep_task.cancel()
            await asyncio.wait([self._upkeep_task])
        try:
            await self._run_in_writer(self._close)
        finally:
            self._writer.shutdown(wait=False)
            self._readers.shutdown(wait=False, cancel_futures=True)

    @property
    def history_problem(self) -> str | None:
        return self._file_problem or self._read_problem or self._set_aside

    @property
    def cursor(self) -> StoreCursor:
        return StoreCursor("", 0) if self._opened is None else self._opened[1].cursor

    async def open(self) -> StoreCursor:
        if self._opened is not None:
            return self._opened[1].cursor
        return await asyncio.shield(self._begin_opening())

    async def write(self, entries: Sequence[Entry], cursor: StoreCursor) -> WriteResult:
        """Store readings and cursor in one transaction. Nothing is refused."""
        return WriteResult(await self._run_in_writer(self._write, entries, cursor))

    async def find_missing(self, entries: Sequence[Entry]) -> list[MissingReadings]:
        series = {known.id: known for entry in entries if entry.batch for known, _ in entry.batch.columns}
        return [
            MissingReadings(series[id], rows.times_ns[of_series])
            for rows in (await self._run_in_writer(self._change, lambda tables: tables.missing(entries))).values()
            for id, of_series in slices_by_series(rows.series)
        ]

    async def rewrite(self, entries: Sequence[Entry]) -> RewriteResult:
        """Append the readings that the file lacks, in one transaction. Nothing is refused."""
        added = await self._run_in_writer(self._append_missing, entries)
        return RewriteResult(sum(added.values()), 0, added)

    async def save(self) -> StoreCursor:
        """Return the durable cursor: every write is durable."""
        return self.cursor

    async def query(self, query: HistoryQuery) -> History:
        """Return the requested readings. Cancellation interrupts the query."""
        _, tables = await self._require_open()
        spans = _merge((summary.spans(query.series) for summary in tables.summaries.values()), join_spans)
        return await self._read(lambda reader: read_history(reader, query, spans))

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        database, _ = await self._require_open()
        if len(self._scans) >= MAX_SCANS:
            raise StoreUnavailable(f"the store is busy: {len(self._scans)} scans are in progress, try again later")
        time_range = clip_range(start_ns, end_ns)
        reader = SnapshotReader()

        def scanned() -> Generator[SeriesHistory, None, None]:
            with database.reader(reader):
                yield from scan_history(reader, series, time_range)

        pieces = scanned()
        self._scans.add(reader)
        try:
            while True:
                await self._require_open()
                piece = await self._run_in_reader(lambda: next(pieces, None), reader, database)
                if piece is None:
                    return
                yield piece
        finally:
            self._scans.discard(reader)
            # An interrupted piece may still be running. Then the generator ends in its thread.
            if not reader.is_interrupted:
                pieces.close()

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """Return the newest readings from memory."""
        _, tables = await self._require_open()
        newer = attrgetter("time_ns")
        of_types = (summary.latest(series) for summary in tables.summaries.values())
        return _merge(of_types, lambda one, other: max(one, other, key=newer))

    async def counts(self) -> dict[int, ReadingCounts]:
        """Return the counts from memory."""
        _, tables = await self._require_open()
        return _merge((summary.counts() for summary in tables.summaries.values()), add_counts)

    async def import_counts(self, counts: Sequence[tuple[Series, ReadingCounts]]) -> None:
        await self._run_in_writer(self._change, lambda tables: tables.import_counts(counts))

    async def describe(self) -> StoreDescription:
        _, tables = await self._require_open()
        ends = await self._read(lambda reader: reader.fetch(schema.READ_ENDS))
        return StoreDescription(
            kind="duckdb",
            location=str(self._path),
            readings=sum(tables.stored.values()),
            size_bytes=size_bytes(self._path),
            oldest_ns=min(ends["oldest_ns"].tolist(), default=None),
            newest_ns=max(ends["newest_ns"].tolist(), default=None),
        )

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[StoreCursor]:
        """Occupy the writer's thread: writes and upkeep wait."""
        await self._require_open()
        loop = asyncio.get_running_loop()
        began: asyncio.Future[StoreCursor] = loop.create_future()
        release = threading.Event()

        def set_began(cursor: StoreCursor) -> None:
            loop.call_soon_threadsafe(lambda: None if began.done() else began.set_result(cursor))

        def ended(holding: asyncio.Future[None]) -> None:
            if (error := holding.exception()) is not None and not began.done():
                began.set_exception(error)

        holding = asyncio.ensure_future(self._run_in_writer(self._hold, set_began, release))
        try:
            holding.add_done_callback(ended)
            yield await began
        finally:
            release.set()
            await asyncio.wait([holding])

    async def verify(self, position: int) -> StorePart:
        """Read some of the rows in a reader's thread. A block with a wrong checksum is damage, and not an error."""
        return await self._read(lambda reader: verify_part(reader.fetch, position))

    def _begin_opening(self) -> asyncio.Future[StoreCursor]:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._run_in_writer(self._open))
            # Possibly no caller waits for it; `_problem` keeps the reason.
            self._opening.add_done_callback(lambda opening: opening.cancelled() or opening.exception())
        return self._opening

    async def _require_open(self) -> tuple[Database, Tables]:
        if self._opened is None and self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening])
        if self._opened is None:
            raise StoreUnavailable(self._problem)
        return self._opened

    async def _run_upkeep(self) -> None:
        """Roll up readings and delete what is too old, step by step, while the store is entered."""
        while True:
            self._end_long_scans()
            try:
                did_step = await self._run_in_writer(self._step)
            except StoreUnavailable as error:
                log.warning("store upkeep failed, retrying", store="duckdb", error=str(error))
                did_step = False
            # Other work comes first, also between two steps.
            await asyncio.sleep(STEP_REST_S if did_step else UPKEEP_EVERY_S)

    def _end_long_scans(self) -> None:
        if self._scans and wal_bytes(self._path) > self._scan_wal_bytes:
            for reader in self._scans:
                reader.interrupt(LONG_SCAN)

    async def _run_in_writer(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call, *args)

    async def _read(self, read: Callable[[SnapshotReader], T]) -> T:
        database, _ = await self._require_open()
        reader = SnapshotReader()

        def answer() -> T:
            with database.reader(reader):
                return read(reader)

        return await self._run_in_reader(answer, reader, database)

    async def _run_in_reader(self, read: Callable[[], T], reader: SnapshotReader, database: Database) -> T:
        """Run a read in one of the reader threads, and interrupt its reader on cancellation."""
        if self._waiting >= MAX_WAITING:
            raise StoreUnavailable(f"the store is busy: {self._waiting} queries are waiting, try again later")
        loop = asyncio.get_running_loop()
        ended = threading.Event()

        def run() -> T:
            try:
                return read()
            finally:
                ended.set()

        def interrupt() -> None:
            if reader.interrupt() and not ended.is_set():
                # A query that was just about to start did not notice.
                loop.call_later(INTERRUPT_S, interrupt)

        self._waiting += 1
        try:
            answer = await loop.run_in_executor(self._readers, run)
        except asyncio.CancelledError:
            interrupt()
            raise
        except duckdb.Error as error:
            if reader.reason:
                raise StoreUnavailable(reader.reason) from error
            raise await self._reading_failed(error, database) from error
        finally:
            self._waiting -= 1
        self._read_problem = None
        return answer

    async def _reading_failed(self, error: duckdb.Error, database: Database) -> StoreUnavailable:
        """Return what a failed read means. If the file is damaged, it is set aside before this returns."""
        problem = explain(error, self._path)
        if isinstance(error, duckdb.IOException | duckdb.FatalException | duckdb.InternalException):
            self._read_problem = str(problem)
        if isinstance(problem, DatabaseDamaged):
            await self._run_in_writer(self._give_up_file, problem, database)
        return problem

    # The following methods run in the writer's thread.

    def _open(self) -> StoreCursor:
        if self._opened is not None:
            return self._opened[1].cursor
        try:
            try:
                self._opened = self._open_file()
            except DatabaseDamaged as problem:
                self._opened = self._open_without_log(problem)
        except StoreUnavailable as problem:
            self._problem = str(problem)
            raise
        self._file = OpenFile(self._path, min_bytes=HEADER_BYTES)
        return self._opened[1].cursor

    def _open_file(self) -> tuple[Database, Tables]:
        """Open the file and read its state. Raises StoreUnavailable."""
        database = Database(self._path, memory_limit=self._memory_limit, threads=self._threads)
        try:
            return database, Tables(database.writer, registry=self._registry)
        except BaseException as error:
            # Close the file after any error: while it is open it is locked, and no later attempt could open it.
            database.close()
            raise explain(error, self._path) if isinstance(error, duckdb.Error) else error from error

    def _open_without_log(self, problem: DatabaseDamaged) -> tuple[Database, Tables]:
        """Open a damaged file again without its write-ahead log, whose entries the journal has; else open a new file.

        Raises StoreUnavailable.
        """
        if self._on_set_aside is None:
            raise problem
        kept = set_log_aside(self._path)
        if kept is not None:
            log.error("write-ahead log of the history is set aside", kept=kept.name, error=problem.reason)
            try:
                opened = self._open_file()
            except DatabaseDamaged as second:
                # The file itself is damaged: keep both together.
                kept.rename(self._path.with_name(f"{self._path.name}.wal"))
                problem = second
            else:
                what = (
                    f"the write-ahead log of the history was damaged ({problem.reason}) and is set aside as {kept.name}"
                )
                self._loop.call_soon_threadsafe(self._on_set_aside, f"{what}: the journal writes its entries again")
                return opened
        if not self._give_up_file(problem):
            raise problem
        return self._open_file()

    def _give_up_file(self, problem: DatabaseDamaged, database: Database | None = None) -> bool:
        """Close the damaged file and rename it, so that the next opening creates a new one; return whether it did.

        `database` is where the damage was found: another reader may have found it before.
        """
        opened = self._opened
        if self._on_set_aside is None or (database is not None and (opened is None or opened[0] is not database)):
            return False
        # The consumer opens the new file, because it has to begin where that file ends.
        self._opened = self._file = None
        self._problem = str(problem)
        try:
            if opened is not None:
                with contextlib.suppress(duckdb.Error):
                    opened[0].close()
            kept = set_aside(self._path)
        except OSError as error:
            log.error("damaged history cannot be renamed", path=str(self._path), error=error.strerror)
            return False
        log.error("history was damaged and is set aside", path=str(self._path), kept=kept.name, error=problem.reason)
        self._read_problem = None
        self._set_aside = _notice([kept])
        self._problem = str(self._set_aside)
        self._loop.call_soon_threadsafe(self._on_set_aside, f"{problem.reason}; {self._set_aside}")
        return True

    def _write(self, entries: Sequence[Entry], cursor: StoreCursor) -> int:
        self._check_file()
        self._check_room()
        return self._change(lambda tables: tables.append(entries, cursor))

    def _append_missing(self, entries: Sequence[Entry]) -> dict[int, int]:
        self._check_file()
        self._check_room()
        return self._change(lambda tables: tables.append_missing(entries))

    def _compare_file(self) -> str | None:
        """Return how the open file has lost its name or its bytes, and what to do; None if it has not."""
        found = self._file.problem() if self._file is not None else None
        if found is not None and self._file_problem is None:
            self._file_problem = (
                f"{found}: nothing more is stored in it, readings wait in the journal. Restart the hub: it begins a "
                "new file with what the journal has. For the rest, stop the hub and run `hub store rebuild --from COPY`"
            )
            log.error("history file lost", path=str(self._path), problem=self._file_problem)
        return self._file_problem

    def _check_file(self) -> None:
        """Raise StoreFileLost if the open file has lost its name or its bytes."""
        problem = self._compare_file()
        if problem is not None:
            raise StoreFileLost(problem)

    def _check_room(self) -> None:
        free = self._free_bytes()
        if free < self._reserve_bytes():
            raise StoreUnavailable(
                f"no room on the disk of {self._path}: free some space, and the hub continues by itself "
                f"({free // 1_000_000} MB are free, and {self._reserve_bytes() // 1_000_000} MB are kept for the "
                "checkpoint)"
            )

    def _hold(self, set_began: Callable[[StoreCursor], None], release: threading.Event) -> None:
        if self._opened is None:
            raise StoreUnavailable(self._problem)
        database, tables = self._opened
        # A scan may keep the log from being moved into the file. Then the log is a part of the copy.
        with suppress(duckdb.TransactionException):
            database.writer.execute("CHECKPOINT")
        set_began(tables.cursor)
        release.wait()

    def _step(self) -> bool:
        if self._compare_file() is not None or self._opened is None or self._free_bytes() < self._reserve_bytes():
            return False
        return self._change(lambda tables: self._upkeep.step(tables, now_ns=time.time_ns(), now_s=time.monotonic()))

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._path.parent).free

    def _reserve_bytes(self) -> int:
        """Return the free space that the next write must find, because it may begin a checkpoint; 0 to keep none."""
        return self._min_free_bytes and self._min_free_bytes + CHECKPOINT_FACTOR * wal_bytes(self._path)

    def _change(self, change: Callable[[Tables], T]) -> T:
        if self._opened is None:
            raise StoreUnavailable(self._problem)
        database, tables = self._opened
        try:
            return change(tables)
        except duckdb.Error as error:
            problem = explain(error, self._path)
            if isinstance(problem, DatabaseDamaged) and self._give_up_file(problem, database):
                raise problem from error
            try:
                tables.load()
            except (duckdb.Error, StoreUnavailable):
                # After some errors, DuckDB needs its file to be opened again.
                self._problem = str(problem)
                self._opened = None
                database.close()
            raise problem from error

    def _close(self) -> None:
        if self._opened is not None:
            database, tables = self._opened
            self._opened = None
            self._problem = "the hub is stopping"
            has_room = self._free_bytes() >= self._reserve_bytes() and self._file_problem is None
            try:
                if has_room:
                    tables.save()
            except duckdb.Error as error:
                # Only the next opening takes longer.
                log.warning("store summaries not saved, the next start takes longer", error=str(error))
            if not has_room and self._file_problem is None:
                log.warning("no room for a checkpoint, the write-ahead log stays for the next start")
            database.close(checkpoint=has_room)


def _notice(kept: Sequence[Path]) -> str | None:
    """Return what an operator has to know of damaged files that were set aside."""
    if not kept:
        return None
    names = ", ".join(file.name for file in kept)
    return (
        f"history was damaged and is set aside as {names}: readings that the journal does not have any more cannot be "
        "read. Stop the hub and run `hub store rebuild`, which restores what is intact"
    )


def _merge(by_type: Iterable[dict[int, T]], join: Callable[[T, T], T]) -> dict[int, T]:
    """Merge what the summary of each type knows of its series, by id. `join` is for series of several types."""
    merged: dict[int, T] = {}
    for of_type in by_type:
        both = merged.keys() & of_type.keys()
        merged |= of_type | {id: join(merged[id], of_type[id]) for id in both}
    return merged


def _log_upkeep_failure(upkeep: asyncio.Task[None]) -> None:
    if not upkeep.cancelled() and (error := upkeep.exception()) is not None:
        log.error("store upkeep stopped, restart the hub", store="duckdb", exc_info=error)
