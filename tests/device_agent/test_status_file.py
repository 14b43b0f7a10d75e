"""The status file of a running agent, and what `device-agent status` makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent import Agent, Rejected, status_file
from device_agent.spool.status import SpoolStatus, read_status
from device_agent.status_file import (
    AgentStatus,
    StatusFile,
    read_agent_status,
    status_path,
    status_text,
)
from tests.conditions import result_of
from tests.device_agent.peer import QUICK, Peer
from tests.tasks import running_task
from wire.device import Error, SourceState
from wire.errors import Code

NOW_NS = 1_767_225_600_000_000_000
SPOOL = SpoolStatus("/s", "boiler", "0" * 16, 7, 2, 0, 300, 4096, True, 5, NOW_NS - 90 * 10**9, 0, [])
AGENT = AgentStatus(
    NOW_NS, 1, "ws://hub/v1/device", "online", NOW_NS, "", 4, NOW_NS, [SourceState("port", True, NOW_NS)]
)


async def status_when(spool: Path, condition: Callable[[AgentStatus], bool]) -> AgentStatus:
    """Return the status as soon as the file has one for which the condition holds."""

    async def read() -> AgentStatus | None:
        status = read_agent_status(spool)
        return status if status is not None and condition(status) else None

    return await result_of(read)


async def test_the_file_follows_the_agent_and_goes_with_it(tmp_path: Path) -> None:
    """It has the connection, the acknowledgement and the sources; at the end of the program there is none."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=spool, surroundings=QUICK) as agent:
        async with running_task(StatusFile(spool, agent).keep()):
            await status_when(spool, lambda status: status.connection == "online")
            await agent.send({"n": 1})
            await agent.drain(10)
            agent.report_source("port", "no connection")
            status = await status_when(spool, lambda status: status.sources != [])
            assert (status.acked, status.problem, status.sources[0].error) == (1, "", "no connection")
            assert 0 < status.acked_ns <= status.time_ns
            await peer.stop()
            status = await status_when(spool, lambda status: status.problem != "")
            assert status.connection in ("waiting", "connecting")
            await peer.start()
            await status_when(spool, lambda status: status.connection == "online" and status.problem == "")
        assert not status_path(spool).exists()


async def test_a_change_within_the_first_second_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent without readings connects once, and nothing happens afterwards."""
    monkeypatch.setattr(status_file, "REFRESH_SECONDS", 3600.0)
    spool = tmp_path / "boiler.spool"
    async with (
        Peer() as peer,
        Agent(peer.url, device="boiler", spool=spool, surroundings=QUICK) as agent,
        running_task(StatusFile(spool, agent).keep()),
    ):
        await status_when(spool, lambda status: status.connection == "online")


async def test_a_status_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    """The agent works without it."""
    async with Peer() as peer, Agent(peer.url, device="boiler") as agent:
        file = StatusFile(tmp_path / "missing" / "boiler.spool", agent)
        async with running_task(file.keep()):
            await agent.send({"n": 1})
            await agent.drain(10)
    assert read_agent_status(tmp_path / "missing" / "boiler.spool") is None


def test_a_file_that_is_no_status_is_none(tmp_path: Path) -> None:
    """A half-written or foreign file is not an error of the command."""
    status_path(tmp_path / "s").write_text('{"time_ns": 1')
    assert read_agent_status(tmp_path / "s") is None


async def test_the_oldest_batch_has_its_number_and_its_time(tmp_path: Path) -> None:
    """Also when it is packed; an empty spool has none."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as away:
        pass
    async with Agent(away.url, device="boiler", spool=spool, surroundings=QUICK, drain_seconds=0) as agent:
        assert read_status(spool).oldest_seq is None
        await agent.send_rows([(NOW_NS + number, {"n": 1.0}) for number in range(100)])
        await agent.send({"n": 1.0}, NOW_NS + 500)
        await agent.flush()
    found = read_status(spool)
    assert (found.oldest_seq, found.oldest_time_ns, found.waiting) == (1, NOW_NS, 2)


