"""An agent as a program."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest

from device_agent import Agent
from device_agent.program import run_source
from device_agent.sources import SensorReading
from device_agent.sources.lines import InputCounts
from device_agent.status_file import AgentStatus, status_path
from tests.device_agent.peer import Peer
from tests.device_agent.records import agent_records
from tests.device_agent.script import Script


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
