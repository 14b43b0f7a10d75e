"""CSV tables as rows: one column per metric, or one reading per record. A superset of RFC 4180."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from importer.local_time import LocalTimes
from importer.mapping import TableMapping, zone_of
from importer.records import FileRow, Line, MappingError, RejectedRecord
from wire.limits import MAX_INTEGER, MIN_INTEGER
from wire.model import MetricType, Value

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

Read = Callable[[str], Value]
"""Returns the value of a cell, None for no value. Raises ValueError with a sentence."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Cells:
    """Parser for cells with the number format of one mapping."""

    def __init__(self, mapping: TableMapping) -> None:
        self._decimal = mapping.decimal
        self._thousands = mapping.thousands
        self._no_value = frozenset(("", *mapping.no_value))
        separator = re.escape(mapping.thousands)
        self._grouped = re.compile(rf"[+-]?\d{{1,3}}({separator}\d{{3}})+(\D.*)?") if mapping.thousands else None

    def reader(self, type: MetricType | None) -> Read:
        """Return the parser for a metric of this type; None: a number, a boolean or a string, by the content."""
        readers: dict[MetricType | None, Read] = {
            "float": self._float, "integer": self._integer, "boolean": _truth, "string": str, None: self._any
        }  # fmt: skip
        read, no_value = readers[type], self._no_value

        def read_cell(cell: str) -> Value:
            text = cell.strip()
            return None if text in no_value else read(text if type != "string" else cell)

        return read_cell

    def _plain(self, text: str) -> str:
        """Return a number in the notation of Python."""
        if self._grouped is not None and self._grouped.fullmatch(text):
            text = text.replace(self._thousands, "")
        elif self._decimal == "," and "." in text:
            raise ValueError(f"{text!r} is not a number with a decimal comma")
        return text.replace(",", ".") if self._decimal == "," else text

    def _float(self, text: str) -> float | None:
        plain = self._plain(text)
        # float() also accepts 1_000, infinity and digits of any script.
        if not _NUMBER.fullmatch(plain) or not plain.isascii():
            raise ValueError(f"{text!r} is not a number")
        value = float(plain)
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is too large for a number")
        return value

    def _integer(self, text: str) -> int:
        # Spreadsheets add a fraction of zeros to integers.
        whole, _, fraction = self._plain(text).partition(".")
        try:
            if fraction.strip("0"):
                raise ValueError
            value = int(whole)
        except ValueError:
            raise ValueError(f"{text!r} is not an integer") from None
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueError(f"{text!r} is outside signed 64 bits")
        return value

    def _any(self, text: str) -> Value:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return self._float(text)
        except ValueError:
            return text


def _truth(text: str) -> bool:
    if (value := TRUTHS.get(text.lower())) is None:
        raise ValueError(f"{text!r} is neither true nor false")
    return value


class Record(NamedTuple):
    """A record: the number of its first line, its bytes and its cells. `problem` is the reason if it has no cells."""

    line: int
    raw: bytes
    cells: list[str]
    problem: str = ""


def records(lines: Iterable[Line], *, delimiter: str, encoding: str) -> Iterator[Record]:
    """Yield the records of a CSV file without empty records and without # comments before the first."""
    feed = _Feed(lines, encoding)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    is_first = True
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(*feed.read_record(), [], f"the record is broken: {error}")
            continue
        is_text = feed.is_text
        line, raw = feed.read_record()
        if is_first and raw.startswith(b"#"):
            continue
        if not is_text:
            yield Record(line, raw, [], f"the line is not {encoding}; set --encoding, for example to cp1252")
        elif any(cells):
            is_first = False
            yield Record(line, raw, cells)


