"""An agent as a program."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from device_agent import Agent
from device_agent.errors import AgentError
from device_agent.program import RunningSource, run_source, run_sources
from device_agent.reporting import ReportRule
from device_agent.source_delivery import SourceDelivery
from device_agent.sources import SensorReading
from device_agent.sources.lines import InputCounts
from device_agent.status_file import AgentStatus, status_path
from tests.device_agent.peer import Peer
from tests.device_agent.records import agent_records
from tests.device_agent.script import Script


async def test_every_source_delivers_what_it_holds_back_at_the_end(tmp_path: Path) -> None:
    """Also the slowest of several sources, when the program is stopped."""
    rule = ReportRule(deadband=5)
    spool = tmp_path / "spool"
    async with Peer() as peer:
        agent = Agent(peer.url, device="boiler", spool=spool)
        scripts = [
            Script(
                [SensorReading({f"n{number}": value}, 1) for value in (1.0, 2.0)],
                f"s{number}",
                stays=True,
                closing_turns=10_000 * number,
            )
            for number in range(4)
        ]
        sources = [RunningSource(SourceDelivery(s, agent, agent.collect, rules=[rule])) for s in scripts]
        running = asyncio.create_task(run_sources(agent, sources, spool=spool))
        await peer.until(lambda: all(peer.values(f"n{number}") == [1] for number in range(4)))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [peer.values(f"n{number}") for number in range(4)] == [[1, 2]] * 4
    assert all(script.closed for script in scripts)


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
            assert was_killed(caplog) == killed
            assert not status_path(spool).exists()


async def test_a_second_run_beside_the_first_says_only_that_the_spool_is_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The status of the first run is there because it runs."""
    spool = tmp_path / "spool"
    source = Script([])
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=spool):
        status = AgentStatus(1, 1, peer.url, "online", 1, "", 0, 0, [], InputCounts("json", "it is JSON"))
        status_path(spool).write_bytes(msgspec.json.encode(status))
        second = Agent(peer.url, device="boiler", spool=spool)
        with pytest.raises(AgentError, match="is in use by another agent"):
            await run_source(second, source, second.send, spool=spool, is_finite=True, log=logging.NullHandler())
    assert not was_killed(caplog)


def was_killed(caplog: pytest.LogCaptureFixture) -> bool:
    return any("was killed" in record.getMessage() for record in agent_records(caplog))
