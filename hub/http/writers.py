"""The rows of a table as CSV, line protocol and Arrow: columns are worked on whole, without Python objects and without
holding the interpreter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Protocol, cast
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from hub.http.table import TEXT, TYPES, UTC, Layout, Table
from hub.model.batch import Series
from wire.model import MetricType
from wire.timestamp import NS_PER_S

CSV_HEADER = ["time", "time_ns", "device", "metric", "unit", "value"]
CSV_END = "\r\n"
"""Of a row (RFC 4180)."""

MEASUREMENT = "telemetry"
"""Of every line in line protocol; the device is a tag and the metric a field."""

ZONE_STEP_S = 30
"""Since 1970 no zone has changed its offset but at a multiple of so many seconds."""


class Writer(Protocol):
    """A format. What `begin`, `rows` for one table after the other, and `end` give makes a file."""

    def begin(self) -> bytes:
        """What stands before the first row."""

    def rows(self, table: Table) -> bytes:
        """Some rows."""

    def end(self) -> bytes:
        """What stands after the last row."""


class CsvWriter:
    """Comma-separated values (RFC 4180): time, time_ns, device, metric, unit, value."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._names = pa.array([_csv_name(one) for one in layout.series], TEXT)

    def begin(self) -> bytes:
        """The names of the columns."""
        return (",".join(CSV_HEADER) + CSV_END).encode()

    def rows(self, table: Table) -> bytes:
        """A line each. Strings are quoted, all else is not."""
        values = [
            _quoted(column, '"', '""') if type == "string" else column.cast(TEXT)
            for type, column in _values(self._layout, table)
        ]
        return _joined(
            CSV_END,
            _local_times(table["time_ns"], self._layout.zone),
            ",",
            table["time_ns"].cast(TEXT),
            pc.take(self._names, table["series"]),
            pc.coalesce(*values),
        )

    def end(self) -> bytes:
        """Nothing."""
        return b""


class LineWriter:
    """InfluxDB line protocol, times in nanoseconds: a line for each reading, which InfluxDB joins again."""

    def __init__(self, layout: Layout) -> None:
        """Raises ValueError for a metric that line protocol cannot name."""
        self._layout = layout
        self._names = pa.array([_line_name(one) for one in layout.series], TEXT)

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def rows(self, table: Table) -> bytes:
        """A line each."""
        values = []
        for type, column in _values(self._layout, table):
            match type:
                case "string":
                    values.append(_quoted(pc.replace_substring(column, "\\", "\\\\"), '"', '\\"'))
                case "integer":
                    values.append(_element_wise(column.cast(TEXT), "i"))
                case _:
                    values.append(column.cast(TEXT))
        times = table["time_ns"].cast(TEXT)
        return _joined("\n", pc.take(self._names, table["series"]), pc.coalesce(*values), " ", times)

    def end(self) -> bytes:
        """Nothing."""
        return b""


class ArrowWriter:
    """The streaming format of Arrow IPC: time (timestamp in ns), device, metric and unit (dictionaries), and a nullable
    column of values for each type that occurs, with the type's name."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._labels = {
            name: pa.array([getattr(one, name) for one in layout.series], pa.string()).dictionary_encode()
            for name in ("device", "metric", "unit")
        }
        self.schema = pa.schema(
            [
                ("time", pa.timestamp("ns", layout.zone)),
                *((name, labels.type) for name, labels in self._labels.items()),
                *((type, TYPES[type]) for type in layout.types),
            ]
        )
        self._sink = _Sink()
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), self.schema)

    def begin(self) -> bytes:
        """The schema."""
        return self._sink.take()

    def rows(self, table: Table) -> bytes:
        """A record batch; dictionaries come with the first."""
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
        return self._sink.take()

    def end(self) -> bytes:
        """The mark that says that this is all."""
        self._stream.close()
        return self._sink.take()


WRITERS: dict[str, type[CsvWriter] | type[LineWriter] | type[ArrowWriter]] = {
    "csv": CsvWriter,
    "line": LineWriter,
    "arrow": ArrowWriter,
}


class _Sink:
    """A file that is taken away as it is written."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _values(layout: Layout, table: Table) -> list[tuple[MetricType, Any]]:
    return [(type, table[type]) for type in layout.types]


def _local_times(times_ns: Any, zone: str) -> Any:
    """RFC 3339 with nine digits of fraction and the zone's offset, Z for UTC."""
    if zone == UTC:
        text = times_ns.cast(pa.timestamp("ns")).cast(TEXT)
        return _element_wise(pc.replace_substring(text, " ", "T", max_replacements=1), "Z")
    # In seconds: the last hours that 64 bits of nanoseconds hold have local times that they do not.
    seconds = pc.divide(times_ns, NS_PER_S).combine_chunks()
    rest = pc.subtract(times_ns, pc.multiply(seconds, NS_PER_S)).cast(TEXT)
    # By Python's zones: Arrow's own do not know the rules behind the last change that a zone's file lists, which in
    # some systems' files was long ago.
    steps = pc.divide(seconds, ZONE_STEP_S).dictionary_encode()
    known = ZoneInfo(zone)
    moments = [datetime.fromtimestamp(step * ZONE_STEP_S, known) for step in steps.dictionary.to_pylist()]
    offsets = [moment.utcoffset() or timedelta() for moment in moments]
    local = pc.add(seconds, pc.take(pa.array([offset // timedelta(seconds=1) for offset in offsets]), steps.indices))
    shown = pa.array([_offset(offset) for offset in offsets], TEXT)
    text = pc.replace_substring(local.cast(pa.timestamp("s")).cast(TEXT), " ", "T", max_replacements=1)
    return _element_wise(text, ".", pc.utf8_lpad(rest, 9, "0"), pc.take(shown, steps.indices))


def _offset(offset: timedelta) -> str:
    """As ±hours:minutes; there were seconds, too, in Monrovia until 1972."""
    sign, seconds = "-" if offset < timedelta() else "+", abs(offset) // timedelta(seconds=1)
    told = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return f"{told}:{seconds % 60:02d}" if seconds % 60 else told


def _quoted(strings: Any, mark: str, replacement: str) -> Any:
    return _element_wise('"', pc.replace_substring(strings, mark, replacement), '"')


def _element_wise(*parts: Any) -> Any:
    """Texts beside each other, row by row; null where one of them is."""
    columns = (pa.scalar(part, TEXT) if isinstance(part, str) else part for part in parts)
    return pc.binary_join_element_wise(*columns, pa.scalar("", TEXT))


def _joined(end: str, *parts: Any) -> bytes:
    """All rows as one text, each with its end."""
    lines = _element_wise(*parts, end)
    lines = lines.combine_chunks() if isinstance(lines, pa.ChunkedArray) else lines
    if not len(lines):
        return b""
    # Texts lie in memory one behind the other: with their ends in them they are the file.
    size = pc.sum(pc.binary_length(lines)).as_py()
    return cast("bytes", lines.buffers()[2].slice(0, size).to_pybytes())


def _csv_name(series: Series) -> str:
    fields = (series.device, series.metric, series.unit)
    quoted = ('"' + field.replace('"', '""') + '"' if set(field) & set('",\r\n') else field for field in fields)
    return "," + ",".join(quoted) + ","


def _line_name(series: Series) -> str:
    if series.metric.endswith("\\"):
        raise ValueError(
            f"line protocol cannot name the metric {series.metric!r} of {series.device}, which ends in a backslash: "
            "leave it out, or take csv or arrow"
        )
    field = series.metric
    for special in ",= ":
        field = field.replace(special, f"\\{special}")
    return f"{MEASUREMENT},device={series.device} {field}="