def column_names(cells: Sequence[str], *, header: bool) -> list[str]:
    """Return a unique name for each column: its header, or its number, counted from 1."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = wanted = " ".join(cell.split()) if header and cell.strip() else str(number)
        occurrence = 1
        while name in names:
            occurrence += 1
            name = f"{wanted} ({occurrence})"
        names.append(name)
    return names


class Table:
    """Parser of a table; `times` counts local and ambiguous times."""

    def __init__(self, mapping: TableMapping) -> None:
        self._mapping = mapping
        self.times = LocalTimes(mapping.time_format, zone_of(mapping.zone), mapping.ambiguous)
        cells = Cells(mapping)
        self._readers: dict[str, Read] = {metric: cells.reader(type) for metric, type in mapping.types.items()}
        self._read_other = cells.reader(None if mapping.metric_column else "float")

    def rows(self, lines: Iterable[Line]) -> Iterator[FileRow | RejectedRecord]:
        """Yield each record as a row or as rejected. Raises MappingError for an unknown column."""
        mapping = self._mapping
        layout: _Layout | None = None
        for record in records(lines, delimiter=mapping.delimiter, encoding=mapping.encoding):
            if record.problem:
                yield RejectedRecord(
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

    def _row(self, record: Record, layout: _Layout) -> FileRow | RejectedRecord | None:
        line, raw, cells, _ = record
        if len(cells) != layout.width and (len(cells) < layout.width or any(cells[layout.width :])):
            return RejectedRecord(line, raw, "syntax", f"the record has {len(cells)} cells for {layout.width} columns")
        device = self._mapping.device or cells[layout.device].strip()
        if not device:
            return RejectedRecord(line, raw, "device", f"the column {self._mapping.device_column} is empty")
        try:
            if layout.long is None:
                group, values = "", self._wide_values(cells, layout)
            else:
                group = cells[layout.long[0]].strip()
                value = self._readers.get(group, self._read_other)(cells[layout.long[1]])
                values = {} if value is None else {group: value}
        except ValueError as error:
            return RejectedRecord(line, raw, "value", str(error))
        if not values:
            return None
        try:
            time_ns = self.times.time_ns(" ".join(cells[place] for place in layout.time), (device, group))
        except ValueError as error:
            return RejectedRecord(line, raw, "time", str(error))
        return FileRow(line, raw, device, group, time_ns, values)

    def _wide_values(self, cells: list[str], layout: _Layout) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for place, metric in layout.columns:
            try:
                value = self._readers.get(metric, self._read_other)(cells[place])
            except ValueError as error:
                raise ValueError(f"{metric}: {error}") from None
            if value is not None:
                values[metric] = value
        return values


class _Layout:
    """Positions of the columns in a record."""

    def __init__(self, names: list[str], mapping: TableMapping) -> None:
        """Raises MappingError for an unknown column."""
        places = {name: place for place, name in enumerate(names)}

        def place_of(name: str) -> int:
            if name not in places:
                raise MappingError(f"there is no column {name!r}; the columns are {', '.join(names)}")
            return places[name]

        self.width = len(names)
        self.time = [place_of(name) for name in mapping.time]
        self.device = -1 if mapping.device else place_of(mapping.device_column)
        self.columns = [(place_of(column), metric) for column, metric in mapping.columns.items()]
        self.long = (place_of(mapping.metric_column), place_of(mapping.value_column)) if mapping.metric_column else None


class _Feed:
    """Source of lines for the CSV reader, which keeps those of the current record."""

    def __init__(self, lines: Iterable[Line], encoding: str) -> None:
        self._lines = iter(lines)
        self._encoding = encoding
        self._kept: list[bytes] = []
        self._first = 0
        self.is_text = True

    def __iter__(self) -> Iterator[str]:
        for number, raw in self._lines:
            if not self._kept:
                self._first = number
                self.is_text = True
            self._kept.append(raw)
            try:
                yield raw.decode(self._encoding)
            except UnicodeDecodeError:
                self.is_text = False
                yield raw.decode(self._encoding, errors="replace")

    def read_record(self) -> tuple[int, bytes]:
        """Return the number of the first line and the bytes of all lines since the last call."""
        kept = self._first, b"".join(self._kept)
        self._kept.clear()
        return kept
