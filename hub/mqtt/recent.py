"""What was accepted last, so that a message that comes again is known. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

RECENT_VALUES = 131_072
"""Values remembered over all devices of a bridge: what a broker may have in flight, and whatever a publisher says again
after its own connection broke. 70 MB where each has a time of its own, 10 MB where forty share one. A repetition of
something older is a new reading."""

FEW = 8
"""Rows of one time that are looked through one by one; to make sets of each costs ten times as much, but more of them,
of a device whose clock stands still, would take time that grows with their square."""

Values = Mapping[str, float | int | bool | str | None]


class Recent:
    """The newest accepted values by device, time and metric. The time is that of the message: acceptance may store a
    reading later by some ns, where its time is taken."""

    def __init__(self, bound: int = RECENT_VALUES) -> None:
        self._bound = bound
        self._count = 0
        self._rows: OrderedDict[tuple[str, int], list[Values] | dict[str, set[object]]] = OrderedDict()
        # Of rows that were stored right behind another: the time that theirs may have been.
        self._begins: dict[tuple[str, int], int] = {}

    def add(self, device: str, time_ns: int, values: Values) -> None:
        """These are accepted."""
        key = device, time_ns
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = [values]
            self._count += len(values)
        else:
            before = _size(row)
            if isinstance(row, list) and len(row) >= FEW:
                row = self._rows[key] = _as_sets(row)
            if isinstance(row, list):
                row.append(values)
            else:
                for name, value in values.items():
                    row.setdefault(name, set()).add(value)
            self._count += _size(row) - before
        while self._count > self._bound:
            self._count -= _size(self._rows.popitem(last=False)[1])

    def add_stored(self, device: str, time_ns: int, values: Values) -> None:
        """These are stored under this time, in order; where the time before is taken, they may have had that one, or
        the first of those that lead up to it by steps of 1 ns."""
        before = (device, time_ns - 1)
        begin = self._begins.get(before, time_ns - 1 if before in self._rows else None)
        if begin is not None:
            if len(self._begins) >= self._bound:
                self._begins.clear()
            self._begins[device, time_ns] = begin
            self.add(device, begin, values)
        self.add(device, time_ns, values)

    def remove(self, device: str, time_ns: int, values: Values) -> None:
        """They are not, after all."""
        row = self._rows.get((device, time_ns), [])
        before = _size(row)
        if isinstance(row, dict):
            for name, value in values.items():
                row.get(name, set()).discard(value)
        elif values in row:
            row.remove(values)
        self._count += _size(row) - before

    def new_of(self, device: str, time_ns: int, values: Values) -> Values:
        """Those of the values that are not known at this time."""
        row = self._rows.get((device, time_ns))
        if not row:
            return values
        if isinstance(row, dict):
            return {name: value for name, value in values.items() if value not in row.get(name, ())}
        return {name: value for name, value in values.items() if all(one.get(name) != value for one in row)}


def _size(row: list[Values] | dict[str, set[object]]) -> int:
    return sum(map(len, row if isinstance(row, list) else row.values()))


def _as_sets(rows: list[Values]) -> dict[str, set[object]]:
    found: dict[str, set[object]] = {}
    for values in rows:
        for name, value in values.items():
            found.setdefault(name, set()).add(value)
    return found
