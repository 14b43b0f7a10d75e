"""The file that an export becomes, written as the Arrow stream of /api/v1/export comes in: bounded memory, whatever its
length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hub.cli.export_format import Format
from hub.http.tables import CsvWriter, Layout, LineWriter, read_export

GROUP_READINGS = 500_000
"""Of one row group of a Parquet file: some 15 MB in memory. Readers skip whole groups by their times, and ones of this
size cost nothing to skip to."""


class BadExport(Exception):
    """What came is no export of a hub's."""


def write_export(source: IO[bytes], sink: IO[bytes], format: Format, on_readings: Callable[[int], None]) -> int:
    """Writes all readings of an Arrow stream to a file and returns their number.

    `on_readings` is told how many were written each time. Raises BadExport, and whatever `source` and `sink` raise.
    """
    try:
        stream = pa.ipc.open_stream(source)
    except pa.ArrowInvalid as error:
        raise BadExport(f"the answer is no Arrow stream ({error})") from None
    readings = 0
    write = {"parquet": _parquet, "arrow": _arrow, "csv": _csv, "line": _line}[format]
    for written in write(stream, sink):
        readings += written
        on_readings(written)
    return readings


def _parquet(stream: Any, sink: IO[bytes]) -> Iterator[int]:
    with pq.ParquetWriter(sink, stream.schema, compression="zstd") as file:
        group: list[Any] = []
        readings = 0
        for batch in stream:
            group.append(batch)
            readings += batch.num_rows
            if readings >= GROUP_READINGS:
                file.write_table(pa.Table.from_batches(group), row_group_size=readings)
                group, readings = [], 0
            yield batch.num_rows
        if group:
            file.write_table(pa.Table.from_batches(group), row_group_size=readings)


def _arrow(stream: Any, sink: IO[bytes]) -> Iterator[int]:
    with pa.ipc.new_stream(sink, stream.schema) as file:
        for batch in stream:
            file.write_batch(batch)
            yield batch.num_rows


def _csv(stream: Any, sink: IO[bytes]) -> Iterator[int]:
    sink.write(CsvWriter(Layout([])).begin())
    for batch in stream:
        layout, table = read_export(batch)
        sink.write(CsvWriter(layout).rows(table))
        yield batch.num_rows


def _line(stream: Any, sink: IO[bytes]) -> Iterator[int]:
    for batch in stream:
        layout, table = read_export(batch)
        sink.write(LineWriter(layout).rows(table))
        yield batch.num_rows
