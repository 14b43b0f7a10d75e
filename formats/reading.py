"""The whole way of one input: bytes to frames, records, rows and refusals, with the choices that were made.

`Reading` is fed with bytes in pieces of any size; where they are cut changes nothing. The first frames, its window,
are the evidence for what the rules leave open. An input that arrives line by line has a window of one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any, NamedTuple, Protocol, cast

import msgspec

from formats.block import Block, BlockReader
from formats.custom import UserFunction, function_reader, regex_reader
from formats.detection import Detection, detect
from formats.export import ExportReader, is_export
from formats.framing import MAX_LINE_BYTES, LineFraming, Transcoder
from formats.gpsd import GpsdReader
from formats.interpretation import Interpreter, KnownType
from formats.json_text import read_json, read_senml
from formats.line_protocol import LineProtocolReader
from formats.modbus import modbus_reader
from formats.nmea import NmeaReader
from formats.pairs import read_pairs, read_plotter, read_value
from formats.record import MAX_RAW_BYTES, Entry, Note, RefusedInput, Row, TextFrame
from formats.rtl_433 import read_rtl_433
from formats.rules import Rules
from formats.signalk import SignalkReader
from formats.table import TableReader
from formats.time_column import TimeColumn
from wire.timestamp import NS_PER_UNIT

WINDOW = 2000
"""First frames of a file that decide: hours of most loggers, and 50 ms of work."""

FIRST_BYTES = 256 * 1024
"""Bytes of a long first piece that are read before the rest: they contain the window of most files."""

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Bytes of one JSON value that spans the lines of a file; it is parsed at once."""


JSON_FORMATS = ("json", "senml", "signalk", "rtl_433", "gpsd")
"""Formats whose frames are JSON, so that one value can span the lines of a file."""


