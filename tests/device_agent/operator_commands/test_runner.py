"""Commands through an agent: from the hub's message to the handler and back, over broken connections and restarts."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.client import Surroundings
from device_agent import Agent, AgentError, Limits, Rejected, SpoolError
from device_agent.operator_commands.log import MAX_WAITING, CommandEntry, Now
from device_agent.operator_commands.runner import CommandRunner
from device_agent.spool import MemorySpool, StoredCommand
from tests.conditions import until
from tests.device_agent.peer import Peer, agent_of
from wire.device import CommandState
from wire.limits import MAX_COMMANDS_SENT

DEVICE = "boiler-1"
ID = "00000000000000{:02x}"


class Motor:
    """Effects of handlers: the speeds that were set, and a gate that a handler waits for."""

    def __init__(self) -> None:
        self.speeds: list[float] = []
        self.running = 0
        self.most = 0
        self.gate = asyncio.Event()

    def agent(self, peer: Peer, spool: object, **options: Any) -> Agent:
        agent = agent_of(peer, spool=spool, **options)

        @agent.command("set_speed", confirm=True, limits={"speed": Limits(0, 30, unit="m/s")})
        def set_speed(speed: float) -> dict[str, float]:
            self.speeds.append(speed)
            return {"speed": speed}

        @agent.command("wait")
        async def wait() -> None:
            await self._wait()

        @agent.command("wait_together", concurrent=True)
        async def wait_together() -> None:
            await self._wait()

        @agent.command("refuse")
        def refuse() -> None:
            raise Rejected("the lid is open", code="lid_open")

        return agent

    async def _wait(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "boiler.spool"


@pytest.fixture
def motor() -> Motor:
    return Motor()


async def ended(peer: Peer, id: str) -> CommandState:
    """Return the final state of a command when the peer has it."""
    await peer.until(lambda: any(state.id == id and state.state != "received" for state in peer.command_states))
    return next(state for state in peer.command_states if state.id == id and state.state != "received")


def steps_on_disk(spool: Path) -> list[tuple[str, str]]:
    """Return the ids of the commands in a closed spool, and their steps."""
    with closing(sqlite3.connect(spool)) as connection:
        rows = connection.execute("SELECT id, content FROM command ORDER BY rowid").fetchall()
    return [(id, msgspec.msgpack.decode(content, type=CommandEntry).step) for id, content in rows]


async def test_a_command_runs_and_its_result_returns(
    spool: Path, motor: Motor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Declared in the hello, received, executed, recorded; outside of its limits or undeclared it is rejected.

    The oldest of the recorded ones leave the disk.
    """
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("device_agent.operator_commands.log.MAX_KEPT", 2)
    async with Peer() as peer, motor.agent(peer, spool) as agent:
        await peer.until(lambda: DEVICE in peer.links)
        assert peer.commands["set_speed"].signature() == "set_speed speed=FLOAT m/s (0 to 30)"
        assert peer.commands["set_speed"].confirm
        await peer.command(DEVICE, ID.format(1), "set_speed", speed=12)
        assert (await ended(peer, ID.format(1))).result == {"speed": 12.0}
        await peer.command(DEVICE, ID.format(2), "set_speed", speed=31)
        await peer.command(DEVICE, ID.format(3), "fly")
        await peer.command(DEVICE, ID.format(4), "refuse")
        await ended(peer, ID.format(4))
        assert peer.states_of(ID.format(1)) == [("received", ""), ("succeeded", "")]
        assert peer.states_of(ID.format(2)) == [("rejected", "parameters")]
        assert peer.states_of(ID.format(3)) == [("rejected", "unknown_command")]
        assert peer.states_of(ID.format(4)) == [("received", ""), ("rejected", "lid_open")]
        log = agent._operators.commands._commands
        recorded = [(ID.format(number), "recorded") for number in (3, 4)]
        await until(lambda: [(entry.id, entry.step) for entry in log.recent(9)] == recorded)
        await until(lambda: not any(log.changes()))
        levels = [record.levelname for record in caplog.records if "(000000000000000" in record.message]
        assert levels == ["INFO", "INFO", "INFO", "WARNING"]  # start and end of the first and of the last one

        @agent.command("stop")
        def stop() -> None:
            """Do nothing."""

        await peer.until(lambda: "stop" in peer.commands)
        with pytest.raises(AgentError, match="'stop' has a handler already"):
            agent.command("stop")(stop)
    assert motor.speeds == [12.0]


async def test_a_broken_connection_repeats_states_and_nothing_runs_twice(spool: Path, motor: Motor) -> None:
    """A hub that does not record gets each state again, and one that repeats a command the state that it has."""
    async with Peer() as peer, motor.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        peer.records_commands = False
        await peer.command(DEVICE, ID.format(1), "set_speed", speed=1)
        await ended(peer, ID.format(1))
        await peer.drop()
        await peer.until(lambda: len(peer.states_of(ID.format(1))) == 3)
        peer.records_commands = True
        await peer.command(DEVICE, ID.format(1), "set_speed", speed=1)
        await peer.until(lambda: len(peer.states_of(ID.format(1))) == 4)
        await peer.drop()
        await peer.until(lambda: DEVICE in peer.links)
        await peer.command(DEVICE, ID.format(2), "set_speed", speed=2)
        await ended(peer, ID.format(2))
    assert peer.states_of(ID.format(1)) == [("received", ""), *[("succeeded", "")] * 3]
    assert motor.speeds == [1.0, 2.0]


