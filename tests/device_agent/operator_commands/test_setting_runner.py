"""Settings through an agent: from the desired values of the hub to the handlers, and back to its report."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from device_agent import Agent, AgentError, ReadingError, Rejected, SpoolError
from device_agent.spool import MemorySpool
from tests.conditions import until
from tests.device_agent.operator_commands.killed_process import effects
from tests.device_agent.operator_commands.killed_setting import (
    EXPECTED_EFFECTS,
    SETTING_POINTS,
    agent_with_setting,
    kill_agents_with_settings,
)
from tests.device_agent.peer import Peer, agent_of

DEVICE = "boiler-1"


class Pump:
    """A pump with a setting: the values that it got, and what its handler does."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0

    def agent(self, peer: Peer, spool: object) -> Agent:
        agent = agent_of(peer, spool=spool)

        @agent.setting("pressure", min=0, max=9, unit="bar", description="Pressure to hold", source="board")
        async def set_pressure(value: float) -> None:
            self.running += 1
            try:
                await self.gate.wait()
            finally:
                self.running -= 1
            if self.error is not None:
                raise self.error
            self.values.append(value)

        @agent.command("wait")
        async def wait() -> None:
            await set_pressure(-1)

        return agent


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "boiler.spool"


@pytest.fixture
def pump() -> Pump:
    return Pump()


async def test_a_desired_value_is_set_and_reported(spool: Path, pump: Pump, caplog: pytest.LogCaptureFixture) -> None:
    """It is declared with its bounds; each change gets to the handler once, and a restarted agent sets it again."""
    caplog.set_level(logging.INFO)
    async with Peer() as peer:
        async with pump.agent(peer, spool) as agent:
            await peer.until(lambda: DEVICE in peer.links)
            (declared,) = peer.settings.values()
            assert (declared.type, declared.min, declared.max, declared.unit) == ("float", 0, 9, "bar")
            await peer.desire(DEVICE, pressure=2)
            await peer.in_force(pressure=2.0)
            await peer.drop()
            await peer.until(lambda: len(peer.reported) > 0 and DEVICE in peer.links)
            await peer.desire(DEVICE, pressure=3)
            await peer.in_force(pressure=3.0)
            agent.report_setting("pressure", 4)
            await peer.in_force(pressure=4.0)
            with pytest.raises(ReadingError, match="above 9 bar"):
                agent.report_setting("pressure", 10)
            assert (agent.settings.version, agent.settings.desired, agent.settings.in_force) == (
                2, {"pressure": 3}, {"pressure": 4.0},
            )  # fmt: skip
        assert pump.values == [2.0, 3.0]
        peer.reported.clear()
        async with pump.agent(peer, spool) as agent:
            await peer.in_force(pressure=3.0)
            agent.report_restart("board", "the board has restarted")
            assert (await peer.problem_of("pressure", "restarted")).message == "the board has restarted"
            await peer.in_force(pressure=3.0)
    assert pump.values == [2.0, 3.0, 3.0, 3.0]
    set_values = [record.message for record in caplog.records if record.message.startswith("setting ")]
    assert set_values == [f"setting pressure is {value}" for value in pump.values]


async def test_a_value_can_be_refused(spool: Path, pump: Pump) -> None:
    """By the declaration, and by the handler, whose failure is tried again and whose refusal is not."""
    async with Peer() as peer, pump.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        await peer.desire(DEVICE, pressure=10, other=1)
        assert (await peer.problem_of("pressure", "value")).message == "pressure: 10 bar is above 9 bar"
        assert not (await peer.problem_of("other", "unknown_setting")).retried
        pump.error = Rejected("the lid is open", code="lid_open")
        await peer.desire(DEVICE, pressure=5)
        refused = await peer.problem_of("pressure", "lid_open")
        assert (refused.message, refused.retried) == ("the lid is open", False)
        pump.error = OSError("no answer")
        await peer.desire(DEVICE, pressure=6)
        failed = await peer.problem_of("pressure", "error")
        assert (failed.message, failed.retried) == ("no answer", True)
        pump.error = None
        await peer.in_force(pressure=6.0)
    assert pump.values == [6.0]


async def test_a_setting_and_a_command_do_not_run_together(spool: Path, pump: Pump) -> None:
    """The handler waits for the end of the command, and the next command for the handler."""
    async with Peer() as peer, pump.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        pump.gate.clear()
        await peer.command(DEVICE, "0" * 16, "wait")
        await until(lambda: pump.running == 1)
        await peer.desire(DEVICE, pressure=1)
        await peer.command(DEVICE, "1" * 16, "wait")
        await peer.problem_of("pressure", "pending")
        await peer.until(lambda: ("received", "") in peer.states_of("1" * 16))
        assert pump.running == 1
        pump.gate.set()
        await peer.until(lambda: ("succeeded", "") in peer.states_of("1" * 16))
    assert pump.values == [-1, 1.0, -1]


