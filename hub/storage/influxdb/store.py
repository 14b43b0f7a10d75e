"""History in an InfluxDB server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Self, TypeVar, TypeVarTuple, cast

import msgspec
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
    StorePart,
    StoreUnavailable,
    WriteResult,
)
from hub.storage.influxdb.client import (
    InfluxdbClient,
    InfluxdbCredentials,
    RequestTooLarge,
    WriteAccepted,
    WriteAnswer,
)
from hub.storage.influxdb.comparison import find_missing, only_missing, storable_times
from hub.storage.influxdb.history import HistoryReader
from hub.storage.influxdb.line_protocol import (
    Cell,
    Point,
    WritePlan,
    WriteRequest,
    encode_points,
    plan_write,
    request_points,
)
from hub.storage.influxdb.refused_points import RefusedCells, find_refused, refusals
from hub.storage.influxdb.series_naming import RefusalReason, SeriesNames, SeriesNaming
from hub.storage.influxdb.state import FILE_NAME, BucketAddress, InfluxdbState, read_state, write_state
from hub.storage.operating_system import lower_priority

IN_FLIGHT = 4
"""Requests in flight: the server works on one while others are transferred. More of them only fill its queue."""

SAVE_EVERY_S = 1.0
"""Interval between two writes of the state: each costs an fsync. After a crash, the writes in between are repeated."""

MAX_SUSPECTS = 10_000
"""Series whose readings are known to be refused. Beyond this number the oldest is discarded, and detected again."""

PROBE = b"# may this be written?\n"
"""A comment: it writes nothing, and is refused where a write would be."""

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ReadWriteLock:
    """A lock that readers share and the writer has alone, in order of arrival, so neither starves the other.

    InfluxDB has no snapshots. A history that is true for one cursor is read while nothing is written.
    """

    def __init__(self) -> None:
        self._entry = asyncio.Lock()
        self._readers = 0
        self._no_readers = asyncio.Event()
        self._no_readers.set()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Hold the lock together with other readers."""
        async with self._entry:
            self._readers += 1
            self._no_readers.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._no_readers.set()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        """Hold the lock alone."""
        async with self._entry:
            await self._no_readers.wait()
            yield


class _PendingChange(NamedTuple):
    """Changes of a write to the state."""

    cursor: StoreCursor
    stored: Counter[int]
    refused: Counter[int]


