"""A task that runs for the time of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def running_task(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` as a task; cancel it at the end of the block, and raise its error if it failed."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
