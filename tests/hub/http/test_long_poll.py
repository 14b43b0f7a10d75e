"""Requests that wait for a change: they end with their time, with the change, and with the hub."""

from __future__ import annotations

import asyncio

from hub.http.long_poll import LongPolls


async def wait(polls: LongPolls, changed: asyncio.Event, wait_s: float = 3600) -> bool:
    """Wait for a change as a request does; return whether there was one."""
    async with polls.within(wait_s):
        await changed.wait()
    return changed.is_set()


async def test_a_wait_ends_with_the_change_or_with_its_time() -> None:
    """Neither is an error."""
    polls, changed = LongPolls(), asyncio.Event()
    assert not await wait(polls, changed, 0.001)
    changed.set()
    assert await wait(polls, changed)


async def test_a_stop_of_the_hub_ends_each_wait() -> None:
    """A request that waits returns at once, also one whose time is just over, and later ones do not wait."""
    polls, changed = LongPolls(), asyncio.Event()
    waits = [asyncio.create_task(wait(polls, changed, wait_s)) for wait_s in (3600, 3600, 0)]
    await asyncio.sleep(0)
    polls.end()
    polls.end()
    assert await asyncio.gather(*waits) == [False, False, False]
    assert not await wait(polls, changed)


async def test_a_cancelled_request_stays_cancelled() -> None:
    """The client has gone: nothing hides that."""
    polls = LongPolls()
    task = asyncio.create_task(wait(polls, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
