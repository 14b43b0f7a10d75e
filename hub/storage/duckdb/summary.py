"""What is known of every series without asking the database: how many readings, from when to when, and the newest."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hub.model.batch import Series
from hub.model.store import NewestReading, ReadingCounts
from hub.storage.duckdb.columns import DTYPES, Array, Touched
from wire.model import MetricType

FIRST_SIZE = 1024
"""Series that the arrays have room for at first; they double from there. A series costs 48 bytes."""


class Span(NamedTuple):
    """A series' number of readings and its oldest and newest time; the oldest may be too early, never too late."""

    readings: int
    oldest_ns: int
    newest_ns: int


class Summary:
    """The series of one type, in arrays indexed by their ids, which are small integers.

    Changed by the store's writer thread and read by all: every method holds the lock, for less than a millisecond.
    """

    def __init__(self, type: MetricType) -> None:
        self._lock = threading.Lock()
        self._readings: Array = np.zeros(FIRST_SIZE, np.int64)
        self._expired: Array = np.zeros(FIRST_SIZE, np.int64)
        self._refused: Array = np.zeros(FIRST_SIZE, np.int64)
        self._oldest_ns: Array = np.zeros(FIRST_SIZE, np.int64)
        self._newest_ns: Array = np.zeros(FIRST_SIZE, np.int64)
        self._values: Array = np.zeros(FIRST_SIZE, DTYPES[type])

    def add(self, touched: Touched) -> None:
        """Counts rows in."""
        ids = touched.series
        if not len(ids):
            return
        with self._lock:
            self._make_room(int(ids[-1]) + 1)
            new = self._readings[ids] == 0
            older = new | (touched.oldest_ns < self._oldest_ns[ids])
            self._oldest_ns[ids[older]] = touched.oldest_ns[older]
            newer = new | (touched.newest_ns >= self._newest_ns[ids])
            self._newest_ns[ids[newer]] = touched.newest_ns[newer]
            self._values[ids[newer]] = touched.values[newer]
            self._readings[ids] += touched.readings

    def delete(self, series: Array, readings: Array, before_ns: int) -> None:
        """Counts out rows older than `before_ns`, which are expired: so many of each of these series."""
        with self._lock:
            self._readings[series] -= readings
            self._expired[series] += readings
            self._oldest_ns[series] = np.maximum(self._oldest_ns[series], before_ns)

    def import_counts(self, counts: Mapping[int, ReadingCounts]) -> None:
        """Takes over what another store knew to be expired and refused, by id."""
        if not counts:
            return
        with self._lock:
            self._make_room(max(counts) + 1)
            for id, (_, expired, refused) in counts.items():
                self._expired[id], self._refused[id] = expired, refused

    def everything(self) -> tuple[Touched, Array, Array]:
        """All series that have or had readings; and how many of each are expired, and were refused elsewhere."""
        with self._lock:
            ids = self._ids().astype(np.int32)
            columns = (self._readings, self._oldest_ns, self._newest_ns, self._values)
            return Touched(ids, *(column[ids] for column in columns)), self._expired[ids], self._refused[ids]

    def restore(self, touched: Touched, expired: Array, refused: Array) -> None:
        """Puts what `everything` gave into a new summary."""
        self.add(touched)
        with self._lock:
            self._expired[touched.series] = expired
            self._refused[touched.series] = refused

    def counts(self) -> dict[int, ReadingCounts]:
        """What became of the readings of each series that has or had any, by id."""
        with self._lock:
            ids = self._ids()
            columns = [column[ids].tolist() for column in (self._readings, self._expired, self._refused)]
        return dict(zip(ids.tolist(), map(ReadingCounts, *columns), strict=True))

    def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """The newest reading of each series that has one, by id."""
        with self._lock:
            ids = self._known(series)
            times, values = self._newest_ns[ids].tolist(), self._values[ids].tolist()
        return {
            id: NewestReading(*newest) for id, newest in zip(ids.tolist(), zip(times, values, strict=True), strict=True)
        }

    def spans(self, series: Sequence[Series]) -> dict[int, Span]:
        """The span of each series that has readings, by id."""
        with self._lock:
            ids = self._known(series)
            columns = [column[ids].tolist() for column in (self._readings, self._oldest_ns, self._newest_ns)]
        return dict(zip(ids.tolist(), map(Span, *columns), strict=True))

    def _ids(self) -> Array:
        return np.flatnonzero(self._readings + self._expired + self._refused)

    def _known(self, series: Sequence[Series]) -> Array:
        size = len(self._readings)
        ids = np.array([one.id for one in series if one.id < size], np.int64)
        return ids[self._readings[ids] > 0]

    def _make_room(self, size: int) -> None:
        if size > (old := len(self._readings)):
            more = max(size, 2 * old) - old
            for name in ("_readings", "_expired", "_refused", "_oldest_ns", "_newest_ns", "_values"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros(more, column.dtype)]))
