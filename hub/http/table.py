"""Readings of many series as one Arrow table: `time_ns`, `series` (an index into the layout's series), and a column of
values for each type that occurs, null where a row is of another type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from hub.model.batch import Series
from hub.model.store import Aggregate, SeriesHistory
from wire.model import MetricType

Table: TypeAlias = Any
"""A pyarrow.Table, which has no types to check against."""

TEXT = pa.large_string()
"""Values of 64 KiB each would soon be too many for 32-bit offsets."""

TYPES: dict[MetricType, Any] = {
    "float": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "string": TEXT,
}
"""The Arrow type of each type's values."""

UTC = "UTC"


def type_of(series: Series, aggregate: Aggregate = "minmax") -> MetricType:
    """The type of the values that a history of this series has."""
    return {"avg": "float", "count": "integer"}.get(aggregate, series.type)  # type: ignore[return-value]  # literals


class Layout:
    """Which series a table has, and so which columns. `zone` is the IANA time zone that times are shown in."""

    def __init__(self, series: Sequence[Series], *, zone: str = UTC, aggregate: Aggregate = "minmax") -> None:
        self.series = series
        self.zone = zone
        self._aggregate: Aggregate = aggregate
        self._index = {one.id: index for index, one in enumerate(series)}
        occurring = {type_of(one, aggregate) for one in series}
        self.types = [type for type in TYPES if type in occurring]

    def table(self, part: SeriesHistory) -> Table:
        """The readings of one series, in their order."""
        rows = len(part.times_ns)
        type = type_of(part.series, self._aggregate)
        columns: dict[str, Any] = {other: pa.nulls(rows, TYPES[other]) for other in self.types}
        columns[type] = pa.array(part.values, TYPES[type])
        columns["time_ns"] = pa.array(part.times_ns, pa.int64())
        columns["series"] = pa.repeat(pa.scalar(self._index[part.series.id], pa.int32()), rows)
        return pa.table(columns)

    def in_order_of_time(self, parts: Sequence[SeriesHistory]) -> Table:
        """The readings of all series; those of one time in order of series."""
        tables = [self.table(part) for part in parts]
        return (
            pa.concat_tables(tables).sort_by("time_ns") if tables else pa.table({"time_ns": pa.array([], pa.int64())})
        )


def read_export(batch: Any) -> tuple[Layout, Table]:
    """A record batch of an export, which is never empty and has one series, as the table inside that it came from."""
    device, metric, unit = (batch.column(name)[0].as_py() for name in ("device", "metric", "unit"))
    type = next(type for type in TYPES if type in batch.schema.names and not batch.column(type).null_count)
    layout = Layout([Series(0, device, metric, type, unit)], zone=batch.schema.field("time").type.tz)
    columns = {
        "time_ns": batch.column("time").cast(pa.int64()),
        "series": pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows),
        type: batch.column(type),
    }
    return layout, pa.table(columns)
