"""Ports of this system: which there are, which one a setting means, and how it is opened."""

from __future__ import annotations

import asyncio
import glob
import os
import sys
import threading
import time
from pathlib import Path

import serial
from serial.tools import list_ports

from device_agent.sources.ports import READ_BYTES, RESET_SECONDS, LineErrors, Port, PortSettings, PortUser
from device_agent.sources.ports.network import open_network_port
from device_agent.sources.ports.selection import PortInfo, choose_port, selector_kind

CLOSE_SECONDS = 0.5
"""Longest time until a read in a thread sees that its port is to be closed."""

if sys.platform != "win32":
    from device_agent.sources.ports import posix


def present_ports(root: Path = Path("/")) -> list[PortInfo]:
    """Return the ports of this computer. `root` is where Linux has /sys and /dev."""
    if sys.platform != "win32" and (root / "sys" / "class" / "tty").is_dir():
        return posix.linux_ports(root)
    return [
        PortInfo(
            path=port.device,
            vid="" if port.vid is None else f"{port.vid:04x}",
            pid="" if port.pid is None else f"{port.pid:04x}",
            serial_number=port.serial_number or "",
            manufacturer=port.manufacturer or "",
            product=port.product or "",
            interface=port.interface or "",
            location=port.location or "",
        )
        for port in sorted(list_ports.comports())
    ]


def port_users(path: str) -> list[PortUser]:
    """Return the other programs that have a port open, as far as this system shows them."""
    if sys.platform == "win32":
        return []
    else:  # noqa: RET505 - the type checker skips a branch, and not what follows a return
        return posix.users_of(path)


class PortFinder:
    """Finder of the port that a setting means now; it follows the device that it found before to another name."""

    def __init__(self, text: str, *, root: Path = Path("/")) -> None:
        self._text = text
        self._root = root
        self._device: PortInfo | None = None
        self._path = ""

    @property
    def last_path(self) -> str:
        """The path of the port that was found last; the setting, if none was found yet."""
        return self._path or self._text

    def is_port(self, text: str) -> bool:
        """Return whether a text is the setting, the path that was found last, or another name of it."""
        return text == self._text or (bool(self._path) and os.path.realpath(text) == os.path.realpath(self._path))

    def find(self) -> str:
        """Return the path or the URL. Raises PortError."""
        kind = selector_kind(self._text)
        if kind == "url":
            self._path = self._text
            return self._text
        ports = present_ports(self._root)
        named = {os.path.realpath(port.path): port for port in ports}
        paths = sorted(glob.glob(self._text)) if kind == "pattern" else [self._text]  # noqa: PTH207 - an absolute pattern
        # Windows has no files for its ports.
        exists = {port.path for port in ports}
        present = {path: named.get(os.path.realpath(path)) for path in paths if path in exists or Path(path).exists()}
        if kind == "pattern":
            # One port may have several names, such as those under /dev/serial/by-id and by-path.
            by_target = {os.path.realpath(path): path for path in reversed(paths)}
            present = {path: port for path, port in present.items() if by_target[os.path.realpath(path)] == path}
        path = choose_port(self._text, present, ports, self._device)
        self._device = named.get(os.path.realpath(path))
        self._path = path
        return path

    def forget(self) -> None:
        """Accept another device under the same name: a board that was flashed may have another identity."""
        self._device = None


async def open_port(target: str, settings: PortSettings) -> Port:
    """Open a port by its path or URL. Raises OSError."""
    if selector_kind(target) == "url":
        return await open_network_port(target, settings)
    if sys.platform == "win32":
        return await asyncio.to_thread(ThreadPort, target, settings)
    else:  # noqa: RET505
        return await asyncio.to_thread(posix.TtyPort, target, settings)


class ThreadPort:
    """An open port of a system that cannot watch it, read by a thread."""

    def __init__(self, path: str, settings: PortSettings) -> None:
        self.name = path
        bits, parity, stop_bits = settings.frame_parts
        self._serial = serial.Serial(
            port=None,
            baudrate=settings.baud,
            bytesize=bits,
            parity=parity,
            stopbits=stop_bits,
            timeout=CLOSE_SECONDS,
        )
        self._serial.port = path
        self._serial.dtr = self._serial.rts = settings.dtr
        self._serial.open()
        if settings.reset:
            self._serial.dtr = False
            time.sleep(RESET_SECONDS)
            self._serial.dtr = True
        self._is_closed = False
        self._reading = threading.Lock()

    async def read(self) -> bytes:
        """Return the next bytes."""
        data = await asyncio.to_thread(self._read)
        if not data:
            raise OSError("the port was closed")
        return data

    def _read(self) -> bytes:
        with self._reading:
            data = b""
            while not data and not self._is_closed:
                data = self._serial.read(1)
            return data + self._serial.read(min(READ_BYTES, self._serial.in_waiting)) if data else data

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._serial.write(data)

    async def set_baud(self, baud: int) -> None:
        """Change the rate."""
        self._serial.baudrate = baud

    def line_errors(self) -> LineErrors | None:
        """Return None: pyserial does not count errors."""
        return None

    def close(self) -> None:
        """End a read that waits, and close the port: a file number that is closed meanwhile may get another meaning."""
        self._is_closed = True
        if self._serial.is_open:
            self._serial.cancel_read()
            with self._reading:
                self._serial.close()
