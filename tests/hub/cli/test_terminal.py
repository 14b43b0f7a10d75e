"""What may be written to a terminal, and how amounts look there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.terminal import bytes_text, printable, time_text


@given(st.text())
def test_no_text_commands_the_terminal(text: str) -> None:
    """Whatever a device sends: only characters to see and line ends get there, and those stay as they are."""
    shown = printable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    if all(character.isprintable() for character in text):
        assert shown == text


def test_an_escape_sequence_is_spelled_out() -> None:
    """It can be read, and does nothing."""
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\n"


def test_times_are_utc_to_the_second() -> None:
    """As logs have them."""
    assert time_text(1_700_000_000_999_999_999) == "2023-11-14 22:13:20"


@pytest.mark.parametrize(("size", "says"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_sizes_are_short(size: int, says: str) -> None:
    """Three digits and a unit."""
    assert bytes_text(size) == says
