"""Every reading of many series, a bounded part of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hub.model.batch import Series
from hub.model.store import SCAN_READINGS, SeriesHistory
from hub.storage.duckdb import schema
from hub.storage.duckdb.answer import Range, parts, plain
from hub.storage.duckdb.columns import Array
from hub.storage.duckdb.database import Reader
from wire.model import MetricType

SCAN_BYTES = 128_000_000
"""Of the readings that one pass over the tables takes out: 4 million numbers. A pass over 100 million readings in order
of arrival takes about 0.3 s, so with half as much the passes would cost more than the sorting."""

ROW_BYTES = 32
"""Of one reading while it is sorted, without the text of a string."""

TEXT_COPIES = 3
"""A string is there as DuckDB's text, as numpy's object and as that of the sorted answer."""


class _Size(NamedTuple):
    """How many readings of a series are in the range, their bytes in all, and the bytes of the largest."""

    readings: int
    bytes: int
    largest_bytes: int


def scan_history(
    reader: Reader, series: Sequence[Series], within: Range, *, max_bytes: int = SCAN_BYTES, most: int = SCAN_READINGS
) -> Iterator[SeriesHistory]:
    """Pieces of at most `most` readings, of the reader's snapshot: one series after the other, in order of time.

    Readings of one time come in order of arrival. Neighbours are read together while they fit into `max_bytes`; what
    does not fit alone is read by pages.
    """
    sizes = _sizes(reader, series, within)
    group: list[Series] = []
    bytes = 0
    for one in series:
        size = sizes.get(one.id)
        if size is None:
            continue
        if group and bytes + size.bytes > max_bytes:
            yield from _group(reader, group, within, most)
            group, bytes = [], 0
        if size.bytes > max_bytes:
            yield from _pages(reader, one, within, max(1, max_bytes // size.largest_bytes), most)
        else:
            group.append(one)
            bytes += size.bytes
    yield from _group(reader, group, within, most)


def _sizes(reader: Reader, series: Sequence[Series], within: Range) -> dict[int, _Size]:
    sizes: dict[int, _Size] = {}
    for type, wanted in _by_type(series).items():
        text = f"{TEXT_COPIES} * strlen(value)" if type == "string" else "0"
        reader.offer("wanted", {"id": wanted})
        columns = reader.fetch(
            f"SELECT series, count(*) AS readings, {ROW_BYTES} * count(*) + sum({text}) AS bytes, "
            f"{ROW_BYTES} + max({text}) AS largest FROM {schema.raw(type)} JOIN wanted ON series = id "
            "WHERE time_ns BETWEEN ? AND ? GROUP BY series",
            *within,
        )
        for id, *size in zip(*(columns[name].tolist() for name in columns), strict=True):
            sizes[id] = _Size(*map(int, size))
    return sizes


def _group(reader: Reader, group: Sequence[Series], within: Range, most: int) -> Iterator[SeriesHistory]:
    """All of several series."""
    found: dict[int, tuple[Array, Array]] = {}
    for type, wanted in _by_type(group).items():
        reader.offer("wanted", {"id": wanted})
        # Bounds beside the join: where rows are in order of series, whole row groups are passed over.
        columns = reader.fetch(
            f"SELECT series, time_ns, value FROM {schema.raw(type)} AS raw JOIN wanted ON series = id "
            "WHERE time_ns BETWEEN ? AND ? AND series BETWEEN ? AND ? ORDER BY series, time_ns, raw.rowid",
            *within,
            int(wanted.min()),
            int(wanted.max()),
        )
        for id, part in parts(columns["series"]):
            found[id] = columns["time_ns"][part], columns["value"][part]
    for one in group:
        yield from _pieces(one, *found.pop(one.id), most)


def _pages(reader: Reader, series: Series, within: Range, page: int, most: int) -> Iterator[SeriesHistory]:
    """All of one series, so many readings a page; a page begins after the last reading of the one before."""
    after_ns, after_row = within.first_ns, -1
    while True:
        columns = reader.fetch(
            f"SELECT time_ns, value, rowid FROM {schema.raw(series.type)} WHERE series = ? AND time_ns BETWEEN ? AND ? "
            "AND (time_ns > ? OR rowid > ?) ORDER BY time_ns, rowid LIMIT ?",
            *(series.id, after_ns, within.last_ns, after_ns, after_row, page),
        )
        yield from _pieces(series, columns["time_ns"], columns["value"], most)
        if len(columns["rowid"]) < page:
            return
        after_ns, after_row = int(columns["time_ns"][-1]), int(columns["rowid"][-1])


def _pieces(series: Series, times_ns: Array, values: Array, most: int) -> Iterator[SeriesHistory]:
    for start in range(0, len(times_ns), most):
        part = slice(start, start + most)
        yield SeriesHistory(series, times_ns[part], plain(series.type, values[part]), "raw")


def _by_type(series: Sequence[Series]) -> Mapping[MetricType, Array]:
    """The ids of series, by their types."""
    found = {type: [one.id for one in series if one.type == type] for type in schema.TYPES}
    return {type: np.array(sorted(set(ids)), np.int32) for type, ids in found.items() if ids}
