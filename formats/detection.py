"""Detection of the text format from the first frames of an input. The choice is reported with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from formats.columns import cells_of, delimiter_of, is_one_column, kind_of
from formats.export import is_export
from formats.framing import decode_text
from formats.gpsd import is_gpsd
from formats.json_text import documents, is_senml
from formats.line_protocol import looks_like_line
from formats.nmea import looks_like_nmea
from formats.pairs import parse_pairs
from formats.record import FrameRefused, TextFrame
from formats.rtl_433 import is_rtl_433
from formats.rules import Format
from formats.signalk import is_delta, is_hello
from formats.table import FALLBACK_ENCODING
from formats.values import INFINITE, NO_VALUE, TRUTHS, cleaned, written_number

MAX_SAMPLE = 50
"""Frames that detection looks at: more do not change the choice, and a serial port has one at first."""

_OPENING = re.compile(r"[{\[]\s*(?:$|[\"{\[]|-?[0-9.]+\s*(?:,|$))")
_ONE_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


class Detection(NamedTuple):
    """A detected format and the reason in a sentence. `is_document`: one JSON value spans the lines."""

    format: Format
    reason: str
    is_document: bool = False


def detect(frames: Sequence[TextFrame]) -> Detection | None:
    """Return the format of these first frames; None if they have none that is known."""
    texts = [
        text for frame in frames[:MAX_SAMPLE] if (text := (decode_text(frame.raw, FALLBACK_ENCODING) or "").strip())
    ]
    if not texts:
        return None
    if is_export(frames):
        return Detection("csv", "the first line is that of an export of a hub")
    lines = [text for text in texts if not text.startswith("#")] or texts
    if lines[0][0] in "{[" and (found := _json(lines, frames)) is not None:
        return found
    if (kind := kind_of(texts, delimiter_of(texts))) != "plain":
        names = {"toa5": "TOA5 (Campbell)", "hobo": "HOBO (Onset)", "annotated": "annotated CSV (InfluxDB)"}
        return Detection("csv", f"the first line is that of {names[kind]}")
    tests: tuple[tuple[Format, str, Callable[[str], bool]], ...] = (
        ("nmea", "sentences of NMEA 0183", looks_like_nmea),
        ("line", "line protocol", looks_like_line),
        ("pairs", "pairs of a name and a value", _is_pairs),
    )
    for format, words, test in tests:
        count = sum(map(test, lines))
        if count * 2 > len(lines):
            return Detection(format, f"{count} of {len(lines):,} lines are {words}")
    return _table(texts, lines)


def _json(lines: list[str], frames: Sequence[TextFrame]) -> Detection | None:
    if _OPENING.match(lines[0]) and _opens(lines[0]) and (whole := _contents(b"\n".join(f.raw for f in frames))):
        format, words = _json_kind(whole)
        return Detection(format, f"the first line opens a value that spans lines: {words}", is_document=True)
    found = [_contents(text.encode()) for text in lines]
    count = sum(content is not None for content in found)
    contents = [value for content in found for value in content or ()]
    if contents and count * 2 > len(lines):
        format, words = _json_kind(contents)
        return Detection(format, f"{count} of {len(lines):,} lines are {words}")
    if found[0] is None and _OPENING.match(lines[0]) and _opens(lines[0]):
        return Detection("json", "the first line opens a value that spans lines: JSON", is_document=True)
    return None


def _contents(raw: bytes) -> list[Any] | None:
    """Return the JSON values of some bytes, None for other bytes."""
    try:
        return documents(raw, keeps_repeated=True)
    except FrameRefused:
        return None


def _json_kind(contents: list[Any]) -> tuple[Format, str]:
    """Return the format that all these values have, and its name in a sentence."""
    if all(map(is_senml, contents)):
        return "senml", "packs of SenML"
    if all(is_delta(content) or is_hello(content) for content in contents) and any(map(is_delta, contents)):
        return "signalk", "deltas of Signal K"
    if all(map(is_rtl_433, contents)):
        return "rtl_433", "messages of rtl_433"
    if all(map(is_gpsd, contents)):
        return "gpsd", "reports of gpsd"
    return "json", "JSON"


def _opens(text: str) -> bool:
    return text.count("{") + text.count("[") > text.count("}") + text.count("]")


def _is_pairs(text: str) -> bool:
    try:
        return bool(parse_pairs(text))
    except FrameRefused:
        return False


def _table(texts: list[str], lines: list[str]) -> Detection | None:
    if is_one_column(texts):
        reason = "one name is above lines with one number each"
        return Detection("csv", f'{reason}; if each line is several numbers, set delimiter = ","')
    delimiter = delimiter_of(texts)
    widths = []
    for text in lines:
        try:
            widths.append(len(cells_of(text, delimiter)))
        except FrameRefused:
            continue
    if widths and (width := max(widths, key=widths.count)) > 1:
        name = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}.get(delimiter, repr(delimiter))
        reason = f"{widths.count(width)} of {len(lines):,} lines have {width} cells between {name}"
        if all(map(_ONE_COMMA.fullmatch, lines)):
            reason += '; if each line is one number with a decimal comma, set format = "value"'
        return Detection("csv", reason)
    if sum(len(text.split()) > 1 and all(map(_is_number, text.split())) for text in lines) * 2 > len(lines):
        return Detection("plotter", "the lines are numbers between spaces")
    if sum(_is_bare(text) for text in lines) * 2 > len(lines):
        return Detection("value", "each line is a bare value")
    return None


def _is_number(text: str) -> bool:
    return written_number(cleaned(text)) is not None


def _is_bare(text: str) -> bool:
    lowered = cleaned(text).lower()
    return _is_number(text) or lowered in TRUTHS or lowered in NO_VALUE or lowered in INFINITE
