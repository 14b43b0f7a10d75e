"""A sensor on a serial port that writes lines of JSON objects.

The port may be absent, be pulled and be plugged in again: the source waits for its path, which should be the one under
/dev/serial/by-id, since that stays the same. Ports of Linux and macOS (a file descriptor that can be waited for).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import serial

from device_agent.episode import Episode
from device_agent.sources.line import BadLine, Framing, parse_line
from device_agent.sources.reading import Reading

RETRY_SECONDS = 1.0
"""Between looks for a port that is not there: soon enough for a hand that plugs it in, and no load."""

READ_BYTES = 4096
"""Of one read: all that a tty of Linux holds."""

QUIET_LINES = 100
"""Good lines in a row after which bad ones are told of again."""

_log = logging.getLogger(__name__)


class SerialSource:
    """Readings of the lines that arrive at a port. `bad_lines` counts those that were none.

    `dtr` False leaves the line that resets an Arduino alone; there are devices that send nothing then.
    """

    def __init__(
        self, path: str, *, baud: int = 115_200, dtr: bool = True, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.path = path
        self._baud = baud
        self._dtr = dtr
        self._retry_seconds = retry_seconds
        self._absence = Episode(_log, f"no connection to {path}")
        self._bad = Episode(_log, f"{path} sends lines that are not readings", quiet=QUIET_LINES)

    @property
    def bad_lines(self) -> int:
        """Lines so far that were not readings, the first one after opening not counted."""
        return self._bad.total

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """Readings for ever; nothing while the port is away."""
        while True:
            try:
                port = await asyncio.to_thread(self._open)
            except (serial.SerialException, OSError, ValueError) as error:
                self._absence.trouble(error)
                await asyncio.sleep(self._retry_seconds)
                continue
            self._absence.fine()
            _log.info("reading from %s at %d baud", self.path, self._baud)
            framing = Framing()
            is_first = True
            try:
                while True:
                    await _readable(port.fileno())
                    for line in framing.feed(port.read(READ_BYTES)):
                        reading = self._parse(line, is_first)
                        is_first = False
                        if reading is not None:
                            yield reading
                    self._note_overlong(framing)
            except (serial.SerialException, OSError) as error:
                self._absence.trouble(error)
            finally:
                port.close()

    def _open(self) -> serial.Serial:
        port = serial.Serial(port=None, baudrate=self._baud, timeout=0, exclusive=True)
        port.port = self.path
        port.dtr = self._dtr
        port.open()
        return port

    def _parse(self, line: bytes, is_first: bool) -> Reading | None:
        try:
            reading = parse_line(line)
        except BadLine as error:
            # What arrives first is mostly the end of a line, which is no object by itself; a whole one is taken.
            if not is_first:
                self._bad.trouble(f"{error} in {line[:60]!r}")
            return None
        self._bad.fine()
        return reading

    def _note_overlong(self, framing: Framing) -> None:
        if framing.overlong:
            self._bad.trouble("a line without an end; is the baud rate right?", times=framing.overlong)
            framing.overlong = 0


async def _readable(descriptor: int) -> None:
    """Returns when there is something to read, or the device is gone.

    The descriptor is watched only meanwhile: what is readable and not read would wake the loop again and again.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
