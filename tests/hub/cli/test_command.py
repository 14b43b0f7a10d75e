"""Text that is safe and short on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.cli.command import bytes_text, cells, printable, time_text


@given(st.text())
def test_text_cannot_control_the_terminal(text: str) -> None:
    """Only visible characters and line ends are printed, and visible text is unchanged."""
    shown = printable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    if all(character.isprintable() for character in text):
        assert shown == text


def test_an_escape_sequence_is_spelled_out() -> None:
    """It is readable and has no effect."""
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\n"


def test_a_cell_is_one_line() -> None:
    """A label from a device can have line breaks, which would look like another row."""
    assert [cell.plain for cell in cells("a\nb\r[c]", 1234)] == ["a\\nb\\r[c]", "1,234"]


def test_times_are_utc_to_the_second() -> None:
    """The format equals that of the log."""
    assert time_text(1_700_000_000_999_999_999) == "2023-11-14 22:13:20"


@pytest.mark.parametrize(("size", "says"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_sizes_are_short(size: int, says: str) -> None:
    """A size has at most three digits before the point, and a unit."""
    assert bytes_text(size) == says
