"""Mirror of a port: a serial monitor reads the same bytes, and cannot slow the source or write to the device.

There is no authentication, so that any program can read: TCP listens on this computer only, and a pty belongs to the
agent's user.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import sys
from typing import NamedTuple, Protocol

from wire.text import plural

MAX_MONITORS = 8
"""Monitors at the same time; one more is refused. They are people who look at a board."""

MAX_WAITING_BYTES = 64 * 1024
"""Bytes that wait for one monitor: 6 s at 115,200 baud. Further bytes are left out until half of it is free."""

_ADDRESS = re.compile(r"(?:(?P<host>[^:\s]+|\[[0-9a-fA-F:]+\]):)?(?P<port>\d{1,5})")


class MirrorAddress(NamedTuple):
    """Place of a mirror: a host and a port, or the path of a pty."""

    host: str = ""
    port: int = 0
    path: str = ""


def mirror_address(text: str) -> MirrorAddress:
    """Return the place that a setting means. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        if "/" not in text:
            raise ValueError(f"mirror {text!r} is unknown: write a port such as 7001, or the path of a pty")
        return MirrorAddress(path=text)
    host = (match["host"] or "127.0.0.1").strip("[]")
    if host != "localhost" and not _is_loopback(host):
        raise ValueError(f"mirror {text!r} would be open to other computers: it has no password. Use 127.0.0.1")
    if int(match["port"]) > 65_535:
        raise ValueError(f"mirror {text!r} is no port: the highest is 65535")
    return MirrorAddress(host, int(match["port"]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Mirror(Protocol):
    """Open mirror of one port."""

    name: str

    def feed(self, data: bytes) -> None:
        """Give bytes to the monitors, without waiting for them."""

    def close(self) -> None:
        """End the connections of all monitors."""


async def open_mirror(address: MirrorAddress) -> Mirror:
    """Return a mirror at this place. Raises OSError."""
    if address.path:
        if sys.platform == "win32":
            raise OSError("this system has no ptys: use a TCP port")
        else:  # noqa: RET506 - the type checker skips a branch, and not what follows an error
            from device_agent.sources.ports.posix import PtyMirror

            return PtyMirror(address.path)
    mirror = TcpMirror()
    await mirror.listen(address.host, address.port)
    return mirror


class TcpMirror:
    """Mirror on a TCP port."""

    def __init__(self) -> None:
        self.name = ""
        self.monitors: set[_Monitor] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Accept monitors. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Monitor(self.monitors), host, port)
        self.name = "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    def feed(self, data: bytes) -> None:
        """Send bytes to the monitors."""
        for monitor in self.monitors:
            monitor.feed(data)

    def close(self) -> None:
        """Stop listening, and end the connections."""
        if self._server is not None:
            self._server.close()
        for monitor in list(self.monitors):
            monitor.transport.abort()


class _Monitor(asyncio.Protocol):
    """Connection of one monitor. What it sends is discarded."""

    transport: asyncio.Transport

    def __init__(self, monitors: set[_Monitor]) -> None:
        self._monitors = monitors
        self._skipped = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if len(self._monitors) >= MAX_MONITORS:
            transport.write(b"device-agent: %d monitors are connected already\r\n" % MAX_MONITORS)
            transport.close()
            return
        self._monitors.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._monitors.discard(self)

    def feed(self, data: bytes) -> None:
        """Send bytes, or leave them out while too many wait; then say how many were left out."""
        waiting = self.transport.get_write_buffer_size()
        bound = MAX_WAITING_BYTES // 2 if self._skipped else MAX_WAITING_BYTES
        if waiting + len(data) > bound:
            self._skipped += len(data)
            return
        if self._skipped:
            self.transport.write(f"\r\n[device-agent: {plural(self._skipped, 'byte')} left out]\r\n".encode())
            self._skipped = 0
        self.transport.write(data)
