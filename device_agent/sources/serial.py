"""A sensor on a serial port that writes lines of JSON objects.

The port may be absent, and may be unplugged and plugged in again: the source waits for its path. Prefer the path under
/dev/serial/by-id, which does not change. Linux and macOS only: the source waits for a file descriptor.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from collections.abc import AsyncGenerator

import serial

from device_agent.source_state import SourceHealth
from device_agent.sources import RepeatedWarning, SensorReading
from device_agent.sources.lines import BadLine, Framing, bad_line_text, parse_line
from wire.backoff import full_jitter
from wire.text import plural

RETRY_SECONDS = 1.0
"""Bound of the first delay before another attempt to open an absent port: short for the person who plugs it in."""

MAX_RETRY_SECONDS = 5.0
"""Bound of every delay. The bound doubles from attempt to attempt up to this."""

READ_BYTES = 4096
"""Bytes of one read: the buffer of a Linux tty."""

QUIET_LINES = 100
"""Good lines in a row after which a bad line is logged again."""

GOOD_LINES = 10
"""Good lines in a row after which the source works again: one good line between bad ones is luck."""

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
        self.health = SourceHealth(path)
        self._absence = RepeatedWarning(_log, f"no connection to {path}")
        self._bad = RepeatedWarning(_log, f"{path} sends lines that are not readings", quiet=QUIET_LINES)

    @property
    def bad_lines(self) -> int:
        """Number of lines that were not readings so far; the first line after opening does not count."""
        return self._bad.total

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
            self._absence.record_success()
            self.health.recover("port")
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
                        self._record_bad_line("a line without an end; is the baud rate right?", framing.overlong)
                        framing.overlong = 0
            except (serial.SerialException, OSError) as error:
                self._record_absence(error)
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
                self._record_bad_line(bad_line_text(error, line))
            return None
        self._bad.record_success()
        if self._bad.count == 0 or self._bad.successes >= GOOD_LINES:
            self.health.recover("lines")
        return reading

    def _record_bad_line(self, reason: str, times: int = 1) -> None:
        self._bad.record_failure(reason, times=times)
        self.health.fail("lines", f"{plural(self._bad.count, 'unreadable line')}, the last: {reason}")

    def _record_absence(self, error: Exception) -> None:
        # pyserial reports a port that disappears while it is read without an error number.
        number = getattr(error, "errno", None) or (errno.EIO if "disconnected" in str(error) else 0)
        reason = REASONS.get(number, str(error))
        self._absence.record_failure(reason)
        self.health.recover("lines")  # those of another connection, perhaps of another device
        self.health.fail("port", f"no connection: {reason}")


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
