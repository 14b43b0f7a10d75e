"""Rows that measure history: the duration of queries by range and tier, and the bytes of a reading on disk."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.figure import Figure, Outcome, Plan, ReportProgress, at_least, at_most
from bench.measure import Failure
from bench.stores import influxdb_bucket
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.store import HistoryQuery, SeriesHistory, StoreCursor
from hub.storage.duckdb.compaction import compact
from hub.storage.duckdb.database import FILE_NAME, Database, size_bytes
from hub.storage.duckdb.history import read_history
from hub.storage.duckdb.tables import STEP_PIECES, STEP_READINGS, Tables
from hub.storage.influxdb.client import InfluxdbCredentials
from hub.storage.influxdb.series_naming import FIELD, MEASUREMENT, TAGS, SeriesNaming
from hub.storage.influxdb.state import BucketAddress
from hub.storage.influxdb.store import InfluxdbStore
from tests.services.influxdb import Access

SERIES = 1_000
QUERIED_SERIES = 5
"""Number of series that each range is queried for, `Plan.repeats` times per_series; the median counts."""

SECOND_NS = 1_000_000_000
HOUR_S, DAY_S = 3_600, 86_400
SLOW_DAYS = 29
SLOW_EVERY_S = 180
"""Interval of the first days, in which the fleet reports every three minutes; later it reports every second."""

WRITE_READINGS = 250
"""Times of each series in one write: 250,000 readings in total, as many as a flood brings in FILL_EVERY_S or more."""

BEGIN_NS = 1_767_225_600 * SECOND_NS
"""2026-01-01."""

DAY_MUST_MS = 50.0
MEMORY_LIMIT = "1GB"
REGISTRY = "b" * 32


class Range(NamedTuple):
    """A typical query: the last `seconds`, reduced to a number of points; `tier` is the tier that should answer."""

    name: str
    seconds: int
    points: int
    tier: str
    must_ms: float | None = None


RANGES = (
    Range("an hour, 1,000 points", HOUR_S, 1_000, "reduced"),
    Range("six hours, 1,000 points", 6 * HOUR_S, 1_000, "reduced"),
    Range("a day, 4,000 points, from readings", DAY_S, 4_000, "reduced"),
    Range("a day, 1,000 points, from minutes", DAY_S, 1_000, "minute", DAY_MUST_MS),
    Range("30 days, 1,000 points, from hours", 30 * DAY_S, 1_000, "hour"),
)


class HistoryRow(NamedTuple):
    """Queries on this number of readings of 1,000 series, in order of arrival and, if `compacted`, also sorted."""

    key: str
    name: str
    readings: int
    compacted: bool

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Fill a store through its own write path, query it, and check each answer against the readings."""
        path = plan.data(self.key) / FILE_NAME
        path.parent.mkdir(parents=True)
        fleet = Fleet(max(SERIES * 1_000, round(self.readings * plan.scale)))
        try:
            figures, notes = self._measured(path, fleet, plan, report)
        finally:
            shutil.rmtree(path.parent)
        return Outcome(figures, notes)

    def _measured(self, path: Path, fleet: Fleet, plan: Plan, report: ReportProgress) -> tuple[list[Figure], list[str]]:
        database = Database(path, memory_limit=MEMORY_LIMIT, threads=1)
        try:
            tables = Tables(database.writer, registry=REGISTRY)
            notes = [_filled(tables, fleet, lambda share: report(f"{self.name}: storing", share))]
            notes.append(_rolled_up(tables, lambda share: report(f"{self.name}: rolling up", share)))
            database.writer.execute("CHECKPOINT")
            figures = _answers(database, tables, fleet, plan, f"history of {fleet.readings:,} readings, ")
        finally:
            database.close()
        figures.append(_bytes(path, fleet, f"history of {fleet.readings:,} readings"))
        if self.compacted:
            began = time.perf_counter()
            compact(
                path,
                memory_limit=MEMORY_LIMIT,
                threads=1,
                report_progress=partial(report, f"{self.name}: compacting"),
            )
            notes.append(f"compacted in {time.perf_counter() - began:.0f} s")
            database = Database(path, memory_limit=MEMORY_LIMIT, threads=1)
            try:
                tables = Tables(database.writer, registry=REGISTRY)
                figures += _answers(database, tables, fleet, plan, "the same compacted, ")
            finally:
                database.close()
            figures.append(_bytes(path, fleet, "the same compacted"))
        return figures, notes


