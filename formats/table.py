"""CSV and other tables of cells: a superset of RFC 4180, with the headers that known programs and loggers write.

A `sep=` line, preambles, units in the header or in a row below it, TOA5 (Campbell), HOBO (Onset) and the annotated
tables of InfluxDB are read as what they say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from formats.columns import (
    ANNOTATIONS,
    DEVICE_NAMES,
    METRIC_NAMES,
    SEPARATOR_LINE,
    UNIT_NAMES,
    VALUE_NAMES,
    cells_of,
    delimiter_of,
    header_texts,
    hobo_name,
    is_header,
    is_units_row,
    kind_of,
    name_and_unit,
    named,
    time_columns,
    unique_names,
)
from formats.framing import RecordJoiner, decode_text
from formats.line_protocol import HOST, MEASUREMENT
from formats.names import Template
from formats.pairs import DECORATION
from formats.record import MAX_VALUE_SHOWN, Entry, FrameRefused, InputRecord, Note, Schema, TextFrame, refusal_of
from formats.rules import Rules, toml_value
from formats.times import offset_of
from formats.values import UNIT_SYMBOLS
from wire.limits import MAX_METRICS, MAX_UNIT
from wire.model import MetricType
from wire.text import plural

FALLBACK_ENCODING = "cp1252"
"""Encoding of lines that are not UTF-8: the one of Windows in Western Europe, which loggers and spreadsheets write."""

MAX_HEADER_SHOWN = 400
"""Characters of the names of columns in a sentence."""

MAX_CELLS = 4096
"""Cells of one line; each becomes a metric, and a device has at most 1,024."""

_HOBO_ZONE = re.compile(r".*GMT\s*([+-])([0-9]{1,2}):([0-9]{2})")
_HIDDEN = frozenset(("", "result", "table", "_start", "_stop"))
"""Columns of an annotated table that are neither a value nor a tag."""

_TOA5_SYMBOLS = {**UNIT_SYMBOLS, "C": "°C", "F": "°F"}
"""Loggers of Campbell measure temperatures, and no charge in coulomb."""

_DATATYPE = "#datatype "
_CONSTANT = "#constant "
"""Beginnings of the annotations of extended annotated CSV, whose first column is a column of the data."""

_ANNOTATED_TYPES: dict[str, MetricType] = {
    "double": "float", "long": "integer", "unsignedLong": "integer", "boolean": "boolean", "string": "string",
}  # fmt: skip


@dataclass(slots=True, eq=False)
class ColumnLayout:
    """Meaning of the columns of one table: its names, the columns with the time, and the declared facts.

    `long` are the columns of metric and value if each record contains one reading, and `unit` is the column of its
    unit, -1 for none. `tags` are the columns with tags and the measurement, `constants` are those that all records
    have.
    """

    names: list[str]
    time: tuple[int, ...] = ()
    hidden: frozenset[int] = frozenset()
    long: tuple[int, int] | None = None
    unit: int = -1
    schema: Schema = field(default_factory=Schema)
    value_type: MetricType | None = None
    tags: tuple[tuple[str, int], ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    kept: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        skipped = {*self.time, *self.hidden, *(self.long or ()), *(place for _, place in self.tags)}
        self.kept = [(name, place) for place, name in enumerate(self.names) if place not in skipped]


class TableReader:
    """Reader of the lines of a table, in their order. `head` are its first lines, which decide what no rule says.

    `header_lines` are the numbers of the lines before the data of a table that is not annotated.
    """

    def __init__(self, rules: Rules, head: Sequence[TextFrame]) -> None:
        self.notes: list[Note] = []
        self.header_lines: list[int] = []
        self._rules = rules
        self._layout: ColumnLayout | None = None
        self._units: list[str] = []
        self._fields: dict[tuple[str, ...], str] = {}
        self._annotations: dict[str, list[str]] = {}
        self._constants: dict[str, str] = {}
        texts = [text for frame in head if (text := decode_text(frame.raw, FALLBACK_ENCODING))]
        self.delimiter = rules.delimiter or delimiter_of(texts)
        self.kind = kind_of(texts, self.delimiter)
        self._skipped = 0
        self._is_started = False
        rows = [cells for text in texts if (cells := self._try_cells(text)) is not None]
        self._preamble, self._header, self._data = self._places(rows)
        self._needs_measurement = self.kind == "annotated" and _needs_measurement(rows)
        if self.kind != "annotated":
            self._layout = self._plan(rows)
            self._note_header(rows)
        self._joiner = RecordJoiner(self._is_open, self._is_record)

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each line of data, or its refusal."""
        for frame in self._joiner.feed(frames):
            yield from self._read(frame)

    def finish(self) -> Iterator[Entry]:
        """Yield what waited for a closing quote."""
        for frame in self._joiner.finish():
            yield from self._read(frame)

    @property
    def plain_layout(self) -> ColumnLayout | None:
        """The layout behind the header of a table that may have numbers only; None for another table."""
        layout = self._layout
        if layout is None or self.kind != "plain" or self._skipped < self._data or self._joiner.is_waiting:
            return None
        return None if layout.time not in ((), (0,)) or layout.hidden or layout.long is not None else layout

    @property
    def time(self) -> tuple[str, ...]:
        """The names of the columns with the time."""
        return () if self._layout is None else tuple(self._layout.names[place] for place in self._layout.time)

    @property
    def identity(self) -> str:
        """The column that identifies the device, "" if there is none."""
        return "" if self._layout is None else next(iter(self._layout.schema.identity), "")

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [] if self._layout is None else self._layout.names

    @property
    def value_columns(self) -> dict[str, str]:
        """The columns with values and their metrics, if every metric has a column of its own."""
        layout = self._layout
        if layout is None or self.kind != "plain" or layout.long is not None:
            return {}
        used = Template(self._rules.device).fields if self._rules.device else layout.schema.identity
        found = {name: layout.schema.metrics.get(name, name) for name, _ in layout.kept if name not in used}
        return found if len(found) <= MAX_METRICS else {}

    def _is_open(self, raw: bytes) -> bool:
        if b'"' not in raw:
            return False
        try:
            cells_of(decode_text(raw, FALLBACK_ENCODING) or "", self.delimiter)
        except FrameRefused as error:
            return error.code == "quote"
        return False

    def _is_record(self, raw: bytes) -> bool:
        if self._layout is None or raw.count(b'"') % 2:
            return False
        cells = self._try_cells(decode_text(raw, FALLBACK_ENCODING) or "")
        return cells is not None and len(cells) == len(self._layout.names)

    def _try_cells(self, text: str) -> list[str] | None:
        try:
            return cells_of(text, self.delimiter)
        except FrameRefused:
            return None

    # Reading, line by line.

    def _read(self, frame: TextFrame) -> Iterator[Entry]:
        text = decode_text(frame.raw, "" if self._rules.encoding in ("utf-8", "utf8") else FALLBACK_ENCODING)
        try:
            if text is None and self._rules.encoding in ("utf-8", "utf8"):
                raise FrameRefused("encoding", "the line is not UTF-8", 'encoding = "cp1252"')
            if text is None:
                raise FrameRefused("encoding", f"the line is neither UTF-8 nor {FALLBACK_ENCODING}", "encoding")
            cells = cells_of(text, self.delimiter)
            if len(cells) > MAX_CELLS:
                raise FrameRefused("limit", f"the line has more than {MAX_CELLS:,} cells")
            record = (
                self._annotated(frame, text, cells) if self.kind == "annotated" else self._plain(frame, text, cells)
            )
        except FrameRefused as error:
            yield refusal_of(frame, error)
        else:
            if record is not None:
                yield record

    def _plain(self, frame: TextFrame, text: str, cells: list[str]) -> InputRecord | None:
        layout = self._layout
        if layout is None:
            raise FrameRefused("format", "the table has no readable line; set the delimiter", "delimiter")
        if self._skipped < self._data:
            # The lines before the data: preamble, header, units. They are counted without comments.
            if self._is_comment(cells):
                return None
            self._skipped += 1
            self.header_lines.append(frame.line)
            return None
        if not any(cells) or self._is_comment(cells) or cells == self._header_cells:
            return None
        return self._record(frame, cells, layout)

    def _record(self, frame: TextFrame, cells: list[str], layout: ColumnLayout) -> InputRecord | None:
        width = len(layout.names)
        if len(cells) == 1 and width > 1 and DECORATION.fullmatch(cells[0]):
            return None
        if len(cells) != width and (len(cells) < width or any(cells[width:])):
            raise FrameRefused("cells", f"the line has {len(cells)} cells for {width} columns")
        time = " ".join(cells[place].strip() for place in layout.time) if layout.time else None
        values: dict[str, object] = {name: cells[place] for name, place in layout.kept}
        if layout.long is None:
            names = {name: text for name, place in layout.tags if (text := cells[place].strip())}
            return InputRecord(frame.line, frame.raw, values, layout.schema, time, {**layout.constants, **names})
        metric, value = (cells[place].strip() for place in layout.long)
        if not metric:
            raise FrameRefused("metric", f"the column {layout.names[layout.long[0]]!r} is empty")
        schema = layout.schema
        if layout.value_type is not None:
            schema = schema._replace(types={metric: layout.value_type})
        if layout.unit >= 0 and (unit := cells[layout.unit].strip(" []()")):
            schema = schema._replace(units={metric: UNIT_SYMBOLS.get(unit, unit)[:MAX_UNIT]})
        names = {name: cells[place].strip() for name, place in layout.kept}
        return InputRecord(frame.line, frame.raw, {metric: value}, schema, time, names)

    # The plan of a table, from its first lines.

    def _places(self, rows: list[list[str]]) -> tuple[int, bool, int]:
        """Return the lines before the header, whether there is a header, and the lines before the data."""
        self._header_cells: list[str] = []
        rules = self._rules
        if self.kind == "annotated" or not rows:
            return 0, False, 0
        before = {"toa5": 1, "hobo": 1}.get(self.kind, 0)
        if self.kind == "plain":
            if SEPARATOR_LINE.fullmatch(self.delimiter.join(rows[0])) or SEPARATOR_LINE.fullmatch(rows[0][0]):
                before = 1
            before = self._table_start(rows, before)
        self._header_cells = self._commented_header(rows[before:])
        table = [row for row in rows[before:] if not self._is_comment(row)]
        # Comments are skipped wherever they are, so they do not count.
        skipped = before - sum(map(self._is_comment, rows[:before]))
        if not table:
            return before, False, skipped
        header = rules.header if rules.header is not None else self.kind != "plain" or is_header(table[0])
        if not header:
            self._header_cells = []
            return before, False, skipped
        self._header_cells = table[0]
        after = skipped + 1
        if self.kind == "toa5":
            self._units = table[1] if len(table) > 1 else []
            after += 2
        elif len(table) > 2 and is_units_row(table[1], table[2]):
            self._units = table[1]
            after += 1
        return before, True, after

    def _table_start(self, rows: list[list[str]], before: int) -> int:
        """Return the lines before the table: those before a header that begins the last lines of one width, else those
        with fewer cells than most lines.

        Some loggers write more lines about themselves than a short file has data.
        """
        last = len(rows[-1])
        start = len(rows)
        while start > before and len(rows[start - 1]) == last:
            start -= 1
        table = rows[start:]
        if last > 1 and len(table) > 1 and is_header(table[0]) and not is_header(table[1]):
            return start
        width = Counter(len(row) for row in rows).most_common(1)[0][0]
        while before < len(rows) - 1 and len(rows[before]) < width and not self._is_comment(rows[before]):
            before += 1
        return before

    def _note_header(self, rows: list[list[str]]) -> None:
        if self._preamble and self.kind == "plain":
            skipped = " ".join(rows[0])[:MAX_VALUE_SHOWN]
            self.notes.append(Note("preamble", f"{plural(self._preamble, 'line')} before the table: {skipped!r}"))
        if self._header_cells:
            self.notes.append(Note("header", f"the columns are {', '.join(self.columns)[:MAX_HEADER_SHOWN]}"))

    def _is_comment(self, cells: list[str]) -> bool:
        """Return whether a line is a comment; the header may begin with #, too."""
        if self.kind != "plain" or not cells[0].startswith("#") or cells[0].strip() == "#":
            return False
        return not self._header_cells or cells != self._header_cells

    def _commented_header(self, rows: Sequence[list[str]]) -> list[str]:
        """Return the header that begins with #: the last such line before the data, with as many cells, and names."""
        data = [row for row in rows if not self._is_comment(row)]
        comments = [row for row in rows if self._is_comment(row)]
        if not data or is_header(data[0]):
            return []
        return next((row for row in reversed(comments) if len(row) == len(data[0]) > 1 and is_header(row)), [])

    def _plan(self, rows: list[list[str]]) -> ColumnLayout | None:
        data = [row for row in rows if not self._is_comment(row)][self._data :]
        width = len(self._header_cells) or max((len(row) for row in data), default=0)
        if not width:
            return None
        headers = header_texts(self._header_cells or [""] * width)
        names = unique_names(headers)
        data = [row for row in data if len(row) >= width]
        columns = {name: [row[place].strip() for row in data] for place, name in enumerate(names)}
        metrics, units = self._named_units(names, headers)
        time = self._time_columns(columns)
        zone = self._zone(names, time)
        hidden = {place for place, name in enumerate(names) if self._is_hidden(place, name)}
        long = self._long(names)
        unit = next(iter(named(names, UNIT_NAMES)), "") if long is not None else ""
        if unit:
            self.notes.append(Note("units", f"the unit of each reading is in {unit!r}"))
        identity = tuple(name for name in named(names, DEVICE_NAMES) if name not in [names[place] for place in time])
        schema = Schema(
            units, words=True, metrics=metrics, device=self._station(rows), identity=identity[:1], zone=zone
        )
        unit_place = names.index(unit) if unit else -1
        return ColumnLayout(names, time, frozenset(hidden - set(time)), long, unit_place, schema)

    def _named_units(self, names: Sequence[str], headers: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the metric and the unit of each column whose header or units row has one."""
        metrics: dict[str, str] = {}
        units: dict[str, str] = {}
        for place, (name, header) in enumerate(zip(names, headers, strict=True)):
            metric, unit = hobo_name(header) if self.kind == "hobo" else name_and_unit(header)
            if name != header:
                metric = name
            if place < len(self._units) and (row_unit := self._units[place].strip(" []()")) not in ("", "-"):
                symbols = _TOA5_SYMBOLS if self.kind == "toa5" else UNIT_SYMBOLS
                unit = unit or symbols.get(row_unit, row_unit)[:MAX_UNIT]
            if metric != name and metric not in metrics.values() and metric not in names:
                metrics[name] = metric
            if unit:
                units[name] = unit
        return metrics, units

    def _time_columns(self, columns: dict[str, list[str]]) -> tuple[int, ...]:
        names = list(columns)
        if self._rules.time:
            missing = [name for name in self._rules.time if name not in columns]
            if missing:
                self.notes.append(
                    Note("time", f"there is no column {missing[0]!r}; the columns are {', '.join(names)}")
                )
            return tuple(names.index(name) for name in self._rules.time if name in columns)
        found = time_columns(columns, self._rules.columns)
        if found:
            setting = f"time = {toml_value(found if len(found) > 1 else found[0])}"
            self.notes.append(Note("time", f"the time is in {', '.join(map(repr, found))}", setting))
        return tuple(names.index(name) for name in found)

    def _zone(self, names: Sequence[str], time: Iterable[int]) -> tzinfo | None:
        """Return the zone that a header names, as those of HOBO do."""
        for place in time:
            found = _HOBO_ZONE.fullmatch(names[place])
            if found is not None:
                return offset_of(found[1], found[2], found[3])
        return None

    def _is_hidden(self, place: int, name: str) -> bool:
        """Return whether a column is the number of the record."""
        if self.kind == "toa5":
            return name == "RECORD" or self._units[place : place + 1] == ["RN"]
        return self.kind == "hobo" and name == "#"

    def _long(self, names: Sequence[str]) -> tuple[int, int] | None:
        rules = self._rules
        metric, value = rules.metric_column, rules.value_column
        if not metric and not rules.columns:
            metric, value = next(iter(named(names, METRIC_NAMES)), ""), next(iter(named(names, VALUE_NAMES)), "")
        if not metric or not value or metric not in names or value not in names:
            return None
        if not rules.metric_column:
            setting = f"metric_column = {toml_value(metric)}\nvalue_column = {toml_value(value)}"
            self.notes.append(Note("columns", f"each line has one reading: {metric!r} of {value!r}", setting))
        return names.index(metric), names.index(value)

    def _station(self, rows: list[list[str]]) -> str:
        """Return the device that the first line of a logger's file names."""
        if self.kind == "toa5" and len(rows[0]) > 1:
            return rows[0][1].strip()
        if self.kind == "hobo":
            return rows[0][0].partition(":")[2].strip()
        return ""

    # InfluxDB's annotated tables.

    def _annotated(self, frame: TextFrame, text: str, cells: list[str]) -> InputRecord | None:
        if text.startswith("#"):
            if text.startswith(_CONSTANT):
                self._add_constant(cells)
            elif text.startswith(ANNOTATIONS):
                if "header" in self._annotations:
                    self._annotations = {}
                self._annotations[cells[0]] = cells
            return None
        if "header" not in self._annotations:
            self._annotations["header"] = cells
            self._layout = self._annotated_layout(cells)
            return None
        layout = self._layout
        if layout is None or not any(cells):
            return None
        record = self._record(frame, cells, layout)
        if record is not None and layout.long is not None:
            self._check_measurement(record)
        return record

    def _annotated_layout(self, header: list[str]) -> ColumnLayout:
        names = unique_names(header_texts(header, keep_empty=True))
        datatypes = self._annotations.get("#datatype", [])
        if any(name.startswith(_DATATYPE) for name in self._annotations):
            return self._extended_layout(names)
        types = {
            name: _ANNOTATED_TYPES[datatypes[place]]
            for place, name in enumerate(names)
            if place < len(datatypes) and datatypes[place] in _ANNOTATED_TYPES
        }
        time = tuple(place for place, name in enumerate(names) if name == "_time")
        hidden = frozenset(place for place, name in enumerate(header) if name in _HIDDEN)
        if "_field" in names and "_value" in names:
            template = "{_measurement}.{field}" if self._needs_measurement else ""
            identity = tuple(named([name for name in names if not name.startswith("_")], DEVICE_NAMES))
            schema = Schema(identity=identity, metric=template, words=False)
            long = names.index("_field"), names.index("_value")
            return ColumnLayout(names, time, hidden, long, schema=schema, value_type=types.get("_value"))
        grouped = self._annotations.get("#group", [])
        tags = {name for place, name in enumerate(names) if place < len(grouped) and grouped[place] == "true"}
        identity = tuple(name for name in named(names, DEVICE_NAMES) if name in tags)
        return ColumnLayout(names, time, hidden, schema=Schema(types=types, identity=identity))

    def _extended_layout(self, names: list[str]) -> ColumnLayout:
        """Return the layout of extended annotated CSV, whose data types name the measurement, the tags and the time."""
        name = next(name for name in self._annotations if name.startswith(_DATATYPE))
        datatypes = [name.removeprefix(_DATATYPE), *self._annotations[name][1:]][: len(names)]
        columns = list(zip(names, (datatype.strip() for datatype in datatypes), strict=False))
        tags = tuple(
            (MEASUREMENT if datatype == "measurement" else name, place)
            for place, (name, datatype) in enumerate(columns) if datatype in ("measurement", "tag")
        )  # fmt: skip
        times = (place for place, (_, datatype) in enumerate(columns) if datatype.split(":")[0] in ("dateTime", "time"))
        hidden = frozenset(place for place, (_, datatype) in enumerate(columns) if datatype == "ignored")
        types = {name: _ANNOTATED_TYPES[datatype] for name, datatype in columns if datatype in _ANNOTATED_TYPES}
        known = {*(name for name, _ in tags), *self._constants}
        schema = Schema(types=types, identity=tuple(named(known, (HOST, *DEVICE_NAMES))))
        return ColumnLayout(names, tuple(times)[:1], hidden, schema=schema, tags=tags, constants=dict(self._constants))

    def _add_constant(self, cells: list[str]) -> None:
        """Remember a measurement or a tag that all records have: `#constant tag,NAME,VALUE`."""
        kind, *rest = [cells[0].removeprefix(_CONSTANT).strip(), *(cell.strip() for cell in cells[1:])]
        if kind == "measurement" and rest:
            self._constants[MEASUREMENT] = rest[0]
        elif kind == "tag" and len(rest) > 1 and len(self._constants) < MAX_CELLS:
            self._constants[rest[0]] = rest[1]

    def _check_measurement(self, record: InputRecord) -> None:
        """Raise FrameRefused if two measurements would become one series."""
        if self._needs_measurement or self._rules.metric:
            return
        measurement = record.names.get("_measurement", "")
        others = (value for name, value in sorted(record.names.items()) if name != "_measurement")
        key = (*record.values, *others)
        if len(self._fields) < MAX_CELLS and self._fields.setdefault(key, measurement) != measurement:
            raise FrameRefused(
                "ambiguous",
                f"the field is of the measurement {measurement} here and of {self._fields[key]} before",
                'metric = "{_measurement}.{field}"',
            )


def _needs_measurement(rows: list[list[str]]) -> bool:
    """Return whether one field occurs in several measurements with the same tags."""
    found: dict[tuple[str, ...], set[str]] = {}
    header: list[str] = []
    for row in rows:
        if row[0].startswith("#") or not any(row):
            header = []
        elif not header:
            header = row
        elif "_field" in header and "_measurement" in header and len(row) == len(header):
            cells = dict(zip(header, row, strict=True))
            measurement = cells.pop("_measurement")
            shared = {k: v for k, v in cells.items() if k not in _HIDDEN and k not in ("_time", "_value")}
            found.setdefault(tuple(sorted(shared.values())), set()).add(measurement)
    return any(len(measurements) > 1 for measurements in found.values())
