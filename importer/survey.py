"""The first pass over a file: its devices, metrics and types, its rejected records, and the hash of its content.

Batches are made in a second pass, because they need the types, the number of batches, and the epoch, which is made of
the hash. This costs one more parse of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from collections.abc import Mapping as Fields
from pathlib import Path
from typing import Any

import msgspec

from importer.batching import FileBatch, Numbering, slices
from importer.guess import guess
from importer.line_protocol import read_line_protocol
from importer.mapping import LineMapping, Mapping, TableMapping, check_mapping, epoch_of
from importer.records import FileError, FileRow, Line, MappingError, RecordProblem, RejectedRecord, TextFile
from importer.table import Table, records
from wire import limits
from wire.model import Metric, MetricName, MetricType, Value, device_id_problem

MAX_DEVICES = 100_000
"""Most devices of one hub. A file with more has something else in its device column."""

_KIND: dict[type, MetricType] = {bool: "boolean", int: "integer", float: "float", str: "string"}
_SMALL = -(2**53)
"""Integers up to this size need no check of their range; nearly all are."""

FIRST_ROWS = 5
"""Rows that are kept for display."""

Notice = Callable[[int], None]
"""Called from time to time with the position in the file, in bytes on the disk."""

_NOTICE_ROWS = 1024


class Catalogue:
    """The devices and metrics of a file, and the validation of its rows.

    The first value of a metric sets its type; an integer metric that has other numbers as well becomes float. `types`
    are types from the mapping, which values must have. The second pass, with the catalogue closed, gives the same
    results for every row.
    """

    def __init__(self, types: Fields[str, MetricType], units: Fields[str, str]) -> None:
        self.devices: dict[str, dict[str, MetricType]] = {}
        self._types = types
        self._units = units
        self._is_closed = False

    def close(self) -> None:
        """Accept no new device or metric from now on."""
        self._is_closed = True

    def metrics(self, device: str) -> list[Metric]:
        """Return the metrics of a device."""
        return [Metric(name, type, self._units.get(name, "")) for name, type in self.devices[device].items()]

    def validate(self, row: FileRow | RejectedRecord) -> FileRow | RejectedRecord:
        """Return the row, and add its metrics; an invalid row is returned as rejected. Raises FileError."""
        try:
            if isinstance(row, FileRow):
                self._admit(row)
        except RecordProblem as problem:
            return RejectedRecord(row.line, row.raw, problem.why, problem.message)
        return row

    def _admit(self, row: FileRow) -> None:
        known = self.devices.get(row.device)
        if known is None:
            if (problem := device_id_problem(row.device)) is not None:
                raise RecordProblem("device", problem)
            if len(self.devices) >= MAX_DEVICES:
                raise FileError(
                    f"the file has more than {MAX_DEVICES:,} devices: is {row.device!r} (line {row.line}) a device?"
                )
            known = {}
        new: dict[str, MetricType] = {}
        for name, value in row.values.items():
            kind = _KIND[type(value)]
            expected = known.get(name)
            if expected == kind or (expected == "float" and kind == "integer"):
                if kind == "string" or (kind == "integer" and not _SMALL <= value <= -_SMALL):  # type: ignore[operator]
                    _check_value(name, value)
            elif expected is None:
                self._check_new(row.device, name, kind)
                _check_value(name, value)
                new[name] = self._types.get(name, kind)
            elif expected == "integer" and kind == "float" and name not in self._types:
                new[name] = "float"
            else:
                raise RecordProblem("type", f"{name} is {expected} in this file, but {kind} here")
        if new:
            if len(known | new) > limits.MAX_METRICS or (self._is_closed and not known):
                raise _too_many(row.device)
            known.update(new)
        self.devices[row.device] = known

    def _check_new(self, device: str, name: str, kind: MetricType) -> None:
        if self._is_closed:
            raise _too_many(device)
        given = self._types.get(name)
        if given is not None and given != kind and not (given == "float" and kind == "integer"):
            raise RecordProblem("type", f"{name} is {given} in the mapping, but {kind} here")
        try:
            msgspec.convert(name, MetricName)
        except msgspec.ValidationError:
            raise RecordProblem(
                "metric",
                f"{name[:80]!r} is not a valid metric name: 1 to {limits.MAX_METRIC_NAME} characters without control "
                "characters, and no space at the beginning or the end",
            ) from None


def _too_many(device: str) -> RecordProblem:
    return RecordProblem("limit", f"{device} has more than {limits.MAX_METRICS} metrics; import it as several devices")


def _check_value(name: str, value: Value) -> None:
    if isinstance(value, str):
        if len(value) * 4 > limits.MAX_STRING_VALUE_BYTES and len(value.encode()) > limits.MAX_STRING_VALUE_BYTES:
            raise RecordProblem("value", f"{name} has a string of over {limits.MAX_STRING_VALUE_BYTES} bytes")
    elif isinstance(value, int) and not limits.MIN_INTEGER <= value <= limits.MAX_INTEGER:
        raise RecordProblem("value", f"{name} has an integer outside signed 64 bits")


class FileSurvey:
    """The contents of one file, filled by `read`."""

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        """Read the beginning to detect what `options` do not describe. Raises FileError and MappingError."""
        self.file = TextFile(path)
        self.mapping: Mapping = guess(self.file.head(), options)
        self.catalogue = Catalogue(self.mapping.types, self.mapping.units)
        self.numbering = Numbering()
        self.readings = 0
        self.lines = 0
        self.first_rows: list[FileRow] = []
        self.earliest_ns: int | None = None
        self.latest_ns: int | None = None
        self.ambiguous_times = 0
        self.local_times = 0
        self.digest = b""
        self.last_line_is_open = False

    @property
    def epoch(self) -> str:
        """The epoch of all batches of this file."""
        return epoch_of(self.digest, self.mapping)

    @property
    def header(self) -> bytes:
        """The record with the names of the columns; empty if there is none."""
        mapping = self.mapping
        if isinstance(mapping, LineMapping) or not mapping.header:
            return b""
        found = records(self.file.head(), delimiter=mapping.delimiter, encoding=mapping.encoding)
        return next((record.raw for record in found if not record.problem), b"")

    def check(self) -> None:
        """Raise MappingError if the beginning shows that an option has to be set before the import."""
        check_mapping(self.mapping)
        for _ in self._rows(self.file.head()):
            pass
        self.check_zone()

    def check_zone(self) -> None:
        """Raise MappingError if times have no offset and the mapping has no zone."""
        if isinstance(self.mapping, TableMapping) and self.local_times and not self.mapping.zone:
            raise MappingError(
                f"the times in {self.file.path.name} have no time zone: set --zone Europe/Berlin, or --zone UTC"
            )

    def read(self, on_refused: Callable[[RejectedRecord], None], notice: Notice) -> None:
        """Read the whole file. Raises FileError and MappingError."""
        for portion in slices(self._admitted(on_refused, notice)):
            self.numbering.cut(portion)
        self.digest = self.file.digest
        self.catalogue.close()

    def batches(self) -> Generator[list[list[FileBatch]], None, None]:
        """Yield the batches by slice, in a list for each device. Raises FileError if the file changed since `read`."""
        numbering = Numbering()
        rows = map(self.catalogue.validate, self._rows(self.file.lines()))
        for portion in slices(row for row in rows if isinstance(row, FileRow)):
            yield numbering.cut(portion)
        if self.file.digest != self.digest:
            raise FileError(f"{self.file.path} changed while it was imported: import it again")

    def _rows(
        self, lines: Iterable[Line], notice: Notice = lambda position: None
    ) -> Iterator[FileRow | RejectedRecord]:
        mapping = self.mapping
        table = None if isinstance(mapping, LineMapping) else Table(mapping)
        rows = table.rows(lines) if table is not None else read_line_protocol(lines, mapping)  # type: ignore[arg-type]
        for count, row in enumerate(rows):
            if count % _NOTICE_ROWS == 0:
                notice(self.file.position)
            yield row
        if table is not None:
            self.ambiguous_times, self.local_times = table.times.ambiguous, table.times.local
        notice(self.file.position)

    def _admitted(self, on_refused: Callable[[RejectedRecord], None], notice: Notice) -> Iterator[FileRow]:
        for row in map(self.catalogue.validate, self._rows(self._counted(), notice)):
            if isinstance(row, RejectedRecord):
                on_refused(row)
                continue
            if len(self.first_rows) < FIRST_ROWS:
                self.first_rows.append(row)
            self.readings += len(row.values)
            self.earliest_ns = min(row.time_ns, row.time_ns if self.earliest_ns is None else self.earliest_ns)
            self.latest_ns = max(row.time_ns, row.time_ns if self.latest_ns is None else self.latest_ns)
            yield row
        if self.file.cut_off:
            message = "the compressed file is incomplete; the rest is missing"
            on_refused(RejectedRecord(self.lines, b"", "cut off", message))

    def _counted(self) -> Iterator[Line]:
        """Yield the lines, count them, and record whether the last one has no line break."""
        line = Line(0, b"\n")
        for line in self.file.lines():
            yield line
        self.lines = line.number
        self.last_line_is_open = not line.raw.endswith(b"\n")