class InfluxdbStore:
    """A store in an InfluxDB server. Implements hub.model.store.Store; an async context manager.

    `directory` contains the state file. The server holds the readings, as durable as it makes them; the cursor is in
    the state file. `registry` is the id of the registry that assigned the series ids.
    """

    def __init__(
        self,
        directory: Path,
        *,
        target: BucketAddress,
        credentials: InfluxdbCredentials,
        naming: SeriesNaming,
        registry: str,
        max_series_per_device: int,
        compress: bool = False,
    ) -> None:
        self._path = directory / FILE_NAME
        self._naming = naming
        self._registry = registry
        self._max_series_per_device = max_series_per_device
        self._client = InfluxdbClient(target, credentials, compress=compress)
        self._history = HistoryReader(self._client, naming)
        self._lock = ReadWriteLock()
        # Held while the state is written, and by a hold.
        self._saving = asyncio.Lock()
        # One thread encodes writes and writes the state.
        self._thread = ThreadPoolExecutor(1, "influxdb-writer", initializer=lower_priority)
        self._opened: tuple[InfluxdbState, SeriesNames] | None = None
        self._pending_change: _PendingChange | None = None
        self._saved = StoreCursor("", 0)
        self._saved_s = -SAVE_EVERY_S
        self._is_changed = False
        # The server's text for series that it refused, by id.
        self._refusal_messages: dict[int, str] = {}
        self._problem = "the store is not open yet"

    async def __aenter__(self) -> Self:
        """Read the state. If that fails, `open` reports it. Connections are opened later."""
        await self._client.__aenter__()
        try:
            await self._load()
        except StoreUnavailable as error:
            self._problem = str(error)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Save the state and close the connections."""
        try:
            await self._save()
        except StoreUnavailable as problem:
            # Some entries are written again, nothing else.
            log.warning("store state not saved, some entries are written again", store="influxdb", error=str(problem))
        finally:
            self._thread.shutdown(wait=False)
            await self._client.__aexit__(*exc_info)

    @property
    def cursor(self) -> StoreCursor:
        return self._saved

    @property
    def history_problem(self) -> str | None:
        """Return None: a server that does not answer queries accepts no writes either, which the consumer reports."""
        return None

    async def open(self) -> StoreCursor:
        """Read the state if necessary, and check that the server accepts writes."""
        self._pending_change = None
        state, _ = await self._load()
        await self._client.write(PROBE)
        return state.cursor

    async def write(self, entries: Sequence[Entry], cursor: StoreCursor) -> WriteResult:
        state, names = self._require_open()
        self._confirm()
        stored_offset = state.cursor.offset if state.cursor.journal == cursor.journal else 0
        if cursor.offset <= stored_offset:
            return WriteResult(0)
        new = [entry for entry in entries if entry.offset > stored_offset]
        plan = await self._run_in_thread(plan_write, new, names, self._refusal_messages.copy())
        async with self._lock.write():
            refused = [*plan.refused, *await self._send_all(plan, names)]
            stored = plan.readings
            for cell, _ in refused[len(plan.refused) :]:
                stored[cell.series.id] -= 1
            self._pending_change = _PendingChange(cursor, stored, Counter(cell.series.id for cell, _ in refused))
        if not refused:
            self._confirm()
            if time.monotonic() - self._saved_s >= SAVE_EVERY_S:
                await self._save()
        return WriteResult(stored.total(), refusals(refused))

    async def find_missing(self, entries: Sequence[Entry]) -> list[MissingReadings]:
        _, names = self._require_open()
        given = await self._run_in_thread(storable_times, entries)
        nameable = {series: times for series, times in given.items() if names.name_of(series).problem is None}
        return await find_missing(self._history, nameable)

    async def rewrite(self, entries: Sequence[Entry]) -> RewriteResult:
        """Send the missing readings again.

        The others would replace themselves, except after a change of the device's tags, when each would exist twice.
        """
        _, names = self._require_open()
        missing = await self.find_missing(entries)
        lacking = await self._run_in_thread(only_missing, entries, missing)
        plan = await self._run_in_thread(plan_write, lacking, names, self._refusal_messages.copy())
        async with self._lock.write():
            refused = await self._send_all(plan, names)
        return RewriteResult(plan.readings.total() - len(refused), len(plan.refused) + len(refused))

    async def save(self) -> StoreCursor:
        self._confirm()
        await self._save()
        return self._saved

    async def query(self, query: HistoryQuery) -> History:
        """Return the requested readings. Writes wait meanwhile."""
        async with self._lock.read():
            state, _ = self._require_open()
            cursor = state.cursor if self._pending_change is None else self._pending_change.cursor
            return History(cursor, await self._history.query(query))

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        self._require_open()
        async with contextlib.aclosing(self._history.scan(series, start_ns, end_ns)) as pieces:
            async for piece in pieces:
                yield piece

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        self._require_open()
        return await self._history.latest(series)

    async def import_counts(self, counts: Sequence[tuple[Series, ReadingCounts]]) -> None:
        state, _ = self._require_open()
        for series, (_, expired, refused) in counts:
            old = state.totals.get(series.id, ReadingCounts(0, 0))
            state.totals[series.id] = ReadingCounts(old.stored, expired, refused)
        self._is_changed = True

    async def describe(self) -> StoreDescription:
        """Return the facts that the hub knows; only the server knows the rest."""
        target = self._client.target
        readings = sum(counts.stored + counts.expired for counts in (await self.counts()).values())
        return StoreDescription("influxdb", f"{target.bucket} at {target.url}", readings, None, None, None)

    async def counts(self) -> dict[int, ReadingCounts]:
        """Return the counts from memory."""
        state, _ = self._require_open()
        return state.totals | self._pending_counts(state)

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[StoreCursor]:
        """Save the state, and do not save it again within the context. The server is written meanwhile."""
        self._require_open()
        async with self._saving:
            await self._write_state()
            yield self._saved

    async def verify(self, position: int) -> StorePart:
        """Read nothing: the server verifies its own files."""
        return StorePart(None, 0, 0)

    async def _send_all(self, plan: WritePlan, names: SeriesNames) -> list[tuple[Cell, RefusalReason]]:
        """Send a plan, several requests at a time. Return the readings that the server refused, with the reasons."""
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def send(points: Sequence[Point]) -> WriteAnswer:
            return await self._client.write(await self._run_in_thread(encode_points, points, names))

        async def send_request(request: WriteRequest) -> tuple[list[RefusedCells], bool]:
            async with slots:
                answer = await self._client.write(request.body)
                if isinstance(answer, WriteAccepted):
                    return [], True
                # Without this check, a server that refuses everything would make all readings bad data.
                is_about_points = isinstance(answer, RequestTooLarge) or answer.describes_points
                if not is_about_points and not isinstance(await self._client.write(PROBE), WriteAccepted):
                    raise self._refuses_everything(answer.message)
                return await find_refused(
                    await self._run_in_thread(request_points, request.contents, names), send, self._refusal_messages
                )

        async def send_suspects() -> tuple[list[RefusedCells], bool]:
            async with slots:
                return await find_refused(plan.suspects, send, self._refusal_messages)

        results = await _gather([*(send_request(request) for request in plan.requests), send_suspects()])
        while len(self._refusal_messages) > MAX_SUSPECTS:
            del self._refusal_messages[next(iter(self._refusal_messages))]
        refused_cells = [cells for refused, _ in results for cells in refused]
        doubtful = next((cells for cells in refused_cells if not cells.certain), None)
        if doubtful is not None and not any(has_accepted for _, has_accepted in results):
            raise self._refuses_everything(doubtful.reason.message)
        return [(cell, cells.reason) for cells in refused_cells for cell in cells.cells]

    def _refuses_everything(self, message: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"InfluxDB at {self._client.target.url} refuses everything, so no reading counts as bad data: check "
            f"store.url, store.org and store.bucket, and proxies in between. InfluxDB says: {message}"
        )

    async def _load(self) -> tuple[InfluxdbState, SeriesNames]:
        if self._opened is None:
            state = await self._run_in_thread(read_state, self._path, self._registry, self._client.target)
            names = SeriesNames(self._naming, max_series_per_device=self._max_series_per_device, known=state.series)
            self._saved = state.cursor
            self._opened = state, names
        return self._opened

    def _require_open(self) -> tuple[InfluxdbState, SeriesNames]:
        if self._opened is None:
            raise StoreUnavailable(self._problem)
        return self._opened

    def _confirm(self) -> None:
        """Apply the changes of the newest write: its refused readings are kept now."""
        if self._pending_change is None or self._opened is None:
            return
        state, _ = self._opened
        state.cursor = self._pending_change.cursor
        state.totals |= self._pending_counts(state)
        self._pending_change = None
        self._is_changed = True

    def _pending_counts(self, state: InfluxdbState) -> dict[int, ReadingCounts]:
        """Return the counts of the series that the newest write changed, until it is confirmed."""
        if self._pending_change is None:
            return {}
        _, stored, refused = self._pending_change
        counts: dict[int, ReadingCounts] = {}
        for id in stored.keys() | refused.keys():
            old = state.totals.get(id, ReadingCounts(0, 0))
            counts[id] = ReadingCounts(old.stored + stored[id], old.expired, old.refused + refused[id])
        return counts

    async def _save(self) -> None:
        async with self._saving:
            await self._write_state()

    async def _write_state(self) -> None:
        if self._opened is None or not self._is_changed:
            return
        state, names = self._opened
        state.series = names.known()
        cursor = state.cursor
        content = msgspec.msgpack.encode(state)
        self._is_changed = False
        try:
            await self._run_in_thread(write_state, self._path, content)
        except StoreUnavailable:
            self._is_changed = True
            raise
        self._saved = cursor
        self._saved_s = time.monotonic()

    async def _run_in_thread(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


async def _gather(calls: Sequence[Awaitable[T]]) -> list[T]:
    """Return the results of all; if some fail, raise the first error after all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    if errors := [result for result in results if isinstance(result, BaseException)]:
        raise errors[0]
    return cast("list[T]", results)
