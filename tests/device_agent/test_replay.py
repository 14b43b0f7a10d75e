"""A log that is sent again."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from device_agent.sources.line import MAX_LINE_BYTES
from device_agent.sources.reading import Reading
from device_agent.sources.replay import BLOCK_BYTES, ReplaySource
from tests.device_agent.records import agent_records


async def everything(source: ReplaySource) -> list[Reading]:
    return [reading async for reading in source.readings()]


async def test_a_log_is_its_readings_in_order(tmp_path: Path) -> None:
    """Each line with a time is a reading; blank lines, and a last one without an end, are no trouble."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 2, "n": 1}\n\n{"time": "1970-01-01T00:00:01Z", "a": {"b": true}}\r\n{"time": 1, "n": 3}')
    source = ReplaySource(file)
    assert await everything(source) == [
        Reading({"n": 1}, 2), Reading({"a.b": True}, 1_000_000_000), Reading({"n": 3}, 1),
    ]  # fmt: skip
    assert source.bad_lines == 0


async def test_bad_lines_are_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line without a time, and one that is no reading, is passed over."""
    file = tmp_path / "log.jsonl"
    endless = b'{"time": 1, "n": "' + b"x" * MAX_LINE_BYTES + b'"}\n'
    file.write_bytes(b'{"n": 1}\n{"time": 1, "n": 2}\nnoise\n{"time": "noon", "n": 3}\n' + endless)
    source = ReplaySource(file)
    assert await everything(source) == [Reading({"n": 2}, 1)]
    assert source.bad_lines == 4
    assert [record.levelno for record in agent_records(caplog)] == [logging.WARNING]


async def test_a_log_larger_than_a_block_is_whole(tmp_path: Path) -> None:
    """Blocks of the file join without a loss."""
    file = tmp_path / "log.jsonl"
    count = 3 * BLOCK_BYTES // 100
    file.write_text("".join(f'{{"time": {number}, "text": "{"x" * 80}"}}\n' for number in range(count)))
    assert [reading.time_ns for reading in await everything(ReplaySource(file))] == list(range(count))


async def test_a_speed_keeps_the_distances(tmp_path: Path) -> None:
    """With a speed the readings come when they are due, relative to the first."""
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f'{{"time": {number * 10**9}, "n": {number}}}\n' for number in range(4)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = [loop.time() - began async for _ in ReplaySource(file, speed=100).readings()]
    assert all(moment >= number / 100 for number, moment in enumerate(due))
