"""Messages that are complete by themselves, such as those of a topic, from many sources that share what is learned.

Most messages are a flat JSON object of numbers, or one bare number, like those before them. `MessageSource.read_plain`
reads these in a tenth of the time, and does exactly what `read` would do: it only uses what `read` has decided before.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import tzinfo
from itertools import chain, compress
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from formats.container import unpacked
from formats.custom import UserFunction
from formats.detection import Detection, detect
from formats.framing import LineFraming, Transcoder
from formats.interpretation import Interpreter, KnownType, KnownUnit
from formats.json_text import MAX_VALUES
from formats.reading import JSON_FORMATS, FrameReader, Reader, reader_of
from formats.record import (
    MAX_RAW_BYTES,
    Entry,
    FrameRefused,
    InputRecord,
    Note,
    Origin,
    RefusedInput,
    Row,
    TextFrame,
    refusal_of,
)
from formats.record_time import count_values
from formats.rules import Rules
from formats.series import InputSeries, SeriesValues
from formats.values import EXACT, PLAIN

MAX_CONTENT_BYTES = 16 * 1024 * 1024
"""Content of a compressed message: as large as the largest message that is accepted uncompressed."""

MAX_PLANS = 8
"""Shapes of a source that are remembered. Devices send a few: with and without an event, say."""

MAX_PLANNED_FIELDS = 1024
"""Fields of all remembered shapes of a source, as many as a device has metrics: 16 kB."""

WHOLE = frozenset((*JSON_FORMATS, "value", "modbus", "function"))
"""Formats in which a message is one frame. In the others each line is one."""

STEP_RECORDS = 250
STEP_VALUES = 500
"""Records and values that are read in one step, at least one record: 1 to 5 ms."""

MessageContent: TypeAlias = tuple[list[Row], list[RefusedInput]]
"""Rows and refusals of a message."""

T = TypeVar("T")

_NUMBERS = frozenset((float, int))
_decode_json = msgspec.json.Decoder().decode


class DecodedRow(NamedTuple):
    """Readings of one device with the same time, such as a flat JSON object; `time_ns` None is the time of arrival.

    `values` maps metrics to finite floats, integers, booleans and texts. `historical` marks backfill.
    """

    device: str
    values: dict[str, Any]
    time_ns: int | None = None
    historical: bool = False


class MessagePlan(NamedTuple):
    """The metrics of a shape, in the order of its fields. `time` is the place of the time, -1 for none.

    `stored` marks the fields that are stored, None if all are. `colons` are those between and in the names. The plan
    holds as long as the `revision` of the types.
    """

    device: str
    metrics: Sequence[str]
    time: int
    stored: Sequence[bool] | None
    revision: int
    colons: int


class MessageReader:
    """Reader of all messages that one set of rules applies to. `interpreter` has what was learned from them."""

    def __init__(
        self,
        rules: Rules,
        zone: tzinfo,
        *,
        known_type: KnownType | None = None,
        known_unit: KnownUnit | None = None,
        device: str = "",
        names: Mapping[str, str] | None = None,
        max_content_bytes: int = MAX_CONTENT_BYTES,
        max_lines: int | None = None,
    ) -> None:
        """`device` is that of messages that name none, `names` are names beside their fields, for templates."""
        self.rules = rules
        self.interpreter = Interpreter(
            rules, zone, device=device, names=names, known_type=known_type, known_unit=known_unit
        )
        self._max_content_bytes = max_content_bytes
        self._max_lines = max_lines

    @property
    def notes(self) -> list[Note]:
        """The rules that decided something."""
        return self.interpreter.all_notes()

    def source(self, origin: Origin, function: UserFunction | None = None) -> MessageSource:
        """Return the reader of the messages of one source."""
        return MessageSource(
            self.rules, self.interpreter, origin, function, self._max_content_bytes, max_lines=self._max_lines
        )


class MessageSource:
    """Reader of the messages of one source. `detection` is its format, None before its first message."""

    def __init__(
        self,
        rules: Rules,
        interpreter: Interpreter,
        origin: Origin,
        function: UserFunction | None = None,
        max_content_bytes: int = MAX_CONTENT_BYTES,
        *,
        max_lines: int | None = None,
    ) -> None:
        self._max_content_bytes = max_content_bytes
        self._max_lines = max_lines
        self.detection = None if rules.format == "auto" else Detection(rules.format, "the settings say so")
        self._rules = rules
        self._interpreter = interpreter
        self._series: SeriesValues = interpreter.series
        self._origin = origin
        self._function = function
        self._reader: Reader | None = None
        self._plans: dict[tuple[str, ...], MessagePlan] = {}
        self._value: tuple[InputSeries, int] | None = None
        self._has_utf8 = rules.encoding in ("auto", "utf-8", "utf8")
        self.read_plain = self._read_plain_value if rules.format == "value" else self._read_plain_object
        """Return the readings of a message that is like earlier ones; None: `read` has to read it."""

    def read(self, payload: bytes, now_ns: int) -> MessageContent:
        """Return the rows and the refusals of a message that arrives now."""
        return without_pauses(self.read_in_steps(payload, now_ns))

    def read_in_steps(self, payload: bytes, now_ns: int) -> Generator[None, None, MessageContent]:
        """Do the same as `read`, and yield between steps of a few milliseconds, so that others can have a turn."""
        frame = TextFrame(1, payload)
        try:
            frame = TextFrame(1, self._content(payload))
            entries = yield from self._entries(frame)
        except FrameRefused as error:
            return [], [refusal_of(frame, error)]
        rows: list[Row] = []
        refusals: list[RefusedInput] = []
        for piece in _pieces(entries):
            found = self._interpreter.interpret(piece, now_ns, self._origin)
            rows += found[0]
            refusals += found[1]
            yield
        if len(rows) == len(entries) == 1 and self._has_utf8 and not refusals and isinstance(entries[0], InputRecord):
            self._plan(entries[0], rows[0])
        return rows, refusals

    def _content(self, payload: bytes) -> bytes:
        """Return the content of a message in UTF-8. A function gets the bytes as they are. Raises FrameRefused."""
        if self._rules.format == "function":
            return payload
        content = unpacked(payload, self._max_content_bytes)[0]
        return content if self._rules.format == "modbus" else Transcoder(self._rules.encoding).feed(content, final=True)

    def _entries(self, frame: TextFrame) -> Generator[None, None, list[Entry]]:
        """Return the records of a message, in steps. Raises FrameRefused."""
        framing = LineFraming(self._max_content_bytes)
        lines = [] if self.detection is not None and self.detection.format in WHOLE else framing.feed(frame.raw)
        lines += framing.finish()
        excess: list[RefusedInput] = []
        if self._max_lines is not None and len(lines) > self._max_lines:
            excess.append(_excess(lines[self._max_lines], self._max_lines, "lines", len(lines) - self._max_lines))
            del lines[self._max_lines :]
        refused: list[Entry] = [line for line in lines if isinstance(line, RefusedInput)]
        frames = [line for line in lines if isinstance(line, TextFrame)]
        if self.detection is None:
            self.detection = detect(frames) if frames else None
            if self.detection is None:
                if not frame.raw.strip(b"\0 \t\r\n"):
                    return []
                reason = "the message has no format that is known: set its format, or describe it with `pattern`"
                raise FrameRefused("format", reason, 'payload = "csv"')
            found = self.detection
            self._series.note("format", found.format, found.reason, f'payload = "{found.format}"')
        if self.detection.format in WHOLE:
            frames = [frame]
        if self._reader is None or self.detection.format == "csv":
            self._reader = reader_of(self.detection, self._rules, frames, self._function)
        last = iter(()) if isinstance(self._reader, FrameReader) else self._reader.finish()
        entries, values, rest = refused, 0, 0
        first: Entry | None = None
        for count, entry in enumerate(chain(self._reader.feed(frames), last), 1):
            if isinstance(entry, InputRecord):
                is_beyond = first is not None or (values > 0 and values + len(entry.values) > MAX_VALUES)
                values += len(entry.values)
                more = count_values(entry.values, entry.schema) + len(entry.refused)
            else:
                # A list that is too long has this refusal behind the records that are read.
                is_beyond = first is not None or (values > 0 and entry.code == "limit" and entry.values > 0)
                more = entry.total
            if is_beyond:
                first = first or entry
                rest += more
            else:
                entries.append(entry)
            if count % STEP_RECORDS == 0:
                yield
        if first is not None:
            entries.append(_excess(first, MAX_VALUES, "values", rest))
        return [*entries, *excess]

    def _plan(self, record: InputRecord, row: Row) -> None:
        """Remember how a message was read, if all of its values are numbers of float metrics."""
        format = self.detection.format if self.detection is not None else ""
        found = self._interpreter.plain_fields(record, row.device) if format in ("json", "value") else None
        if found is None:
            return
        names, series = tuple(record.values), found.series
        if format == "value":
            if series and series[0] is not None:
                self._value = (series[0], self._series.revision)
            return
        if len(names) > MAX_PLANNED_FIELDS:
            return
        if len(self._plans) >= MAX_PLANS or len(names) + sum(map(len, self._plans)) > MAX_PLANNED_FIELDS:
            self._plans.clear()
        metrics = [known.metric for known in series if known is not None]
        stored = None if len(metrics) == len(series) else [known is not None for known in series]
        colons = len(names) + sum(name.count(":") for name in names)
        self._plans[names] = MessagePlan(row.device, metrics, found.time, stored, self._series.revision, colons)

    def _read_plain_object(self, payload: bytes, now_ns: int) -> DecodedRow | None:
        try:
            content = _decode_json(payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        if type(content) is not dict:
            return None
        plan = self._plans.get(tuple(content))
        if plan is None or plan.revision != self._series.revision:
            return None
        raws = list(content.values())
        time_ns: int | None = None
        colons = plan.colons
        if plan.time >= 0:
            time = raws.pop(plan.time)
            time_ns = self._interpreter.times.read_plain(time, now_ns)
            if time_ns is None:
                return None
            if type(time) is str:
                colons += time.count(":")
        if payload.count(b":") != colons:
            # A name can occur twice. A text that is not stored can have a colon, too.
            return None
        if plan.stored is not None:
            raws = list(compress(raws, plan.stored))
        if not _NUMBERS.issuperset(map(type, raws)):
            return None
        try:
            numbers = list(map(float, raws))
        except OverflowError:
            return None
        if numbers != raws:
            # A float does not keep every whole number.
            return None
        self._interpreter.readings += len(numbers)
        return DecodedRow(plan.device, dict(zip(plan.metrics, numbers, strict=True)), time_ns)

    def _read_plain_value(self, payload: bytes, now_ns: int) -> DecodedRow | None:
        if self._value is None or self._value[1] != self._series.revision:
            return None
        try:
            text = payload.decode("ascii")
        except UnicodeDecodeError:
            return None
        series = self._value[0]
        if not PLAIN(text) or not series.is_plain:
            return None
        number = float(text)
        if not -EXACT < number < EXACT:
            return None
        self._interpreter.readings += 1
        return DecodedRow(series.device, {series.metric: number}, None)


def without_pauses(steps: Generator[None, None, T]) -> T:
    """Return the result of work in steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def _excess(first: Entry | TextFrame, limit: int, unit: str, rest: int) -> RefusedInput:
    """Return the refusal of what is behind the limit of a message: so many values or lines, from the `first` one."""
    reason = f"a message has at most {limit:,} {unit}: the last {rest:,} are not stored; send them in other messages"
    return RefusedInput(first.line, first.raw[:MAX_RAW_BYTES], "limit", reason, values=rest)


def _pieces(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Yield the records of each step."""
    first = values = 0
    for place, entry in enumerate(entries):
        if place > first and (place - first >= STEP_RECORDS or values >= STEP_VALUES):
            yield entries[first:place]
            first, values = place, 0
        values += len(entry.values) if isinstance(entry, InputRecord) else 1
    if first < len(entries):
        yield entries[first:]
