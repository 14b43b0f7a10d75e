"""Lines of a device or a log: read by the rules of `formats`, as they arrive at a port or from a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from agent_client.rule_files import load_user_function, zone_of
from device_agent.source_state import SourceEvent
from device_agent.sources import SensorReading
from device_agent.sources.restarts import RestartDetector
from device_agent.sources.settings import SourceContext, SourceSettings
from formats.columns import cells_of, delimiter_of, is_header
from formats.container import unpacked
from formats.custom import UserFunction
from formats.detection import detect
from formats.framing import LineFraming, Transcoder, decode_text
from formats.interpretation import KnownType
from formats.json_text import documents
from formats.reading import Reading, Result, unknown_format
from formats.record import FrameRefused, RefusedInput, TextFrame, refusal_of
from formats.rules import DEFAULT_RULES, Rules
from formats.table import FALLBACK_ENCODING
from wire.limits import MAX_DESCRIPTION
from wire.model import Metric

MAX_LINE_BYTES = 16 * 1024
"""A second and a half at 115,200 baud. A longer line is not a reading but the result of a wrong baud rate."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""Bytes of one message, also of its content if it is compressed: about 10,000 values as JSON, the most in one frame."""

BINARY = ("modbus", "function")
"""Formats whose frames are bytes, so that no line in them can be found."""

MAX_SHOWN_BYTES = 60
"""Bytes of an unreadable line that are shown: enough to recognise a wrong baud rate or another format."""

HEAD_LINES = 5
"""First lines of a port that decide its format: a header and some rows. JSON and NMEA need one."""

HEAD_SECONDS = 2.0
"""Longest wait for another of these lines: a device that sends one line a minute is read after its second line."""

LOST_LINES = 20
"""Unreadable lines in a row after which a detected format is detected again: the device or its program changed."""

_log = logging.getLogger(__name__)


class InputCounts(msgspec.Struct):
    """Counts of one input: what was read is readings, refused values and lines, and values that are no value.

    `skipped` counts first lines after the port was opened: they may be the rest of a line. `odd_times` counts times
    before 1990 or more than a day ahead. Of a source that listens, `senders` is the number of its senders now, and
    `ignored` counts datagrams and connections of others than it allows, `dropped` datagrams that were not read in time.
    """

    format: str = ""
    reason: str = ""
    lines: int = 0
    skipped: int = 0
    readings: int = 0
    no_values: int = 0
    refused: int = 0
    odd_times: int = 0
    senders: int = 0
    ignored: int = 0
    dropped: int = 0


@dataclass(slots=True, eq=False)
class ForeignInput:
    """Rules and counts of what one source reads.

    `known_type` returns the type that a metric of the device has already. `observe` gets each result, with its reading
    if the line had a format. `take_line` gets each line first, and returns True for one that is no reading: the answer
    to a command.
    """

    rules: Rules
    zone: tzinfo
    function: UserFunction | None = None
    counts: InputCounts = field(default_factory=InputCounts)
    known_type: KnownType = lambda device, metric: None
    observe: Callable[[Reading | None, Result], None] = lambda reading, result: None
    take_line: Callable[[bytes], bool] = lambda raw: False

    def new_reading(self, *, window: int) -> Reading:
        """Return a reading by these rules."""
        return Reading(self.rules, self.zone, window=window, function=self.function, known_type=self.known_type)

    def count(self, reading: Reading, read: Callable[[], Result]) -> Result:
        """Return what `read` returns, counted."""
        interpreter, counts = reading.interpreter, self.counts
        no_values, odd = interpreter.no_values, interpreter.times.odd
        result = read()
        counts.no_values += interpreter.no_values - no_values
        counts.odd_times += interpreter.times.odd - odd
        counts.readings += sum(len(row.values) for row in result.rows)
        counts.refused += len(result.refusals)
        if reading.detection is not None:
            counts.format, counts.reason = reading.detection.format, reading.detection.reason
        self.observe(reading, result)
        return result

    def refuse(self, refusal: RefusedInput) -> LineResult:
        """Count a line that has no format, or is no line."""
        self.counts.refused += 1
        self.observe(None, Result([], [refusal]))
        return LineResult([], [refusal])


