"""The control channel of an agent: another program gets a port, and the agent gets it back."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import serial

from device_agent.control import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    HoldRequest,
    control_channel,
    control_path,
    held_port,
)
from device_agent.errors import AgentError
from device_agent.port_commands import hold_port
from device_agent.sources import SensorReading
from device_agent.sources.ports import PortSettings
from device_agent.sources.serial import SerialSource
from tests.conditions import until
from tests.device_agent.foreign import foreign_input
from tests.device_agent.pty_port import PtyPort
from tests.tasks import running_task


class Rig:
    """A source that reads a port of a test, with a control channel."""

    def __init__(self, directory: Path) -> None:
        self.spool = directory / "kiln.spool"
        self.port = PtyPort(directory / "sensor")
        self.port.plug_in()
        self.source = SerialSource(PortSettings(port=str(self.port.path)), foreign_input(), retry_seconds=0.001)
        self.readings: list[SensorReading] = []

    async def read(self) -> None:
        async with aclosing(self.source.readings()) as readings:
            async for reading in readings:
                self.readings.append(reading)

    def is_free(self) -> bool:
        """Return whether no program has locked the port."""
        try:
            serial.Serial(str(self.port.path), exclusive=True).close()
        except serial.SerialException:
            return False
        return True

    async def until_read(self, number: int) -> None:
        """Write a line until it is read: opening a port discards what was written before."""
        while not any(reading.values == {"n": number} for reading in self.readings):
            await self.port.write(b'{"n": %d}\n' % number)
            await asyncio.sleep(0.01)

    def request(self) -> HoldRequest:
        return HoldRequest([str(self.port.path)], "avrdude", 12)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    async with control_channel(rig.spool, [rig.source]), running_task(rig.read()):
        await rig.until_read(0)
        yield rig
    rig.port.pull()


@asynccontextmanager
async def held(rig: Rig) -> AsyncIterator[str]:
    async with held_port([control_path(rig.spool)], rig.request()) as port:
        yield port.path


async def test_a_port_is_free_while_it_is_held(rig: Rig) -> None:
    """The source says who has it, and reads on afterwards; only the user of the agent can ask."""
    assert not rig.is_free()
    assert stat.S_IMODE(control_path(rig.spool).stat().st_mode) == 0o600
    async with held(rig) as path:
        assert path == str(rig.port.path)
        assert rig.is_free()
        error = rig.source.health.error
    assert error == "held for avrdude (process 12); read again when `device-agent hold` ends"
    await rig.until_read(1)
    assert rig.source.health.error is None
    assert not rig.is_free()


async def test_a_port_that_is_held_twice_is_free_until_both_have_ended(rig: Rig) -> None:
    """The first end gives nothing back."""
    async with held(rig):
        async with held(rig):
            pass
        assert rig.is_free()
        assert rig.source.health.error is not None
    await rig.until_read(1)


async def test_a_port_that_is_unplugged_while_it_is_held_is_found_again(rig: Rig) -> None:
    """A board that is flashed leaves and returns."""
    async with held(rig):
        rig.port.pull()
        rig.port.plug_in()
    await rig.until_read(1)


async def test_a_port_is_given_back_when_the_program_is_killed(rig: Rig) -> None:
    """The end of its connection is enough."""
    reader, writer = await asyncio.open_unix_connection(str(control_path(rig.spool)))
    writer.write(b'{"names": ["%b"]}\n' % str(rig.port.path).encode())
    await reader.readline()
    assert rig.is_free()
    writer.transport.abort()
    await rig.until_read(1)


@pytest.mark.parametrize("request_line", [b"noise\n", b'{"hold": 1}\n', b"", b"x" * (MAX_REQUEST_BYTES * 2) + b"\n"])
async def test_a_request_that_is_none_is_answered(rig: Rig, request_line: bytes) -> None:
    """It ends its own connection alone."""
    reader, writer = await asyncio.open_unix_connection(str(control_path(rig.spool)))
    writer.write(request_line)
    if not request_line:
        writer.write_eof()
    assert b"the request cannot be read" in await reader.readline()
    writer.close()
    async with held(rig):
        assert rig.is_free()


async def test_requests_are_bounded(rig: Rig) -> None:
    """One more than the bound is refused, and the others stay."""
    path = str(control_path(rig.spool))
    waiting = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(AgentError, match=f"has {MAX_CONNECTIONS} requests already"):
        async with held(rig):
            pass
    reader, writer = waiting[0]
    writer.write_eof()
    await reader.read()
    async with held(rig):
        assert rig.is_free()
    for _, writer in waiting:
        writer.transport.abort()


async def test_an_agent_that_is_not_found_is_said_so(rig: Rig, tmp_path: Path) -> None:
    """No agent, an agent that was killed, and one that reads another port differ."""
    request = HoldRequest(["/dev/other"])
    dead = tmp_path / "dead.control"
    dead.touch()
    with pytest.raises(AgentError, match="no agent runs that could use /dev/other"):
        async with held_port([tmp_path / "none", dead], request):
            pass
    with pytest.raises(AgentError, match="no running agent uses /dev/other"):
        async with held_port([dead, control_path(rig.spool)], request):
            pass


async def test_an_agent_that_ends_leaves_the_port_free(tmp_path: Path) -> None:
    """The program that holds it learns that, and the channel is removed."""
    rig = Rig(tmp_path)
    async with control_channel(rig.spool, [rig.source]):
        holding = asyncio.ensure_future(hold_port([control_path(rig.spool)], str(rig.port.path), []))
        await until(lambda: rig.source.health.error)
    assert await holding == 0
    assert not control_path(rig.spool).exists()
    rig.port.pull()


async def test_a_command_runs_while_the_port_is_held(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    """It gets the path, and its exit code is returned, also of one that does not exist or is killed."""
    channels, port = [control_path(rig.spool)], str(rig.port.path)
    assert await hold_port(channels, port, ["sh", "-c", "echo {port}; exit 3"]) == 3
    assert capfd.readouterr().out == f"{port}\n"
    assert await hold_port(channels, port, ["sh", "-c", "kill -9 $$"]) == 128 + 9
    assert await hold_port(channels, port, ["no-such-program"]) == 127
    assert "no-such-program cannot be run: No such file" in capfd.readouterr().err
    await rig.until_read(1)


def test_a_channel_fits_into_the_path_of_a_socket(tmp_path: Path) -> None:
    """A long name of a spool is shortened."""
    spool = Path("/home/someone/.local/state/telemetry-hub") / f"{'x' * 64}.spool"
    assert len(str(control_path(spool))) < 100
    assert control_path(Path("/var/lib/kiln.spool")) == Path("/var/lib/kiln.spool.control")


async def test_without_room_for_a_channel_an_agent_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says that it cannot be asked."""
    rig = Rig(tmp_path)
    async with control_channel(tmp_path / ("d" * 120) / "kiln.spool", [rig.source]):
        pass
    async with control_channel(rig.spool, []):
        assert not control_path(rig.spool).exists()
    rig.port.pull()
    assert "no control channel" in caplog.text
