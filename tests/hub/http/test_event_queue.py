"""Tests of the event queue and the gate: nothing is lost, also if a waiter is cancelled."""

from __future__ import annotations

import asyncio

from hub.http.event_queue import EventQueue, Gate


async def test_events_reach_their_reader_in_order() -> None:
    """Waiting ones, and one that arrives later. A reader that was cancelled takes none with it."""
    events = EventQueue()
    events.put_nowait(1)
    events.put_nowait(2)
    assert ([await events.get(), await events.get()], events.empty()) == ([1, 2], True)
    cancelled = asyncio.create_task(events.get())
    await asyncio.sleep(0)
    events.put_nowait(3)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert (cancelled.cancelled(), events.empty()) == (True, False)
    assert await events.get() == 3
    waiting = asyncio.create_task(events.get())
    await asyncio.sleep(0)
    events.put_nowait(4)
    events.put_nowait(5)
    assert (await waiting, await events.get()) == (4, 5)


async def test_a_gate_wakes_all_that_wait() -> None:
    """Also if it is cleared before they run. A cancelled waiter leaves nothing behind."""
    gate = Gate(is_set=True)
    await gate.wait()
    gate.clear()
    waiting = [asyncio.create_task(gate.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not gate.is_set()
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    gate.set()
    gate.clear()
    await asyncio.gather(*waiting[1:])
    later = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    assert not later.done()
    gate.set()
    await later
    assert gate.is_set()
