"""The file of an export, written while the Arrow stream of /api/v1/export arrives, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from hub.http.tables import CsvWriter, Layout, LineWriter, TextWriter, read_export

GROUP_READINGS = 500_000
"""Readings of one row group in a Parquet file, about 15 MB of memory. Readers skip whole groups by their times."""


class InvalidExport(Exception):
    """The answer of the hub is not an export."""


def write_export(
    source: IO[bytes], sink: IO[bytes], format: str, on_readings: Callable[[int], None], *, raw: bool = False
) -> int:
    """Write all readings of an Arrow stream to a file. Return their number.

    `format` is parquet, arrow, csv or line; with `raw`, csv has texts that look like formulas unchanged. `on_readings`
    receives the number of readings in each part. Raises InvalidExport, and the errors of `source` and `sink`.
    """
    try:
        stream = pa.ipc.open_stream(source)
    except pa.ArrowInvalid as error:
        raise InvalidExport(
            f"the answer is not an Arrow stream ({error}): check that the URL belongs to a hub"
        ) from None
    readings = 0
    write = partial(_text, writer=CsvWriter, raw=True) if raw and format == "csv" else WRITERS[format]
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


def _text(stream: Any, sink: IO[bytes], *, writer: type[TextWriter], raw: bool = False) -> Iterator[int]:
    sink.write(writer(Layout([])).begin())
    for batch in stream:
        layout, table = read_export(batch, raw=raw)
        sink.write(writer(layout).rows(table))
        yield batch.num_rows


WRITERS: dict[str, Callable[[Any, IO[bytes]], Iterator[int]]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "csv": partial(_text, writer=CsvWriter),
    "line": partial(_text, writer=LineWriter),
}
