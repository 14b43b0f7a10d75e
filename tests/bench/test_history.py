from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.figure import Plan
from bench.history import RANGES, SERIES, Fleet, HistoryRow, check
from bench.measure import Failure
from hub.model.store import HistoryQuery, SeriesHistory


def test_a_small_history_measures_every_figure(tmp_path: Path) -> None:
    """The row has each range in order of arrival and compacted, with checked answers, and the bytes of a reading."""
    shares: list[float] = []
    outcome = HistoryRow("history", "history", SERIES * 1_000, compacted=True).run(
        Plan(tmp_path, hub_core=0, load_core=0, repeats=1, scale=1.0), lambda _, share: shares.append(share)
    )
    assert len(outcome.figures) == 2 * (len(RANGES) + 1)
    assert all(figure.value > 0 for figure in outcome.figures)
    assert 0 < min(shares) <= max(shares) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_answer_is_a_failure() -> None:
    """One value that was never stored fails the row."""
    fleet = Fleet(SERIES * 1_000)
    for _ in fleet.batches():
        pass
    series, span = fleet.asked[1], RANGES[0]
    values = fleet.values[series.id].copy()
    query = HistoryQuery([series], 0, fleet.end_ns, len(values))
    every = span._replace(points=len(values))
    check(SeriesHistory(series, fleet.times_ns, values, "raw"), query, fleet, every)
    values[np.argsort(values)[500]] += 0.001
    with pytest.raises(Failure, match="not what was stored"):
        check(SeriesHistory(series, fleet.times_ns, values, "raw"), query, fleet, every)
