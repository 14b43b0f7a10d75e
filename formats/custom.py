"""Formats that a user describes: a regular expression with named groups, and a Python function.

A file with a function can have golden samples beside it: each is checked whenever the file is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from formats.framing import decode_text
from formats.json_text import JSON_SCHEMA, json_records
from formats.pattern import bounded_pattern
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of

FUNCTION = "decode"
"""Name of the user's function: decode(frame) returns a dict like a JSON object, a list of them, or None."""

SAMPLES = "SAMPLES"
"""Name of the user's samples: a list of (frame, result). A result can be the class of the error that a frame raises."""

MAX_SAMPLES = 1000
"""Samples of one function, which delay the start of a hub; people write a handful."""

MAX_SHOWN = 200
"""Characters of a sample or a result in a sentence."""

MAX_SHAPE_DEPTH = 32
"""Levels checked in the result of a function: more than JSON may have, so that deep results fail like deep JSON."""

MAX_ERROR = 300
"""Characters of an error in the function."""

UserFunction = Callable[[bytes], object]
_REGEX_SCHEMA = Schema(words=True, identity=("device", "device_id", "host"))


def regex_reader(pattern: str) -> Callable[[Iterable[TextFrame]], Iterator[Entry]]:
    """Return the reader of lines that contain a match; its named groups are the fields."""
    search = bounded_pattern(pattern).search

    def read(frames: Iterable[TextFrame]) -> Iterator[Entry]:
        for frame in frames:
            try:
                found = search(decode_text(frame.raw, "latin-1") or "")
                if found is None:
                    raise FrameRefused("syntax", "the line does not match the pattern", "pattern")
                yield InputRecord(frame.line, frame.raw, dict(found), _REGEX_SCHEMA)
            except FrameRefused as error:
                yield refusal_of(frame, error)

    return read


class FunctionError(ValueError):
    """A file of a function that cannot be used; the message is a sentence with the file's name."""


def load_function(source: str, file: str) -> Callable[..., object]:
    """Return the function of the source of a Python file, after a check of its samples. Raises FunctionError.

    The file runs with all rights of the program.
    """
    names: dict[str, Any] = {"__name__": "telemetry_hub_decode", "__file__": file}
    try:
        exec(compile(source, file, "exec"), names)
    except (Exception, SystemExit) as error:
        raise FunctionError(f"{file} cannot be loaded: {_error_text(error)}") from error
    function = names.get(FUNCTION)
    if not callable(function):
        raise FunctionError(f"{file} does not define {FUNCTION}(frame)")
    check_samples(function, names.get(SAMPLES, ()), file)
    return function  # type: ignore[no-any-return]


def check_samples(function: Callable[..., object], samples: object, file: str) -> None:
    """Call a function with each of its samples, (argument, …, result). Raises FunctionError for another result."""
    if not isinstance(samples, list | tuple) or len(samples) > MAX_SAMPLES:
        raise FunctionError(f"{file}: {SAMPLES} is not a list of up to {MAX_SAMPLES:,} pairs of a frame and its result")
    for number, sample in enumerate(samples, 1):
        if not isinstance(sample, tuple) or len(sample) < 2:
            raise FunctionError(f"{file}: sample {number} is not a pair of a frame and its result")
        *arguments, expected = sample
        try:
            found: object = function(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # The function is the user's: its error can be the expected result.
            if isinstance(expected, type) and isinstance(error, expected):
                continue
            found = error
        if isinstance(found, BaseException) or not _is_same(found, expected):
            call = f"{FUNCTION}({', '.join(map(_shown, arguments))})"
            what = f"raised {_error_text(found)}" if isinstance(found, BaseException) else f"returned {_shown(found)}"
            raise FunctionError(f"{file}: sample {number}: {call} {what}, expected {_shown(expected)}")


def _is_same(found: object, expected: object) -> bool:
    """Return whether two results are the same values: fractions agree in 9 digits, and True is not 1."""
    match found, expected:
        case Mapping(), Mapping():
            return found.keys() == expected.keys() and all(_is_same(found[name], expected[name]) for name in found)
        case (list() | tuple(), list() | tuple()):
            return len(found) == len(expected) and all(map(_is_same, found, expected))
        case (bool(), _) | (_, bool()):
            return found is expected
        case (int() | float(), int() | float()):
            are_nan = found != found and expected != expected
            return are_nan or found == expected or math.isclose(found, expected, rel_tol=1e-9)
    return type(found) is type(expected) and found == expected


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_ERROR]


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
        raise FrameRefused("function", f"{FUNCTION}() failed: {_error_text(error)}") from error
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
