"""Newest readings of an input, to recognize a message that a client, a broker or its publisher repeats. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from hub.ingest.recent_blocks import RecentBlocks, given_times
from hub.model.batch import Entry

RECENT_VALUES = 131_072
"""Values remembered over all devices of an input: more than a broker has in flight or a publisher repeats after a
broken connection. 70 MB if each has its own time, 10 MB if forty share one. An older repetition is a new reading."""

MAX_LISTED_ROWS = 8
"""Rows of one time that are compared one by one. Sets for each row cost ten times as much, but with more rows, from a
device whose clock stands still, the comparisons would take quadratic time."""

NO_RUN = -2, -2

Values = Mapping[str, float | int | bool | str | None]


class RecentReadings:
    """Newest accepted values by device, time and metric, to recognize repeated messages.

    The time is that of the message. Validation may store a reading some ns later if its time is taken. With
    `has_blocks`, long batches of the journal are remembered as blocks: `new_values` looks at them, `accept` does not.
    """

    def __init__(self, bound: int = RECENT_VALUES, *, has_blocks: bool = False) -> None:
        self._bound = bound
        self._has_blocks = has_blocks
        self._blocks = RecentBlocks()
        self._count = 0
        self._rows: OrderedDict[tuple[str, int], list[Values] | dict[str, set[object]]] = OrderedDict()
        # Of each device with blocks, the last run of times that follow each other by 1 ns: its first and its last time.
        self._runs: dict[str, tuple[int, int]] = {}
        # For rows that were stored directly after another: the time that the message may have had.
        self._first_times: dict[tuple[str, int], int] = {}

    def add(self, device: str, time_ns: int, values: Values) -> None:
        """Remember accepted values."""
        key = device, time_ns
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = [values]
            self._count += len(values)
        else:
            before = _size(row)
            if isinstance(row, list) and len(row) < MAX_LISTED_ROWS:
                row.append(values)
            else:
                rows, row = ([*row, values], {}) if isinstance(row, list) else ([values], row)
                for name, value in (item for added in rows for item in added.items()):
                    row.setdefault(name, set()).add(value)
                self._rows[key] = row
            self._count += _size(row) - before
        while self._count > self._bound:
            self._count -= _size(self._rows.popitem(last=False)[1])

    def add_entry(self, entry: Entry) -> None:
        """Remember the readings of a journal entry. Entries must come in the order of the journal."""
        batch = entry.batch
        if batch is None:
            return
        device = entry.device
        if self._has_blocks and not isinstance(batch.times, list):
            block = {series.metric: values for series, values in batch.columns}
            self.add_block(device, batch.times, block)
            given = given_times(batch.times, self._runs.get(device, NO_RUN))
            if given is not batch.times:
                self.add_block(device, given, block)
            self._runs[device] = int(given[-1]), int(batch.times[-1])
            return
        columns = [(series.metric, list(values)) for series, values in batch.columns]
        for index, time_ns in enumerate(batch.times):
            self.add_stored(device, int(time_ns), {name: values[index] for name, values in columns})

    def add_block(self, device: str, times: Any, columns: Mapping[str, Any]) -> None:
        """Remember accepted columns of values, in lists or arrays, without looking at each value."""
        self._blocks.add(device, times, columns)

    def may_have(self, device: str, times: Sequence[int]) -> bool:
        """Return whether values of a device at one of these times may be known."""
        if self._blocks.may_have(device, min(times), max(times)):
            return True
        return any((device, time_ns) in self._rows for time_ns in times)

    def add_stored(self, device: str, time_ns: int, values: Values) -> None:
        """Remember values that are stored with this time.

        If the time 1 ns earlier is taken, the message may have had that time, or the first of an unbroken series.
        """
        before = (device, time_ns - 1)
        first_ns = self._first_times.get(before, time_ns - 1 if before in self._rows else None)
        run_ns, last_ns = self._runs.get(device, NO_RUN)
        if time_ns == last_ns + 1:
            first_ns = run_ns
        if first_ns is not None:
            if len(self._first_times) >= self._bound:
                self._first_times.clear()
            self._first_times[device, time_ns] = first_ns
            self.add(device, first_ns, values)
        self.add(device, time_ns, values)
        if self._has_blocks:
            self._runs[device] = time_ns if first_ns is None else first_ns, time_ns

    def accept(self, device: str, time_ns: int, values: Values) -> Values:
        """Return those of the values that are not known at this time, and remember them."""
        key = (device, time_ns)
        if key not in self._rows:
            self._rows[key] = [values]
            self._count += len(values)
            while self._count > self._bound:
                self._count -= _size(self._rows.popitem(last=False)[1])
            return values
        new = self.new_values(device, time_ns, values)
        if new:
            self.add(device, time_ns, new)
        return new

    def new_values(self, device: str, time_ns: int, values: Values) -> Values:
        """Return those of the values that are not known at this time."""
        if self._blocks:
            values = self._blocks.unknown(device, time_ns, values)
        row = self._rows.get((device, time_ns))
        if not row:
            return values
        if isinstance(row, dict):
            return {name: value for name, value in values.items() if value not in row.get(name, ())}
        return {name: value for name, value in values.items() if all(known.get(name) != value for known in row)}


def _size(row: list[Values] | dict[str, set[object]]) -> int:
    if isinstance(row, list):
        return len(row[0]) if len(row) == 1 else sum(map(len, row))
    return sum(map(len, row.values()))
