"""Lines of names and values: key=value, `key: value unit`, and the lines of Arduino's Serial Plotter; a bare value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from formats.framing import decode_text
from formats.record import VALUE, Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of, repeated
from formats.values import UNITS, written_number

MAX_PAIRS = 1024
"""Pairs of one line, as many as a device has metrics."""

PAIRS_SCHEMA = Schema(words=True, identity=("device", "device_id", "host"))
PLOTTER_SCHEMA = Schema(words=True)

DECORATION = re.compile(r"[-=*_#~.+|\s]{2,}")
"""Match of a line between blocks of readings, such as ----- or =====."""

_KEY = re.compile(r"[^\W\d][^=:\"{}<>]*")
_WORD = re.compile(r"[^\W\d][\w.()-]*")
_PLAIN_LINE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.]*=[+-]?[0-9.]+(?: *[,;|] *| +|$))+")
_PLAIN_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=([+-]?[0-9.]+)")
_TOKEN = re.compile(r'[^\s",;|]*"(?:[^"\\]|\\.)*"[^\s,;|]*|[^\s,;|]+|[,;|]')
_MARK = re.compile(r"[=:]")
_DIGITS = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:[.' ][0-9]{3})+)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FRACTION = re.compile(r"[0-9]+(?:\s*[^\s0-9=:]{1,8})?")
_SEPARATORS = frozenset(",;|")
_PARTS = re.compile(r"(?<!:)[,\t ]+")


def read_pairs(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record for each line of pairs, or its refusal."""
    for frame in frames:
        try:
            text = _text(frame)
            if DECORATION.fullmatch(text):
                continue
            pairs = parse_pairs(text)
            if not pairs:
                raise FrameRefused("syntax", "the line has no name with a value, as in temp=21.5 or hum: 40 %")
            yield _record(frame, pairs, PAIRS_SCHEMA)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def read_plotter(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record for each line of label:value or bare values; values without a label are numbered from 1."""
    for frame in frames:
        try:
            text = _text(frame)
            if DECORATION.fullmatch(text):
                continue
            parts = [part.strip() for part in _PARTS.split(text) if part.strip()]
            pairs = []
            for number, part in enumerate(parts, 1):
                label, mark, value = part.rpartition(":")
                pairs.append((label.strip() if mark and label.strip() else str(number), value))
            yield _record(frame, pairs, PLOTTER_SCHEMA)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def read_value(frames: Iterable[TextFrame]) -> Iterator[Entry]:
    """Yield a record with the bare value of each frame, or its refusal."""
    for frame in frames:
        try:
            yield InputRecord(frame.line, frame.raw, {VALUE: _text(frame)}, PLOTTER_SCHEMA)
        except FrameRefused as error:
            yield refusal_of(frame, error)


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Return the names and values of a line in their order; an empty list if a part of it belongs to no pair."""
    return _plain_pairs(text) or _pairs_of_tokens(text)


def _pairs_of_tokens(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, list[str]]] = []
    waiting: list[str] = []
    is_separated = True
    for token in _TOKEN.findall(text):
        if token in _SEPARATORS:
            is_separated = True
            continue
        key, value = _key_of(token)
        if key is not None and (is_separated or not waiting or not pairs):
            if not waiting and pairs and not is_separated:
                waiting = _words_behind(pairs[-1][1])
            name = " ".join([*waiting, key]).strip()
            waiting = []
            pairs.append((name, [value] if value else []))
        elif pairs and not waiting and (not is_separated or _continues(pairs[-1][1], token)):
            if is_separated:
                pairs[-1][1][-1] += f",{token}"
            else:
                pairs[-1][1].append(token)
        elif _WORD.fullmatch(token):
            waiting.append(token)
        else:
            # A time or a number before the first name would become a part of the metric.
            return []
        is_separated = False
        if len(pairs) > MAX_PAIRS:
            raise FrameRefused("limit", f"a line has at most {MAX_PAIRS:,} pairs")
    if waiting:
        return []
    return [(name, " ".join(value)) for name, value in pairs]


def _unquoted(value: str) -> str:
    found = _QUOTED.fullmatch(value) if value.startswith('"') else None
    return value if found is None else re.sub(r"\\(.)", r"\1", found[1])


def _plain_pairs(text: str) -> list[tuple[str, str]] | None:
    """Return the pairs of a line that has nothing but key=number; None for another line.

    Most lines of programs are such ones: 4 pairs take 1.2 µs, and 4.5 µs in tokens.
    """
    if not _PLAIN_LINE.fullmatch(text) or text.count("=") > MAX_PAIRS:
        return None
    return _PLAIN_PAIR.findall(text)


def _words_behind(value: list[str]) -> list[str]:
    """Remove the words behind a number and its unit, which begin the next name, and return them."""
    words: list[str] = []
    if len(value) > 1 and written_number(value[0]) is not None:
        while len(value) > 1 and _WORD.fullmatch(value[-1]) and value[-1] not in UNITS:
            words.insert(0, value.pop())
    return words


def _key_of(token: str) -> tuple[str | None, str]:
    """Return the key of a token such as `temp=21.5` or `temp:` with the rest; None if it does not begin a pair."""
    found = _MARK.search(token)
    if found is None or (token[0] == '"'):
        return None, token
    key, value = token[: found.start()], token[found.end() :]
    if not _KEY.fullmatch(key) or (found[0] == ":" and value.startswith("//")):
        return (None, token) if key else ("", value)
    return key, value


def _continues(value: list[str], token: str) -> bool:
    """Return whether a token behind a comma is the fraction of a number: the line has decimal commas."""
    return len(value) == 1 and bool(_DIGITS.fullmatch(value[0]) and _FRACTION.fullmatch(token))


def _record(frame: TextFrame, pairs: list[tuple[str, str]], schema: Schema) -> InputRecord:
    values: dict[str, object] = {}
    refused = []
    for name, value in pairs:
        if name in values:
            refused.append(repeated(name, _unquoted(value)))
        else:
            values[name] = _unquoted(value)
    return InputRecord(frame.line, frame.raw, values, schema, refused=refused)


def _text(frame: TextFrame) -> str:
    text = decode_text(frame.raw)
    if text is None:
        raise FrameRefused("encoding", "the line is not UTF-8; check the speed of the port or set the encoding")
    return text.strip()
