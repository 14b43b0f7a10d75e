"""A history in parts of JSON is the history."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hub.http.history_json import PART_BYTES, SLICE, history_json
from hub.model.batch import Series
from hub.model.store import History, SeriesHistory, StoreCursor


@pytest.mark.parametrize("readings", [0, 1, SLICE, SLICE + 1, 10 * SLICE + 3])
def test_the_parts_are_one_document(readings: int) -> None:
    """With every number as it is, in parts that are neither many nor large."""
    times_ns = 2**62 + np.arange(readings)
    columns: list[tuple[Series, Any, list[Any]]] = [
        (Series(1, "a", "x", "float", "°C"), np.arange(readings) / 8, [number / 8 for number in range(readings)]),
        (Series(2, "a", "y", "boolean"), np.arange(readings) % 2 == 0, [not number % 2 for number in range(readings)]),
        (Series(3, "b", 'z"', "string"), texts := [f"é{number}," for number in range(readings)], texts),
        (Series(4, "b", "n", "integer"), times_ns, times_ns.tolist()),
    ]
    series = [SeriesHistory(one, times_ns, values, "raw") for one, values, _ in columns]
    parts = list(history_json(History(StoreCursor("journal", 7), series), "minmax"))
    assert all(PART_BYTES <= len(part) < 4 * PART_BYTES for part in parts[:-1])
    answer = json.loads(b"".join(parts))
    assert (list(answer), answer["offset"]) == (["offset", "series"], 7)
    assert answer["series"] == [
        {
            "device": one.device,
            "metric": one.metric,
            "type": one.type,
            "unit": one.unit,
            "resolution": "raw",
            "time_ns": times_ns.tolist(),
            "values": values,
        }
        for one, _, values in columns
    ]


def test_nothing_is_a_document_too() -> None:
    """No series at all."""
    assert b"".join(history_json(History(StoreCursor("journal", 0), []), "avg")) == b'{"offset":0,"series":[]}'
