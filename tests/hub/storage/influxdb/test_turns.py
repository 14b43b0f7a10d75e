"""Readers and the writer take turns."""

from __future__ import annotations

import asyncio

from hub.storage.influxdb.turns import Turns


async def test_readers_share_and_the_writer_is_alone() -> None:
    """Nobody comes in while the writer is there, and it waits until the readers have left."""
    turns = Turns()
    order: list[str] = []
    leave = asyncio.Event()

    async def read(name: str) -> None:
        async with turns.shared():
            order.append(f"{name} in")
            await leave.wait()
            order.append(f"{name} out")

    async def write() -> None:
        async with turns.alone():
            order.append("writer")

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b"):
            tasks.create_task(read(name))
        tasks.create_task(write())
        # Comes after the writer, and so gets in after it, though readers are inside.
        tasks.create_task(read("c"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert order == ["a in", "b in"]
        leave.set()
    assert order == ["a in", "b in", "a out", "b out", "writer", "c in", "c out"]


async def test_one_who_gives_up_leaves_the_door_open() -> None:
    """Cancelled while waiting or inside: the next one gets in."""
    turns = Turns()
    async with turns.shared():
        waiting = asyncio.create_task(turns.alone().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with turns.alone():
        pass
    async with turns.shared():
        pass
