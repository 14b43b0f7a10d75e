"""InfluxDB line protocol, after InfluxDB's reference "Line protocol". Tags and measurements are names of a record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from formats.framing import RecordJoiner, decode_text
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of
from wire.model import MetricType

MEASUREMENT = "measurement"
"""Name of the measurement in a record; tags keep their names."""

IDENTITY = ("device", "device_id", "host", "hostname")
"""Tags that identify the device by default, as this hub and the agents of InfluxDB write them."""

_LINE = re.compile(
    r"(?:[^,\s=\\]|\\.)+(?:,(?:[^,\s=\\]|\\.)+=(?:[^,\s=\\]|\\.)+)* +"
    r"(?:[^,\s=\\]|\\.)+=(?:\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)(?:,(?:[^,\s=\\]|\\.)+=(?:\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+))*"
    r"(?: +-?[0-9]{1,19})?"
)
_FIELD_VALUE = re.compile(r"=([^\s,\"=]+)(?=[, ]|$)")
_NAN = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[iu]?|t|f|true|false", re.IGNORECASE)


def looks_like_line(text: str) -> bool:
    """Return whether a text has the form of line protocol, with a number, a boolean or a quoted text as its values."""
    if not _LINE.fullmatch(text):
        return False
    fields = re.split(r"(?<!\\) +", text, maxsplit=1)[1]
    return all(_NUMBER.fullmatch(value) or _NAN.fullmatch(value) for value in _FIELD_VALUE.findall(fields))


Parse = Callable[[str], dict[str, Any] | None]


class LineProtocolReader:
    """Reader of lines; lines that belong to one quoted text are joined. `precision` is s, ms, us or ns."""

    def __init__(self, precision: str = "") -> None:
        # The parser is a library of the hub. An agent that reads another format starts without it.
        from line_protocol_parser import LineFormatError, parse_line

        def parse(text: str) -> dict[str, Any] | None:
            try:
                # Always a str: bytes that are not UTF-8 crash the process of the parser.
                return parse_line(text)  # type: ignore[no-any-return]
            except (LineFormatError, ValueError, OverflowError) as error:
                raise FrameRefused("syntax", f"the line is not line protocol: {error}") from None

        self._parse = parse
        self._schema = Schema(typed=True, identity=IDENTITY, time_format=precision or "ns")
        self._joiner = RecordJoiner(_is_open, lambda raw: _is_record(raw, parse))

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each line, or its refusal."""
        return self._read(self._joiner.feed(frames))

    def finish(self) -> Iterator[Entry]:
        """Yield what waited for a closing quote."""
        return self._read(self._joiner.finish())

    def _read(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        for frame in frames:
            try:
                record = _record(frame, self._parse, self._schema)
            except FrameRefused as error:
                yield refusal_of(frame, error)
            else:
                if record is not None:
                    yield record


def _record(frame: TextFrame, parse: Parse, schema: Schema) -> InputRecord | None:
    text = decode_text(frame.raw)
    if text is None:
        raise FrameRefused("encoding", "the line is not UTF-8")
    text = text.strip()
    if not text or text.startswith("#"):
        return None
    missing: list[str] = []
    try:
        point = parse(text)
    except FrameRefused:
        text, missing = _without_nan(text)
        if not missing:
            raise
        if not text:
            return None
        point = parse(text)
    if point is None:
        return None
    fields = point["fields"]
    # The parser returns the last field first.
    values: dict[str, object] = {name: fields[name] for name in reversed(fields)}
    values.update(dict.fromkeys(missing))
    types: dict[str, MetricType] = {name: "integer" for name, value in values.items() if type(value) is int}
    if types:
        schema = schema._replace(types=types)
    names = {**point["tags"], MEASUREMENT: point["measurement"]}
    return InputRecord(frame.line, frame.raw, values, schema, point["time"], names)


def _without_nan(text: str) -> tuple[str, list[str]]:
    """Return a line without the fields that are NaN or infinite, and their names; "" if no field is left.

    InfluxDB's own servers refuse the whole line: other writers send them all the same.
    """
    parts = re.match(r"((?:[^ \\]|\\.)+) +(.*?)( +-?[0-9]{1,19})?$", text)
    if parts is None or '"' in parts[2]:
        return text, []
    fields = re.split(r"(?<!\\),", parts[2])
    missing = [name for name, _, value in (field.rpartition("=") for field in fields) if _NAN.fullmatch(value)]
    kept = [field for field in fields if not _NAN.fullmatch(field.rpartition("=")[2])]
    return (f"{parts[1]} {','.join(kept)}{parts[3] or ''}" if kept else ""), missing


def _is_open(raw: bytes) -> bool:
    return bool((raw.count(b'"') - raw.count(b'\\"')) % 2)


def _is_record(raw: bytes, parse: Parse) -> bool:
    try:
        return parse(raw.decode()) is not None
    except (FrameRefused, UnicodeDecodeError):
        return False
