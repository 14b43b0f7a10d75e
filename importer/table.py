"""Tables as rows: CSV with one column per metric, or with one reading per record. Follows RFC 4180, and takes more."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from importer.cell import Cells, Read
from importer.errors import MappingError
from importer.local_time import LocalTimes
from importer.mapping import TableMapping, zone_of
from importer.row import Refusal, Row
from importer.text import Line
from wire.model import Value


class Record(NamedTuple):
    """One record: the number of its first line, its bytes, its cells; `problem` says why there are none."""

    line: int
    raw: bytes
    cells: list[str]
    problem: str = ""


def records(lines: Iterable[Line], *, delimiter: str, encoding: str) -> Iterator[Record]:
    """The records of a CSV file; empty ones, and lines that begin with # before the first, are left out."""
    feed = _Feed(lines, encoding)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    is_first = True
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(*feed.take(), [], f"the record is broken: {error}")
            continue
        is_text = feed.is_text
        line, raw = feed.take()
        if is_first and raw.startswith(b"#"):
            continue
        if not is_text:
            yield Record(line, raw, [], f"the line is not {encoding}; --encoding says what it is, cp1252 perhaps")
        elif any(cells):
            is_first = False
            yield Record(line, raw, cells)


def column_names(cells: Sequence[str], *, header: bool) -> list[str]:
    """A name for each column, all different: what the header says, or the column's number, counted from 1."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = wanted = " ".join(cell.split()) if header and cell.strip() else str(number)
        again = 1
        while name in names:
            again += 1
            name = f"{wanted} ({again})"
        names.append(name)
    return names


class Table:
    """Reads a table; its `times` count the local and the ambiguous times."""

    def __init__(self, mapping: TableMapping) -> None:
        self._mapping = mapping
        self.times = LocalTimes(mapping.time_format, zone_of(mapping.zone), mapping.ambiguous)
        cells = Cells(mapping)
        self._readers: dict[str, Read] = {metric: cells.reader(type) for metric, type in mapping.types.items()}
        self._read_other = cells.reader(None if mapping.metric_column else "float")

    def rows(self, lines: Iterable[Line]) -> Iterator[Row | Refusal]:
        """Each record as a row, or as a refusal. Raises MappingError for a column that does not exist."""
        mapping = self._mapping
        layout: _Layout | None = None
        for record in records(lines, delimiter=mapping.delimiter, encoding=mapping.encoding):
            if record.problem:
                yield Refusal(
                    record.line, record.raw, "syntax" if "broken" in record.problem else "encoding", record.problem
                )
                continue
            if layout is None:
                layout = _Layout(column_names(record.cells, header=mapping.header), mapping)
                if mapping.header:
                    continue
            row = self._row(record, layout)
            if row is not None:
                yield row

    def _row(self, record: Record, layout: _Layout) -> Row | Refusal | None:
        line, raw, cells, _ = record
        if len(cells) != layout.width and (len(cells) < layout.width or any(cells[layout.width :])):
            return Refusal(line, raw, "syntax", f"it has {len(cells)} cells, and there are {layout.width} columns")
        device = self._mapping.device or cells[layout.device].strip()
        if not device:
            return Refusal(line, raw, "device", f"the column {self._mapping.device_column} is empty")
        try:
            if layout.long is None:
                group, values = "", self._wide_values(cells, layout)
            else:
                group = cells[layout.long[0]].strip()
                value = self._reader(group)(cells[layout.long[1]])
                values = {} if value is None else {group: value}
        except ValueError as error:
            return Refusal(line, raw, "value", str(error))
        if not values:
            return None
        try:
            time_ns = self.times.time_ns(" ".join(cells[place] for place in layout.time), (device, group))
        except ValueError as error:
            return Refusal(line, raw, "time", str(error))
        return Row(line, raw, device, group, time_ns, values)

    def _wide_values(self, cells: list[str], layout: _Layout) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for place, metric in layout.columns:
            try:
                value = self._reader(metric)(cells[place])
            except ValueError as error:
                raise ValueError(f"{metric}: {error}") from None
            if value is not None:
                values[metric] = value
        return values

    def _reader(self, metric: str) -> Read:
        return self._readers.get(metric, self._read_other)


class _Layout:
    """Where in a record everything stands."""

    def __init__(self, names: list[str], mapping: TableMapping) -> None:
        """Raises MappingError for a column that does not exist."""
        places = {name: place for place, name in enumerate(names)}

        def place_of(name: str) -> int:
            if name not in places:
                raise MappingError(f"there is no column {name!r}; there are {', '.join(names)}")
            return places[name]

        self.width = len(names)
        self.time = [place_of(name) for name in mapping.time]
        self.device = -1 if mapping.device else place_of(mapping.device_column)
        self.columns = [(place_of(column), metric) for column, metric in mapping.columns.items()]
        self.long = (place_of(mapping.metric_column), place_of(mapping.value_column)) if mapping.metric_column else None


class _Feed:
    """Gives lines to the reader of CSV, which takes as many as a record has, and remembers them."""

    def __init__(self, lines: Iterable[Line], encoding: str) -> None:
        self._lines = iter(lines)
        self._encoding = encoding
        self._taken: list[bytes] = []
        self._first = 0
        self.is_text = True

    def __iter__(self) -> Iterator[str]:
        for number, raw in self._lines:
            if not self._taken:
                self._first = number
                self.is_text = True
            self._taken.append(raw)
            try:
                yield raw.decode(self._encoding)
            except UnicodeDecodeError:
                self.is_text = False
                yield raw.decode(self._encoding, errors="replace")

    def take(self) -> tuple[int, bytes]:
        """The number of the first line and the bytes of all that were read since the last call."""
        taken = self._first, b"".join(self._taken)
        self._taken.clear()
        return taken
