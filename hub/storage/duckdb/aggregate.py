"""One value for each interval of a range: averages, ends, extremes, counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hub.model.batch import Series
from hub.model.store import Aggregate, HistoryQuery, SeriesHistory
from hub.storage.duckdb.answer import Found, Range, parts, plain, resolution_name
from hub.storage.duckdb.plan import plan, resolution_for
from hub.storage.duckdb.sources import Sources
from wire.model import MetricType

OF_READINGS: dict[Aggregate, str] = {
    "avg": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "first": "arg_min(value, time_ns)",
    "last": "arg_max(value, time_ns)",
    "count": "count(*)",
}

OF_PIECES: dict[Aggregate, str] = {
    "avg": "sum(sum) / sum(readings)",
    "min": "min(low)",
    "max": "max(high)",
    "first": "arg_min(first, first_ns)",
    "last": "arg_max(last, last_ns)",
    "count": "sum(readings)::BIGINT",
}

RESULTS: dict[Aggregate, MetricType] = {"avg": "float", "count": "integer"}
"""The types of values that are not of the series' own type."""


def read_aggregate(
    sources: Sources, type: MetricType, wanted: Mapping[int, Series], query: HistoryQuery, within: Range, points: int
) -> Found:
    """The points of series of one type.

    From a rollup, a bucket counts to the interval that it begins in; one that the range begins in, to the first.
    """
    width_ns = -((query.start_ns - query.end_ns) // points)
    resolution = resolution_for(width_ns, query.start_ns)
    planned = plan(within, resolution, sources.held)
    sources.reader.offer("wanted", {"id": np.array(sorted(wanted), np.int32)})
    if [part.table for part in planned] == ["raw"]:
        values, relation = OF_READINGS, sources.readings(type, planned)
    else:
        values, relation = OF_PIECES, sources.pieces(type, planned)
    # A range that begins before 1970 may be longer than 63 bits of nanoseconds.
    time_ns = "time_ns" if query.start_ns >= 0 else "time_ns::HUGEINT"
    columns = sources.reader.fetch(
        f"SELECT series, greatest(0, ({time_ns} - ?) // ?)::INTEGER AS part, {values[query.aggregate]} AS result, "
        f"max(resolution) AS resolution FROM ({relation}) GROUP BY series, part "
        f"{'HAVING NOT isnan(result)' if query.aggregate == 'avg' else ''} ORDER BY series, part",
        *(query.start_ns, width_ns),
    )
    times_ns = query.start_ns + columns["part"].astype(np.int64) * width_ns
    result = RESULTS.get(query.aggregate, type)
    return {
        id: SeriesHistory(
            wanted[id],
            times_ns[part],
            plain(result, columns["result"][part]),
            resolution_name(columns["resolution"][part]),
        )
        for id, part in parts(columns["series"])
    }
