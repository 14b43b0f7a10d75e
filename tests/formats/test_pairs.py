"""Lines of names and values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.pairs import _pairs_of_tokens, _plain_pairs, parse_pairs
from tests.formats.reading_of import read


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=1 b=2", [("a", "1"), ("b", "2")]),
        ("a=1,b=2;c=3|d=4", [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]),
        ("a: 1 b: 2", [("a", "1"), ("b", "2")]),
        ("Outdoor temp: 21.5 °C, hum: 40 %", [("Outdoor temp", "21.5 °C"), ("hum", "40 %")]),
        ("a=1.234,5 b=2", [("a", "1.234,5"), ("b", "2")]),
        ("a=21,5;b=2", [("a", "21,5"), ("b", "2")]),
        ('a="x y" b=2', [("a", '"x y"'), ("b", "2")]),
        ("time=2026-11-28T15:00:00Z t=1", [("time", "2026-11-28T15:00:00Z"), ("t", "1")]),
        ("time: 2026-11-28 15:00:00, t: 1", [("time", "2026-11-28 15:00:00"), ("t", "1")]),
        ("url=http://x/y", [("url", "http://x/y")]),
        ("a=", [("a", "")]),
        ("Temperature: 21.5 *C Heat index: 22 *C", [("Temperature", "21.5 *C"), ("Heat index", "22 *C")]),
        ("DHT22 temp=21.5", [("DHT22 temp", "21.5")]),
        ("12:00:01 temp=21.5", []),
        ("hello", []),
        ("a=1, hello", []),
    ],
)
def test_pairs_of_a_line(text: str, pairs: list[tuple[str, str]]) -> None:
    """A part of the line that belongs to no pair makes it no line of pairs."""
    assert parse_pairs(text) == pairs


def test_the_device_can_be_a_pair() -> None:
    """It is not a reading."""
    content = read("device=Shed temp=21.5\n")
    assert [(row.device, row.values) for row in content.rows] == [("Shed", {"temp": 21.5})]


def test_two_values_of_one_name_are_refused() -> None:
    """Neither of them is preferred."""
    content = read("a=1 a=2 b=3\n", format="pairs")
    assert (content.values, content.codes) == ([{"a": 1.0, "b": 3.0}], [(1, "ambiguous")])


@given(
    st.lists(
        st.sampled_from(
            ["a", "b.1", "_c", "=", "1", "-2.5", ".", "1.2.3", " ", "  ", ",", ";", "|", "e", "+", "x y", ":"]
        ),
        max_size=14,
    ).map("".join)
)
@settings(max_examples=1_000)
def test_a_line_of_plain_pairs_has_the_pairs_of_its_tokens(text: str) -> None:
    """The short way is only a short way."""
    plain = _plain_pairs(text.strip())
    assert plain is None or plain == _pairs_of_tokens(text.strip())


@pytest.mark.parametrize("text", ["a=1", "a=1 b=-2.5", "a=1,b=2; c=3 | d=.5", "_x.1=007  y=1."])
def test_plain_pairs_take_the_short_way(text: str) -> None:
    """Keys of letters and digits, numbers, and any separators."""
    assert _plain_pairs(text) == _pairs_of_tokens(text)


def test_quotes_around_a_text_are_removed() -> None:
    """A quote within the text is a part of it."""
    content = read(r'state="on hold" say="a \"b\" c" temp="21.5"' + "\n", format="pairs")
    assert content.values == [{"state": "on hold", "say": 'a "b" c', "temp": 21.5}]


@pytest.mark.parametrize(("word", "value"), [("on", True), ("closed", False), ("high", "high"), ("21,5", 21.5)])
def test_the_first_value_of_a_stream_can_be_of_any_kind(word: str, value: object) -> None:
    """It decides for itself as the first lines of a file do."""
    content = read(f"a=1 b=2\na=3 c={word}\n", window=1, format="pairs")
    assert (content.values[1], content.refusals) == ({"a": 3.0, "c": value}, [])
