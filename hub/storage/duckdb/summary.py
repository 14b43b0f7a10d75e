"""Facts about every series that need no query: the number of readings, their ends and the newest one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from hub.model.batch import Series
from hub.model.store import NewestReading, ReadingCounts
from hub.storage.duckdb.columns import SeriesStats, stats_from_columns
from hub.storage.query import DTYPES, Array
from wire.model import MetricType

FIRST_SIZE = 1024
"""Initial size of the arrays in series. They double when they are full. A series costs 48 bytes."""

COLUMNS = ("readings", "oldest_ns", "newest_ns", "value", "expired", "refused")
"""The columns of the table of saved summaries, after `series`."""

T = TypeVar("T")


class Span(NamedTuple):
    """The number of readings of a series and its ends. The oldest time may be too early, never too late."""

    readings: int
    oldest_ns: int
    newest_ns: int


def join_spans(one: Span, other: Span) -> Span:
    """Return the span of a series of which each has the readings of one type."""
    return Span(one.readings + other.readings, min(one.oldest_ns, other.oldest_ns), max(one.newest_ns, other.newest_ns))


def add_counts(one: ReadingCounts, other: ReadingCounts) -> ReadingCounts:
    """Return the counts of a series of which each has the readings of one type."""
    return ReadingCounts(*map(sum, zip(one, other, strict=True)))


class Summary:
    """The series of one type, in arrays indexed by their ids, which are small integers.

    The store's writer thread changes it and all threads read it. Every method holds the lock for less than a
    millisecond.
    """

    def __init__(self, type: MetricType) -> None:
        self._lock = threading.Lock()
        self._columns: dict[str, Array] = {
            name: np.zeros(FIRST_SIZE, DTYPES[type] if name == "value" else np.int64) for name in COLUMNS
        }

    def add(self, stats: SeriesStats) -> None:
        """Count added rows."""
        ids = stats.series
        if not len(ids):
            return
        with self._lock:
            self._grow(int(ids[-1]) + 1)
            columns = self._columns
            new = columns["readings"][ids] == 0
            older = new | (stats.oldest_ns < columns["oldest_ns"][ids])
            columns["oldest_ns"][ids[older]] = stats.oldest_ns[older]
            newer = new | (stats.newest_ns >= columns["newest_ns"][ids])
            columns["newest_ns"][ids[newer]] = stats.newest_ns[newer]
            columns["value"][ids[newer]] = stats.value[newer]
            columns["readings"][ids] += stats.readings

    def delete(self, series: Array, readings: Array, before_ns: int) -> None:
        """Count expired rows, which are older than `before_ns`: `readings` of each of these series."""
        with self._lock:
            self._columns["readings"][series] -= readings
            self._columns["expired"][series] += readings
            oldest_ns = self._columns["oldest_ns"]
            oldest_ns[series] = np.maximum(oldest_ns[series], before_ns)

    def import_counts(self, counts: Mapping[int, ReadingCounts]) -> None:
        """Take over the expired and refused counts of another store, by id."""
        if not counts:
            return
        with self._lock:
            self._grow(max(counts) + 1)
            for id, (_, expired, refused) in counts.items():
                self._columns["expired"][id], self._columns["refused"][id] = expired, refused

    def export(self) -> dict[str, Array]:
        """Return the columns to save, of all series that have or had readings."""
        with self._lock:
            ids = self._all_ids().astype(np.int32)
            return {"series": ids} | {name: column[ids] for name, column in self._columns.items()}

    def restore(self, saved: Mapping[str, Array]) -> None:
        """Restore into a new summary what `export` returned."""
        self.add(stats_from_columns(saved))
        with self._lock:
            for name in ("expired", "refused"):
                self._columns[name][saved["series"]] = saved[name]

    def counts(self) -> dict[int, ReadingCounts]:
        """Return the counts of each series that has or had readings, by id."""
        return self._read(None, ReadingCounts, "readings", "expired", "refused")

    def latest(self, series: Sequence[Series]) -> dict[int, NewestReading]:
        """Return the newest reading of each series that has one, by id."""
        return self._read(series, NewestReading, "newest_ns", "value")

    def spans(self, series: Sequence[Series]) -> dict[int, Span]:
        """Return the span of each series that has readings, by id."""
        return self._read(series, Span, "readings", "oldest_ns", "newest_ns")

    def _read(self, series: Sequence[Series] | None, record: Callable[..., T], *names: str) -> dict[int, T]:
        """Return a record of these columns for each series that has readings, or for all that have or had any."""
        with self._lock:
            if series is None:
                ids = self._all_ids()
            else:
                readings = self._columns["readings"]
                ids = np.array([item.id for item in series if item.id < len(readings)], np.int64)
                ids = ids[readings[ids] > 0]
            columns = [self._columns[name][ids].tolist() for name in names]
        return dict(zip(ids.tolist(), map(record, *columns), strict=True))

    def _all_ids(self) -> Array:
        return np.flatnonzero(self._columns["readings"] + self._columns["expired"] + self._columns["refused"])

    def _grow(self, size: int) -> None:
        if size > (old := len(self._columns["readings"])):
            more = max(size, 2 * old) - old
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros(more, column.dtype)])
