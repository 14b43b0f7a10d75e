"""Lines of names and values."""

from __future__ import annotations

import pytest

from formats.pairs import parse_pairs
from tests.formats.reading_of import read


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=1 b=2", [("a", "1"), ("b", "2")]),
        ("a=1,b=2;c=3|d=4", [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]),
        ("a: 1 b: 2", [("a", "1"), ("b", "2")]),
        ("Outdoor temp: 21.5 °C, hum: 40 %", [("Outdoor temp", "21.5 °C"), ("hum", "40 %")]),
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
    assert read("a=1 a=2\n", format="pairs").codes == [(1, "ambiguous")]
