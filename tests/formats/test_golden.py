"""The golden frames: bytes and rules, and the fields that every implementation reads from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.formats.reading_of import read

GOLDEN = Path(__file__).parent / "golden" / "frames.json"
FRAMES = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("frame", FRAMES, ids=[frame["name"] for frame in FRAMES])
def test_a_golden_frame_has_its_fields(frame: dict[str, Any]) -> None:
    """Times are texts in the file, because JSON numbers of a browser do not hold nanoseconds."""
    raw = bytes.fromhex(frame["hex"]) if "hex" in frame else frame["text"].encode()
    content = read(raw, **frame["rules"])
    rows = [
        {"device": row.device, "time_ns": None if row.time_ns is None else str(row.time_ns), "values": row.values}
        for row in content.rows
    ]
    assert json.dumps(rows) == json.dumps(frame["rows"])
    assert [{"line": r.line, "code": r.code, "metric": r.metric} for r in content.refusals] == frame["refusals"]
    units = {
        series.metric: series.unit
        for known in content.reading.interpreter.metrics.values()
        for series in known.values()
    }
    assert {metric: units[metric] for metric in frame["units"]} == frame["units"]


def test_each_name_is_unique() -> None:
    """A failing frame can be found by its name."""
    assert len({frame["name"] for frame in FRAMES}) == len(FRAMES)
