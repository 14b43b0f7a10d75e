"""Sources of readings: what a source yields, the schedule of its readings, and its log of repeated problems."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from math import floor
from typing import NamedTuple, Protocol

from device_agent.source_state import SourceHealth
from wire.model import Metric, Value
from wire.text import plural


class SensorReading(NamedTuple):
    """Values of one time; `time_ns` None is now. `metrics` defines those that this source yields for the first time.

    `historical` marks readings that are not of now, such as those of a log.
    """

    values: Mapping[str, Value]
    time_ns: int | None = None
    metrics: tuple[Metric, ...] = ()
    historical: bool = False


class Source(Protocol):
    """A sensor, or a record of one."""

    @property
    def health(self) -> SourceHealth:
        """The health of the source: its name, and its error while it does not work."""

    def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield readings as they arrive; closing the iterator releases the resources of the source."""


def next_tick(start: float, period: float, now: float) -> float:
    """Return the first tick after now. Missed ticks are left out.

    Ticks are multiples of the period after the start, so the schedule does not drift, however long the work takes.
    """
    return start + (floor((now - start) / period) + 1) * period


async def ticks(period_s: float) -> AsyncIterator[None]:
    """Yield at once, and then at each tick."""
    clock = asyncio.get_running_loop().time
    start = clock()
    while True:
        yield
        await asyncio.sleep(next_tick(start, period_s, clock()) - clock())


@dataclass(slots=True, eq=False)
class RepeatedWarning:
    """A warning that is logged once while a problem repeats, and once more, with the count, when it is over.

    The problem is over after `quiet` successes in a row. `total` counts all its occurrences.
    """

    log: logging.Logger
    event: str
    quiet: int = 1
    total: int = 0
    _count: int = 0
    _successes: int = 0

    @property
    def count(self) -> int:
        """The number of occurrences while the problem lasts, 0 when it is over."""
        return self._count

    @property
    def successes(self) -> int:
        """The number of successes in a row since the last occurrence."""
        return self._successes

    def record_failure(self, detail: object, *, times: int = 1) -> None:
        """Count the problem; log it if it is the first in a row."""
        if self._count == 0:
            self.log.warning("%s: %s", self.event, detail)
        self.total += times
        self._count += times
        self._successes = 0

    def record_success(self) -> None:
        """Count a success; log the end of the problem."""
        if self._count:
            self._successes += 1
            if self._successes >= self.quiet:
                if self._count > 1:
                    self.log.info("%s: over, it happened %s", self.event, plural(self._count, "time"))
                self._count = 0
