"""Ports of terminal servers: real connections to real ttys."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from device_agent.sources.ports import LineErrors, PortError, PortSettings
from device_agent.sources.ports.network import (
    Rfc2217Port,
    SocketPort,
    address_of,
    connection_problem,
    open_network_port,
)
from tests.conditions import until
from tests.device_agent.pty_port import PtyPort
from tests.device_agent.terminal_server import TerminalServer


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[PtyPort]:
    wire = PtyPort(tmp_path / "sensor")
    wire.plug_in()
    yield wire
    wire.pull()


async def read_exactly(port: SocketPort | Rfc2217Port, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await port.read()
    return data


EVERY_BYTE = bytes(range(256)) * 3


@pytest.mark.parametrize("rfc2217", [False, True])
async def test_a_port_of_a_server_is_read_and_written(wire: PtyPort, rfc2217: bool) -> None:
    """Every byte arrives as it was sent, in both directions; the end of the connection is an error."""
    server = TerminalServer(wire.path, rfc2217=rfc2217)
    async with server.running():
        port = await open_network_port(server.url, PortSettings(port=server.url))
        await until(lambda: server.line is not None)
        await wire.write(EVERY_BYTE)
        assert await read_exactly(port, len(EVERY_BYTE)) == EVERY_BYTE
        port.write(EVERY_BYTE)
        assert await asyncio.to_thread(wire.read, len(EVERY_BYTE)) == EVERY_BYTE
        server.drop()
        with pytest.raises(OSError, match=r"closed the connection|reset"):
            await port.read()
        port.close()


async def test_the_line_of_a_server_is_set(wire: PtyPort) -> None:
    """Rate, bits, parity, stop bits and control lines; its errors are counted, and the rate can be changed."""
    server = TerminalServer(wire.path, rfc2217=True)
    async with server.running():
        settings = PortSettings(port=server.url, baud=9600, frame="7E2", dtr=False, reset=True)
        port = await open_network_port(server.url, settings)
        line = server.line
        assert line is not None
        assert (line.baudrate, line.bytesize, line.parity, line.stopbits) == (9600, 7, "E", 2)
        await until(lambda: line.lines[-3:] == [("dtr", False), ("rts", True), ("dtr", True)])
        await port.set_baud(1200)
        assert line.baudrate == 1200
        server.notify_framing_error()
        await wire.write(b"x")
        assert await port.read() == b"x"
        assert port.line_errors() == LineErrors(framing=1)
        port.close()


async def test_closing_a_port_ends_a_read_that_waits(wire: PtyPort) -> None:
    """As with a port of this computer."""
    server = TerminalServer(wire.path, rfc2217=False)
    async with server.running():
        port = await open_network_port(server.url, PortSettings(port=server.url))
        reading = asyncio.ensure_future(port.read())
        await asyncio.sleep(0)
        port.close()
        with pytest.raises(OSError, match="closed"):
            await reading
        with pytest.raises(PortError, match="use rfc2217://"):
            await port.set_baud(9600)
        assert port.line_errors() is None


async def test_a_server_that_cannot_be_used_is_said_so() -> None:
    """A refused connection, and a server without RFC 2217."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"socket://127.0.0.1:{closed.getsockname()[1]}"
        assert connection_problem(url, 5) is None
    with pytest.raises(PortError, match=r"127\.0\.0\.1, port \d+: "):
        await open_network_port(url, PortSettings(port=url))
    assert connection_problem(url, 5) is not None

    ended = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\xfe\x2c")
        with suppress(OSError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"rfc2217://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(PortError, match="does not offer RFC 2217"):
            await open_network_port(url, PortSettings(port=url))
        await ended.wait()


def test_an_address_has_a_host_and_a_port() -> None:
    """RFC 2217 has a usual port."""
    assert address_of("socket://[::1]:2001") == ("::1", 2001)
    assert address_of("rfc2217://lab") == ("lab", 2217)
    for wrong in ("socket://lab", "socket://:1", "socket://lab:x", "socket://lab:1/x", "rfc2217://lab:1?logging=debug"):
        with pytest.raises(PortError, match="is not an address"):
            address_of(wrong)
