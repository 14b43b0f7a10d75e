"""What was accepted last, so that a message that comes again is known. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

RECENT_ROWS = 65_536
"""Rows remembered over all devices of a bridge: what a broker may have in flight, and whatever a publisher says again
after its own connection broke. Some 20 MB. A repetition of something older is a new reading."""

Values = Mapping[str, float | int | bool | str | None]


class Recent:
    """The newest accepted rows by device and time."""

    def __init__(self, bound: int = RECENT_ROWS) -> None:
        self._bound = bound
        self._rows: OrderedDict[tuple[str, int], list[Values]] = OrderedDict()

    def add(self, device: str, time_ns: int, values: Values) -> None:
        """These are accepted."""
        self._rows.setdefault((device, time_ns), []).append(values)
        if len(self._rows) > self._bound:
            self._rows.popitem(last=False)

    def remove(self, device: str, time_ns: int, values: Values) -> None:
        """They are not, after all."""
        rows = self._rows.get((device, time_ns), [])
        if values in rows:
            rows.remove(values)

    def new_of(self, device: str, time_ns: int, values: Values) -> Values:
        """Those of the values that are not known at this time.

        Acceptance moves a reading on by 1 ns where the time is taken, so the times behind a taken one are looked at.
        """
        known = self._rows.get((device, time_ns))
        if not known:
            return values
        return {name: value for name, value in values.items() if not self._knows(device, time_ns, name, value)}

    def _knows(self, device: str, time_ns: int, name: str, value: object) -> bool:
        while rows := [row[name] for row in self._rows.get((device, time_ns), ()) if row.get(name) is not None]:
            if value in rows:
                return True
            time_ns += 1
        return False
