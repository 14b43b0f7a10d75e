"""Texts with counts."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

import pytest

from wire.text import MAX_LOG_TEXT, MAX_LOG_TRACE, batches, escape_log_event, escaped, has_control, plural


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 batches"), (1, "1 batch"), (2, "2 batches"), (-1, "-1 batch"), (12_345, "12,345 batches")],
)
def test_only_one_is_singular(count: int, expected: str) -> None:
    """Large counts have separators."""
    assert plural(count, "batch", "batches") == expected


def test_a_plural_has_an_s_unless_it_is_given() -> None:
    """The noun may be several words."""
    assert [plural(count, "more device") for count in (1, 2)] == ["1 more device", "2 more devices"]
    assert [plural(count, "is", "are") for count in (1, 2)] == ["1 is", "2 are"]


def test_a_range_of_one_batch_names_one_number() -> None:
    """Both ends are named only if they differ."""
    assert (batches(7, 7), batches(7, 9)) == ("batch 7", "batches 7 to 9")


def test_control_characters_are_those_of_unicode() -> None:
    """Controls, line separators, and every mark that sets or overrides a direction; no letter of any script."""
    found = {chr(number) for number in range(sys.maxunicode + 1) if has_control(f"a{chr(number)}b")}
    kinds = {unicodedata.category(character) for character in found}
    assert kinds == {"Cc", "Cf", "Zl", "Zp"}
    assert {chr(number) for number in range(0x100) if unicodedata.category(chr(number)) == "Cc"} <= found
    assert {
        chr(number) for number in range(sys.maxunicode + 1)
        if unicodedata.bidirectional(chr(number)) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    } <= found  # fmt: skip
    assert not any(character.isprintable() for character in found)


def test_escaped_texts_are_printable() -> None:
    """Visible characters stay as they are; the others become readable and have no effect."""
    assert escaped("grün – 21 °C") == "grün – 21 °C"
    assert escaped("a\x1b[2J\n\x9b\u202e\ud800") == r"a\x1b[2J\n\x9b\u202e\ud800"


def test_the_texts_of_a_log_event_are_escaped() -> None:
    """Also those in lists and objects; other values and the lines of a stack stay."""
    event = {"event": "refused\x1b[2J", "n": 2, "names": ["\u202ea", 1], "of": {"\x07": "b\nc"}, "stack": "a\nb\x07"}
    assert escape_log_event(None, "info", event) == {
        "event": r"refused\x1b[2J",
        "n": 2,
        "names": [r"\u202ea", 1],
        "of": {r"\x07": r"b\nc"},
        "stack": "a\nb\\x07",
    }


def test_the_texts_of_a_log_event_are_cut() -> None:
    """A text keeps its begin, a traceback its end, which has the error; lists and objects keep their first items."""
    event: dict[str, Any] = {
        "path": "x" * 5_000,
        "names": ["y" * 5_000] * 5_000,
        "exception": "first line\n" + "z" * 50_000 + "\nlast line",
    }
    cut = escape_log_event(None, "info", event)
    assert cut["path"] == "x" * MAX_LOG_TEXT + "…"
    assert (len(cut["names"]), cut["names"][0]) == (50, "y" * MAX_LOG_TEXT + "…")
    assert len(cut["exception"]) == MAX_LOG_TRACE + 1
    assert cut["exception"].endswith("z\nlast line")
