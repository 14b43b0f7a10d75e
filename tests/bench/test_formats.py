"""The benchmark rows of formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.figure import Plan
from bench.formats import FORMAT_ROWS, FormatRow, content_of, cpu_seconds


@pytest.mark.parametrize("row", FORMAT_ROWS, ids=lambda row: row.key)
def test_every_line_of_a_row_is_read(row: FormatRow, tmp_path: Path) -> None:
    """A row has its lines/s and MB/s; a line that is refused would make a rate too high."""
    outcome = row.run(Plan(tmp_path, 0, 0, repeats=1, scale=0.001), lambda step, share: None)
    assert [figure.unit for figure in outcome.figures] == ["lines/s", "MB/s"]
    assert all(figure.value > 0 for figure in outcome.figures)


def test_a_line_that_is_not_read_is_an_error() -> None:
    """A measurement of refused lines means nothing."""
    with pytest.raises(AssertionError):
        cpu_seconds(content_of("json", 3_000) + b"{\n", 3_001)
