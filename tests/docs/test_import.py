"""Tests that docs/import.md describes every setting and every option of an import."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import msgspec

from formats.rules import Rules
from hub.cli.import_ import ImportOptions

DOCUMENT = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
PART = DOCUMENT.partition("## Set what is not detected")[2].partition("\n## ")[0]


def test_every_setting_is_described() -> None:
    """The table has a row for each, except for the map of the format modbus, which is in docs/formats.md."""
    cells = re.findall(r"^\|[^|]*\|([^|]*)\|", PART, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    settings = {field.name for field in msgspec.structs.fields(Rules)}
    assert documented <= settings
    assert settings - documented <= {"modbus"}


def test_every_option_is_described() -> None:
    """Also those of earlier versions."""
    for option in fields(ImportOptions):
        assert f"--{option.name.replace('_', '-')}" in DOCUMENT, option.name
