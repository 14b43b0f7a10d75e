"""Tests that docs/import.md describes every field of a mapping."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from importer.mapping import LineMapping, TableMapping

DOCUMENT = (Path(__file__).parents[2] / "docs" / "import.md").read_text()


@pytest.mark.parametrize(("mapping", "heading"), [(LineMapping, "### Line protocol"), (TableMapping, "### CSV")])
def test_every_field_of_a_mapping_is_described(mapping: type[msgspec.Struct], heading: str) -> None:
    """The table has one row for each field and no other row."""
    part = DOCUMENT.partition(heading)[2].partition("\n#")[0]
    documented = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert sorted(documented) == sorted(field.name for field in msgspec.structs.fields(mapping))
