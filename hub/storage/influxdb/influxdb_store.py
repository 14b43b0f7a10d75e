"""History in an InfluxDB server. What is read goes through hub.storage.influxdb.reading."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, ParamSpec, Self, TypeVar

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
    StoreError,
    StoreUnavailable,
    WriteResult,
)
from hub.storage.influxdb.answer import Answer, Refused, Stored, Target, TooLarge, Unavailable
from hub.storage.influxdb.names import Names, Reason
from hub.storage.influxdb.naming import Naming
from hub.storage.influxdb.plan import Cell, Plan, Point, Request, encode_points, make_plan, points_of
from hub.storage.influxdb.reading import Reading
from hub.storage.influxdb.refusal import Found, find_refused, refusals
from hub.storage.influxdb.server import Credentials, Server
from hub.storage.influxdb.state import FILE_NAME, State, Totals, encode_state, read_state, write_state
from hub.storage.influxdb.turns import Turns
from hub.storage.priority import give_way

IN_FLIGHT = 4
"""Requests under way: the server works on one while others are on the line. More of them only fill its queue."""

SAVE_EVERY_S = 1.0
"""How often the state is written while much is: it costs an fsync. What is between is written again after a crash."""

MAX_SUSPECTS = 10_000
"""Series whose readings are known to be refused; beyond it the oldest is forgotten, and found out again."""

PROBE = b"# may this be written?\n"
"""A comment: it writes nothing, and is refused where writing would be."""

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class _Change(NamedTuple):
    """What a write adds to the state."""

    cursor: StoreCursor
    stored: Counter[int]
    refused: Counter[int]


class InfluxdbStore:
    """Implements hub.model.store.Store; an async context manager.

    `directory` is where the state file lies. The readings are the server's, as durable as it makes them; the cursor is
    in the state file. `registry` is the id of the registry that gives the series their ids.
    """

    def __init__(
        self,
        directory: Path,
        *,
        target: Target,
        credentials: Credentials,
        naming: Naming,
        registry: str,
        max_series_per_device: int,
        compress: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = directory / FILE_NAME
        self._naming = naming
        self._registry = registry
        self._max_series_per_device = max_series_per_device
        self._clock = clock
        self._server = Server(target, credentials, compress=compress)
        self._reading = Reading(self._server, naming)
        self._turns = Turns()
        # One thread: it encodes what is written, and writes the state.
        self._thread = ThreadPoolExecutor(1, "influxdb-writer", initializer=give_way)
        self._opened: tuple[State, Names] | None = None
        self._held: _Change | None = None
        self._saved = StoreCursor("", 0)
        self._saved_s = -SAVE_EVERY_S
        self._dirty = False
        # The server's words for series that it refused, by id.
        self._words: dict[int, str] = {}
        self._trouble = "the store is not open yet"

    async def __aenter__(self) -> Self:
        """Opens connections, none yet; reads the state, where that fails `open` tells."""
        await self._server.__aenter__()
        try:
            await self._load()
        except StoreUnavailable as error:
            self._trouble = str(error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Saves the state and closes the connections."""
        try:
            await self._save()
        except StoreUnavailable as trouble:
            # Costs some writing again, nothing else.
            log.warning("the store's state is not saved", error=str(trouble))
        finally:
            self._thread.shutdown(wait=False)
            await self._server.__aexit__(kind, error, traceback)

    @property
    def cursor(self) -> StoreCursor:
        """The durable cursor; of no journal before the store was open."""
        return self._saved

    async def open(self) -> StoreCursor:
        """Finds out whether the server takes writes. Raises StoreUnavailable with what to do."""
        self._held = None
        state, _ = await self._load()
        _raise_unavailable(await self._server.write(PROBE))
        return state.cursor

    async def write(self, entries: Sequence[Entry], cursor: StoreCursor) -> WriteResult:
        """Stores what the server takes, and says what it refused. Raises StoreUnavailable."""
        state, names = self._ready()
        self._settle()
        held = state.cursor.offset if state.cursor.journal == cursor.journal else 0
        if cursor.offset <= held:
            return WriteResult(0)
        new = [entry for entry in entries if entry.offset > held]
        plan = await self._in_thread(make_plan, new, names, self._words.copy())
        async with self._turns.alone():
            refused = [*plan.refused, *await self._send_all(plan, names)]
            stored = plan.readings
            for cell, _ in refused[len(plan.refused) :]:
                stored[cell.series.id] -= 1
            self._held = _Change(cursor, stored, Counter(cell.series.id for cell, _ in refused))
        if not refused:
            self._settle()
            if self._clock() - self._saved_s >= SAVE_EVERY_S:
                await self._save()
        return WriteResult(stored.total(), refusals(refused))

    async def save(self) -> StoreCursor:
        """Makes everything that was written durable. Raises StoreUnavailable."""
        self._settle()
        await self._save()
        return self._saved

    async def query(self, query: HistoryQuery) -> History:
        """The readings asked for; nothing is written meanwhile. Raises StoreUnavailable and StoreError."""
        async with self._turns.shared():
            state, _ = self._ready()
            cursor = state.cursor if self._held is None else self._held.cursor
            return History(cursor, await self._reading.query(query))

    async def scan(self, series: Sequence[Series], start_ns: int, end_ns: int) -> AsyncGenerator[SeriesHistory, None]:
        """Every reading, one series after the other, in pieces. Raises StoreUnavailable and StoreError."""
        self._ready()
        async with contextlib.aclosing(self._reading.scan(series, start_ns, end_ns)) as pieces:
            async for piece in pieces:
                yield piece

    async def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """The newest reading of each series that has one. Raises StoreUnavailable and StoreError."""
        self._ready()
        return await self._reading.latest(series)

    async def delete_before(self, time_ns: int) -> int:
        """Raises StoreError: what is in InfluxDB is deleted by its bucket's retention."""
        raise StoreError("InfluxDB deletes what is older than its bucket's retention: set that with `hub store setup`")

    async def import_counts(self, counts: Sequence[tuple[Series, ReadingCounts]]) -> None:
        """Takes over what is expired and refused elsewhere. Raises StoreUnavailable."""
        state, _ = self._ready()
        for series, (_, expired, refused) in counts:
            totals = state.totals.setdefault(series.id, Totals())
            totals.expired, totals.refused = expired, refused
        self._dirty = True

    async def describe(self) -> StoreDescription:
        """What is known here; what the server holds in all is the server's to say. Raises StoreUnavailable."""
        target = self._server.target
        readings = sum(counts.stored + counts.expired for counts in (await self.counts()).values())
        return StoreDescription("influxdb", f"{target.bucket} at {target.url}", readings, None, None, None)

    async def counts(self) -> dict[int, ReadingCounts]:
        """What became of each series' readings, by id; from memory. Raises StoreUnavailable."""
        state, _ = self._ready()
        counts = {id: totals.counts() for id, totals in state.totals.items()}
        if self._held is not None:
            for id in self._held.stored.keys() | self._held.refused.keys():
                stored, expired, refused = counts.get(id, ReadingCounts(0, 0))
                counts[id] = ReadingCounts(stored + self._held.stored[id], expired, refused + self._held.refused[id])
        return counts

    async def _send_all(self, plan: Plan, names: Names) -> list[tuple[Cell, Reason]]:
        """Sends a plan, some requests at a time. Returns the readings that the server refused, with why."""
        free = asyncio.Semaphore(IN_FLIGHT)

        async def send(points: Sequence[Point]) -> Stored | Refused | TooLarge:
            return _raise_unavailable(await self._server.write(await self._in_thread(encode_points, points, names)))

        async def store(request: Request) -> tuple[list[Found], bool]:
            async with free:
                answer = _raise_unavailable(await self._server.write(request.body))
                if isinstance(answer, Stored):
                    return [], True
                await self._check_refusal(answer)
                return await find_refused(await self._in_thread(points_of, request.parts, names), send, self._words)

        async def store_suspects() -> tuple[list[Found], bool]:
            async with free:
                return await find_refused(plan.suspects, send, self._words)

        results = await _all([*(store(request) for request in plan.requests), store_suspects()])
        self._forget_words()
        found = [one for part, _ in results for one in part]
        doubtful = next((one for one in found if not one.certain), None)
        if doubtful is not None and not any(has_stored for _, has_stored in results):
            raise self._refuses_everything(doubtful.reason.message)
        return [(cell, one.reason) for one in found for cell in one.cells]

    async def _check_refusal(self, answer: Refused | TooLarge) -> None:
        """Whether it is the points that are refused. Raises StoreUnavailable where nothing at all is taken."""
        if isinstance(answer, TooLarge) or answer.points:
            return
        probe = _raise_unavailable(await self._server.write(PROBE))
        if not isinstance(probe, Stored):
            raise self._refuses_everything(answer.words)

    def _refuses_everything(self, words: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"InfluxDB at {self._server.target.url} refuses everything, so nothing is taken for bad data: look at "
            f"store.url, store.org and store.bucket, and at what is between. It says: {words}"
        )

    def _forget_words(self) -> None:
        while len(self._words) > MAX_SUSPECTS:
            del self._words[next(iter(self._words))]

    async def _load(self) -> tuple[State, Names]:
        if self._opened is None:
            state = await self._in_thread(read_state, self._path, registry=self._registry, target=self._server.target)
            names = Names(self._naming, max_series_per_device=self._max_series_per_device, known=state.series)
            self._saved = state.cursor
            self._opened = state, names
        return self._opened

    def _ready(self) -> tuple[State, Names]:
        if self._opened is None:
            raise StoreUnavailable(self._trouble)
        return self._opened

    def _settle(self) -> None:
        """What the newest write changed holds: whatever it refused is in safe hands."""
        if self._held is None or self._opened is None:
            return
        change, self._held = self._held, None
        state, _ = self._opened
        state.cursor = change.cursor
        for id, readings in change.stored.items():
            state.totals.setdefault(id, Totals()).stored += readings
        for id, readings in change.refused.items():
            state.totals.setdefault(id, Totals()).refused += readings
        self._dirty = True

    async def _save(self) -> None:
        if self._opened is None or not self._dirty:
            return
        state, names = self._opened
        state.series = names.known()
        cursor = state.cursor
        content = encode_state(state)
        self._dirty = False
        try:
            await self._in_thread(write_state, self._path, content)
        except StoreUnavailable:
            self._dirty = True
            raise
        self._saved = cursor
        self._saved_s = self._clock()

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, functools.partial(call, *args, **kwargs))


def _raise_unavailable(answer: Answer) -> Stored | Refused | TooLarge:
    if isinstance(answer, Unavailable):
        raise StoreUnavailable(answer.trouble, retry_after_s=answer.retry_after_s)
    return answer


async def _all(parts: Sequence[Awaitable[T]]) -> list[T]:
    """The results of all; where some fail, the first error, once all have ended."""
    results = await asyncio.gather(*parts, return_exceptions=True)
    found: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