async def test_a_killed_agent_sets_the_value_after_its_start(tmp_path: Path) -> None:
    """It was killed before and after the write of the desired value, and in the handler."""
    async with Peer() as peer:
        killing = asyncio.create_task(kill_agents_with_settings(peer.url, tmp_path))
        await peer.until(lambda: set(SETTING_POINTS) <= peer.links.keys())
        for point in SETTING_POINTS:
            await peer.desire(point, pressure=3)
        await killing
        assert {point: len(effects(tmp_path, point)) for point in SETTING_POINTS} == EXPECTED_EFFECTS
        for point in SETTING_POINTS:
            peer.desired = None
            before = len(effects(tmp_path, point))
            peer.reported.clear()
            async with agent_with_setting(peer.url, tmp_path, point, None, is_killed=False):
                if point == "before":
                    # The value was not on its disk: the hub sends it again.
                    await peer.until(lambda: bool(peer.reported))
                    await peer.desire(point, pressure=3)
                await peer.until(lambda: bool(peer.reported) and peer.reported[-1].values == {"pressure": 3.0})
                assert peer.reported[-1].version >= 1
            assert effects(tmp_path, point)[before:] == ["3.0"]


async def test_an_agent_that_ends_does_not_wait_for_a_handler_that_hangs(spool: Path, pump: Pump) -> None:
    """It is cancelled, whatever its time limit."""
    pump.gate.clear()
    async with Peer() as peer:
        async with agent_of(peer, spool=spool, drain_seconds=0) as agent:

            @agent.setting("mode", time_limit_s=3600)
            async def set_mode(value: int) -> None:
                pump.running += 1
                await pump.gate.wait()

            await peer.until(lambda: "mode" in peer.settings)
            await peer.desire(DEVICE, mode=1)
            await until(lambda: pump.running == 1)
        assert peer.reported[-1].values == {}


class FullSpool(MemorySpool):
    """A spool whose disk is full while `is_full` is set."""

    durable = True
    is_full = True

    async def write_settings(self, content: bytes) -> None:
        if self.is_full:
            raise SpoolError("the disk is full")
        await super().write_settings(content)


async def test_a_value_that_cannot_be_stored_is_not_set(
    pump: Pump, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When there is room again, it is."""
    monkeypatch.setattr("device_agent.operator_commands.setting_runner.RETRY_SECONDS", 0.01)
    spool = FullSpool()
    async with Peer() as peer, pump.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        await peer.desire(DEVICE, pressure=1)
        await until(lambda: "settings cannot be recorded" in caplog.text)
        assert pump.values == []
        spool.is_full = False
        await peer.in_force(pressure=1.0)
    assert pump.values == [1.0]


async def test_a_value_that_could_not_be_stored_is_written_at_the_end(
    pump: Pump, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next run sets it, also without a hub."""
    monkeypatch.setattr("device_agent.operator_commands.setting_runner.RETRY_SECONDS", 3600)
    spool = FullSpool()
    async with Peer() as peer:
        async with pump.agent(peer, spool):
            await peer.until(lambda: DEVICE in peer.links)
            await peer.desire(DEVICE, pressure=1)
            await until(lambda: "settings cannot be recorded" in caplog.text)
            spool.is_full = False
        assert await spool.read_settings() is not None
    assert pump.values == []


async def test_a_damaged_record_is_replaced_by_the_hub(
    spool: Path, pump: Pump, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent sets nothing before it is connected, and everything after that."""
    async with Peer() as peer:
        async with pump.agent(peer, spool):
            await peer.until(lambda: DEVICE in peer.links)
            await peer.desire(DEVICE, pressure=1)
            await peer.in_force(pressure=1.0)
        connection = sqlite3.connect(spool)
        connection.execute("UPDATE setting SET content = x'00'")
        connection.commit()
        connection.close()
        peer.reported.clear()
        async with pump.agent(peer, spool):
            await peer.in_force(pressure=1.0)
    assert "the record of the settings is damaged" in caplog.text
    assert pump.values == [1.0, 1.0]


async def test_a_hub_of_an_older_version_gets_no_settings(spool: Path, pump: Pump) -> None:
    """The hello has none, and readings are sent as ever."""
    async with Peer(version="1.3") as peer, pump.agent(peer, spool) as agent:
        await agent.send({"t": 1.0})
        await agent.drain(20)
    assert peer.hellos[0].settings == []


async def test_settings_can_be_declared_later(spool: Path, pump: Pump) -> None:
    """The hub learns them on the same connection."""
    async with Peer() as peer, pump.agent(peer, spool) as agent:
        await peer.until(lambda: DEVICE in peer.links)

        @agent.setting("mode", choices=("eco", "boost"))
        def set_mode(value: str) -> None:
            """Do nothing."""

        await peer.until(lambda: "mode" in peer.settings)
        await peer.desire(DEVICE, mode="eco")
        await peer.in_force(mode="eco")


def test_a_handler_that_cannot_be_one_is_an_error() -> None:
    """Its function has one parameter with a type, and the number of settings is bounded."""
    agent = Agent("ws://127.0.0.1:9", device=DEVICE)

    def no_value() -> None:
        """Do nothing."""

    def optional(value: float | None) -> None:
        """Do nothing."""

    def untyped(value) -> None:  # type: ignore[no-untyped-def]
        """Do nothing."""

    def good(value: float) -> None:
        """Do nothing."""

    for function, text in (
        (no_value, "needs one parameter"),
        (optional, "always has a value"),
        (untyped, "needs a type"),
    ):
        with pytest.raises(AgentError, match=text):
            agent.setting("pressure")(function)
    with pytest.raises(AgentError, match="time limit"):
        agent.setting("pressure", time_limit_s=0)
    for number in range(64):
        agent.setting(f"s{number}")(good)
    with pytest.raises(AgentError, match="at most 64 settings"):
        agent.setting("s64")(good)
    with pytest.raises(AgentError, match="handler already"):
        agent.setting("s1")(good)
