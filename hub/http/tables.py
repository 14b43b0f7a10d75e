"""Readings as Arrow tables, and their formats: CSV, line protocol and Arrow IPC.

A table has the columns `time_ns`, `series` (an index into the layout's series), and a column of values for each type
that occurs, null where a row has another type. The writers process whole columns, without Python objects and without
holding the interpreter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any, TypeAlias, cast
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from hub.model.batch import Series
from hub.model.store import Aggregate, SeriesHistory
from wire.model import MetricType
from wire.timestamp import NS_PER_S

Table: TypeAlias = Any
"""A pyarrow.Table; pyarrow ships no types."""

TEXT = pa.large_string()
"""32-bit offsets would be too small for many values of 64 KiB."""

TYPES: dict[MetricType, Any] = {
    "float": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "string": TEXT,
}
"""The Arrow type of the values of each metric type."""

UTC = "UTC"


def type_of(series: Series, aggregate: Aggregate = "minmax") -> MetricType:
    """Return the type of the values in a history of this series."""
    return {"avg": "float", "count": "integer"}.get(aggregate, series.type)  # type: ignore[return-value]  # literals


def _types_of(series: Series, aggregate: Aggregate) -> set[MetricType]:
    """Return the types of the values in the parts of a history of this series, whose type may have been changed."""
    types = {type_of(part, aggregate) for part in series.parts or (series,)}
    return types - {"integer"} if "float" in types else types  # a history has them as numbers of one part


class Layout:
    """The series of a table, which decide its columns. `zone` is the IANA time zone of the displayed times.

    With `raw`, CSV contains every text unchanged, also one that a spreadsheet would run as a formula.
    """

    def __init__(
        self, series: Sequence[Series], *, zone: str = UTC, aggregate: Aggregate = "minmax", raw: bool = False
    ) -> None:
        self.series = series
        self.zone = zone
        self.raw = raw
        self._aggregate: Aggregate = aggregate
        self._index = {known.id: index for index, known in enumerate(series)}
        occurring = {kind for known in series for kind in _types_of(known, aggregate)}
        self.types = [name for name in TYPES if name in occurring]

    def table(self, part: SeriesHistory) -> Table:
        """Return the readings of one series, in their order."""
        rows = len(part.times_ns)
        own = type_of(part.series, self._aggregate)
        columns: dict[str, Any] = {other: pa.nulls(rows, TYPES[other]) for other in self.types}
        columns[own] = pa.array(part.values, TYPES[own])
        columns["time_ns"] = pa.array(part.times_ns, pa.int64())
        columns["series"] = pa.repeat(pa.scalar(self._index[part.series.id], pa.int32()), rows)
        return pa.table(columns)

    def in_order_of_time(self, parts: Sequence[SeriesHistory]) -> Table:
        """Return the readings of all series in order of time; those of one time in order of series."""
        tables = [self.table(part) for part in parts]
        return (
            pa.concat_tables(tables).sort_by("time_ns") if tables else pa.table({"time_ns": pa.array([], pa.int64())})
        )


def read_export(batch: Any, *, raw: bool = False) -> tuple[Layout, Table]:
    """Return the table, with its layout, from which a record batch of an export was made.

    A record batch of an export is never empty and has one series.
    """
    device, metric, unit = (batch.column(name)[0].as_py() for name in ("device", "metric", "unit"))
    own = next(name for name in TYPES if name in batch.schema.names and not batch.column(name).null_count)
    layout = Layout([Series(0, device, metric, own, unit)], zone=batch.schema.field("time").type.tz, raw=raw)
    columns = {
        "time_ns": batch.column("time").cast(pa.int64()),
        "series": pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows),
        own: batch.column(own),
    }
    return layout, pa.table(columns)


CSV_HEADER = ["time", "time_ns", "device", "metric", "unit", "value"]
CSV_END = "\r\n"
"""The end of a row (RFC 4180)."""

FORMULA = "^'*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-]"
"""Begin of a text that spreadsheets take for a formula, and may run: also in full width, which some of them accept
(OWASP, CSV injection). An apostrophe before it makes it a text. A text with apostrophes of its own there gets one more,
so that an import takes away the right one."""

MEASUREMENT = "telemetry"
"""The measurement of every line in line protocol; the device is a tag and the metric a field."""

ZONE_STEP_S = 30
"""Since 1970 every change of a zone's offset was at a multiple of so many seconds."""