class ForeignSettings(SourceSettings, frozen=True, kw_only=True):
    """Settings of a source that reads foreign data. In agent.toml the rules are in the same table.

    `function` is a Python file with `decode(frame)`, which runs with all rights of the agent.
    """

    rules: Rules = DEFAULT_RULES
    function: Path | None = None

    def __post_init__(self) -> None:
        if (self.rules.format == "function") != (self.function is not None):
            raise ValueError('format = "function" and function = "FILE" must be set together')

    def input(self, context: SourceContext) -> ForeignInput:
        """Return what the source reads by these settings. Raises RulesError."""
        rules = replace(self.rules, device=context.device)
        zone = zone_of(rules.zone) if rules.zone else context.zone
        return ForeignInput(rules, zone, load_user_function(self.function))


class LineResult(NamedTuple):
    """The readings and the refusals of one line, and the events that it shows, such as a restart of the board."""

    readings: list[SensorReading]
    refusals: Sequence[RefusedInput]
    events: Sequence[SourceEvent] = ()


class LineInput:
    """Lines of one port, from the first to the last; the time of arrival is an argument.

    A detected format decides from the first lines, and is detected again after LOST_LINES unreadable lines.
    """

    def __init__(self, input: ForeignInput) -> None:
        self._input = input
        self._head: list[_HeadLine] = []
        self._reading: Reading | None = None
        self._unreadable = 0
        self.restarts = RestartDetector()
        self.open()

    def open(self, *, is_whole: bool = False) -> None:
        """Expect a new connection, whose first and last lines may be cut unless it `is_whole`."""
        self._framing = LineFraming(MAX_LINE_BYTES)
        self._transcoder = Transcoder(self._input.rules.encoding)
        self._is_first = not is_whole
        self._is_whole = is_whole

    @property
    def is_waiting(self) -> bool:
        """Return whether lines wait for others, or for `begin`, so that the format can be chosen."""
        return any(not line.is_first for line in self._head)

    def feed(self, data: bytes, now_ns: int) -> list[LineResult]:
        """Return the results of the lines that these bytes complete."""
        return self._read_frames(self._framing.feed(self._transcoder.feed(data)), now_ns)

    def feed_message(self, payload: bytes, now_ns: int) -> list[LineResult]:
        """Return the results of a message that is complete: one value, or lines, also compressed."""
        self._is_first = False
        return self._read_frames(self._frames_in(payload), now_ns)

    def finish(self, now_ns: int) -> list[LineResult]:
        """Return the results of what waits at the end of a connection. A last line without an end may be cut."""
        rest = self._framing.feed(self._transcoder.feed(b"", final=True)) + self._framing.finish()
        frames = [frame for frame in rest if self._is_whole or (isinstance(frame, TextFrame) and is_ended(frame.raw))]
        self._input.counts.skipped += len(rest) - len(frames)
        self._input.counts.lines += len(rest) - len(frames)
        results = self._read_frames(frames, now_ns)
        return results + self.begin(now_ns)

    def _frames_in(self, payload: bytes) -> list[TextFrame | RefusedInput]:
        """Return the frames of a message: a value of JSON that spans lines is one, and else each line is."""
        rules = self._input.rules
        try:
            if rules.format in BINARY:
                return [TextFrame(1, payload)] if payload else []
            content = unpacked(payload, MAX_MESSAGE_BYTES)[0]
        except FrameRefused as error:
            return [refusal_of(TextFrame(1, payload), error)]
        content = Transcoder(rules.encoding).feed(content, final=True)
        if (is_json := content.lstrip().startswith((b"{", b"["))) and is_whole(content):
            return [TextFrame(1, content)]
        framing = LineFraming(MAX_LINE_BYTES)
        frames = framing.feed(content) + framing.finish()
        if is_json and not any(isinstance(frame, TextFrame) and is_whole(frame.raw) for frame in frames):
            return [TextFrame(1, content)]  # broken JSON, which costs one refusal
        return frames

    def _read_frames(self, frames: Iterable[TextFrame | RefusedInput], now_ns: int) -> list[LineResult]:
        results: list[LineResult] = []
        for frame in frames:
            self._input.counts.lines += 1
            is_first, self._is_first = self._is_first, False
            if isinstance(frame, TextFrame) and self._input.take_line(frame.raw):
                continue
            self.restarts.read_line(frame.raw, now_ns)
            if isinstance(frame, RefusedInput):
                results.append(self._input.refuse(frame))
            elif self._reading is None:
                self._head.append(_HeadLine(frame.raw, now_ns, is_first))
                if is_whole(frame.raw) or self._input.rules.format in BINARY:
                    results += self._begin([frame.raw], now_ns)
                elif len(self._head) >= HEAD_LINES:
                    results += self.begin(now_ns)
            elif is_first and not is_whole(frame.raw):
                self._input.counts.skipped += 1
            else:
                results.append(self._read(self._reading, frame.raw, now_ns))
        return results

    def begin(self, now_ns: int) -> list[LineResult]:
        """Choose the format from the lines so far; return their results."""
        lines = [line.raw for line in self._head if not line.is_first]
        if not lines:
            return []
        if self._head[0].is_first and self._is_header(self._head[0].raw, lines):
            self._head[0] = self._head[0]._replace(is_first=False)
            lines = [self._head[0].raw, *lines]
        return self._begin(lines, now_ns)

    def _begin(self, lines: Sequence[bytes], now_ns: int) -> list[LineResult]:
        """Begin to read by the format of these lines; return the results of all lines that wait."""
        head, self._head = self._head, []
        reading = self._input.new_reading(window=1)
        if reading.begin(lines):
            self._reading = reading
            self._unreadable = 0
        results = []
        for line in head:
            if line.is_first and not is_whole(line.raw):
                self._input.counts.skipped += 1
            elif self._reading is not None:
                results.append(self._read(reading, line.raw, line.arrival_ns, is_late=line.arrival_ns != now_ns))
            else:
                results.append(self._input.refuse(unknown_format(TextFrame(self._input.counts.lines, line.raw))))
        return results

    def _is_header(self, first: bytes, lines: Sequence[bytes]) -> bool:
        """Return whether a first line is complete because it is the header of the table in the others."""
        if self._input.rules.format not in ("auto", "csv"):
            return False
        texts = [decode_text(raw, FALLBACK_ENCODING) or "" for raw in (first, *lines)]
        frames = [TextFrame(number, raw) for number, raw in enumerate(lines, 1)]
        delimiter = self._input.rules.delimiter or delimiter_of(texts)
        try:
            widths = {len(cells_of(text, delimiter)) for text in texts}
            names = cells_of(texts[0], delimiter)
        except FrameRefused:
            return False
        found = detect(frames)
        is_table = found is not None and found.format == "csv" and len(widths) == 1
        return is_table and is_header(names)

    def _read(self, reading: Reading, raw: bytes, now_ns: int, *, is_late: bool = False) -> LineResult:
        restarts = reading.interpreter.times.restarts
        result = self._input.count(reading, lambda: reading.message(raw, now_ns))
        restarts = reading.interpreter.times.restarts - restarts
        for row in result.rows:
            self.restarts.read_values(row.values, now_ns, restarts=restarts)
        self._unreadable = self._unreadable + 1 if result.refusals and not result.rows else 0
        if self._unreadable >= LOST_LINES and self._input.rules.format == "auto":
            self._reading = None
        readings = sensor_readings(reading, result, now_ns if is_late else None)
        return LineResult(readings, result.refusals, self.restarts.take())


