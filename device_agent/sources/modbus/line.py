"""The line of a bus: bytes to and from a serial port or a TCP connection."""

from __future__ import annotations

import asyncio
from typing import Protocol

from device_agent.sources.modbus.settings import ModbusSettings
from device_agent.sources.ports.opening import PortFinder, open_port

CONNECT_SECONDS = 10.0
"""Longest time to open a TCP connection."""

READ_BYTES = 4096
"""Bytes of one read; a frame has at most 260."""


class Line(Protocol):
    """An open line, which is read by one task."""

    async def read(self) -> bytes:
        """Return the next bytes, at least one. Raises OSError when the line is gone."""

    def write(self, data: bytes) -> None:
        """Send a frame, which is smaller than every buffer on its way. Raises OSError."""

    def close(self) -> None:
        """Release the line. May be called again."""


async def open_line(settings: ModbusSettings, finder: PortFinder) -> Line:
    """Open the line of a bus; the finder knows its serial port. Raises OSError."""
    kind, place, port = settings.address
    if kind == "serial":
        return await open_port(await asyncio.to_thread(finder.find), settings.line)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(place, port)
    except TimeoutError:
        raise OSError(f"{place}:{port} did not accept the connection within {CONNECT_SECONDS:g} s") from None
    except ConnectionRefusedError:
        raise OSError(f"{place}:{port} refused the connection: no Modbus server or converter listens there") from None
    return TcpLine(reader, writer)


class TcpLine:
    """A TCP connection to a Modbus device, a gateway or a converter."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return the next bytes."""
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise OSError("the other end closed the connection")
        return data

    def write(self, data: bytes) -> None:
        """Send a frame."""
        self._writer.write(data)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()