async def test_commands_run_one_at_a_time_unless_asked(spool: Path, motor: Motor) -> None:
    """They keep their order; concurrent ones run beside them, and one more than can wait is rejected."""
    async with Peer() as peer, motor.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        await peer.command(DEVICE, ID.format(0), "wait")
        await until(lambda: motor.running == 1)
        for number in range(1, MAX_WAITING + 2):
            await peer.command(DEVICE, ID.format(number), "set_speed", speed=number)
        await ended(peer, ID.format(MAX_WAITING + 1))
        assert peer.states_of(ID.format(MAX_WAITING + 1)) == [("rejected", "busy")]
        assert motor.speeds == []
        motor.gate.set()
        await ended(peer, ID.format(MAX_WAITING))
        assert motor.speeds == [*range(1, MAX_WAITING + 1)]
        motor.gate.clear()
        for number in range(50, 53):
            await peer.command(DEVICE, ID.format(number), "wait_together")
        await until(lambda: motor.running == 3)
        motor.gate.set()


async def test_queued_commands_wait_for_their_turn(spool: Path, motor: Motor) -> None:
    """None is rejected, however many there are, and the time-out of each begins with its turn."""
    count = MAX_WAITING + MAX_COMMANDS_SENT
    async with Peer() as peer, motor.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        await peer.command(DEVICE, ID.format(0), "wait")
        await until(lambda: motor.running == 1)
        await peer.command(DEVICE, ID.format(1), "set_speed", 200, is_queued=True, speed=1)
        for number in range(2, count + 1):
            await peer.command(DEVICE, ID.format(number), "set_speed", is_queued=True, speed=number / 2)
        assert (await ended(peer, ID.format(1))).code == "too_late"
        motor.gate.set()
        await ended(peer, ID.format(count))
    assert motor.speeds == [number / 2 for number in range(2, count + 1)]


async def test_a_handler_has_a_time_limit(spool: Path, motor: Motor) -> None:
    """After it the command has failed, and the next one runs; a command that waits for too long is rejected."""
    proceed = threading.Event()
    async with Peer() as peer, motor.agent(peer, spool) as agent:

        @agent.command("hang", time_limit_s=0.05)
        async def hang() -> None:
            await asyncio.Event().wait()

        @agent.command("hang_in_thread", time_limit_s=0.05)
        def hang_in_thread() -> None:
            proceed.wait()

        await peer.until(lambda: DEVICE in peer.links)
        await peer.command(DEVICE, ID.format(1), "hang")
        await peer.command(DEVICE, ID.format(2), "hang_in_thread")
        await peer.command(DEVICE, ID.format(3), "set_speed", 200, speed=3)
        failed = await ended(peer, ID.format(1))
        assert (failed.state, failed.code) == ("failed", "time_limit")
        assert (await ended(peer, ID.format(2))).code == "time_limit"
        assert (await ended(peer, ID.format(3))).code == "too_late"
        await peer.command(DEVICE, ID.format(4), "set_speed", speed=4)
        proceed.set()
        await ended(peer, ID.format(4))
    assert motor.speeds == [4.0]


async def test_an_agent_that_ends_reports_the_rest_later(spool: Path, motor: Motor) -> None:
    """A command that ran is interrupted, one that waited runs in the next run, and one without handler is rejected."""
    async with Peer() as peer:
        async with motor.agent(peer, spool, drain_seconds=0) as agent:

            @agent.command("vanish")
            def vanish() -> None:
                """Do nothing."""

            await peer.until(lambda: DEVICE in peer.links)
            await peer.command(DEVICE, ID.format(1), "wait")
            await until(lambda: motor.running == 1)
            await peer.command(DEVICE, ID.format(2), "set_speed", speed=2)
            await peer.command(DEVICE, ID.format(3), "vanish")
            await peer.until(lambda: len(peer.command_states) == 3)
        assert motor.running == 0
        steps = ["finished", "waiting", "waiting"]
        assert steps_on_disk(spool) == [(ID.format(number), step) for number, step in enumerate(steps, 1)]
        peer.records_commands = False  # nothing arrives after the welcome
        async with motor.agent(peer, spool):
            interrupted = await ended(peer, ID.format(1))
            assert (interrupted.state, interrupted.code) == ("failed", "interrupted")
            assert (await ended(peer, ID.format(2))).state == "succeeded"
            assert (await ended(peer, ID.format(3))).code == "unknown_command"
    assert motor.speeds == [2.0]


async def test_an_agent_waits_for_handlers_when_it_ends(spool: Path, motor: Motor) -> None:
    """A handler that ends in time has succeeded, and the hub learns it before the agent has gone."""
    async with Peer() as peer:
        async with motor.agent(peer, spool, drain_seconds=20):
            await peer.until(lambda: DEVICE in peer.links)
            await peer.command(DEVICE, ID.format(1), "wait")
            await until(lambda: motor.running == 1)
            asyncio.get_running_loop().call_later(0.05, motor.gate.set)
        async with motor.agent(peer, spool):
            await ended(peer, ID.format(1))
    assert peer.states_of(ID.format(1))[-1] == ("succeeded", "")


