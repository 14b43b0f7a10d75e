"""Sample files of loggers, boards, brokers and tools, made after their public documentation."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.formats.reading_of import read
from wire.timestamp import NS_PER_S

SAMPLES = Path(__file__).parent / "samples"
EXPECTED = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))


def written(time_ns: int | None) -> str | None:
    if time_ns is None:
        return None
    seconds, fraction = divmod(time_ns, NS_PER_S)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return stamp + (f".{fraction:09}".rstrip("0") if fraction else "") + "Z"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_sample_has_all_its_rows(name: str) -> None:
    """Each row with its device, time and values; the refusals and the units."""
    expected = EXPECTED[name]
    content = read((SAMPLES / name).read_bytes(), **expected["rules"])
    assert content.reading.detection is not None
    assert content.reading.detection.format == expected["format"]
    rows = [[row.device, written(row.time_ns), row.values] for row in content.rows]
    assert json.dumps(rows) == json.dumps(expected["rows"])
    assert [[r.line, r.code, r.metric] for r in content.refusals] == expected["refusals"]
    known = [series for metrics in content.reading.interpreter.metrics.values() for series in metrics.values()]
    assert {series.metric: series.unit for series in known if series.type and series.unit} == expected["units"]
    assert not any(row.is_time_odd for row in content.rows)


def test_the_page_of_each_sample_is_named() -> None:
    """The table has a row for each file, with an address and what was changed."""
    table = (SAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| \[[^\]]+\]\((https?://[^)]+)\) \| [^|]+ \|$", table, re.MULTILINE)
    files = {path.name for path in SAMPLES.iterdir()} - {"README.md", "expected.json"}
    assert {name for name, _ in rows} == files == set(EXPECTED)
    assert len(rows) == len(files) >= 20