def test_the_text_says_what_is_known() -> None:
    """A running agent has its connection and its sources; a stopped one does not, and a library says so."""
    running = status_text(SPOOL, AGENT, NOW_NS)
    assert "oldest   batch 5, its first reading is of 2025-12-31 23:58:30 UTC, 90 s ago" in running
    assert "source   port: works, since 2026-01-01 00:00:00 UTC" in running
    assert "acked    up to 4, 2026-01-01 00:00:00 UTC" in running
    waiting = AgentStatus(
        NOW_NS, 1, "ws://hub", "waiting", NOW_NS, "the hub is busy", 0, 0, [SourceState("port", False, NOW_NS, "gone")]
    )
    text = status_text(SPOOL, waiting, NOW_NS)
    assert "problem  the hub is busy" in text
    assert "acked    up to 0, none by this run" in text
    assert "source   port: FAILED: gone, since 2026-01-01 00:00:00 UTC" in text
    assert "agent    running" in status_text(SPOOL, None, NOW_NS)
    assert "hub      not known" in status_text(SPOOL, None, NOW_NS)
    stopped = SpoolStatus("/s", "boiler", "0" * 16, 7, 0, 0, 0, 4096, False, None, None, 0, [])
    text = status_text(stopped, None, NOW_NS)
    assert ("agent    not running" in text, "oldest   none" in text, "\nhub " in text) == (True, True, False)


async def test_a_hub_s_text_cannot_control_the_terminal(tmp_path: Path) -> None:
    """Control and bidirectional characters of an error that the hub sends are printed as escapes, on one line."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=spool, surroundings=QUICK) as agent:
        peer.greeting = Error(Code.BUSY, "\x1b]0;owned\x07\x9b2J\nagent    \u202efine")
        async with running_task(StatusFile(spool, agent).keep()):
            status = await status_when(spool, lambda status: "owned" in status.problem)
    text = status_text(SPOOL, status, NOW_NS)
    assert all(line.isprintable() for line in text.split("\n"))
    assert r"problem  \x1b]0;owned\x07\x9b2J\nagent    \u202efine (busy)" in text


async def test_commands_and_settings_are_in_the_status(tmp_path: Path) -> None:
    """Open commands, the last outcomes, and each setting with the reason why it is not in force."""
    spool = tmp_path / "boiler.spool"
    async with Peer() as peer, Agent(peer.url, device="boiler", spool=spool, surroundings=QUICK) as agent:
        proceed = asyncio.Event()

        @agent.command("wait")
        async def wait() -> None:
            await proceed.wait()

        @agent.setting("pressure", max=9)
        async def set_pressure(value: float) -> None:
            raise Rejected("the lid is open", code="lid_open")

        @agent.setting("mode")
        async def set_mode(value: int) -> None:
            """Do nothing."""

        async with running_task(StatusFile(spool, agent).keep()):
            await peer.until(lambda: "boiler" in peer.links)
            await peer.desire("boiler", pressure=3, mode=2)
            await peer.problem_of("pressure", "lid_open")
            await peer.command("boiler", "00112233445566aa", "wait")
            waiting = await status_when(spool, lambda status: [c.state for c in status.commands] == ["running"])
            proceed.set()
            ended = await status_when(spool, lambda status: [c.state for c in status.commands] == ["succeeded"])
    assert [(setting.name, setting.state) for setting in waiting.settings] == [
        ("pressure", "rejected"), ("mode", "in_sync"),
    ]  # fmt: skip
    text = status_text(read_status(spool), ended, ended.time_ns)
    assert "setting  pressure: desired 3, in force not known: rejected (lid_open: the lid is open)" in text
    assert "setting  mode: desired 2, in force 2: in sync" in text
    assert "command  wait 00112233445566aa: succeeded, since" in text
