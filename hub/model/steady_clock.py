"""A wall clock that is never set back, for what waits until a time. Pure but for the two clocks that it reads."""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyClock:
    """Nanoseconds since 1970 by the wall clock, which continue where that is set back.

    A time-out would not end until a clock that was set back by an hour has caught up. A clock that is set forward is
    followed: it was wrong before. The times are those of the wall clock again when it has caught up, or from the next
    start on.
    """

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._read_wall_ns = wall_ns
        self._read_monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns()
        self._monotonic_ns = monotonic_ns()

    def __call__(self) -> int:
        """Return the time, at least the last one and what has passed since."""
        wall_ns, monotonic_ns = self._read_wall_ns(), self._read_monotonic_ns()
        continued_ns = self._wall_ns + monotonic_ns - self._monotonic_ns
        if wall_ns >= continued_ns:
            self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
            return wall_ns
        return continued_ns
