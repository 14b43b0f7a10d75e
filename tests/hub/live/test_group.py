"""Columns of live frames: their times are exact to what a float64 of milliseconds can hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.live.group import FrameColumns
from hub.model.batch import Series
from tests.wire.golden_file import named, read_golden
from wire.columns import unpack_floats
from wire.frames import Kind, encode_update

NUMBER = Series(1, "pump", "pressure", "float")
TEXT = Series(2, "pump", "state", "string")
MAX_TIME_MS = 9_223_372_036_854
"""The last whole millisecond of an int64 of nanoseconds."""

KINDS = {"live": Kind.LIVE, "history": Kind.HISTORY, "missed": Kind.MISSED, "snapshot": Kind.SNAPSHOT}
WHOLE = [frame for frame in read_golden("live_frames.json", "frames") if "milliseconds" in frame["name"]]


def framed(times_ns: list[int]) -> tuple[list[float | None], list[float]]:
    """Return the times of a numeric column and of a text column of a frame with these times."""
    columns = FrameColumns()
    columns.add(0, NUMBER, np.array(times_ns, dtype=np.int64), [1.0] * len(times_ns))
    columns.add(1, TEXT, times_ns, ["on"] * len(times_ns))
    return unpack_floats(columns.numbers[0].times_ms), list(columns.texts[0].times_ms)


@given(st.lists(st.integers(0, MAX_TIME_MS), min_size=1, max_size=8))
@example([1_767_225_600_001, 1_767_225_600_002, 1_767_225_600_003])
def test_whole_milliseconds_are_exact(times_ms: list[int]) -> None:
    """A reading that a device timed to the millisecond has that time in every frame, as in the history."""
    numbers, texts = framed([time * 1_000_000 for time in times_ms])
    assert numbers == texts == times_ms


@given(st.integers(0, 2**63 - 1))
def test_any_time_is_the_nearest_number(time_ns: int) -> None:
    """The error is at most the distance of two float64: 0.2 µs today."""
    numbers, texts = framed([time_ns])
    exact = time_ns / 1_000_000  # a division of integers is rounded correctly
    assert texts == [exact]
    assert numbers[0] is not None
    assert abs(numbers[0] - exact) <= math.ulp(exact)


@pytest.mark.parametrize("frame", WHOLE, ids=named)
def test_the_hub_makes_the_golden_frames(frame: Any) -> None:
    """From nanoseconds come the very bytes that the page's tests decode."""
    update = frame["update"]
    columns = FrameColumns()
    for column in update["numbers"]:
        times_ns = np.array([int(time * 1_000_000) for time in column["times_ms"]], dtype=np.int64)
        columns.add(column["series"], NUMBER, times_ns, column["values"])
    for text in update["texts"]:
        columns.add(text["series"], TEXT, [int(time * 1_000_000) for time in text["times_ms"]], text["values"])
    encoded = encode_update(
        KINDS[str(update["kind"])],
        update["schema"],
        offset=update["offset"],
        numbers=columns.numbers,
        texts=columns.texts,
        subscription=update["subscription"],
        conflated=update["conflated"],
    )
    assert encoded.hex() == frame["hex"]
