"""Comparison of journal entries with the readings of a server: which of them it lacks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.model.batch import Batch, Column, Entry, Series
from hub.model.store import HistoryQuery, MissingReadings
from hub.storage.influxdb.history import HistoryReader
from hub.storage.influxdb.line_protocol import MAX_TIME_NS
from wire.timestamp import DURATION_NS

POINTS = 1_000
"""Readings of a series in one range up to which many series share a request. A series with more is read in pages."""

MAX_RANGES = 16
"""Ranges of time that are read for one comparison. A file of old readings may contain times years apart."""

MIN_GAP_NS = DURATION_NS["h"]
"""Times nearer to each other are in one range: reading some more readings costs less than another request."""

Times = NDArray[np.int64]


async def find_missing(history: HistoryReader, given: dict[Series, Times]) -> list[MissingReadings]:
    """Return which of these readings the server lacks. `given` is the answer of storable_times."""
    left = dict(given)
    for start_ns, end_ns in split_times(given.values()):
        inside = [
            series
            for series, times in left.items()
            if np.searchsorted(times, start_ns) < np.searchsorted(times, end_ns)
        ]
        for part in await history.query(HistoryQuery(inside, start_ns, end_ns, POINTS)):
            series = part.series.first
            if part.resolution == "raw":
                left[series] = np.setdiff1d(left[series], part.times_ns, assume_unique=True)
                continue
            async with aclosing(history.scan([series], start_ns, end_ns)) as pieces:
                async for piece in pieces:
                    left[series] = np.setdiff1d(left[series], piece.times_ns, assume_unique=True)
    return [MissingReadings(series, times) for series, times in left.items() if len(times)]


def storable_times(entries: Iterable[Entry]) -> dict[Series, Times]:
    """Return the times of the readings that a server can hold, by series: ascending, each once. Pure.

    A reading counts as stored whatever type it had, so the first object of a series stands for all of its types.
    """
    found: defaultdict[Series, list[Times]] = defaultdict(list)
    for entry in entries:
        if entry.batch is None:
            continue
        times = np.asarray(entry.batch.times, np.int64)
        for series, values in entry.batch.columns:
            if series.type == "float":
                has_value = np.isfinite(np.asarray(values, np.float64))
            else:
                has_value = np.array([value is not None for value in values], np.bool_)
            found[series.first].append(times[has_value & (times <= MAX_TIME_NS)])
    joined = {series: np.unique(np.concatenate(parts)) for series, parts in found.items()}
    return {series: times for series, times in joined.items() if len(times)}


def only_missing(entries: Iterable[Entry], missing: Iterable[MissingReadings]) -> list[Entry]:
    """Return the entries with only these readings. Entries that have none of them are left out. Pure."""
    lacking = dict(missing)
    chosen = []
    for entry in entries:
        if entry.batch is None:
            continue
        times = np.asarray(entry.batch.times, np.int64)
        columns: list[Column] = []
        for series, values in entry.batch.columns:
            is_missing = np.isin(times, lacking.get(series.first, ()))
            if is_missing.any():
                plain = values if isinstance(values, list) else values.tolist()
                columns.append(
                    (series, [value if wanted else None for value, wanted in zip(plain, is_missing, strict=True)])
                )
        if columns:
            batch = Batch(times, columns, readings=0, historical=entry.batch.historical)
            chosen.append(msgspec.structs.replace(entry, batch=batch))
    return chosen


def split_times(columns: Iterable[Times], *, max_ranges: int = MAX_RANGES) -> Sequence[tuple[int, int]]:
    """Return ranges (start, end not included) that contain all these times, without the largest gaps. Pure."""
    times = np.unique(np.concatenate([np.empty(0, np.int64), *columns]))
    if not len(times):
        return []
    gaps = np.diff(times)
    wide = np.flatnonzero(gaps > MIN_GAP_NS)
    largest_first = wide[np.argsort(-gaps[wide], kind="stable")]
    chosen = np.sort(largest_first[: max_ranges - 1])
    firsts = [int(times[0]), *times[chosen + 1].tolist()]
    lasts = [*times[chosen].tolist(), int(times[-1])]
    return [(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]
