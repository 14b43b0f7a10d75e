"""docs/formats.md and the code agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from formats.record import RefusalCode
from formats.rules import TIME_WORDS, Format, Rules
from formats.values import NO_VALUE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """Return the names in the first cells of the table below a heading."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [
        name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    ]


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Formats", [name for name in get_args(Format) if name != "auto"]),
        ("Rules", Rules.__struct_fields__),
        ("Refusals", get_args(RefusalCode)),
    ],
)
def test_every_name_is_described_and_no_other(heading: str, names: list[str]) -> None:
    """A row for each."""
    assert sorted(first_cells(heading)) == sorted(names)


def test_every_form_of_a_time_is_described() -> None:
    """The table of times has the words, and the patterns."""
    assert {*first_cells("Times")} >= {*TIME_WORDS}


def test_every_word_without_a_value_is_listed() -> None:
    """They stand in one sentence."""
    section = DOCUMENT.partition("**No value.**")[2].partition("\n\n")[0]
    assert {f"`{word}`" for word in NO_VALUE if word and word not in ("-nan", "+nan")} <= {
        *re.findall(r"`[^`]+`", section)
    }
