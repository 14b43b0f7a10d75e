"""The stores for which the contract tests run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hub.model.batch import Batch, Series
from hub.model.store import History, Store
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.influxdb.line_protocol import MAX_TIME_NS
from hub.storage.influxdb.store import InfluxdbStore
from tests.hub.storage.influxdb.bucket import store_of
from tests.hub.storage.readings import REGISTRY, Reading, batch, order, readings_of
from tests.services.influxdb import Access, InfluxdbServer


@dataclass(frozen=True)
class Implementation:
    """A store to test. `open` opens the store of a directory: a new one, or the existing one.

    If `remote`, a server holds the readings. It keeps one reading of a series at a time, and stores neither infinities
    nor the last nanosecond.
    """

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[Store]]
    remote: bool = False

    @property
    def newest_ns(self) -> int:
        """Return the last time that the store accepts."""
        return MAX_TIME_NS if self.remote else 2**63 - 1

    def accepts(self, reading: Reading) -> bool:
        """Return True if the store does not refuse this reading."""
        time, value = reading
        return time <= self.newest_ns and (not self.remote or (not isinstance(value, float) or math.isfinite(value)))

    def readings_of(self, batches: Iterable[Batch]) -> dict[int, list[Reading]]:
        """Return every accepted reading of these batches by series id, in time order."""
        taken = {id: list(filter(self.accepts, part)) for id, part in readings_of(batches).items()}
        return {id: part for id, part in taken.items() if part}

    def without_collisions(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return the batches; for a remote store without rows of a time that a series already has."""
        return list(batches) if not self.remote else without_equal_times(batches)


def duckdb() -> Implementation:
    """Return a store in a file of the directory."""
    return Implementation("duckdb", lambda directory: DuckdbStore(directory / "history.duckdb", registry=REGISTRY))


def influxdb(name: str, server: InfluxdbServer) -> Implementation:
    """Return a store with a bucket for each directory."""
    buckets: dict[Path, Access] = {}

    def open(directory: Path) -> InfluxdbStore:
        if directory not in buckets:
            # All of time is in three files instead of 15,000.
            buckets[directory] = server.fresh(shard_days=36_500)
        return store_of(directory, buckets[directory], tags={"type": "sensor", "site": "north"})

    return Implementation(name, open, remote=True)


def without_equal_times(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches in which each time occurs once for each series."""
    seen: set[tuple[int, int]] = set()
    found = []
    for content in batches:
        columns = {}
        for series, values in content.columns:
            kept = []
            for time, value in zip(content.times, values, strict=True):
                is_new = (series.id, int(time)) not in seen
                kept.append(value if is_new else None)
                if value is not None and value == value:
                    seen.add((series.id, int(time)))
            columns[series] = kept
        found.append(_like(content, columns))
    return found


def _like(content: Batch, columns: dict[Series, list[object]]) -> Batch:
    packed = isinstance(content.times, np.ndarray)
    made = batch([int(time) for time in content.times], columns, packed=packed)  # type: ignore[arg-type]
    made.readings = sum(value is not None and value == value for values in columns.values() for value in values)
    return made


def plain(history: History) -> dict[int, list[Reading]]:
    """Return a history's readings by series id as Python values, and check that they are in time order."""
    found = {}
    for part in history.series:
        times = part.times_ns.tolist()
        values = part.values if isinstance(part.values, list) else part.values.tolist()
        assert times == sorted(times)
        assert len(times) == len(values)
        if times:
            found[part.series.id] = sorted(zip(times, values, strict=True), key=order)
    return found
