"""From a source to an agent."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from device_agent import Agent, Metric, SpoolFailed, SqliteSpool
from device_agent.program import deliver_readings
from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading
from tests.device_agent.peer import Peer
from tests.device_agent.records import agent_records


class Script:
    """A source that yields what it is given."""

    def __init__(self, readings: Sequence[SensorReading]) -> None:
        self._readings = readings
        self.closed = False
        self.health = SourceHealth("script")

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        try:
            for reading in self._readings:
                yield reading
        finally:
            self.closed = True


async def test_readings_are_delivered_with_their_definitions() -> None:
    """Values, times and definitions reach the hub; the source is closed at its end."""
    source = Script([SensorReading({"n": 1}, 5, (Metric("n", "integer", "1/s"),)), SensorReading({"n": 2}, 6)])
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        assert await deliver_readings(source, agent, agent.collect) == 0
        await agent.drain(10)
    assert (peer.values("n"), peer.rows(), source.closed) == ([1, 2], 2, True)
    assert peer.metrics["n"] == Metric("n", "integer", "1/s")


async def test_rejected_readings_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A bad reading is skipped, and the sensor continues."""
    bad = SensorReading({"n": float("nan")})
    source = Script([SensorReading({"n": 1}), bad, bad, SensorReading({"n": 2}), bad])
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        assert await deliver_readings(source, agent, agent.send) == 3
        await agent.drain(10)
        warnings = agent_records(caplog, logging.WARNING)
    assert peer.values("n") == [1, 2]
    assert len(warnings) == 1


async def test_a_full_disk_is_outlived_and_a_failed_one_is_not(tmp_path: Path) -> None:
    """Readings without room are counted; after a disk failure the program stops."""
    spool = SqliteSpool(tmp_path / "boiler.spool", device="boiler")
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=spool) as agent:
        await agent.send({"n": 1, "text": ""})
        connection = spool._file.connection
        connection.pragma("max_page_count", connection.pragma("page_count"))
        assert await deliver_readings(Script([SensorReading({"text": "x" * 20_000})] * 3), agent, agent.send) == 3
        connection.pragma("max_page_count", 1 << 30)
        assert await deliver_readings(Script([SensorReading({"n": 2})]), agent, agent.send) == 0
        await agent.drain(10)
        spool._file._failure = "the disk failed"
        source = Script([SensorReading({"n": 3})] * 2)
        with pytest.raises(SpoolFailed):
            await deliver_readings(source, agent, agent.send)
        assert source.closed
    assert peer.values("n") == [1, 2]
