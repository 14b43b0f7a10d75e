"""Newest durable blocks of readings, to recognize those that are sent again without looking at each reading. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from wire.model import Value

MAX_BLOCKS = 10_000
"""Blocks of all devices. A client sends a request again within seconds or minutes."""

MAX_READINGS = 1_000_000
"""Their readings: 32 MB in lists, 8 MB in arrays. Twenty-five of the largest requests of a Telegraf with the settings
for speed."""

MAX_COMPARED = 512
"""Newest blocks of a device that a reading is compared with: 0.1 ms."""


MAX_LISTED_ROWS = 8
"""Rows of one time that are compared one by one. Of more, from a device whose clock stands still, the values are kept
as sets as soon as they are needed: the comparisons would take quadratic time."""


class _Block(NamedTuple):
    """A block with its times in ascending order, the row of each, and its columns by metric.

    `rows` is None if the rows are in this order. `sets` are the values of times with many rows, by time and metric.
    """

    first_ns: int
    last_ns: int
    times: Any
    rows: Any
    columns: Mapping[str, Any]
    readings: int
    sets: dict[int, dict[str, set[Value]]]

    def unknown(self, time_ns: int, values: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return those of the values that it does not have at this time."""
        start = bisect_left(self.times, time_ns)
        end = bisect_right(self.times, time_ns, start)
        columns = self.columns
        if end - start > MAX_LISTED_ROWS:
            known = self.sets.get(time_ns)
            if known is None:
                rows = self._rows(start, end)
                known = self.sets[time_ns] = {name: {column[row] for row in rows} for name, column in columns.items()}
            return {name: value for name, value in values.items() if value not in known.get(name, ())}
        for row in self._rows(start, end):
            values = {
                name: value for name, value in values.items() if name not in columns or columns[name][row] != value
            }
        return values

    def _rows(self, start: int, end: int) -> Sequence[int]:
        return range(start, end) if self.rows is None else self.rows[start:end]


class RecentBlocks:
    """Newest durable blocks, by device. Times and columns are lists or arrays."""

    def __init__(self, *, max_blocks: int = MAX_BLOCKS, max_readings: int = MAX_READINGS) -> None:
        self._max_blocks = max_blocks
        self._max_readings = max_readings
        self._of_device: dict[str, deque[_Block]] = {}
        self._order: deque[str] = deque()
        self._readings = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, device: str, times: Any, columns: Mapping[str, Any]) -> None:
        """Remember a block."""
        times, rows = _ascending(times)
        readings = len(times) * len(columns)
        block = _Block(int(times[0]), int(times[-1]), times, rows, columns, readings, {})
        self._of_device.setdefault(device, deque()).append(block)
        self._order.append(device)
        self._readings += readings
        while len(self._order) > self._max_blocks or self._readings > self._max_readings:
            oldest = self._order.popleft()
            of_oldest = self._of_device[oldest]
            self._readings -= of_oldest.popleft().readings
            if not of_oldest:
                del self._of_device[oldest]

    def may_have(self, device: str, first_ns: int, last_ns: int) -> bool:
        """Return whether a block of the device has readings in this range of time."""
        return any(block.first_ns <= last_ns and block.last_ns >= first_ns for block in self._newest(device))

    def unknown(self, device: str, time_ns: int, values: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return those of the values that no remembered block has at this time."""
        rest = values
        for block in self._newest(device):
            if block.first_ns <= time_ns <= block.last_ns and not block.columns.keys().isdisjoint(rest):
                rest = block.unknown(time_ns, rest)
                if not rest:
                    break
        return rest

    def _newest(self, device: str) -> Iterable[_Block]:
        return islice(reversed(self._of_device.get(device, ())), MAX_COMPARED)


def given_times(times: Any, run: tuple[int, int]) -> Any:
    """Return the times that the readings of an array of stored times may have had: the first time of each run.

    Validation moves a reading whose time is taken to the next free nanosecond. `run` is the run before these times: its
    first and its last time. The array itself is returned if no reading was moved.
    """
    first_ns, last_ns = run
    starts = np.concatenate(([True], np.diff(times) != 1))
    if starts.all() and times[0] != last_ns + 1:
        return times
    given = times[np.maximum.accumulate(np.where(starts, np.arange(len(times)), 0))]
    if times[0] == last_ns + 1:
        given[given == times[0]] = first_ns
    return given


def _ascending(times: Any) -> tuple[Any, Any]:
    """Return times in ascending order, and the row of each; None if they are in this order."""
    if isinstance(times, list):
        ordered = sorted(times)
        return (times, None) if ordered == times else (ordered, sorted(range(len(times)), key=times.__getitem__))
    if (times[1:] >= times[:-1]).all():
        return times, None
    rows = np.argsort(times, kind="stable")
    return times[rows], rows
