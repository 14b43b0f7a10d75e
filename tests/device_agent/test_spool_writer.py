"""Rows that are gathered into batches."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from device_agent.catalogue import MetricCatalogue
from device_agent.errors import SpoolError, SpoolFailed
from device_agent.spool import Count, MemorySpool, SqliteSpool
from device_agent.spool_writer import MAX_COLLECTED_ROWS, Batching, CollectedRow, Collector, SpoolWriter

ROW = {"n": 1.0}


def row_of(number: int) -> CollectedRow:
    return CollectedRow(number, {"n": float(number)}, False)


def intake_of(spool: SqliteSpool | MemorySpool) -> SpoolWriter:
    catalogue = MetricCatalogue()
    catalogue.check_row(ROW)
    return SpoolWriter(spool, catalogue, "msgpack")


async def test_rows_are_held_while_the_disk_is_full(tmp_path: Path) -> None:
    """Readings that cannot be written stay in order up to a limit, are written when there is room, and none is lost."""
    async with SqliteSpool(tmp_path / "test.spool", device="boiler") as spool:
        intake = intake_of(spool)
        collector = Collector(intake, Batching(1))
        running = asyncio.create_task(collector.run())
        connection = spool._file.connection
        connection.pragma("max_page_count", connection.pragma("page_count"))
        refused = 0
        for number in range(MAX_COLLECTED_ROWS + 5):
            try:
                await collector.add(row_of(number))
            except SpoolError:
                refused += 1
        assert refused == 5
        with pytest.raises(SpoolError):
            await collector.flush()
        assert intake.sent.batches == 0
        connection.pragma("max_page_count", 1 << 30)
        with suppress(SpoolError):  # of an attempt that had begun
            await collector.flush()
        await collector.flush()
        assert intake.sent == Count(1, MAX_COLLECTED_ROWS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_failed_disk_ends_collecting(tmp_path: Path) -> None:
    """After the spool has failed, run() and every later flush raise its error."""
    async with SqliteSpool(tmp_path / "test.spool", device="boiler") as spool:
        collector = Collector(intake_of(spool), Batching(1))
        running = asyncio.create_task(collector.run())
        spool._file._failure = "the disk failed"
        await collector.add(row_of(1))
        for _ in range(2):
            with pytest.raises(SpoolFailed):
                await collector.flush()
        with pytest.raises(SpoolFailed):
            await running


async def test_a_cancelled_flush_takes_nothing_away() -> None:
    """Cancelling the wait for a flush does not stop the flush."""
    async with MemorySpool() as spool:
        collector = Collector(intake_of(spool), Batching(3_600_000))
        running = asyncio.create_task(collector.run())
        await collector.add(row_of(1))
        flushing = asyncio.create_task(collector.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await spool.wait(0)
        assert collector.is_empty
        running.cancel()
        await asyncio.gather(running, flushing, return_exceptions=True)


async def test_a_full_batch_is_written_at_once() -> None:
    """Its first row does not wait for the end of its time."""
    async with MemorySpool() as spool:
        intake = intake_of(spool)
        collector = Collector(intake, Batching(3_600_000, 3))
        running = asyncio.create_task(collector.run())
        for number in range(7):
            await collector.add(row_of(number))
        await spool.wait(1)
        assert intake.sent == Count(2, 6)
        assert not collector.is_empty
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