class Reader(Protocol):
    """Reader of one format: frames to records and refusals."""

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield the records of these frames."""

    def finish(self) -> Iterator[Entry]:
        """Yield the records that waited for more frames."""


class Result(NamedTuple):
    """Rows and refusals of a part of an input, or a block of rows."""

    rows: list[Row]
    refusals: list[RefusedInput]
    blocks: Sequence[Block] = ()

    @property
    def all_rows(self) -> list[Row]:
        """The rows, with those of the blocks."""
        return [*self.rows, *(row for block in self.blocks for row in block.rows())]


class FrameReader:
    """Reader of a format whose frames do not depend on each other."""

    def __init__(self, read: Callable[[Iterable[TextFrame]], Iterator[Entry]]) -> None:
        self.feed = read

    def finish(self) -> Iterator[Entry]:
        """Yield nothing: each frame is complete."""
        return iter(())


class DocumentReader:
    """Reader of one JSON value that spans lines. `reader` gets it as one frame at the end of the input."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._lines: list[bytes] = []
        self._first = 1
        self._size = 0

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Collect the lines; yield a refusal when they are too many."""
        for frame in frames:
            if not self._lines:
                self._first = frame.line
            self._size += len(frame.raw)
            if self._size <= MAX_DOCUMENT_BYTES:
                self._lines.append(frame.raw)
            elif self._size - len(frame.raw) <= MAX_DOCUMENT_BYTES:
                reason = f"the JSON value has more than {MAX_DOCUMENT_BYTES:,} bytes; write one object in each line"
                yield RefusedInput(frame.line, frame.raw[:MAX_RAW_BYTES], "size", reason)

    def finish(self) -> Iterator[Entry]:
        """Yield the records of the whole value."""
        lines, self._lines = self._lines, []
        if lines and self._size <= MAX_DOCUMENT_BYTES:
            yield from self.reader.feed([TextFrame(self._first, b"\n".join(lines))])


class Reading:
    """Reading of one input by one set of rules.

    `detection` is the format with its reason, None until enough frames arrived. `notes` are the rules that decided.
    """

    def __init__(
        self,
        rules: Rules,
        zone: tzinfo,
        *,
        window: int = WINDOW,
        max_line_bytes: int = MAX_LINE_BYTES,
        device: str = "",
        names: Mapping[str, str] | None = None,
        known_type: KnownType | None = None,
        function: UserFunction | None = None,
    ) -> None:
        self.rules = rules
        self.detection: Detection | None = None
        self.interpreter = Interpreter(rules, zone, device=device, names=names, known_type=known_type)
        self.lines = self.refused = 0
        self._transcoder = Transcoder(rules.encoding)
        self._framing = LineFraming(max_line_bytes)
        self._window = window
        self._function = function
        self._head: list[TextFrame] = []
        self._zone = zone
        self._reader: Reader | None = None
        self._block_reader: BlockReader | None = None
        self._max_line_bytes = max_line_bytes

    def feed(self, data: bytes, now_ns: int) -> Result:
        """Return what these bytes complete."""
        if self._reader is None and len(data) > FIRST_BYTES:
            # The lines behind the window can be blocks.
            first = self._feed(data[:FIRST_BYTES], now_ns)
            rest = self._feed(data[FIRST_BYTES:], now_ns)
            return Result(first.rows + rest.rows, first.refusals + rest.refusals, rest.blocks)
        return self._feed(data, now_ns)

    def _feed(self, data: bytes, now_ns: int) -> Result:
        data = self._transcoder.feed(data)
        if self._block_reader is not None and (block := self._read_block(data, now_ns)) is not None:
            return Result([], [], [block])
        return self._read(self._framing.feed(data), now_ns, final=False)

    def finish(self, now_ns: int) -> Result:
        """Return what waited for more bytes, at the end of the input."""
        frames = self._framing.feed(self._transcoder.feed(b"", final=True))
        return self._read([*frames, *self._framing.finish()], now_ns, final=True)

    def begin(self, head: Sequence[bytes]) -> bool:
        """Choose the format of a live input from its first frames, and learn from them; `message` reads them later.

        Return False if they have no known format.
        """
        frames = [TextFrame(line, raw) for line, raw in enumerate(head, 1)]
        detection = detect(frames) if self.rules.format == "auto" else self._given(frames)
        if detection is None:
            return False
        self.detection = detection
        self.interpreter.learn(list(reader_of(detection, self.rules, frames, self._function).feed(frames)))
        self._reader = reader_of(detection, self.rules, frames, self._function)
        return True

    def message(self, payload: bytes, now_ns: int) -> Result:
        """Return the content of one message that is a frame by itself."""
        return self._read([TextFrame(self.lines + 1, payload)], now_ns, final=False)

    @property
    def table(self) -> TableReader | None:
        """The reader of the table; None before it is known, and for other formats."""
        return self._reader if isinstance(self._reader, TableReader) else None

    @property
    def header_lines(self) -> Sequence[int]:
        """The numbers of the lines before the data of a table."""
        return self._reader.header_lines if isinstance(self._reader, TableReader | ExportReader) else ()

    @property
    def notes(self) -> list[Note]:
        """The rules that decided something, the most general first."""
        notes = []
        if self.detection is not None:
            notes.append(Note("format", self.detection.reason, f'format = "{self.detection.format}"'))
        reader = self._reader.reader if isinstance(self._reader, DocumentReader) else self._reader
        if isinstance(reader, TableReader | SignalkReader):
            notes += reader.notes
        return [*notes, *self.interpreter.all_notes()]

    def settings(self) -> Rules:
        """Return the rules with everything that was detected, to be copied into the settings."""
        fields: dict[str, Any] = {}
        if self.detection is not None:
            fields["format"] = self.detection.format
        times = self.interpreter.times
        if isinstance(self._reader, TableReader):
            reader = self._reader
            if reader.kind == "plain":
                fields["delimiter"] = self.rules.delimiter or reader.delimiter
                if reader.time and not self.rules.time:
                    fields["time"] = reader.time
            if reader.kind == "plain" and reader.identity and not self.rules.device:
                fields["device"] = f"{{{reader.identity}}}"
        if times.date_order and times.time_format == "auto":
            fields["time_format"] = times.date_order
        marks = self.interpreter.number_marks()
        if marks is not None and not (self.rules.decimal or self.rules.thousands):
            fields |= {"decimal": marks[0], "thousands": marks[1]}
        return msgspec.structs.replace(self.rules, **fields)

    def _read(self, frames: Sequence[TextFrame | RefusedInput], now_ns: int, *, final: bool) -> Result:
        entries: list[Entry] = []
        if self._reader is not None and frames and not any(type(frame) is RefusedInput for frame in frames):
            self.lines = max(self.lines, frames[-1].line)
            entries += self._reader.feed(cast("Sequence[TextFrame]", frames))
            frames = ()
        for frame in frames:
            self.lines = max(self.lines, frame.line)
            if isinstance(frame, RefusedInput):
                entries.append(frame)
            elif self._reader is None:
                self._head.append(frame)
                if len(self._head) >= self._window:
                    self._start(entries)
            else:
                entries += self._reader.feed((frame,))
        if final:
            if self._reader is None:
                self._start(entries)
            if self._reader is not None:
                last = list(self._reader.finish())
                if isinstance(self._reader, DocumentReader):
                    self.interpreter.learn(last)
                entries += last
        if not entries:
            return Result([], [])
        rows, refusals = self.interpreter.interpret(entries, now_ns)
        self.refused += len(refusals)
        if self._block_reader is None:
            self._block_reader = self._new_block_reader()
        return Result(rows, refusals)

    def _new_block_reader(self) -> BlockReader | None:
        """Return the reader of blocks if all columns of a table are plain numbers by now."""
        layout = self._reader.plain_layout if isinstance(self._reader, TableReader) else None
        if layout is None or not isinstance(self._reader, TableReader):
            return None
        names = layout.names[len(layout.time) :]
        found = self.interpreter.plain_metrics(names, layout.schema, has_time=bool(layout.time))
        if found is None or layout.schema.zone is not None:
            return None
        if not layout.time:
            return BlockReader(self._reader.delimiter, *found)
        times = TimeColumn(self.interpreter.times, self._zone, found[0], names)
        return BlockReader(self._reader.delimiter, *found, times.read)

    def _read_block(self, data: bytes, now_ns: int) -> Block | None:
        """Return the complete lines as a block; None if they are not one, and nothing is taken then."""
        line, lines = self._framing.complete_lines(data)
        if self._block_reader is None or not isinstance(self._reader, TableReader) or self._reader.plain_layout is None:
            return None
        block = self._block_reader.read(lines, line, self._max_line_bytes, now_ns)
        if block is not None:
            self._framing.skip(data, lines)
            count = lines.count(b"\n")
            self.lines = line + count - 1
            self.interpreter.readings += count * len(block.columns)
        return block

    def _start(self, entries: list[Entry]) -> None:
        """Choose the format from the window, learn from it, and read it."""
        head, self._head = self._head, []
        if not head:
            return
        detection = detect(head) if self.rules.format == "auto" else self._given(head)
        if detection is None:
            if self._window == 1:
                raw = head[0]
                entries.append(unknown_format(raw))
                return
            entries += map(unknown_format, head)
            return
        self.detection = detection
        is_spread = detection.is_document and self._window > 1
        reader = reader_of(detection, self.rules, head, self._function)
        self._reader = DocumentReader(reader) if is_spread else reader
        read = list(self._reader.feed(head))
        if isinstance(self._reader, TableReader) or self._window > 1:
            self.interpreter.learn(read)
        entries += read

    def _given(self, head: Sequence[TextFrame]) -> Detection:
        found = detect(head) if self.rules.format in JSON_FORMATS else None
        return Detection(self.rules.format, "the rules say so", found is not None and found.is_document)


def reader_of(
    detection: Detection, rules: Rules, head: Sequence[TextFrame], function: UserFunction | None = None
) -> Reader:
    """Return the reader of a format; `head` are the first frames that it will get."""
    match detection.format:
        case "json":
            return FrameReader(read_json)
        case "senml":
            return FrameReader(read_senml)
        case "signalk":
            return SignalkReader()
        case "rtl_433":
            return FrameReader(read_rtl_433)
        case "gpsd":
            return GpsdReader()
        case "line":
            return LineProtocolReader(rules.time_format if rules.time_format in NS_PER_UNIT else "", rules.measurements)
        case "csv":
            return ExportReader() if is_export(head) else TableReader(rules, head)
        case "pairs":
            return FrameReader(read_pairs)
        case "plotter":
            return FrameReader(read_plotter)
        case "nmea":
            return NmeaReader()
        case "regex":
            return FrameReader(regex_reader(rules.pattern))
        case "modbus" if rules.modbus is not None:
            return FrameReader(modbus_reader(rules.modbus))
        case "function" if function is not None:
            return FrameReader(function_reader(function))
    return FrameReader(read_value)


def unknown_format(frame: TextFrame) -> RefusedInput:
    """Return the refusal of a frame for which no format was found."""
    return RefusedInput(
        frame.line,
        frame.raw[:MAX_RAW_BYTES],
        "format",
        "the line has no format that is known: set `format`, or describe it with `pattern`",
        setting='format = "csv"',
    )
