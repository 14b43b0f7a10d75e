"""The CSV files that a hub exports: one reading in each line, with its time in nanoseconds.

Such a file says more than other tables: a value in quotes is a text, and another one is a number or a boolean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from formats.columns import cells_of
from formats.framing import RecordJoiner, decode_text
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of
from formats.values import PLAIN

HEADER = "time,time_ns,device,metric,unit,value"

FORMULA = frozenset("=+@\t\r\n＝＋－＠-")
"""First characters of texts that get an apostrophe in front, so that no spreadsheet runs them as a formula."""

MAX_KNOWN = 10_000
"""Series that are remembered: 5 MB. When it is full, all are dropped and learned again."""

_COLUMNS = HEADER.count(",") + 1


def is_export(head: Sequence[TextFrame]) -> bool:
    """Return whether the first line is the header of an export."""
    return bool(head) and decode_text(head[0].raw) == HEADER


class ExportReader:
    """Reader of the lines of an export. `header_lines` has the number of its header."""

    def __init__(self) -> None:
        self.header_lines: list[int] = []
        self._known: dict[tuple[str, ...], tuple[str, Schema, dict[str, str]]] = {}
        self._joiner = RecordJoiner(_is_open, _is_record)

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each line of data, or its refusal."""
        for frame in self._joiner.feed(frames):
            yield from self._read(frame)

    def finish(self) -> Iterator[Entry]:
        """Yield what waited for a closing quote."""
        for frame in self._joiner.finish():
            yield from self._read(frame)

    def _read(self, frame: TextFrame) -> Iterator[Entry]:
        try:
            text = decode_text(frame.raw)
            if text is None:
                raise FrameRefused("encoding", "the line is not UTF-8")
            if text == HEADER:
                self.header_lines = self.header_lines or [frame.line]
                return
            cells = cells_of(text, ",")
            if len(cells) != _COLUMNS:
                raise FrameRefused("cells", f"the line has {len(cells)} cells for {_COLUMNS} columns")
            yield self._record(frame, cells, is_text=text.endswith('"'))
        except FrameRefused as error:
            yield refusal_of(frame, error)

    def _record(self, frame: TextFrame, cells: list[str], *, is_text: bool) -> InputRecord:
        _, time, *series, value = cells
        if not time.isdecimal() or not time.isascii():
            raise FrameRefused("time", f"{time[:40]!r} is no count of nanoseconds")
        found = self._known.get(tuple(series))
        if found is None:
            device, metric, unit = map(_plain, series)
            if not metric:
                raise FrameRefused("metric", "the column 'metric' is empty")
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            schema = Schema(typed=True, units={metric: unit}, device=device, time_format="ns")
            found = self._known[tuple(series)] = metric, schema, {"device": device}
        metric, schema, names = found
        return InputRecord(
            frame.line, frame.raw, {metric: _value(value, is_text=is_text)}, schema, int(time), names, "\0".join(series)
        )


def _value(cell: str, *, is_text: bool) -> object:
    """Return the value of a cell. Raises FrameRefused."""
    if is_text:
        return _plain(cell)
    if cell in ("true", "false"):
        return cell == "true"
    if cell.removeprefix("-").isdecimal() and cell.isascii() and len(cell) <= len("-9223372036854775808"):
        return int(cell)
    if not PLAIN(cell):
        raise FrameRefused("type", f"{cell[:40]!r} is neither a number, a boolean nor a text in quotes")
    return float(cell)


def _plain(text: str) -> str:
    """Return a text without the apostrophe that the export puts before a formula, and before its own apostrophes."""
    begin = text.lstrip("'")[:1] if text[:1] == "'" else ""
    return text[1:] if begin and begin in FORMULA else text


def _is_open(raw: bytes) -> bool:
    return bool(raw.count(b'"') % 2)


def _is_record(raw: bytes) -> bool:
    try:
        cells = cells_of(decode_text(raw) or "", ",")
    except FrameRefused:
        return False
    return len(cells) == _COLUMNS and cells[1].isdecimal()
