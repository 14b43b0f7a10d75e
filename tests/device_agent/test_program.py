"""From a source to an agent."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec
import pytest

from device_agent import Agent, Metric, SpoolFailed, SqliteSpool, program
from device_agent.program import deliver_readings, run_source
from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading
from device_agent.sources.lines import InputCounts
from device_agent.status_file import AgentStatus, status_path
from tests.device_agent.peer import Peer
from tests.device_agent.records import agent_records
from tests.tasks import running_task


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


async def test_a_run_after_a_kill_says_what_is_not_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The status of the killed run is beside the spool; a run that ended in order removes it."""
    spool = tmp_path / "spool"
    async with Peer() as peer:
        for killed in (False, True):
            if killed:
                status = AgentStatus(1, 1, peer.url, "online", 1, "", 0, 0, [], InputCounts("json", "it is JSON"))
                status_path(spool).write_bytes(msgspec.json.encode(status))
            agent = Agent(peer.url, device="boiler", spool=spool)
            source = Script([SensorReading({"n": 1.0})])
            await run_source(agent, source, agent.send, spool=spool, is_finite=True, log=logging.NullHandler())
            assert bool([r for r in agent_records(caplog) if "was killed" in r.getMessage()]) == killed
            assert not status_path(spool).exists()


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
    monkeypatch.setattr(program, "FIRST_RESTART_SECONDS", 0.001)
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


def test_a_log_line_cannot_control_the_terminal() -> None:
    """On a terminal, control characters in the text of a hub are printed as escapes."""
    terminal, stderr = os.openpty()
    script = """
import logging
from device_agent.program import set_up_log
set_up_log("info")
logging.getLogger("a").warning("%s; next attempt", chr(27) + "[2J" + chr(0x9b))
"""
    try:
        subprocess.run([sys.executable, "-c", script], stderr=stderr, env={**os.environ, "NO_COLOR": "1"}, check=True)
        line = os.read(terminal, 4096).decode().rstrip("\r\n")
    finally:
        os.close(stderr)
        os.close(terminal)
    assert r"\x1b[2J\x9b; next attempt" in line
    assert line.isprintable()
