"""Reader of the golden files; golden/README.md describes their format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"


def read_golden(file: str, section: str) -> list[Any]:
    """The entries of one section of a golden file, none when the file does not have it."""
    entries: list[Any] = json.loads((GOLDEN / file).read_text(encoding="utf-8")).get(section, [])
    return entries


def named(entry: Any) -> str:
    """Return the name of an entry in the output of pytest."""
    return str(entry["name"])
