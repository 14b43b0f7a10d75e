"""Requests that wait for changes: each gets the newest one of its key, and their number is bounded."""

from __future__ import annotations

import asyncio

from hub.ingest.watches import Watches


async def test_a_watch_returns_the_newest_change_of_its_key() -> None:
    watches = Watches[int]()
    with watches.watch("a") as first, watches.watch("a") as second, watches.watch("b") as other:
        assert first is not None
        assert second is not None
        assert other is not None
        waiting = [asyncio.create_task(watch.next()) for watch in (first, other)]
        await asyncio.sleep(0)
        watches.notify("a", 1)
        watches.notify("a", 2)
        assert await waiting[0] == 2
        assert await second.next() == 2
        assert not waiting[1].done()
        again = asyncio.create_task(first.next())
        await asyncio.sleep(0)
        assert not again.done()
        watches.notify("a", 3)
        assert await again == 3
        waiting[1].cancel()


async def test_the_number_of_watches_is_bounded_and_each_end_makes_room() -> None:
    watches = Watches[int](2)
    with watches.watch("a"):
        with watches.watch("b"), watches.watch("a") as refused:
            assert refused is None
        with watches.watch("a") as accepted:
            assert accepted is not None
    with watches.watch("a") as first, watches.watch("a") as second:
        assert None not in (first, second)
    assert not watches._watches, "a key that nobody waits for is kept"
