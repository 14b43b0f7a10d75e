"""Serial ports that a terminal server offers over TCP, raw (`socket://`) or with RFC 2217 (`rfc2217://`)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

from device_agent.sources.network import keep_alive
from device_agent.sources.ports import READ_BYTES, RESET_SECONDS, LineErrors, PortError, PortSettings
from device_agent.sources.ports.rfc2217 import DTR_OFF, DTR_ON, RTS_ON, ComPortSession, TelnetDecoder, control, escape

CONNECT_SECONDS = 10.0
"""Longest wait for a connection, and for the settings of the line."""

DEFAULT_PORTS = {"rfc2217": 2217}


def address_of(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL. Raises PortError."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError as error:
        raise PortError(f"{url} is not an address: {error}") from None
    if not parts.hostname or port is None or parts.path.strip("/") or parts.query:
        raise PortError(f"{url} is not an address: write {parts.scheme}://HOST:PORT")
    return parts.hostname, port


class SocketPort:
    """A port over TCP whose line is set on the server."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = url
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return the next bytes. A slow reader slows the server: at most 128 KiB wait here."""
        data = await self._reader.read(READ_BYTES)
        if not data:
            raise PortError("the server closed the connection")
        return data

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def set_baud(self, baud: int) -> None:
        """Raise PortError: only the server can."""
        raise PortError("a raw socket has no baud rate: set it on the server, or use rfc2217://")

    def line_errors(self) -> LineErrors | None:
        """Return None: the server does not report them."""
        return None

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


class Rfc2217Port:
    """A port over TCP whose line this side sets."""

    def __init__(self, socket_port: SocketPort, writer: asyncio.StreamWriter, settings: PortSettings) -> None:
        self.name = socket_port.name
        self._socket = socket_port
        self._writer = writer
        self._telnet = TelnetDecoder()
        self._session = ComPortSession(settings)
        self._waiting = b""

    async def start(self, *, reset: bool) -> None:
        """Set the line. Raises PortError if the server cannot."""
        self._writer.write(self._session.start())
        await self._settle()
        if reset:
            self._writer.write(control(DTR_OFF) + control(RTS_ON))
            await asyncio.sleep(RESET_SECONDS)
            self._writer.write(control(DTR_ON))

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while not self._session.is_settled:
                    self._waiting = (self._waiting + await self._receive())[-READ_BYTES:]
        except TimeoutError:
            raise PortError("the server does not answer as RFC 2217 requires; for a raw port write socket://") from None

    async def read(self) -> bytes:
        """Return the next bytes."""
        data, self._waiting = self._waiting, b""
        while not data:
            data = await self._receive()
        return data

    async def _receive(self) -> bytes:
        data, events = self._telnet.feed(await self._socket.read())
        for event in events:
            self._writer.write(self._session.receive(event))
        return data

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(escape(data))

    async def set_baud(self, baud: int) -> None:
        """Change the rate. Raises PortError if the server cannot."""
        self._writer.write(self._session.set_baud(baud))
        await self._settle()
        self._waiting = b""

    def line_errors(self) -> LineErrors | None:
        """Return the errors that the server has reported."""
        return self._session.errors

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


async def open_network_port(url: str, settings: PortSettings) -> SocketPort | Rfc2217Port:
    """Connect to a port. Raises OSError."""
    host, number = address_of(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, number)
    except TimeoutError:
        raise PortError(f"{host} does not answer on port {number}") from None
    except OSError as error:
        raise PortError(f"{host}, port {number}: {error.strerror or error}") from None
    keep_alive(writer.get_extra_info("socket"))
    port = SocketPort(url, reader, writer)
    if not url.startswith("rfc2217:"):
        return port
    with ExitStack() as on_failure:
        on_failure.callback(port.close)
        com_port = Rfc2217Port(port, writer, settings)
        await com_port.start(reset=settings.reset)
        on_failure.pop_all()
    return com_port


def connection_problem(url: str, seconds: float) -> str | None:
    """Return why a server cannot be reached now; None if it can. Blocks."""
    try:
        socket.create_connection(address_of(url), timeout=seconds).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
