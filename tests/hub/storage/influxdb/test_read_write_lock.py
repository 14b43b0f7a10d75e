"""The lock of readers and the writer of an InfluxDB store."""

from __future__ import annotations

import asyncio

from hub.storage.influxdb.store import ReadWriteLock


async def test_readers_share_and_the_writer_is_alone() -> None:
    """The writer waits until the readers have left, and later readers wait for the writer."""
    lock = ReadWriteLock()
    order: list[str] = []
    leave = asyncio.Event()

    async def read(name: str) -> None:
        async with lock.read():
            order.append(f"{name} in")
            await leave.wait()
            order.append(f"{name} out")

    async def write() -> None:
        async with lock.write():
            order.append("writer")

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b"):
            tasks.create_task(read(name))
        tasks.create_task(write())
        # It arrives after the writer, and gets the lock after it, although readers are inside.
        tasks.create_task(read("c"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert order == ["a in", "b in"]
        leave.set()
    assert order == ["a in", "b in", "a out", "b out", "writer", "c in", "c out"]


async def test_a_cancelled_waiter_does_not_block_others() -> None:
    """After a cancellation while waiting or inside, the next one gets the lock."""
    lock = ReadWriteLock()
    async with lock.read():
        waiting = asyncio.create_task(lock.write().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with lock.write():
        pass
    async with lock.read():
        pass