class TextWriter(ABC):
    """A line of text for each row.

    The results of `begin`, of `rows` for each table, and of `end` make a file, as with every writer.
    """

    def __init__(self, layout: Layout) -> None:
        """Raise ValueError for a metric that the format cannot name."""
        self._layout = layout
        self._names = pa.array([self._name(known) for known in layout.series], TEXT)

    def begin(self) -> bytes:
        """Return what precedes the lines."""
        return b""

    @abstractmethod
    def rows(self, table: Table) -> bytes:
        """Return a line for each row."""

    def end(self) -> bytes:
        """Return what follows the lines."""
        return b""

    @abstractmethod
    def _name(self, series: Series) -> str:
        """Return the part of a line that names its series."""


class CsvWriter(TextWriter):
    """Comma-separated values (RFC 4180): time, time_ns, device, metric, unit, value.

    A text that begins like a formula gets an apostrophe in front, unless the layout is raw. Numbers stay as they are.
    """

    def begin(self) -> bytes:
        """Return the names of the columns."""
        return (",".join(CSV_HEADER) + CSV_END).encode()

    def rows(self, table: Table) -> bytes:
        """Return a line for each row. Strings are quoted, other values are not."""
        values = [
            _quoted(column if self._layout.raw else _neutralised(column), '"', '""')
            if kind == "string"
            else column.cast(TEXT)
            for kind, column in _values(self._layout, table)
        ]
        return _joined(
            CSV_END,
            _local_times(table["time_ns"], self._layout.zone),
            ",",
            table["time_ns"].cast(TEXT),
            pc.take(self._names, table["series"]),
            pc.coalesce(*values),
        )

    def _name(self, series: Series) -> str:
        fields = [series.device, series.metric, series.unit]
        if not self._layout.raw:
            fields = _neutralised(pa.array(fields, TEXT)).to_pylist()
        quoted = ('"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text for text in fields)
        return "," + ",".join(quoted) + ","


class LineWriter(TextWriter):
    """InfluxDB line protocol with times in nanoseconds: a line for each reading, which InfluxDB joins again."""

    def rows(self, table: Table) -> bytes:
        """Return a line for each row."""
        values = []
        for kind, column in _values(self._layout, table):
            match kind:
                case "string":
                    values.append(_quoted(pc.replace_substring(column, "\\", "\\\\"), '"', '\\"'))
                case "integer":
                    values.append(_element_wise(column.cast(TEXT), "i"))
                case _:
                    values.append(column.cast(TEXT))
        times = table["time_ns"].cast(TEXT)
        return _joined("\n", pc.take(self._names, table["series"]), pc.coalesce(*values), " ", times)

    def _name(self, series: Series) -> str:
        if series.metric.endswith("\\"):
            raise ValueError(
                f"line protocol cannot name the metric {series.metric!r} of {series.device}, which ends in a "
                "backslash: leave it out, or take csv or arrow"
            )
        metric = series.metric
        for special in ",= ":
            metric = metric.replace(special, f"\\{special}")
        return f"{MEASUREMENT},device={series.device} {metric}="


class ArrowWriter:
    """The streaming format of Arrow IPC.

    Its columns are time (timestamp in ns), device, metric and unit (dictionaries), and a nullable column of values for
    each type that occurs, with the type's name.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._labels = {
            name: pa.array([getattr(known, name) for known in layout.series], pa.string()).dictionary_encode()
            for name in ("device", "metric", "unit")
        }
        self.schema = pa.schema(
            [
                ("time", pa.timestamp("ns", layout.zone)),
                *((name, labels.type) for name, labels in self._labels.items()),
                *((kind, TYPES[kind]) for kind in layout.types),
            ]
        )
        self._sink = BytesIO()
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self.schema)

    def begin(self) -> bytes:
        """Return the schema."""
        return self._drain()

    def rows(self, table: Table) -> bytes:
        """Return a record batch; the first one comes with the dictionaries."""
        table = table.combine_chunks()
        columns = [
            table["time_ns"].cast(pa.timestamp("ns", self._layout.zone)),
            *(
                pa.DictionaryArray.from_arrays(
                    pc.take(labels.indices, table["series"]).combine_chunks(), labels.dictionary
                )
                for labels in self._labels.values()
            ),
            *(column for _, column in _values(self._layout, table)),
        ]
        self._stream.write_table(pa.table(columns, schema=self.schema))
        return self._drain()

    def end(self) -> bytes:
        """Return the mark of the end."""
        self._stream.close()
        return self._drain()

    def _drain(self) -> bytes:
        """Return the bytes written since the last call."""
        data = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return data


Writer: TypeAlias = TextWriter | ArrowWriter

WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "line": LineWriter, "arrow": ArrowWriter}


def _values(layout: Layout, table: Table) -> list[tuple[MetricType, Any]]:
    return [(kind, table[kind]) for kind in layout.types]


def _local_times(times_ns: Any, zone: str) -> Any:
    """Return times as RFC 3339 with nine digits of fraction and the zone's offset, Z for UTC."""
    if zone == UTC:
        text = times_ns.cast(pa.timestamp("ns")).cast(TEXT)
        return _element_wise(pc.replace_substring(text, " ", "T", max_replacements=1), "Z")
    # In seconds, because the local times of the last representable hours exceed 64 bits of nanoseconds.
    seconds = pc.divide(times_ns, NS_PER_S).combine_chunks()
    rest = pc.subtract(times_ns, pc.multiply(seconds, NS_PER_S)).cast(TEXT)
    # With Python's zones: Arrow's own ignore the rules after the last change that a zone's file lists, which in the
    # files of some systems was long ago.
    steps = pc.divide(seconds, ZONE_STEP_S).dictionary_encode()
    known = ZoneInfo(zone)
    moments = [datetime.fromtimestamp(step * ZONE_STEP_S, known) for step in steps.dictionary.to_pylist()]
    offsets = [moment.utcoffset() or timedelta() for moment in moments]
    local = pc.add(seconds, pc.take(pa.array([offset // timedelta(seconds=1) for offset in offsets]), steps.indices))
    shown = pa.array([_offset(offset) for offset in offsets], TEXT)
    text = pc.replace_substring(local.cast(pa.timestamp("s")).cast(TEXT), " ", "T", max_replacements=1)
    return _element_wise(text, ".", pc.utf8_lpad(rest, 9, "0"), pc.take(shown, steps.indices))


def _offset(offset: timedelta) -> str:
    """Return an offset as ±hours:minutes, with seconds if it has any, as in Monrovia until 1972."""
    sign, seconds = "-" if offset < timedelta() else "+", abs(offset) // timedelta(seconds=1)
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return f"{text}:{seconds % 60:02d}" if seconds % 60 else text


def _neutralised(texts: Any) -> Any:
    """Return the texts with an apostrophe before each that begins like a formula, also behind apostrophes."""
    return pc.if_else(pc.match_substring_regex(texts, FORMULA), _element_wise("'", texts), texts)


def _quoted(strings: Any, mark: str, replacement: str) -> Any:
    return _element_wise('"', pc.replace_substring(strings, mark, replacement), '"')


def _element_wise(*parts: Any) -> Any:
    """Concatenate texts row by row; null where one of them is null."""
    columns = (pa.scalar(part, TEXT) if isinstance(part, str) else part for part in parts)
    return pc.binary_join_element_wise(*columns, pa.scalar("", TEXT))


def _joined(end: str, *parts: Any) -> bytes:
    """Return all rows as one text, each with its end."""
    lines = _element_wise(*parts, end)
    lines = lines.combine_chunks() if isinstance(lines, pa.ChunkedArray) else lines
    if not len(lines):
        return b""
    # The texts are contiguous in memory: with their ends they are the file.
    size = pc.sum(pc.binary_length(lines)).as_py()
    return cast("bytes", lines.buffers()[2].slice(0, size).to_pybytes())
