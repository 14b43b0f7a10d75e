"""The benchmark rows of the serial source."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.figure import Plan
from bench.formats import content_of
from bench.serial import SERIAL_ROWS, SerialRow, cpu_seconds


@pytest.mark.parametrize("row", SERIAL_ROWS, ids=lambda row: row.key)
def test_every_line_of_a_row_is_read(row: SerialRow, tmp_path: Path) -> None:
    """A row has its lines/s."""
    outcome = row.run(Plan(tmp_path, 0, 0, repeats=1, scale=0.001), lambda step, share: None)
    assert [(figure.name, figure.unit) for figure in outcome.figures] == [(row.name, "lines/s")]
    assert outcome.figures[0].value > 0


async def test_a_line_that_is_refused_is_an_error() -> None:
    """A measurement of refused lines means nothing."""
    with pytest.raises(AssertionError):
        await cpu_seconds(content_of("json", 50) + b"noise\n" + content_of("json", 50), 100)
