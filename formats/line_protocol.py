"""InfluxDB line protocol, after InfluxDB's reference "Line protocol". Tags and measurements are names of a record."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from formats.framing import RecordJoiner
from formats.record import (
    Entry,
    FrameRefused,
    InputRecord,
    RefusedField,
    Schema,
    TextFrame,
    refusal_of,
    repeated,
    shown,
)

MEASUREMENT = "measurement"
"""Name of the measurement in a record; tags keep their names."""

HOST = "host"
"""Tag with the computer that collects, which Telegraf adds to every line: `device` is then a disk, say."""

IDENTITY = ("device", "device_id", HOST, "hostname")
"""Tags and fields that identify the device by default, as this hub and the agents of InfluxDB write them."""

HOST_IDENTITY = (HOST, *(name for name in IDENTITY if name != HOST))
"""The same for lines with the tag HOST."""

_NAME = r"(?:[^, \t\n\r=\\]|\\.)+"
_FIELD = rf"{_NAME}=(?:\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)"
_LINE = re.compile(rf"{_NAME}(?:,{_NAME}={_NAME})* +{_FIELD}(?:,{_FIELD})*(?: +-?[0-9]{{1,19}})?")
_TAG = re.compile(rf",({_NAME})={_NAME}", re.DOTALL)
_FIELD_PARTS = re.compile(rf"({_NAME})=(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)", re.DOTALL)
_POINT = re.compile(rf"((?:[^ \\]|\\.)+) +({_FIELD}(?:,{_FIELD})*)( +-?[0-9]{{1,19}})?", re.DOTALL)
_FIELD_VALUE = re.compile(r"=([^\s,\"=]+)(?=[, ]|$)")
_CLOSED_TEXT = re.compile(rb'(?<!\\)="(?:[^"\\]|\\.)*"', re.DOTALL)
_NAN = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_INFINITE = frozenset((math.inf, -math.inf))
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[iu]?|t|f|true|false", re.IGNORECASE)


def looks_like_line(text: str) -> bool:
    """Return whether a text has the form of line protocol, with a number, a boolean or a quoted text as its values."""
    if not _LINE.fullmatch(text):
        return False
    fields = re.split(r"(?<!\\) +", text, maxsplit=1)[1]
    return all(_NUMBER.fullmatch(value) or _NAN.fullmatch(value) for value in _FIELD_VALUE.findall(fields))


MAX_KNOWN = 10_000
"""Combinations of tags that are remembered: 5 MB. When it is full, all are dropped and learned again."""

Parse = Callable[[str], dict[str, Any] | None]


class LineProtocolReader:
    """Reader of lines; lines that belong to one quoted text are joined. `precision` is s, ms, us or ns.

    Lines of other `measurements` than the given ones are refused. A time is a count of `per_count` of these units.
    """

    def __init__(self, precision: str = "", measurements: Collection[str] = (), *, per_count: int = 1) -> None:
        # The parser is a library of the hub. An agent that reads another format starts without it.
        from line_protocol_parser import LineFormatError, parse_line

        def parse(text: str) -> dict[str, Any] | None:
            try:
                # Always a str: bytes that are not UTF-8 crash the process of the parser.
                return parse_line(text)  # type: ignore[no-any-return]
            except (LineFormatError, ValueError, OverflowError) as error:
                # The library ends its sentences with one full stop or two.
                reason = str(error).rstrip(".")
                raise FrameRefused("syntax", f"the line is not line protocol: {reason}") from None

        self._parse = parse
        self._names: dict[str, Mapping[str, str]] = {}
        self._measurements = frozenset(measurements)
        self._per_count = per_count
        self._schema = Schema(typed=True, integers=True, identity=IDENTITY, time_format=precision or "ns")
        self._host_schema = self._schema._replace(identity=HOST_IDENTITY)
        self._joiner = RecordJoiner(
            # A quote in a name opens no text.
            lambda raw: _is_open(raw) and not _is_record(raw, parse),
            lambda raw: _is_record(raw, parse),
        )

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each line, or its refusal."""
        return self._read(self._joiner.feed(frames))

    def finish(self) -> Iterator[Entry]:
        """Yield what waited for a closing quote."""
        return self._read(self._joiner.finish())

    def _read(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        for frame in frames:
            try:
                record = self._record(frame)
            except FrameRefused as error:
                yield refusal_of(frame, error)
            else:
                if record is None:
                    continue
                if self._measurements and record.names[MEASUREMENT] not in self._measurements:
                    yield refusal_of(frame, _other_measurement(record.names[MEASUREMENT], self._measurements))
                else:
                    yield record

    def _record(self, frame: TextFrame) -> InputRecord | None:
        try:
            text = frame.raw.decode().strip("\0\ufeff\r\n").strip()
        except UnicodeDecodeError:
            raise FrameRefused("encoding", "the line is not UTF-8") from None
        if not text or text.startswith("#"):
            return None
        refused: list[RefusedField] = []
        try:
            point = self._parse(text)
        except FrameRefused as error:
            point, values, refused = self._point_by_fields(text, error)
        else:
            if point is None:
                return None
            fields = point["fields"]
            # The parser returns the last field first.
            values = dict(reversed(fields.items()))
            if text.count("=") != len(fields) + len(point["tags"]) or not _INFINITE.isdisjoint(fields.values()):
                point, values, refused = self._point_by_fields(text, None)
        key = text[: text.index(" ")] if "\\" not in text else ""
        names = self._names.get(key)
        if names is None:
            names = {**point["tags"], MEASUREMENT: point["measurement"]}
            if key:
                if len(self._names) >= MAX_KNOWN:
                    self._names.clear()
                self._names[key] = names
        time = point["time"]
        if self._per_count != 1 and time is not None:
            time *= self._per_count
        schema = self._host_schema if names.get(HOST) else self._schema
        return InputRecord(frame.line, frame.raw, values, schema, time, names, key, refused)

    def _point_by_fields(
        self, text: str, error: FrameRefused | None
    ) -> tuple[dict[str, Any], dict[str, object], list[RefusedField]]:
        """Return the point of a line, its values, and the fields that are refused alone. Raises FrameRefused.

        The parser refuses a whole line for one field, and keeps one of the fields with the same name. NaN is no value:
        the servers of InfluxDB refuse it, and other writers send it all the same.
        """
        parts = _POINT.fullmatch(text)
        if parts is None:
            raise error or FrameRefused("syntax", "the line is not line protocol")
        tags = _TAG.findall(parts[1])
        if len(set(tags)) < len(tags):
            raise FrameRefused("ambiguous", "the line has two tags with the same name")
        point = self._parse(f"{parts[1]} field=0{parts[3] or ''}")
        if point is None:
            raise error or FrameRefused("syntax", "the line is not line protocol")
        values: dict[str, object] = {}
        refused: list[RefusedField] = []
        for written, value in _FIELD_PARTS.findall(parts[2]):
            name = self._field(written, "0")[0]
            try:
                content = None if _NAN.fullmatch(value) else self._field(written, value)[1]
            except FrameRefused as field_error:
                refused.append(RefusedField(name, value, field_error.code, field_error.reason))
                continue
            if name in values:
                refused.append(repeated(name, value))
            else:
                values[name] = content
        return point, values, refused

    def _field(self, name: str, value: str) -> tuple[str, object]:
        """Return the name and the value of one field. Raises FrameRefused."""
        is_number = _NUMBER.fullmatch(value) is not None
        try:
            point = self._parse(f"m {name}={value}")
        except FrameRefused:
            if is_number:
                raise FrameRefused("number", f"{shown(value)} is outside of 64 bits") from None
            raise FrameRefused("syntax", f"{shown(value)} is no value: a text is in quotes") from None
        ((field, content),) = point["fields"].items() if point is not None else ((name, None),)
        if content in _INFINITE:
            raise FrameRefused("number", f"{shown(value)} is too large for a number")
        return field, content


def _other_measurement(found: str, wanted: Collection[str]) -> FrameRefused:
    return FrameRefused(
        "metric",
        f"the measurement {found} is not one of {', '.join(sorted(wanted))}",
        'metric = "{measurement}.{field}", without `measurements`, keeps fields of different measurements apart',
    )


def _is_open(raw: bytes) -> bool:
    """Return whether a text is not closed. It opens behind an equals sign: a name may contain quotes."""
    return b'"' in raw and b'="' in _CLOSED_TEXT.sub(b"", raw).replace(b'\\="', b"")


def _is_record(raw: bytes, parse: Parse) -> bool:
    try:
        return parse(raw.decode()) is not None
    except (FrameRefused, UnicodeDecodeError):
        return False
