"""Regular expressions of users: they read as Python's do, and none of them stops the program."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.pattern import MAX_SEARCH_S, MIN_SEARCH_S, BoundedPattern
from formats.record import FrameRefused
from tests.formats.reading_of import read

ENDLESS = "(?P<x>(a|aa)+)$"
"""A pattern that needs years for SLOW."""

SLOW = "a" * 100 + "b"

PATTERNS = [
    r"(?P<time>\d+) T=(?P<temp>\S+)(?: H=(?P<hum>\d+))?", r"^(?P<a>[a-z]+)\s*(?P<b>\d*)$", "(?P<x>(a+)+)b",
    r"(?i)t(?P<n>[0-9.]+)|x=(?P<x>.*?);",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(alphabet="abtTHx =.;019\n", max_size=30))
def test_a_search_finds_what_python_finds(pattern: str, text: str) -> None:
    """The groups are those of the first match, None for a group without a part of it."""
    expected = re.search(pattern, text)
    assert BoundedPattern(pattern).search(text) == (None if expected is None else expected.groupdict())


def test_a_search_that_takes_too_long_costs_its_line() -> None:
    """The lines beside it are read."""
    content = read(f"aa\n{SLOW}\na\n", format="regex", pattern=ENDLESS)
    assert content.values == [{"x": "aa"}, {"x": "a"}]
    assert content.codes == [(2, "limit")]


def test_many_slow_searches_get_less_time() -> None:
    """The time falls to a bound, and grows again with searches that end."""
    pattern = BoundedPattern(ENDLESS)
    for _ in range(10):
        with suppress(FrameRefused):
            pattern.search(SLOW)
    assert pattern.seconds == MIN_SEARCH_S
    assert pattern.search("a") == {"x": "a"}
    assert MIN_SEARCH_S < pattern.seconds < MAX_SEARCH_S
    for _ in range(1_000):
        pattern.search("a")
    assert pattern.seconds == MAX_SEARCH_S


@pytest.mark.parametrize(
    "pattern", ["(?P<a>", "(?P<a>(?R))", "(?P<a>x){99999999999}", "(" * 2000 + ")" * 2000, "[z-a]"]
)
def test_a_pattern_that_is_none_of_python_is_refused(pattern: str) -> None:
    """One that calls itself would need any amount of memory."""
    with pytest.raises(ValueError, match="pattern is not a regular expression"):
        BoundedPattern(pattern)
