"""Recognition of blocks that a client sends again: what is remembered, and within which bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.recent_blocks import RecentBlocks


def test_only_the_same_value_of_the_same_series_and_time_is_known() -> None:
    """In lists and in arrays, also where several blocks have the time."""
    recent = RecentBlocks()
    recent.add("pump", [5, 7], {"x": [1.0, 2.0]})
    recent.add("pump", [5], {"y": [9.0]})
    recent.add("pump", np.array([10, 20, 30, 40]), {"x": np.array([1.0, 2.0, 3.0, 4.0])})
    assert recent.unknown("pump", 5, {"x": 1.0, "y": 9.0}) == {}
    assert recent.unknown("pump", 5, {"x": 1.0, "y": 8.0, "z": 1.0}) == {"y": 8.0, "z": 1.0}
    assert recent.unknown("pump", 6, {"x": 1.0}) == {"x": 1.0}
    assert recent.unknown("pump", 30, {"x": 3.0}) == {}
    assert recent.unknown("pump", 30, {"x": 4.0}) == {"x": 4.0}
    assert recent.unknown("valve", 5, {"x": 1.0}) == {"x": 1.0}
    assert recent.may_have("pump", 8, 10)
    assert not recent.may_have("pump", 8, 9)


class Times(list[int]):
    """Times that count how many of them were looked at one by one."""

    def __init__(self, times: Iterable[int]) -> None:
        super().__init__(times)
        self.looked_at = 0

    def __getitem__(self, place: Any) -> Any:
        self.looked_at += 1
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[int]:
        for time_ns in super().__iter__():
            self.looked_at += 1
            yield time_ns


def test_a_reading_is_found_without_looking_at_all_times() -> None:
    """A client that sends a large request again has as many readings as the block."""
    recent = RecentBlocks()
    times = Times(range(5_000))
    recent.add("pump", times, {"x": [*range(5_000)]})
    added = times.looked_at
    assert all(recent.unknown("pump", time_ns, {"x": time_ns}) == {} for time_ns in range(0, 5_000, 500))
    assert times.looked_at - added < 10 * 50


class Value:
    """A value that counts its comparisons."""

    compared = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        Value.compared += 1
        return isinstance(other, Value) and self.number == other.number


def test_many_rows_of_one_time_are_not_compared_one_by_one() -> None:
    """The clock of a device stands still."""
    recent = RecentBlocks()
    recent.add("pump", [7] * 5_000, {"x": [Value(number) for number in range(5_000)]})
    assert all(recent.unknown("pump", 7, {"x": Value(number)}) == {} for number in range(0, 5_000, 500))  # type: ignore[dict-item]
    assert len(recent.unknown("pump", 7, {"x": 9.0, "y": 1.0})) == 2
    assert Value.compared < 1_000


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.booleans())
def test_the_order_of_times_does_not_matter(readings: list[tuple[int, int]], is_array: bool) -> None:
    """Every reading of a block is known, and nothing else."""
    times, values = [time_ns for time_ns, _ in readings], [value for _, value in readings]
    recent = RecentBlocks()
    if is_array:
        recent.add("pump", np.array(times), {"x": np.array(values)})
    else:
        recent.add("pump", times, {"x": values})
    for time_ns in range(4):
        for value in range(4):
            assert (not recent.unknown("pump", time_ns, {"x": value})) is ((time_ns, value) in readings)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=40))
def test_the_memory_is_bounded(added: list[tuple[str, int]]) -> None:
    """The newest blocks stay, as many as both bounds allow."""
    recent = RecentBlocks(max_blocks=5, max_readings=20)
    for start, (device, rows) in enumerate(added):
        recent.add(device, [start * 100 + row for row in range(rows)], {"x": [1.0] * rows})
        assert len(recent) <= 5
    assert sum(rows for _, rows in added[len(added) - len(recent) :]) <= 20
    for start, (device, rows) in enumerate(added):
        is_kept = start >= len(added) - len(recent)
        assert recent.may_have(device, start * 100, start * 100 + rows - 1) is is_kept
