"""From a source to an agent."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from device_agent import Agent, Metric, SpoolFailed, SqliteSpool, source_delivery
from device_agent.reporting import ReportRule
from device_agent.source_delivery import SourceDelivery, deliver_readings
from device_agent.source_state import SourceHealth
from device_agent.sources import SensorReading
from tests.device_agent.foreign import foreign_input
from tests.device_agent.peer import Peer
from tests.device_agent.records import agent_records
from tests.device_agent.script import Script
from tests.tasks import running_task
from wire.device import Data


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


async def test_the_names_of_a_source_have_its_prefix() -> None:
    """In values and definitions; the type that the agent knows is that of the prefixed metric."""
    source = Script([SensorReading({"t": 1}, 5, (Metric("t", "integer", "°C"),)), SensorReading({"t": 2.5}, 6)])
    source.health.input = foreign = foreign_input()
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        await agent.send({"t": "on"}, 1)
        assert await SourceDelivery(source, agent, agent.collect, prefix="left.").run() == 0
        assert (foreign.known_type("boiler", "t"), agent.metric_type("t")) == ("float", "string")
        await agent.drain(10)
    assert (peer.values("left.t"), peer.metrics["left.t"].unit) == ([1, 2.5], "°C")


async def test_a_rule_suppresses_and_its_timer_reports() -> None:
    """A value that does not change is reported after the interval although the sensor is silent, with its own time."""
    rule = ReportRule(metrics=("s.t",), deadband=1, max_interval_s=0.02)
    rows = [SensorReading({"t": 20 + number % 2 / 2, "n": number}, number + 1) for number in range(5)]
    source = Script(rows, stays=True)
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        delivery = SourceDelivery(source, agent, agent.collect, prefix="s.", rules=[rule])
        async with running_task(_run(delivery)):
            await peer.until(lambda: len(peer.values("s.t")) == 2)
    assert (peer.values("s.t"), peer.values("s.n")) == ([20, 20], [0, 1, 2, 3, 4])
    assert (delivery.filter.suppressed, delivery.readings) == (3, 7)
    assert _times(peer, "s.t") == [1, 5]


async def test_a_rule_bounds_the_batches_of_its_metrics() -> None:
    """Rows of these metrics wait for each other; a value that is rejected costs itself, and is delivered once."""
    rules = [ReportRule(metrics=("fast",), max_delay_ms=3_600_000, max_rows=3)]
    bad = SensorReading({"fast": "x", "slow": 9.0}, 9)
    rows = [SensorReading({"fast": float(number), "slow": float(number)}, number + 1) for number in range(6)]
    source = Script([*rows[:4], bad, *rows[4:]])
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        delivery = SourceDelivery(source, agent, agent.send, rules=rules)
        assert await delivery.run() == 1
        await agent.drain(10)
    assert peer.values("fast") == [0, 1, 2, 3, 4, 5]
    assert [number for number in peer.values("slow") if number != 9] == [0, 1, 2, 3, 4, 5]
    assert peer.values("slow").count(9) == 1
    (report,) = peer.reports()
    assert [(reason.metric, reason.count) for reason in report.reasons] == [("fast", 1)]


async def _run(delivery: SourceDelivery) -> None:
    await delivery.run(restart=True)


def _times(peer: Peer, metric: str) -> list[int]:
    """Return the times of the values of a metric, in the order of the journal."""
    batches = [entry.message for entry in peer.journal if isinstance(entry.message, Data)]
    return [
        time
        for batch in batches
        for time, value in zip(batch.time, batch.values.get(metric, ()), strict=False)
        if value is not None
    ]
