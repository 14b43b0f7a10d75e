"""Facts about every series that need no query: the number of readings, their ends and the newest one."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hub.model.batch import Series
from hub.model.store import NewestReading, ReadingCounts
from hub.storage.duckdb.columns import SeriesStats, stats_from_columns
from hub.storage.query import DTYPES, Array
from wire.model import MetricType

FIRST_SIZE = 1024
"""Initial size of the arrays in series. They double when they are full. A series costs 48 bytes."""


class Span(NamedTuple):
    """The number of readings of a series and its ends. The oldest time may be too early, never too late."""

    readings: int
    oldest_ns: int
    newest_ns: int


class Summary:
    """The series of one type, in arrays indexed by their ids, which are small integers.

    The store's writer thread changes it and all threads read it. Every method holds the lock for less than a
    millisecond.
    """

    def __init__(self, type: MetricType) -> None:
        self._lock = threading.Lock()
        self._readings: Array = np.zeros(FIRST_SIZE, np.int64)
        self._expired: Array = np.zeros(FIRST_SIZE, np.int64)
        self._refused: Array = np.zeros(FIRST_SIZE, np.int64)
        self._oldest_ns: Array = np.zeros(FIRST_SIZE, np.int64)
        self._newest_ns: Array = np.zeros(FIRST_SIZE, np.int64)
        self._values: Array = np.zeros(FIRST_SIZE, DTYPES[type])

    def add(self, stats: SeriesStats) -> None:
        """Count added rows."""
        ids = stats.series
        if not len(ids):
            return
        with self._lock:
            self._grow(int(ids[-1]) + 1)
            new = self._readings[ids] == 0
            older = new | (stats.oldest_ns < self._oldest_ns[ids])
            self._oldest_ns[ids[older]] = stats.oldest_ns[older]
            newer = new | (stats.newest_ns >= self._newest_ns[ids])
            self._newest_ns[ids[newer]] = stats.newest_ns[newer]
            self._values[ids[newer]] = stats.value[newer]
            self._readings[ids] += stats.readings

    def delete(self, series: Array, readings: Array, before_ns: int) -> None:
        """Count expired rows, which are older than `before_ns`: `readings` of each of these series."""
        with self._lock:
            self._readings[series] -= readings
            self._expired[series] += readings
            self._oldest_ns[series] = np.maximum(self._oldest_ns[series], before_ns)

    def import_counts(self, counts: Mapping[int, ReadingCounts]) -> None:
        """Take over the expired and refused counts of another store, by id."""
        if not counts:
            return
        with self._lock:
            self._grow(max(counts) + 1)
            for id, (_, expired, refused) in counts.items():
                self._expired[id], self._refused[id] = expired, refused

    def export(self) -> dict[str, Array]:
        """Return the columns to save: all series that have or had readings, with their expired and refused counts."""
        with self._lock:
            ids = self._all_ids().astype(np.int32)
            columns = {
                "readings": self._readings,
                "oldest_ns": self._oldest_ns,
                "newest_ns": self._newest_ns,
                "value": self._values,
                "expired": self._expired,
                "refused": self._refused,
            }
            return {"series": ids} | {name: column[ids] for name, column in columns.items()}

    def restore(self, saved: Mapping[str, Array]) -> None:
        """Restore into a new summary what `export` returned."""
        self.add(stats_from_columns(saved))
        with self._lock:
            self._expired[saved["series"]] = saved["expired"]
            self._refused[saved["series"]] = saved["refused"]

    def counts(self) -> dict[int, ReadingCounts]:
        """Return the counts of each series that has or had readings, by id."""
        with self._lock:
            ids = self._all_ids()
            columns = [column[ids].tolist() for column in (self._readings, self._expired, self._refused)]
        return dict(zip(ids.tolist(), map(ReadingCounts, *columns), strict=True))

    def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """Return the newest reading of each series that has one, by id."""
        with self._lock:
            ids = self._ids_of(series)
            columns = [column[ids].tolist() for column in (self._newest_ns, self._values)]
        return dict(zip(ids.tolist(), map(NewestReading, *columns), strict=True))

    def spans(self, series: Sequence[Series]) -> dict[int, Span]:
        """Return the span of each series that has readings, by id."""
        with self._lock:
            ids = self._ids_of(series)
            columns = [column[ids].tolist() for column in (self._readings, self._oldest_ns, self._newest_ns)]
        return dict(zip(ids.tolist(), map(Span, *columns), strict=True))

    def _all_ids(self) -> Array:
        return np.flatnonzero(self._readings + self._expired + self._refused)

    def _ids_of(self, series: Sequence[Series]) -> Array:
        size = len(self._readings)
        ids = np.array([item.id for item in series if item.id < size], np.int64)
        return ids[self._readings[ids] > 0]

    def _grow(self, size: int) -> None:
        if size > (old := len(self._readings)):
            more = max(size, 2 * old) - old
            for name in ("_readings", "_expired", "_refused", "_oldest_ns", "_newest_ns", "_values"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros(more, column.dtype)]))
