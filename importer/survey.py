"""The first reading of a file, from the beginning to the end: what is in it, and what cannot be taken.

Only then is anything sent: types and the number of batches are known, and the content's hash, which the epoch is made
of. It costs as much as parsing the file once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from importer.batching import Batch, Numbering, slices
from importer.catalogue import Catalogue
from importer.errors import FileError, MappingError
from importer.guess import guess
from importer.line import read_line_protocol
from importer.mapping import LineMapping, Mapping, TableMapping, check_mapping, epoch_of
from importer.row import Refusal, Row, Why
from importer.table import Table, records
from importer.text import Line, TextFile

FIRST_ROWS = 5
"""Rows that are kept to be shown."""

Notice = Callable[[int], None]
"""Is told the position in the file, in bytes of the disk, now and then."""

_NOTICE_ROWS = 1024


def _unnoticed(position: int) -> None:
    """For who does not want to know."""


class Survey:
    """What one file holds: filled by the first reading."""

    def __init__(self, path: Path, told: dict[str, Any]) -> None:
        """Reads the beginning to guess what was not told. Raises FileError, MappingError."""
        self.file = TextFile(path)
        self.mapping: Mapping = guess(self.file.head(), told)
        self.catalogue = Catalogue(self.mapping.types, self.mapping.units)
        self.numbering = Numbering()
        self.readings = 0
        self.lines = 0
        self.refused: Counter[Why] = Counter()
        self.first_rows: list[Row] = []
        self.earliest_ns: int | None = None
        self.latest_ns: int | None = None
        self.ambiguous_times = 0
        self.local_times = 0
        self.digest = b""
        self.last_line_is_open = False

    @property
    def epoch(self) -> str:
        """The epoch under which each device's part of this file is sent."""
        return epoch_of(self.digest, self.mapping)

    @property
    def header(self) -> bytes:
        """The record that names a table's columns; empty where there is none."""
        mapping = self.mapping
        if isinstance(mapping, LineMapping) or not mapping.header:
            return b""
        found = records(self.file.head(), delimiter=mapping.delimiter, encoding=mapping.encoding)
        return next((record.raw for record in found if not record.problem), b"")

    def check(self) -> None:
        """Raises MappingError where something has to be told before the file can be imported, by its beginning."""
        check_mapping(self.mapping)
        for _ in self._rows(self.file.head(), _unnoticed):
            pass
        self.check_zone()

    def check_zone(self) -> None:
        """Raises MappingError where times that were read do not say which zone they are of, and nobody told."""
        if isinstance(self.mapping, TableMapping) and self.local_times and not self.mapping.zone:
            raise MappingError(
                f"the times in {self.file.path.name} do not say which zone they are of: say --zone Europe/Berlin, or "
                "--zone UTC"
            )

    def read(self, on_refused: Callable[[Refusal], None], notice: Notice) -> None:
        """The first reading. Raises FileError, MappingError."""
        for portion in slices(self._admitted(on_refused, notice)):
            self.numbering.cut(portion)
        self.digest = self.file.digest
        self.catalogue.close()

    def batches(self) -> Generator[list[list[Batch]], None, None]:
        """A second reading: the batches slice by slice, a list for each device. Raises FileError when it changed."""
        numbering = Numbering()
        rows = (
            row
            for row in self._rows(self.file.lines(), _unnoticed)
            if isinstance(row, Row) and self.catalogue.judge(row) is None
        )
        for portion in slices(rows):
            yield numbering.cut(portion)
        if self.file.digest != self.digest:
            raise FileError(
                f"{self.file.path} changed while it was imported; what it holds now has to be imported anew"
            )

    def _rows(self, lines: Iterable[Line], notice: Notice) -> Iterator[Row | Refusal]:
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

    def _admitted(self, on_refused: Callable[[Refusal], None], notice: Notice) -> Iterator[Row]:
        def refuse(refusal: Refusal) -> None:
            self.refused[refusal.why] += 1
            on_refused(refusal)

        for row in self._rows(self._counted(), notice):
            if isinstance(row, Refusal):
                refuse(row)
                continue
            refusal = self.catalogue.judge(row)
            if refusal is not None:
                refuse(refusal)
                continue
            if len(self.first_rows) < FIRST_ROWS:
                self.first_rows.append(row)
            self.readings += len(row.values)
            if self.earliest_ns is None or row.time_ns < self.earliest_ns:
                self.earliest_ns = row.time_ns
            if self.latest_ns is None or row.time_ns > self.latest_ns:
                self.latest_ns = row.time_ns
            yield row
        if self.file.cut_off:
            refuse(
                Refusal(self.lines, b"", "cut off", "the compressed file ends in the middle; what follows is missing")
            )

    def _counted(self) -> Iterator[Line]:
        """The lines, counted; notes whether the last one has no line break."""
        line = Line(0, b"\n")
        for line in self.file.lines():
            yield line
        self.lines = line.number
        self.last_line_is_open = not line.raw.endswith(b"\n")
