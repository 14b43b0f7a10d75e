"""Slaves on a bus of a test: pymodbus answers behind a real tty, or on TCP."""

from __future__ import annotations

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

Action = Callable[..., Coroutine[None, None, ExcCodes | None]]


class Request(NamedTuple):
    """A frame of the agent on the line."""

    slave: int
    function: int
    address: int
    size: int


def slave(number: int, registers: Sequence[int], *, first: int = 0, action: Action | None = None) -> SimDevice:
    """Return a slave with these holding registers; it refuses all others."""
    return SimDevice(
        number,
        [SimData(first, values=[*registers], datatype=DataType.REGISTERS)],
        action=action,
    )


class PtyBus:
    """An RS-485 line: the agent's adapter at `path`, and slaves that share it. `requests` has what the agent sent."""

    def __init__(self, path: Path, slaves: Sequence[SimDevice]) -> None:
        self.path = path
        self.requests: list[Request] = []
        self.alter: Callable[[bytes], list[bytes]] = lambda answer: [answer]
        """Changes the bytes on their way to the agent: it returns the pieces in which they arrive."""
        self.is_echoing = False
        self._slaves = [*slaves]
        self._ends: list[int] = []
        self._ttys: list[int] = []
        self._server: ModbusSerialServer | None = None

    async def plug_in(self) -> None:
        """Connect the adapter and the slaves."""
        for _ in range(2):
            end, port = os.openpty()
            tty.setraw(port)
            os.set_blocking(end, False)
            self._ends.append(end)
            self._ttys.append(port)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._ends[0], self._to_slaves)
        loop.add_reader(self._ends[1], self._to_agent)
        self._server = ModbusSerialServer(self._slaves, framer=FramerType.RTU, port=os.ttyname(self._ttys[1]))
        await self._server.serve_forever(background=True)
        self.path.symlink_to(os.ttyname(self._ttys[0]))

    async def pull(self) -> None:
        """Remove the adapter; do nothing if it is not plugged in."""
        if not self._ends:
            return
        self.path.unlink()
        for end in self._ends:
            asyncio.get_running_loop().remove_reader(end)
        assert self._server is not None
        await self._server.shutdown()  # type: ignore[no-untyped-call]
        for descriptor in (*self._ends, *self._ttys):
            os.close(descriptor)
        self._ends.clear()
        self._ttys.clear()

    def slaves(self) -> list[int]:
        """Return the slaves that were asked, in order."""
        return [request.slave for request in self.requests]

    def send(self, data: bytes) -> None:
        """Send bytes to the agent that no slave sent."""
        os.write(self._ends[0], data)

    def _to_slaves(self) -> None:
        data = os.read(self._ends[0], 4096)
        number, function, address, size = struct.unpack(">BBHH", data[:6])
        self.requests.append(Request(number, function, address, size))
        if self.is_echoing:
            self.send(data)
        if any(device.id == number for device in self._slaves):  # the library answers for those that are missing
            os.write(self._ends[1], data)

    def _to_agent(self) -> None:
        for piece in self.alter(os.read(self._ends[1], 4096)):
            os.write(self._ends[0], piece)


@asynccontextmanager
async def pty_bus(path: Path, *slaves: SimDevice) -> AsyncIterator[PtyBus]:
    """Plug in a bus with these slaves."""
    bus = PtyBus(path, slaves)
    await bus.plug_in()
    try:
        yield bus
    finally:
        await bus.pull()


@asynccontextmanager
async def tcp_slaves(*slaves: SimDevice, framer: FramerType = FramerType.SOCKET) -> AsyncIterator[int]:
    """Serve slaves behind a gateway; yield its port."""
    server = ModbusTcpServer([*slaves], framer=framer, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    transport: Any = server.transport
    try:
        yield transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
