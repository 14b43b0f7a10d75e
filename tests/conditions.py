"""Waiting for a condition in tests of objects that announce no change. The deadline is that of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL_S = 0.01

QUERY_S = 0.05
"""Time between two queries, which cost a request each."""

Result = TypeVar("Result")


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    while True:
        if condition():
            return
        await asyncio.sleep(POLL_S)


async def result_of(query: Callable[[], Awaitable[Result | None]]) -> Result:
    """Return the first result of a query that is not None, for example of a request to a hub."""
    while True:
        result = await query()
        if result is not None:
            return result
        await asyncio.sleep(QUERY_S)