class _HeadLine(NamedTuple):
    """Line that waits for the choice of the format. `is_first`: it may be the rest of a line."""

    raw: bytes
    arrival_ns: int
    is_first: bool


def is_whole(raw: bytes) -> bool:
    """Return whether a line proves that it is complete: JSON, or a sentence of NMEA, which begins with its mark."""
    text = raw.strip()
    if text.startswith((b"$", b"!")):
        return True
    if not text.startswith((b"{", b"[")):
        return False
    try:
        return bool(documents(text))
    except FrameRefused:
        return False


def is_ended(raw: bytes) -> bool:
    """Return whether a line without a line end proves that it is complete: JSON, or NMEA with a checksum."""
    text = raw.strip()
    return is_whole(text) and (not text.startswith((b"$", b"!")) or text[-3:-2] == b"*")


def sensor_readings(reading: Reading, result: Result, arrival_ns: int | None = None) -> list[SensorReading]:
    """Return the rows of a result as readings, the first of them with the metrics that are new or have changed.

    A row without a time has that of its arrival.
    """
    news = reading.interpreter.series.news
    metrics = tuple(
        Metric(series.metric, series.type, series.unit, series.label[:MAX_DESCRIPTION])
        for series in news
        if series.type is not None
    )
    news.clear()
    readings = [
        SensorReading(row.values, arrival_ns if row.time_ns is None else row.time_ns) for row in result.all_rows
    ]
    if readings and metrics:
        readings[0] = readings[0]._replace(metrics=metrics)
    return readings


def refusal_of_line(refusal: RefusedInput) -> str:
    """Return the reason of a refusal with the beginning of its line, which is cut."""
    what = f"{refusal.metric}: " if refusal.metric else ""
    return f"{what}{refusal.reason} in {refusal.raw[:MAX_SHOWN_BYTES].decode(errors='backslashreplace')!r}"
