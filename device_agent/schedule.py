"""A schedule without drift: its times are multiples of the period after the start, however long the work took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import floor


def next_tick(start: float, period: float, now: float) -> float:
    """The first tick after now; those that were missed are left out."""
    return start + (floor((now - start) / period) + 1) * period


async def ticks(period_s: float) -> AsyncIterator[None]:
    """Comes back at once, and then at each tick."""
    clock = asyncio.get_running_loop().time
    start = clock()
    while True:
        yield
        await asyncio.sleep(next_tick(start, period_s, clock()) - clock())
