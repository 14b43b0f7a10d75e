"""InfluxDB line protocol as rows, after InfluxDB's reference "Line protocol"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from line_protocol_parser import LineFormatError, parse_line

from importer.mapping import LineMapping
from importer.records import MAX_LINE_BYTES, FileRow, Line, MappingError, RecordProblem, RejectedRecord
from wire.limits import MAX_STRING_VALUE_BYTES, MAX_TIME_NS
from wire.model import Value
from wire.timestamp import NS_PER_UNIT

MAX_STRING_LINES = 1024
"""Most lines of one string. With the bound on its bytes it limits the cost of a quote that is never closed."""

_PLACE = re.compile(r"\{([^{}]+)\}")


def read_line_protocol(lines: Iterable[Line], mapping: LineMapping) -> Iterator[FileRow | RejectedRecord]:
    """Yield each record as a row or as rejected. Raises MappingError for an invalid template."""
    row_of = _RowMaker(mapping)
    digits = 0
    for number, raw, text in _records(lines):
        try:
            point = _parse(text)
            if point is None:
                continue
            if not raw.endswith(b"\n") and len(str(point["time"])) < digits:
                raise RecordProblem("cut off", "the file ends in the middle of this line: its time is too short")
            digits = len(str(point["time"]))
            row = row_of(number, raw, point)
        except RecordProblem as problem:
            yield RejectedRecord(number, raw, problem.why, problem.message)
        else:
            yield row


def _parse(text: str | None) -> dict[str, Any] | None:
    """Return the point in a record, None for a comment. Raises RecordProblem."""
    if text is None:
        raise RecordProblem("encoding", "the line is not UTF-8")
    try:
        # Always a str: bytes that are not UTF-8 crash the process of the parser.
        return parse_line(text)  # type: ignore[no-any-return]
    except LineFormatError as error:
        sentence = str(error).rstrip(".") or "it is not line protocol"
        raise RecordProblem("syntax", sentence[:1].lower() + sentence[1:]) from None


def _records(lines: Iterable[Line]) -> Iterator[tuple[int, bytes, str | None]]:
    """Yield the records: lines, or several lines with a string in quotes that contains line breaks; no blank lines."""
    ahead: list[Line] = []
    following = iter(lines)
    while (line := ahead.pop(0) if ahead else next(following, None)) is not None:
        number, raw = line
        if raw.isspace():
            continue
        if len(raw) >= MAX_LINE_BYTES and not raw.endswith(b"\n"):
            yield number, raw, ""
            continue
        text = _decoded(raw)
        if text is not None and '"' in text and _quotes(text) % 2 and not _is_record(text):
            raw, text = _joined(text, raw, ahead, following) or (raw, text)
        yield number, raw, text


def _joined(text: str, raw: bytes, ahead: list[Line], following: Iterator[Line]) -> tuple[bytes, str] | None:
    """Return the record from this line to the line with the closing quote; None if there is none.

    Lines that were read but not used stay in `ahead`.
    """
    for place in range(MAX_STRING_LINES):
        if place == len(ahead):
            ahead.extend(islice(following, 1))
        more = _decoded(ahead[place].raw) if place < len(ahead) else None
        if more is None or len(raw) > 2 * MAX_STRING_VALUE_BYTES:
            return None
        raw += ahead[place].raw
        text += more
        if _quotes(more) % 2:
            if not _is_record(text):
                return None
            del ahead[: place + 1]
            return raw, text
    return None


def _is_record(text: str) -> bool:
    try:
        return parse_line(text) is not None
    except LineFormatError:
        return False


def _quotes(text: str) -> int:
    return text.count('"') - text.count('\\"')


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


class _RowMaker:
    """Converter of parsed points to rows."""

    def __init__(self, mapping: LineMapping) -> None:
        self._mapping = mapping
        self._factor = NS_PER_UNIT[mapping.precision]
        self._measurements = frozenset(mapping.measurements)
        self._name_of = _template(mapping.metric)
        if "{field}" not in mapping.metric:
            raise MappingError(
                f"the template {mapping.metric!r} does not contain {{field}}: all fields would be one metric"
            )

    def __call__(self, number: int, raw: bytes, point: dict[str, Any]) -> FileRow:
        """Return the row of a point. Raises RecordProblem."""
        mapping = self._mapping
        measurement, tags, time = point["measurement"], point["tags"], point["time"]
        if self._measurements and measurement not in self._measurements:
            raise RecordProblem(
                "metric",
                f"the measurement {measurement} is not one of {', '.join(mapping.measurements)}; set --metric "
                "'{measurement}.{field}' to keep fields of different measurements apart",
            )
        device = mapping.device or tags.get(mapping.device_tag)
        if device is None:
            raise RecordProblem("device", f"the line has no tag {mapping.device_tag}, which names the device")
        if time is None:
            raise RecordProblem("time", "the line has no time, which history needs")
        time_ns = time * self._factor
        if not 0 <= time_ns <= MAX_TIME_NS:
            raise RecordProblem("time", f"the time {time} {mapping.precision} is not between 1970 and 2262")
        name_of = self._name_of
        fields: dict[str, Value] = point["fields"]
        try:
            # The dictionary of the parser has the last field first.
            values = {name_of(measurement, field, tags): fields[field] for field in reversed(fields)}
        except KeyError as error:
            message = f"the line has no tag {error.args[0]}, which the metric's name contains"
            raise RecordProblem("metric", message) from None
        return FileRow(number, raw, device, measurement, time_ns, values)


def _template(template: str) -> Callable[[str, str, dict[str, str]], str]:
    """Return a function of measurement, field and tags that raises KeyError for a missing tag."""
    if template == "{field}":
        return lambda measurement, field, tags: field
    if template == "{measurement}.{field}":
        return lambda measurement, field, tags: f"{measurement}.{field}"
    # The parts are text and names of places in turn.
    parts = list(enumerate(_PLACE.split(template)))

    def fill(measurement: str, field: str, tags: dict[str, str]) -> str:
        known = {**tags, "measurement": measurement, "field": field}
        return "".join(known[part] if number % 2 else part for number, part in parts)

    return fill
