"""Leaky buckets (ITU-T I.371), one for each client or token, in bounded memory. Pure: the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict


class LeakyBuckets:
    """The level of each source. It rises with each amount that is added, and leaks with time.

    A level is at most `capacity`, so that it is 0 again within `capacity / leak_per_s` seconds after the last amount.
    At the bound of the sources, the one that added nothing for longest is removed, and starts again at 0.
    """

    def __init__(self, *, leak_per_s: float, capacity: float, max_sources: int) -> None:
        self._leak_per_s = leak_per_s
        self._capacity = capacity
        self._max_sources = max_sources
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def level(self, source: str, now_s: float) -> float:
        """Return the level of a source at this time; 0 for an unknown one."""
        level, since_s = self._levels.get(source, (0.0, now_s))
        return max(0.0, level - (now_s - since_s) * self._leak_per_s)

    def add(self, source: str, amount: float, now_s: float) -> float:
        """Add an amount, a negative one to take it back, and return the new level."""
        level = min(max(0.0, self.level(source, now_s) + amount), self._capacity)
        self._levels[source] = level, now_s
        self._levels.move_to_end(source)
        if len(self._levels) > self._max_sources:
            self._levels.popitem(last=False)
        return level
