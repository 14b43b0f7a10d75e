"""One value for each interval of a range: averages, ends, extremes, counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hub.contract.batch import Series
from hub.contract.store import Aggregate, Query, SeriesHistory, StoreError
from hub.stores.duckdb import schema
from hub.stores.duckdb.answer import Found, Range, parts, plain
from hub.stores.duckdb.database import Reader
from wire.model import MetricType

NUMBERS_ONLY = ("avg", "min", "max")

VALUES: dict[Aggregate, str] = {
    "avg": "avg(value)",
    "min": "min(value)",
    "max": "max(value)",
    "first": "arg_min(value, time_ns)",
    "last": "arg_max(value, time_ns)",
    "count": "count(*)",
}

RESULTS: dict[Aggregate, MetricType] = {"avg": "float", "count": "integer"}
"""The types of values that are not of the series' own type."""


def refuse_others(query: Query) -> None:
    """Raises StoreError where the aggregate is not for the type of one of the series."""
    if query.aggregate in NUMBERS_ONLY:
        others = [
            f"{one.device} {one.metric} ({one.type})" for one in query.series if one.type in ("boolean", "string")
        ]
        if others:
            raise StoreError(
                f"{query.aggregate} is for float and integer series only, not for {', '.join(others)}: ask for first, "
                "last or count"
            )


def read_aggregate(
    reader: Reader, type: MetricType, wanted: Mapping[int, Series], query: Query, within: Range, points: int
) -> Found:
    """The points of series of one type."""
    width_ns = -((query.start_ns - query.end_ns) // points)
    reader.offer("wanted", {"id": np.array(sorted(wanted), np.int32)})
    # A range that begins before 1970 may be longer than 63 bits of nanoseconds.
    time_ns = "time_ns" if query.start_ns >= 0 else "time_ns::HUGEINT"
    columns = reader.fetch(
        f"SELECT series, (({time_ns} - ?) // ?)::INTEGER AS part, {VALUES[query.aggregate]} AS result "
        f"FROM {schema.raw(type)} JOIN wanted ON series = id WHERE time_ns BETWEEN ? AND ? "
        f"GROUP BY series, part {'HAVING NOT isnan(result)' if query.aggregate == 'avg' else ''} ORDER BY series, part",
        *(query.start_ns, width_ns, *within),
    )
    times_ns = query.start_ns + columns["part"].astype(np.int64) * width_ns
    result = RESULTS.get(query.aggregate, type)
    return {
        id: SeriesHistory(wanted[id], times_ns[part], plain(result, columns["result"][part]), "reduced")
        for id, part in parts(columns["series"])
    }
