"""Waiting for a condition in tests of objects that announce no change. The deadline is that of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

POLL_S = 0.01


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(POLL_S)
