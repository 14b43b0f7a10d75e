"""A serial port of a test: a device behind a path that stays the same, as under /dev/serial/by-id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from pathlib import Path
from typing import Any


class PtyPort:
    """A port that can be pulled and plugged in. `path` exists while it is plugged in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end: int | None = None
        self._port: int | None = None

    def plug_in(self) -> None:
        """Create a new tty behind the path."""
        self._end, self._port = os.openpty()
        tty.setraw(self._port)
        self.path.symlink_to(os.ttyname(self._port))

    def pull(self) -> None:
        """Remove the path and the tty; do nothing if the port is not plugged in."""
        if self._end is not None and self._port is not None:
            self.path.unlink()
            os.close(self._end)
            os.close(self._port)
            self._end = self._port = None

    def line(self) -> list[Any]:
        """Return the attributes that the reader of the port has set."""
        assert self._end is not None
        return termios.tcgetattr(self._end)

    def fill(self) -> None:
        """Send so much to the device, which does not read it, that the port takes nothing any more."""
        port = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(port, b"x")
        os.close(port)

    def read(self, count: int) -> bytes:
        """Read as the device what was sent to it. Blocks."""
        assert self._end is not None
        data = b""
        while len(data) < count:
            data += os.read(self._end, count - len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Write to the port as its device."""
        assert self._end is not None
        while data:
            written = await asyncio.to_thread(os.write, self._end, data[:1024])
            data = data[written:]
