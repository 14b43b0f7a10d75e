"""The two passes over a file: the first finds its devices, metrics and rejected lines, the second makes its batches.

Batches need the types, their number, and the epoch, which the first pass finds out. Both passes are the same code with
the same rules, so they have the same rows.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from itertools import chain
from pathlib import Path
from typing import cast

import msgspec

from formats.block import Block
from formats.interpretation import KnownType
from formats.names import Template
from formats.reading import Reading, Result
from formats.record import Note, RefusedInput, Row, lines_of
from formats.rules import Rules
from importer.batching import FileBatch, Item, Numbering, slices
from importer.guess import guessed
from importer.mapping import epoch_of
from importer.records import FileError, MappingError, RejectedLines, TextFile, rejected
from wire.limits import MAX_DESCRIPTION
from wire.model import Metric, MetricType

FIRST_ROWS = 5
"""Rows that are kept for display."""

Notice = Callable[[int], None]
"""Called from time to time with the position in the file, in bytes on the disk."""

_SET_DEVICE = "set --device ID for one device, or --device '{NAME}' for a column or tag with the device"

_SET_TIME = (
    "history needs: set --time NAME if a column or field has it; a live input (`device-agent serial`, MQTT) stores "
    "such a line with the time of its arrival"
)

_LAST_TIME = re.compile(rb"[ ](-?[0-9]+)\s*\Z")


class FileSurvey:
    """The contents of one file, filled by `read`.

    `known_type` returns the types that metrics have in the hub: a file does not change them. `settings` are the rules
    with all that was detected, to be saved as a mapping file. `metrics` are those of each device that has readings.
    """

    def __init__(
        self, path: Path, rules: Rules, zone: tzinfo | None = None, known_type: KnownType | None = None
    ) -> None:
        """Read the beginning to decide what only a file can. `zone` is that of the rules. Raises FileError."""
        self.file = TextFile(path)
        self.rules = self.settings = guessed(rules, self.file.head())
        self._zone = zone or UTC
        self.numbering = Numbering()
        self.readings = self.lines = self.no_values = self.odd_times = self.local_times = self.ambiguous_times = 0
        self.first_rows: list[Row] = []
        self.earliest_ns: int | None = None
        self.latest_ns: int | None = None
        self.metrics: dict[str, list[Metric]] = {}
        self._with_readings: dict[str, set[str]] = {}
        self.notes: list[Note] = []
        self.digest = b""
        self.epoch = ""
        self.header_lines: Sequence[int] = ()
        self.is_annotated = self.last_line_is_open = False
        self._known_type = known_type
        self._now_ns = time.time_ns()

    def types(self, device: str) -> dict[str, MetricType]:
        """Return the types of the metrics of a device."""
        return {metric.name: metric.type for metric in self.metrics[device]}

    @property
    def needs_zone(self) -> bool:
        """Return whether times have no offset and the rules have no zone."""
        return bool(self.local_times and not self.rules.zone)

    def check(self, *, zone: bool = True) -> None:
        """Raise MappingError if the beginning shows that an option has to be set before the import.

        A missing zone is no error here without `zone`.
        """
        reading = self._new_reading()
        rows: list[Row] = []
        refusals: list[RefusedInput] = []
        for result in self._results(reading):
            rows += result.all_rows
            refusals += result.refusals
            if reading.detection is not None:
                break
        if not reading.lines or not (rows or refusals or reading.detection):
            raise MappingError(f"{self.file.path.name} is empty")
        _check_names(reading)
        # A value of another type than in the hub, for example, is no matter of the options.
        unread = [refusal for refusal in refusals if not refusal.metric or refusal.code == "ambiguous"]
        if not rows and unread:
            first = rejected(unread[0])
            raise MappingError(f"no line at the beginning can be read. Line {first.line}: {first.message}")
        if rows:
            _check_rows(reading, rows)
        self.local_times = reading.interpreter.times.local
        if zone:
            self.check_zone()

    def check_zone(self) -> None:
        """Raise MappingError if times have no offset and the rules have no zone."""
        if self.needs_zone:
            raise MappingError(
                f"the times in {self.file.path.name} have no time zone: set --zone Europe/Berlin, or --zone UTC"
            )

    def read(self, on_rejected: Callable[[RejectedLines], None], notice: Notice) -> None:
        """Read the whole file. Raises FileError."""
        reading = self._new_reading()
        places = hashlib.sha256()
        for portion in slices(self._counted(self._items(reading, on_rejected, notice))):
            for batch in chain.from_iterable(self.numbering.cut(portion)):
                places.update(repr(batch.place).encode())
        self.digest, self.last_line_is_open = self.file.digest, self.file.is_open
        times, known = reading.interpreter.times, reading.interpreter.metrics
        self.local_times, self.ambiguous_times, self.odd_times = times.local, times.ambiguous, times.odd
        self.lines, self.no_values, self.notes = reading.lines, reading.interpreter.no_values, reading.notes
        self.metrics = {
            device: [
                Metric(series.metric, series.type, series.unit, series.label[:MAX_DESCRIPTION])
                for series in known[device].values()
                if series.type is not None and series.metric in self._with_readings.get(device, ())
            ]
            for device in self.numbering.batches
        }
        self.settings = _settings(reading)
        self.header_lines = reading.header_lines
        self.is_annotated = reading.table is not None and reading.table.kind == "annotated"
        # The identity of an import is that of earlier versions, which declared metrics without readings, too.
        types = {
            device: {series.metric: series.type for series in known[device].values() if series.type is not None}
            for device in self.metrics
        }
        self.epoch = epoch_of(self.digest, self.settings, [types, self.readings, places.hexdigest()])

    def batches(self) -> Generator[list[list[FileBatch]], None, None]:
        """Yield the batches by slice, in a list for each device. Raises FileError if the file changed since `read`."""
        numbering = Numbering()
        items = self._items(self._new_reading(), lambda lines: None, lambda position: None)
        for portion in slices(items):
            yield numbering.cut(portion)
        if self.file.digest != self.digest:
            raise FileError(f"{self.file.path} changed while it was imported: import it again")

    def _new_reading(self) -> Reading:
        return Reading(self.rules, self._zone, known_type=self._known_type)

    def _results(self, reading: Reading, notice: Notice = lambda position: None) -> Iterator[Result]:
        for piece in self.file.pieces():
            notice(self.file.position)
            yield reading.feed(piece, self._now_ns)
        notice(self.file.position)
        yield reading.finish(self._now_ns)

    def _items(self, reading: Reading, on_rejected: Callable[[RejectedLines], None], notice: Notice) -> Iterator[Item]:
        """Yield the rows and blocks that history can have."""
        before: Row | None = None
        for result in self._results(reading, notice):
            for refusal in result.refusals:
                on_rejected(rejected(refusal))
            is_open = self.file.is_open
            for row in result.rows:
                problem = None if row.device and row.time_ns is not None else _problem(row)
                if is_open and before is not None and row.line == reading.lines:
                    problem = problem or self._cut_off(row, before)
                before = row
                if problem is None:
                    yield row
                else:
                    on_rejected(problem)
            yield from result.blocks
        if self.file.cut_off:
            message = "the compressed file is incomplete; the rest is missing"
            on_rejected(RejectedLines(reading.lines, 0, "cut off", message))

    def _cut_off(self, row: Row, before: Row) -> RejectedLines | None:
        """Return the refusal of the last line of a file if its time has fewer digits than the time before it."""
        times = [found[1] for found in map(_LAST_TIME.search, (before.raw, row.raw)) if found]
        if self.rules.format == "line" and len(times) == 2 and len(times[1]) < len(times[0]):
            message = "the file ends in the middle of this line: its time is too short"
            return RejectedLines(row.line, lines_of(row.raw), "cut off", message)
        return None

    def _note_metrics(self, item: Item) -> None:
        """Keep the names of the metrics that have a reading."""
        names = item.values.keys() if isinstance(item, Row) else item.columns.keys()
        known = self._with_readings.setdefault(item.device, set())
        if not names <= known:
            known.update(names)

    def _counted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if type(item) is Row:
                readings = len(item.values)
                earliest = latest = item.time_ns or 0
            else:
                block = cast("Block", item)
                readings, times = block.readings, block.times or [0]
                earliest, latest = min(times), max(times)
            self._note_metrics(item)
            if len(self.first_rows) < FIRST_ROWS:
                rows = [item] if isinstance(item, Row) else item.rows()
                self.first_rows += rows[: FIRST_ROWS - len(self.first_rows)]
            self.readings += readings
            self.earliest_ns = earliest if self.earliest_ns is None else min(earliest, self.earliest_ns)
            self.latest_ns = latest if self.latest_ns is None else max(latest, self.latest_ns)
            yield item


def _settings(reading: Reading) -> Rules:
    settings, table = reading.settings(), reading.table
    if table is None or settings.columns or not (columns := table.value_columns):
        return settings
    return msgspec.structs.replace(settings, columns=columns)


def _problem(row: Row) -> RejectedLines | None:
    """Return why history cannot have a row."""
    if not row.device:
        return RejectedLines(row.line, lines_of(row.raw), "device", f"the line does not name a device; {_SET_DEVICE}")
    if row.time_ns is None:
        return RejectedLines(row.line, lines_of(row.raw), "time", f"the line has no time, which {_SET_TIME}")
    return None


def _check_names(reading: Reading) -> None:
    """Raise MappingError if the rules name a column that the table does not have."""
    table, rules = reading.table, reading.rules
    if table is None or table.kind == "annotated":
        return
    wanted = [*rules.time, *rules.columns, *filter(None, (rules.metric_column, rules.value_column))]
    if rules.device:
        wanted += [name for name in Template(rules.device).fields if "|" not in rules.device]
    missing = next((name for name in wanted if name not in table.columns), None)
    if missing is not None:
        raise MappingError(f"there is no column {missing!r}; the columns are {', '.join(table.columns)}")


def _check_rows(reading: Reading, rows: list[Row]) -> None:
    """Raise MappingError if no row has a device, or none has a time."""
    if not any(row.device for row in rows):
        names = reading.interpreter.device_candidates
        option = "--device-tag TAG" if reading.table is None else "--device-column COLUMN"
        choice = f", or {option} for a device for each value of one of: {', '.join(names)}" if names else ""
        raise MappingError(f"no column, tag or field names the device: set --device ID for one device{choice}")
    if all(row.time_ns is None for row in rows):
        columns = "" if reading.table is None else f"; the columns are {', '.join(reading.table.columns)}"
        raise MappingError(
            f"no column or field has the time: set --time COLUMN (two columns: --time DATE --time TIME){columns}"
        )
