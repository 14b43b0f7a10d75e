"""Commands of agent.toml against real devices: a tty, a TCP device, Modbus slaves, and programs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from device_agent.service import AgentService
from device_agent.settings import load_settings
from tests.conditions import until
from tests.device_agent.modbus_bus import pty_bus, slave
from tests.device_agent.peer import Peer
from tests.device_agent.pty_port import PtyPort
from wire.device import CommandState

DEVICE = "kiln"

SPEED = """
[[command.parameters]]
name = "speed"
unit = "m/s"
min = 0
max = 30
"""


class Operator:
    """Sends commands to the agent and waits for their ends."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._numbers = itertools.count(1)

    async def send(self, name: str, timeout_ms: int = 10_000, **parameters: Any) -> CommandState:
        id = f"{next(self._numbers):016x}"
        await self.peer.command(DEVICE, id, name, timeout_ms, **parameters)
        states = self.peer.command_states

        def ends() -> list[CommandState]:
            return [state for state in states if state.id == id and state.state != "received"]

        await self.peer.until(lambda: bool(ends()))
        return ends()[0]


async def begin(board: PtyPort, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Return when the agent reads the board; what is sent before it has opened the port is discarded."""
    await until(lambda: "reading from" in caplog.text)
    await board.write(b'{"t": 1}\n')
    await peer.until(lambda: bool(peer.values("t")))


@asynccontextmanager
async def agent_with(peer: Peer, tmp_path: Path, settings: str) -> AsyncIterator[Operator]:
    """Run the service with these sources and commands."""
    file = tmp_path / "agent.toml"
    file.write_text(f'hub = "{peer.url}"\ndevice = "{DEVICE}"\nspool_directory = "spools"\n{settings}')
    running = asyncio.create_task(AgentService(load_settings(file)).run(lambda: None))
    try:
        await peer.until(lambda: DEVICE in peer.links or running.done())
        yield Operator(peer)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_line_is_sent_to_a_board(peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The board gets the values in the line; unplugged, the command waits for it, for as long as the hub does."""
    caplog.set_level(logging.INFO)
    board = PtyPort(tmp_path / "board")
    settings = f"""
[[source]]
kind = "serial"
port = "{board.path}"

[[command]]
name = "set_speed"
confirm = true
source = "{board.path}"
line = '{{"speed": {{speed}}}}'
{SPEED}
[[command]]
name = "say"
source = "{board.path}"
line = "SAY {{text}}"
ending = "crlf"
parameters = [{{ name = "text", type = "string" }}]
"""
    board.plug_in()
    async with agent_with(peer, tmp_path, settings) as operator:
        assert peer.commands["set_speed"].confirm
        await begin(board, peer, caplog)
        sent = await operator.send("set_speed", speed=12)
        assert (sent.state, sent.code) == ("succeeded", "not_confirmed")
        assert sent.message == f"sent to {board.path}, which does not confirm it"
        assert await asyncio.to_thread(board.read, 14) == b'{"speed": 12}\n'
        assert (await operator.send("set_speed", speed=31)).code == "parameters"
        assert (await operator.send("say", text='"; ERASE')).code == "parameters"
        assert (await operator.send("say", text="hello")).state == "succeeded"
        assert await asyncio.to_thread(board.read, 11) == b"SAY hello\r\n"
        board.pull()
        unplugged = f"{board.path}: the device was unplugged; whether something was sent is not known"
        absent = f"{board.path} is not open; nothing was sent"
        while (end := await operator.send("set_speed", 50, speed=1)).message != absent:
            assert end.message in (sent.message, unplugged)
        assert (end.state, end.code) == ("rejected", "not_open")
        sending = asyncio.create_task(operator.send("set_speed", 60_000, speed=2))
        await peer.until(lambda: peer.command_states[-1].state == "received")
        board.plug_in()
        assert (await sending).state == "succeeded"
        assert await asyncio.to_thread(board.read, 13) == b'{"speed": 2}\n'


async def test_a_board_answers(peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its line confirms the command or rejects it, and is no reading; other lines are, and silence is a failure."""
    caplog.set_level(logging.INFO)
    board = PtyPort(tmp_path / "board")
    settings = f"""
[[source]]
kind = "serial"
port = "{board.path}"

[[command]]
name = "set_speed"
source = "{board.path}"
line = "SPEED {{speed}}"
answer = "OK*"
refusal = "ERR*"
time_limit_s = 0.3
{SPEED}
"""
    board.plug_in()
    async with agent_with(peer, tmp_path, settings) as operator:
        await begin(board, peer, caplog)

        async def answered(answer: bytes) -> CommandState:
            sending = asyncio.create_task(operator.send("set_speed", speed=12))
            await asyncio.to_thread(board.read, 9)
            await board.write(answer)
            return await sending

        confirmed = await answered(b'{"t": 2}\nOK 12\r\n{"t": 3}\n')
        assert (confirmed.state, confirmed.code, confirmed.result) == ("succeeded", "", "OK 12")
        refused = await answered(b"ERR the lid is open\n")
        assert (refused.state, refused.code, refused.message) == ("rejected", "refused", "ERR the lid is open")
        silent = await answered(b'{"t": 4}\n')
        assert (silent.state, silent.code) == ("failed", "time_limit")
        await peer.until(lambda: peer.values("t") == [1, 2, 3, 4])
        assert peer.reports() == []
    board.pull()


async def test_a_board_that_restarts_gets_its_setting_again(
    peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The value waits for the port, is in force when the board has confirmed it, and is not after a restart of it."""
    caplog.set_level(logging.INFO)
    board = PtyPort(tmp_path / "board")
    settings = f"""
[[source]]
kind = "serial"
port = "{board.path}"

[[setting]]
name = "target_pressure"
source = "{board.path}"
line = "PRESSURE {{value}}"
answer = "OK*"
refusal = "ERR*"
min = 0
max = 9
unit = "bar"
"""
    async with agent_with(peer, tmp_path, settings):
        assert (peer.settings["target_pressure"].max, peer.settings["target_pressure"].unit) == (9, "bar")
        await peer.desire(DEVICE, target_pressure=2.5)
        closed = await peer.problem_of("target_pressure", "not_open")
        assert (closed.message, closed.retried) == (f"{board.path} is not open", True)
        board.plug_in()
        assert await asyncio.to_thread(board.read, 13) == b"PRESSURE 2.5\n"
        await board.write(b'OK 2.5\n{"t": 1}\n')
        await peer.in_force(target_pressure=2.5)
        await board.write(b'rst:0x1 (POWERON_RESET),boot:0x13\n{"t": 2}\n')
        assert (await peer.problem_of("target_pressure", "restarted")).retried
        assert peer.reported[-1].values == {}
        assert await asyncio.to_thread(board.read, 13) == b"PRESSURE 2.5\n"
        await board.write(b"OK 2.5\n")
        await peer.in_force(target_pressure=2.5)
        await peer.desire(DEVICE, target_pressure=7)
        assert await asyncio.to_thread(board.read, 11) == b"PRESSURE 7\n"
        await board.write(b"ERR the valve is stuck\n")
        refused = await peer.problem_of("target_pressure", "refused")
        assert (refused.message, refused.retried) == ("ERR the valve is stuck", False)
        assert peer.reported[-1].values == {"target_pressure": 2.5}
    board.pull()


async def test_a_port_that_takes_nothing_does_not_stop_the_agent(
    peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody reads the tty: its buffer is full, and the command says how much was sent."""
    caplog.set_level(logging.INFO)
    board = PtyPort(tmp_path / "board")
    settings = f"""
[[source]]
kind = "serial"
port = "{board.path}"

[[command]]
name = "fill"
source = "{board.path}"
line = "x"
"""
    board.plug_in()
    async with agent_with(peer, tmp_path, settings) as operator:
        await begin(board, peer, caplog)
        board.fill()
        end = await operator.send("fill")
        assert (end.code, end.message) == (
            "not_written",
            f"{board.path}: the port takes no more bytes: 0 of 2 were sent",
        )
        await board.write(b'{"t": 2}\n')
        await peer.until(lambda: len(peer.values("t")) == 2)
    board.pull()


async def test_a_line_is_sent_over_tcp(peer: Peer, tmp_path: Path) -> None:
    """To the device to which the source connects, while there is a connection."""
    received = asyncio.Queue[bytes]()

    async def device(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"t": 1}\n{"t": 2}\n')
        received.put_nowait(await reader.readline())
        writer.close()

    server = await asyncio.start_server(device, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = f"""
[[source]]
kind = "tcp"
name = "gate"
address = "{address}"

[[command]]
name = "open"
source = "gate"
line = "OPEN {{width}}"
parameters = [{{ name = "width", type = "integer", choices = [1, 2], default = 2 }}]
"""
    async with server, agent_with(peer, tmp_path, settings) as operator:
        await peer.until(lambda: bool(peer.values("t")))
        server.close()
        assert (await operator.send("open")).state == "succeeded"
        assert await received.get() == b"OPEN 2\n"
        while (end := await operator.send("open", 50, width=1)).state == "succeeded":
            pass
        assert (end.code, end.message) == ("not_open", "gate is not open; nothing was sent")


async def test_a_register_is_written_between_polls(peer: Peer, tmp_path: Path) -> None:
    """With the scale of its map, confirmed by the slave and read back; what the slave refuses has failed."""
    settings = f"""
[[source]]
kind = "modbus"
port = "{tmp_path / "bus"}"
name = "bus"

[[source.maps]]
slave = 1
interval_s = 0.05
fields = {{ setpoint = {{ address = 0, scale = 0.5 }}, missing = {{ address = 9 }} }}

[[command]]
name = "set_speed"
source = "bus"
register = "setpoint"
{SPEED}
[[command]]
name = "stop"
source = "bus"
register = "setpoint"
value = 0

[[command]]
name = "miss"
source = "bus"
register = "missing"
value = 1

[[setting]]
name = "target"
source = "bus"
register = "setpoint"

[[setting]]
name = "lamp"
type = "string"
choices = ["on", "off"]
program = ["test", "{{value}}", "=", "on"]
"""
    async with pty_bus(tmp_path / "bus", slave(1, [0])) as bus, agent_with(peer, tmp_path, settings) as operator:
        await peer.until(lambda: 0.0 in peer.values("setpoint"))
        assert (await operator.send("set_speed", speed=12.5)).state == "succeeded"
        await peer.until(lambda: 12.5 in peer.values("setpoint"))
        assert (await operator.send("stop")).state == "succeeded"
        await peer.until(lambda: peer.values("setpoint")[-1] == 0.0)
        failed = await operator.send("miss")
        assert (failed.state, failed.code) == ("failed", "not_written")
        assert "exception 2 (illegal data address)" in failed.message
        await peer.desire(DEVICE, target=4.5, lamp="on")
        await peer.in_force(target=4.5, lamp="on")
        await peer.until(lambda: peer.values("setpoint")[-1] == 4.5)
        await peer.desire(DEVICE, target=4.5, lamp="off")
        assert (await peer.problem_of("lamp", "exit_code")).retried
    assert [request.function for request in bus.requests if request.function != 3] == [6, 6, 6, 6]


async def test_a_program_runs_without_a_shell(peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments stay arguments, its output is the result, and its exit code and errors are the reason."""
    monkeypatch.setenv("HUB_TOKEN", "secret")
    settings = """
[[source]]
kind = "host"
interval_s = 60

[[command]]
name = "say"
time_limit_s = 10
program = ["printf", "%s|%s|", "{text}", "{n}"]
parameters = [{ name = "text", type = "string" }, { name = "n", required = false }]

[[command]]
name = "secrets"
program = ["sh", "-c", "echo ${HUB_TOKEN-none}; pwd"]
directory = "."

[[command]]
name = "fail"
program = ["sh", "-c", "echo first; echo no paper >&2; exit 3"]

[[command]]
name = "die"
program = ["sh", "-c", "kill -9 $$"]

[[command]]
name = "vanish"
program = ["no-such-program"]

[[command]]
name = "hang"
program = ["sh", "-c", "echo $$ > pid; sleep 60 & wait"]
directory = "."
time_limit_s = 0.5
"""
    async with agent_with(peer, tmp_path, settings) as operator:
        assert (await operator.send("say", text="$(id); 'x", n=2)).result == "$(id); 'x|2|"
        assert (await operator.send("say", text="a b")).result == "a b||"
        assert (await operator.send("say", text="-x")).code == "parameters"
        assert (await operator.send("secrets")).result == f"none\n{tmp_path}"
        failed = await operator.send("fail")
        assert (failed.state, failed.code) == ("failed", "exit_code")
        assert failed.message == "it ended with exit code 3: no paper"
        assert (await operator.send("die")).message == "it was ended by SIGKILL"
        assert (await operator.send("vanish")).code == "not_started"
        assert (await operator.send("hang")).code == "time_limit"
        group = int((tmp_path / "pid").read_text())
        await until(lambda: not group_exists(group))


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