class FullSpool(MemorySpool):
    """A spool whose disk is full while `is_full` is set, and from the start of the command `last` on."""

    durable = True
    is_full = False
    last = ""

    async def write_commands(self, written: Sequence[StoredCommand], deleted: Sequence[str]) -> None:
        if any(command.id == self.last and b"running" in (command.content or b"") for command in written):
            self.is_full, self.last = True, ""
        if self.is_full:
            raise SpoolError("the disk is full")
        await super().write_commands(written, deleted)


async def test_a_command_that_cannot_be_recorded_does_not_run(motor: Motor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rejected with the reason; when there is room again, commands run."""
    monkeypatch.setattr("device_agent.operator_commands.runner.RETRY_SECONDS", 0.01)
    spool = FullSpool()
    async with Peer() as peer, motor.agent(peer, spool):
        await peer.until(lambda: DEVICE in peer.links)
        spool.is_full = True
        await peer.command(DEVICE, ID.format(1), "set_speed", speed=1)
        rejected = await ended(peer, ID.format(1))
        assert (rejected.state, rejected.code, rejected.message) == ("rejected", "not_stored", "the disk is full")
        spool.is_full = False
        await peer.command(DEVICE, ID.format(2), "set_speed", speed=2)
        await ended(peer, ID.format(2))
        spool.last = ID.format(3)
        await peer.command(DEVICE, ID.format(3), "set_speed", speed=3)
        await until(lambda: spool.is_full)
        await peer.command(DEVICE, ID.format(4), "set_speed", speed=4)
        assert (await ended(peer, ID.format(4))).code == "not_stored"
        assert motor.speeds == [2.0]
        spool.is_full = False
        await ended(peer, ID.format(3))
    assert motor.speeds == [2.0, 3.0]


async def test_a_spool_in_memory_says_so(motor: Motor) -> None:
    """The operator sees that the agent cannot promise to keep the command."""
    async with Peer() as peer, motor.agent(peer, None):
        await peer.until(lambda: DEVICE in peer.links)
        await peer.command(DEVICE, ID.format(1), "set_speed", speed=1)
        await ended(peer, ID.format(1))
    assert peer.states_of(ID.format(1)) == [("received", "not_durable"), ("succeeded", "")]


async def test_a_hub_of_an_older_version_gets_no_commands(motor: Motor, spool: Path) -> None:
    """The hello has none, and readings are sent as ever."""
    async with Peer(version="1.3") as peer, motor.agent(peer, spool) as agent:
        await agent.send({"t": 1.0})
        await agent.drain(20)
    assert peer.hellos[0].commands == []


async def test_a_damaged_record_is_reported(spool: Path, motor: Motor) -> None:
    """The command is failed, and the others are intact."""
    async with Peer() as peer:
        async with motor.agent(peer, spool):
            await peer.until(lambda: DEVICE in peer.links)
            for number in (1, 2):
                await peer.command(DEVICE, ID.format(number), "set_speed", speed=number)
                await ended(peer, ID.format(number))
        connection = sqlite3.connect(spool)
        connection.execute("UPDATE command SET content = x'00' WHERE id = ?", (ID.format(1),))
        connection.commit()
        connection.close()
        peer.command_states.clear()
        async with motor.agent(peer, spool):
            assert (await ended(peer, ID.format(1))).code == "record_damaged"
            await peer.command(DEVICE, ID.format(2), "set_speed", speed=2)
            assert (await ended(peer, ID.format(2))).state == "succeeded"
    assert motor.speeds == [1.0, 2.0]


def test_the_time_of_the_hub_goes_on_with_the_monotonic_clock() -> None:
    """It is what the age of a command of an earlier run is measured with; the device's own clock may be wrong."""
    monotonic_s = 5.0
    surroundings = Surroundings(time_ns=lambda: 7, monotonic=lambda: monotonic_s)
    runner = CommandRunner(MemorySpool(), surroundings, lambda: None)
    assert runner._now() == Now(7, 5.0)
    runner.note_hub_time(100_000_000_000)
    monotonic_s = 8.0
    assert runner._now() == Now(7, 8.0, 103_000_000_000)


def test_declarations_are_bounded(peer_less_agent: Agent) -> None:
    """More commands than the protocol allows, or longer ones than fit into a message, are errors of the program."""

    def nothing() -> None:
        """Do nothing."""

    for number in range(128):
        peer_less_agent.command(f"c{number}")(nothing)
    add = peer_less_agent.command("c128")
    with pytest.raises(AgentError, match="at most 128 commands"):
        add(nothing)
    with pytest.raises(AgentError, match="time limit of 0 s"):
        peer_less_agent.command("c", time_limit_s=0)


@pytest.fixture
def peer_less_agent() -> Agent:
    return Agent("ws://127.0.0.1:9", device=DEVICE)
