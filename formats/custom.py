"""Formats that a user describes: a regular expression with named groups, and a Python function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from formats.framing import decode_text
from formats.json_text import JSON_SCHEMA, json_records
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of

FUNCTION = "decode"
"""Name of the user's function: decode(frame) returns a dict like a JSON object, a list of them, or None."""

MAX_SHAPE_DEPTH = 32
"""Levels checked in the result of a function: more than JSON may have, so that deep results fail like deep JSON."""

MAX_ERROR = 300
"""Characters of an error in the function."""

UserFunction = Callable[[bytes], object]
_REGEX_SCHEMA = Schema(words=True, identity=("device", "device_id", "host"))


def regex_reader(pattern: str) -> Callable[[Iterable[TextFrame]], Iterator[Entry]]:
    """Return the reader of lines that contain a match; its named groups are the fields."""
    search = re.compile(pattern).search

    def read(frames: Iterable[TextFrame]) -> Iterator[Entry]:
        for frame in frames:
            text = decode_text(frame.raw, "latin-1")
            found = search(text or "")
            if found is None:
                yield refusal_of(frame, FrameRefused("syntax", "the line does not match the pattern", "pattern"))
            else:
                yield InputRecord(frame.line, frame.raw, dict(found.groupdict()), _REGEX_SCHEMA)

    return read


def function_reader(function: UserFunction) -> Callable[[Iterable[TextFrame]], Iterator[Entry]]:
    """Return the reader of frames by a function of the user. An error in it costs one frame."""

    def read(frames: Iterable[TextFrame]) -> Iterator[Entry]:
        for frame in frames:
            try:
                yield from _called(function, frame)
            except FrameRefused as error:
                yield refusal_of(frame, error)

    return read


def _called(function: UserFunction, frame: TextFrame) -> list[InputRecord]:
    try:
        content = function(frame.raw)
    except (Exception, SystemExit) as error:
        # SystemExit, too: a mistake in the function costs its frame and does not stop the program. Ctrl-C stops it.
        text = f"{type(error).__name__}: {error}"[:MAX_ERROR]
        raise FrameRefused("function", f"{FUNCTION}() failed: {text}") from error
    if content is None:
        return []
    _check_shape(content, 1)
    if not isinstance(content, dict | list | tuple):
        raise FrameRefused(
            "function", f"{FUNCTION}() returned a {type(content).__name__}, not a dict or a list of dicts"
        )
    return list(json_records(frame, _listed(content), JSON_SCHEMA))


def _listed(content: Any) -> Any:
    return list(content) if isinstance(content, tuple) else content


def _check_shape(content: object, depth: int) -> None:
    """Raise FrameRefused for a result that JSON cannot express, such as an object that contains itself."""
    if depth > MAX_SHAPE_DEPTH:
        raise FrameRefused("depth", f"the result of {FUNCTION}() is nested too deeply")
    match content:
        case None | bool() | int() | float() | str():
            return
        case dict():
            for name, inner in content.items():
                if not isinstance(name, str):
                    raise FrameRefused("function", f"{FUNCTION}() returned a dict with the name {name!r}, not a text")
                _check_shape(inner, depth + 1)
        case list() | tuple():
            for inner in content:
                _check_shape(inner, depth + 1)
        case _:
            kind = type(content).__name__
            raise FrameRefused("function", f"{FUNCTION}() returned a {kind}, not a dict or a list of dicts of values")