class Fleet:
    """The readings to store: random walks with two decimals. A few series are kept for the checks."""

    def __init__(self, readings: int) -> None:
        slow = SLOW_DAYS * DAY_S // SLOW_EVERY_S
        per_series = readings // SERIES
        # A small store has the same share of slow days.
        slow = min(slow, per_series // 7)
        end_ns = BEGIN_NS + (SLOW_DAYS * DAY_S + max(per_series - slow, DAY_S)) * SECOND_NS
        fast_ns = end_ns - np.arange(per_series - slow, 0, -1) * SECOND_NS
        slow_ns = fast_ns[0] - np.arange(slow, 0, -1) * SLOW_EVERY_S * SECOND_NS
        self.times_ns: NDArray[np.int64] = np.concatenate([slow_ns, fast_ns])
        self.end_ns = int(self.times_ns[-1]) + 1
        self.readings = per_series * SERIES
        self.series = [Series(id, f"device-{id // 10}", f"metric-{id % 10}", "float") for id in range(SERIES)]
        self.asked = self.series[:: SERIES // QUERIED_SERIES]
        self.values: dict[int, NDArray[np.float64]] = {series.id: np.empty(per_series) for series in self.asked}

    def batches(self) -> Iterator[Batch]:
        """Return all batches in order of arrival."""
        chance = np.random.default_rng(1)
        level = chance.normal(20.0, 5.0, SERIES)
        for first in range(0, len(self.times_ns), WRITE_READINGS):
            times_ns = self.times_ns[first : first + WRITE_READINGS]
            walk = level[:, None] + np.cumsum(chance.normal(0.0, 0.05, (SERIES, len(times_ns))), axis=1)
            level = walk[:, -1]
            rounded = walk.round(2)
            for series in self.asked:
                self.values[series.id][first : first + WRITE_READINGS] = rounded[series.id]
            yield Batch(times_ns, list(zip(self.series, rounded, strict=True)), readings=rounded.size)


def _filled(tables: Tables, fleet: Fleet, report: Callable[[float], None]) -> str:
    spent, stored = 0.0, 0
    for offset, batch in enumerate(fleet.batches(), start=1):
        entry = Entry(EntryKind.BATCH, "device", "0" * 16, offset, 0, "msgpack", b"", batch=batch, offset=offset)
        began = time.perf_counter()
        tables.append([entry], StoreCursor("journal", offset))
        spent += time.perf_counter() - began
        stored += batch.readings
        report(stored / fleet.readings)
    return f"stored at {stored / spent / 1e6:.1f} M readings/s"


def _rolled_up(tables: Tables, report: Callable[[float], None]) -> str:
    began = time.perf_counter()
    rolled = 0
    while count := tables.rollups.roll_up("float", STEP_READINGS):
        rolled += count
        report(rolled / tables.stored["float"])
    minutes_s = time.perf_counter() - began
    pieces = tables.rollups.backlog["float"].minutes
    while tables.rollups.fold("float", STEP_PIECES):
        pass
    spent = time.perf_counter() - began
    return (
        f"rolled up at {rolled / minutes_s / 1e6:.1f} M readings/s to {pieces:,} pieces of minutes, "
        f"which took {spent - minutes_s:.1f} s to fold into hours"
    )


def _answers(database: Database, tables: Tables, fleet: Fleet, plan: Plan, name: str) -> list[Figure]:
    async def ask(query: HistoryQuery) -> SeriesHistory:
        spans = tables.summaries["float"].spans(query.series)
        with database.reader() as reader:
            (answer,) = read_history(reader, query, spans).series
        return answer

    return [
        at_most(f"{name}{range.name}", took_ms, "ms", range.must_ms)
        for range, took_ms in asyncio.run(measure_ranges(fleet, plan.repeats, ask)).items()
    ]


async def measure_ranges(
    fleet: Fleet, repeats: int, ask: Callable[[HistoryQuery], Awaitable[SeriesHistory]]
) -> dict[Range, float]:
    """Query every range of several series, check each answer, and return the median of each range in ms."""
    found = {}
    for range in RANGES:
        took_ms = []
        for series in list(fleet.asked) * repeats:
            query = HistoryQuery([series], fleet.end_ns - range.seconds * SECOND_NS, fleet.end_ns, range.points)
            began = time.perf_counter()
            answer = await ask(query)
            took_ms.append((time.perf_counter() - began) * 1e3)
            check(answer, query, fleet, range)
        found[range] = statistics.median(took_ms)
    return found


def check(answer: SeriesHistory, query: HistoryQuery, fleet: Fleet, range: Range) -> None:
    """Check that the answer has true readings only, with the ends and the extremes of the range among them."""
    within = slice(*np.searchsorted(fleet.times_ns, [query.start_ns, query.end_ns]))
    times_ns, values = fleet.times_ns[within], fleet.values[answer.series.id][within]
    found = np.asarray(answer.values)
    places = np.searchsorted(times_ns, answer.times_ns)
    right = (
        len(found) <= range.points
        and np.array_equal(times_ns[places], answer.times_ns)
        and np.array_equal(values[places], found)
        and (found.min(), found.max()) == (values.min(), values.max())
        and (answer.times_ns[0], answer.times_ns[-1]) == (times_ns[0], times_ns[-1])
    )
    if not right:
        raise Failure(f"{range.name}: the answer for {answer.series.device} is not what was stored")
    if len(times_ns) > range.points and fleet.readings >= SERIES * DAY_S and answer.resolution != range.tier:
        raise Failure(f"{range.name}: answered from {answer.resolution}, not from {range.tier}")


def _bytes(path: Path, fleet: Fleet, name: str) -> Figure:
    return at_most(f"{name}: on disk, with its rollups", size_bytes(path) / fleet.readings, "B/reading", None)


SERIES_PER_DEVICE = 1_000
"""High enough that the hub's limit never applies; the limit is not measured here."""


class InfluxdbHistoryRow(NamedTuple):
    """Queries on this number of readings of 1,000 series; the server runs on the other core."""

    key: str
    name: str
    readings: int

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Fill a bucket through the store, query it, and check each answer against the readings."""
        data = plan.data(self.key)
        data.mkdir(parents=True)
        with influxdb_bucket(plan, self.key, "load") as bucket:
            return asyncio.run(self._measured(data, bucket.access, plan, report))

    async def _measured(self, data: Path, access: Access, plan: Plan, report: ReportProgress) -> Outcome:
        fleet = Fleet(round(self.readings * plan.scale))
        async with InfluxdbStore(
            data,
            target=BucketAddress(access.url, access.org, access.bucket),
            credentials=InfluxdbCredentials(access.token),
            naming=SeriesNaming(measurement=MEASUREMENT, tags=TAGS, field=FIELD, tags_of=lambda device: {}),
            registry=REGISTRY,
            max_series_per_device=SERIES_PER_DEVICE,
        ) as store:
            await store.open()
            began = time.perf_counter()
            stored = 0
            for offset, batch in enumerate(fleet.batches(), start=1):
                entry = Entry(
                    EntryKind.BATCH, "device", "0" * 16, offset, 0, "msgpack", b"", batch=batch, offset=offset
                )
                written = await store.write([entry], StoreCursor("journal", offset))
                if written.refused:
                    raise Failure(f"InfluxDB rejected readings: {written.refused[0]}")
                stored += written.readings
                report(f"{self.name}: storing", stored / fleet.readings)
            rate = stored / (time.perf_counter() - began)
            figures = [at_least(f"{self.name}: stored", rate, "readings/s", None)]
            return Outcome([*figures, *await self._answers(store, fleet, plan)], [f"{stored:,} readings"])

    async def _answers(self, store: InfluxdbStore, fleet: Fleet, plan: Plan) -> list[Figure]:
        async def ask(query: HistoryQuery) -> SeriesHistory:
            (answer,) = (await store.query(query)).series
            return answer

        name = f"{self.name} of {fleet.readings:,} readings"
        return [
            at_most(f"{name}, {range.name.partition(', from')[0]}", took_ms, "ms", None)
            for range, took_ms in (await measure_ranges(fleet, plan.repeats, ask)).items()
        ]
