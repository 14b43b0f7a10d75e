"""Formats that a user describes: a regular expression and a function."""

from __future__ import annotations

import pytest

from formats.custom import function_reader
from formats.record import InputRecord, TextFrame
from tests.formats.reading_of import read


def decoded(result: object) -> list[object]:
    def decode(frame: bytes) -> object:
        if isinstance(result, BaseException):
            raise result
        return result

    found = list(function_reader(decode)([TextFrame(1, b"x")]))
    return [entry.values if isinstance(entry, InputRecord) else entry.code for entry in found]


def test_named_groups_are_the_fields() -> None:
    """A group that did not match is no value; a group `time` is the time."""
    content = read(
        "1795878000 T=21.5\n1795878001 T=x H=40\n",
        format="regex",
        pattern=r"(?P<time>\d+) T=(?P<temp>\S+)(?: H=(?P<hum>\d+))?",
    )
    assert content.values == [{"temp": 21.5}, {"hum": 40.0}]
    assert content.times == [1_795_878_000 * 10**9, 1_795_878_001 * 10**9]
    assert content.codes == [(2, "type")]


def test_a_function_returns_values() -> None:
    """It returns a dict, a list of them, or None."""
    assert decoded({"t": 1, "in": {"x": 2}}) == [{"t": 1, "in.x": 2}]
    assert decoded([{"t": 1}, {"t": 2}]) == [{"t": 1}, {"t": 2}]
    assert decoded(None) == []


def test_a_mistake_in_the_function_costs_one_frame() -> None:
    """This includes the end of the program, and results that JSON cannot express."""
    loop: dict[str, object] = {}
    loop["self"] = loop
    assert decoded(ValueError("no")) == ["function"]
    assert decoded(SystemExit(1)) == ["function"]
    assert decoded(loop) == ["depth"]
    assert decoded({1: 2}) == ["function"]
    assert decoded(object()) == ["function"]
    assert decoded(21.5) == ["function"]


def test_an_interrupt_within_the_function_stops_the_program() -> None:
    """Ctrl-C during a long function is no mistake in it."""
    with pytest.raises(KeyboardInterrupt):
        decoded(KeyboardInterrupt())
