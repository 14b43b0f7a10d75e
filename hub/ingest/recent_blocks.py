"""Newest durable blocks of readings, to recognize those that are sent again without looking at each reading. Pure."""

from __future__ import annotations

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


class _Block(NamedTuple):
    """A block with the first and the last of its times, and its columns by metric."""

    first_ns: int
    last_ns: int
    times: Any
    columns: Mapping[str, Any]
    readings: int


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
        ends = (min(times), max(times)) if isinstance(times, list) else (times.min().item(), times.max().item())
        readings = len(times) * len(columns)
        self._of_device.setdefault(device, deque()).append(_Block(*ends, times, columns, readings))
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
                columns = block.columns
                for row in _rows_at(block.times, time_ns):
                    rest = {
                        name: value
                        for name, value in rest.items()
                        if name not in columns or columns[name][row] != value
                    }
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


def _rows_at(times: Any, time_ns: int) -> Sequence[int]:
    """Return the rows with this time."""
    if isinstance(times, list):
        return [row for row, time in enumerate(times) if time == time_ns]
    return [int(row) for row in np.flatnonzero(times == time_ns)]
