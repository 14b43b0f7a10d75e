"""From a source to an agent."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from device_agent import Agent, Metric, SpoolFailed, SqliteSpool, source_delivery
from device_agent.source_delivery import deliver_readings
from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading
from tests.device_agent.peer import Peer
from tests.device_agent.records import agent_records
from tests.device_agent.script import Script
from tests.tasks import running_task


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


async def test_a_rejected_value_costs_itself() -> None:
    """Its neighbours are delivered, and the hub learns what was rejected."""
    metrics = (Metric("n", "float"), Metric("t", "boolean"))
    rows = [SensorReading({"n": 1.0, "t": True}, 5, metrics), SensorReading({"n": "x", "t": False, "m": 2.0}, 6)]
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        source = Script([*rows, SensorReading({"n": 3.0}, 7, (Metric("t", "string"),))])
        assert await deliver_readings(source, agent, agent.collect) == 1
        await agent.drain(10)
    assert (peer.values("n"), peer.values("t"), peer.values("m")) == ([1, 3], [True, False], [2])
    (report,) = peer.reports()
    ((code, count, metric, value),) = [(r.code, r.count, r.metric, r.value) for r in report.reasons]
    assert (report.source, code, count, metric, value) == ("script", "type", 1, "n", "x")


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


class Flaky:
    """A source that fails after each reading."""

    def __init__(self) -> None:
        self.health = SourceHealth("flaky")
        self.starts = 0

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        self.starts += 1
        yield SensorReading({"n": self.starts})
        raise OSError("the bus does not answer")


async def test_a_source_that_failed_starts_again_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The hub learns that it stopped, and why; its readings continue after a delay."""
    monkeypatch.setattr(source_delivery, "FIRST_RESTART_SECONDS", 0.001)
    source = Flaky()
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        async with running_task(_deliver(source, agent)):
            await peer.until(lambda: len(peer.values("n")) >= 3)
            await peer.until(lambda: any(s.error for status in peer.statuses for s in status.sources))
        stopped = next(s for status in peer.statuses for s in status.sources if s.error)
    assert peer.values("n")[:3] == [1, 2, 3]
    assert (stopped.name, stopped.ok, stopped.error) == ("flaky", False, "stopped: the bus does not answer")


async def _deliver(source: Flaky, agent: Agent) -> None:
    await deliver_readings(source, agent, agent.send, restart=True)


async def test_a_file_that_cannot_be_read_ends_the_delivery() -> None:
    """Without a restart the error of a source is the caller's."""
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        with pytest.raises(OSError, match="the bus"):
            await deliver_readings(Flaky(), agent, agent.send)
