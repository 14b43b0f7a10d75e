"""The table of the results."""

from __future__ import annotations

from tests.damage.campaign import Result
from tests.damage.kinds import Kind
from tests.damage.outcome import Outcome
from tests.damage.table import table


def test_every_result_is_counted_once() -> None:
    """A row for each file and kind, in the order of the kinds; zeros are written where nothing may be."""
    text = table(
        [
            Result("hub/a", Kind.REMOVED, 0, Outcome.START, ""),
            Result("hub/a", Kind.FLIP, 0, Outcome.HARMLESS, ""),
            Result("hub/a", Kind.FLIP, 1, Outcome.WRONG, ""),
        ]
    )
    lines = [line.split(" | ") for line in text.splitlines()]
    assert [line[:3] for line in lines[2:]] == [
        ["| hub: `a`", "flipped bit", "2"],
        ["| hub: `a`", "removed", "1"],
        ["| **all**", "", "3"],
    ]
    assert lines[2][3:] == ["", "", "", "", "", "1", "1", "0", "0 |"]
    assert lines[3][3:] == ["1", "", "", "", "", "", "0", "0", "0 |"]
