"""A sensor on a serial port that writes lines of JSON objects.

The port may be absent, and may be unplugged and plugged in again: the source waits for its path. Prefer the path under
/dev/serial/by-id, which does not change. Linux and macOS only: the source waits for a file descriptor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import serial

from device_agent.sources import RepeatedWarning, SensorReading
from device_agent.sources.lines import BadLine, Framing, parse_line

RETRY_SECONDS = 1.0
"""Time between attempts to open an absent port: short for the person who plugs it in, and no load."""

READ_BYTES = 4096
"""Bytes of one read: the buffer of a Linux tty."""

QUIET_LINES = 100
"""Good lines in a row after which a bad line is logged again."""

_log = logging.getLogger(__name__)


class SerialSource:
    """The readings that arrive at a port. `bad_lines` counts lines that are not readings.

    `dtr` False does not set the line that resets an Arduino; some devices send nothing then.
    """

    def __init__(
        self, path: str, *, baud: int = 115_200, dtr: bool = True, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.path = path
        self._baud = baud
        self._dtr = dtr
        self._retry_seconds = retry_seconds
        self._absence = RepeatedWarning(_log, f"no connection to {path}")
        self._bad = RepeatedWarning(_log, f"{path} sends lines that are not readings", quiet=QUIET_LINES)

    @property
    def bad_lines(self) -> int:
        """Number of lines that were not readings so far; the first line after opening does not count."""
        return self._bad.total

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield readings without end, none while the port is absent."""
        while True:
            try:
                port = await asyncio.to_thread(self._open)
            except (serial.SerialException, OSError, ValueError) as error:
                self._absence.record_failure(error)
                await asyncio.sleep(self._retry_seconds)
                continue
            self._absence.record_success()
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
                    if framing.overlong:
                        message = "a line without an end; is the baud rate right?"
                        self._bad.record_failure(message, times=framing.overlong)
                        framing.overlong = 0
            except (serial.SerialException, OSError) as error:
                self._absence.record_failure(error)
            finally:
                port.close()

    def _open(self) -> serial.Serial:
        port = serial.Serial(port=None, baudrate=self._baud, timeout=0, exclusive=True)
        port.port = self.path
        port.dtr = self._dtr
        port.open()
        return port

    def _parse(self, line: bytes, is_first: bool) -> SensorReading | None:
        try:
            reading = parse_line(line)
        except BadLine as error:
            # The first line is often incomplete; if it is complete, it is used.
            if not is_first:
                self._bad.record_failure(f"{error} in {line[:60]!r}")
            return None
        self._bad.record_success()
        return reading


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read, or the device is gone.

    The descriptor is watched only meanwhile: unread bytes would wake the event loop without end.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
