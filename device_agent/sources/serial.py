"""A sensor on a serial port that writes lines, in any format of `formats`.

The port may be absent, and may be unplugged and plugged in again: the source waits for its path. Prefer the path under
/dev/serial/by-id, which does not change. Linux and macOS only: the source waits for a file descriptor.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Annotated

import serial
from msgspec import Meta

from device_agent.sources import SensorReading
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import HEAD_SECONDS, ForeignInput, ForeignSettings, LineInput
from device_agent.sources.settings import SourceContext
from wire.backoff import full_jitter

RETRY_SECONDS = 1.0
"""Bound of the first delay before another attempt to open an absent port: short for the person who plugs it in."""

MAX_RETRY_SECONDS = 5.0
"""Bound of every delay. The bound doubles from attempt to attempt up to this."""

READ_BYTES = 4096
"""Bytes of one read: the buffer of a Linux tty."""

REASONS = {
    errno.ENOENT: "the port does not exist; is the device plugged in?",
    errno.ENXIO: "the port does not exist; is the device plugged in?",
    errno.ENODEV: "the port does not exist; is the device plugged in?",
    errno.EACCES: "no permission to open the port; add the agent's user to the group that owns it, often dialout",
    errno.EBUSY: "another program uses the port",
    errno.EAGAIN: "another program uses the port",
    errno.EIO: "the device was unplugged",
}
"""Causes and remedies of the usual errors, for people."""

_log = logging.getLogger(__name__)


class SerialSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of a serial port. `dtr` false does not set the line that resets an Arduino."""

    port: str
    baud: Annotated[int, Meta(ge=1)] = 115_200
    dtr: bool = True

    @property
    def default_name(self) -> str:
        return self.port

    def source(self, context: SourceContext) -> SerialSource:
        return SerialSource(self.port, self.input(context), baud=self.baud, dtr=self.dtr)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not Path(self.port).exists():
            yield "port", REASONS[errno.ENOENT]


class SerialSource:
    """The readings that arrive at a port.

    `dtr` False does not set the line that resets an Arduino; some devices send nothing then. Lines that wait, so that
    the format can be detected, wait for another one for `head_seconds` at most.
    """

    def __init__(
        self,
        path: str,
        input: ForeignInput,
        *,
        baud: int = 115_200,
        dtr: bool = True,
        retry_seconds: float = RETRY_SECONDS,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        self.path = path
        self.input = input
        self._baud = baud
        self._dtr = dtr
        self._retry_seconds = retry_seconds
        self._head_seconds = head_seconds
        self._lines = LineInput(input)
        self._report = LineReport(path, input, _log, aspect="port")
        self.health = self._report.health

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield readings without end, none while the port is absent."""
        attempt = 0
        while True:
            try:
                port = await asyncio.to_thread(self._open)
            except (serial.SerialException, OSError, ValueError) as error:
                self._record_absence(error)
                await asyncio.sleep(
                    full_jitter(attempt, first=self._retry_seconds, maximum=MAX_RETRY_SECONDS, random=random.random)
                )
                attempt += 1
                continue
            attempt = 0
            self._report.record_connection(f" at {self._baud} baud")
            self._lines.open()
            try:
                while True:
                    data = await self._read(port)
                    now_ns = time.time_ns()
                    results = self._lines.begin(now_ns) if data is None else self._lines.feed(data, now_ns)
                    self._report.record_format()
                    for result in results:
                        self._report.record_result(result)
                        for reading in result.readings:
                            yield reading
            except (serial.SerialException, OSError) as error:
                self._record_absence(error)
            finally:
                port.close()

    def finish(self) -> None:
        """Read the lines that wait for others, at the end of a check."""
        for result in self._lines.begin(time.time_ns()):
            self._report.record_result(result)

    def _open(self) -> serial.Serial:
        port = serial.Serial(port=None, baudrate=self._baud, timeout=0, exclusive=True)
        port.port = self.path
        port.dtr = self._dtr
        port.open()
        return port

    async def _read(self, port: serial.Serial) -> bytes | None:
        """Return the next bytes; None when the lines that wait for others have waited long enough."""
        try:
            async with asyncio.timeout(self._head_seconds if self._lines.is_waiting else None):
                await _readable(port.fileno())
        except TimeoutError:
            return None
        data: bytes = port.read(READ_BYTES)
        return data

    def _record_absence(self, error: Exception) -> None:
        # pyserial reports a port that disappears while it is read without an error number.
        number = getattr(error, "errno", None) or (errno.EIO if "disconnected" in str(error) else 0)
        self._report.record_absence(REASONS.get(number, str(error)))


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
