"""A sensor on a serial port that writes lines, in any format of `formats`.

The port may be absent, and may be unplugged and plugged in again, also under another name: the source waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import serial
from msgspec import Meta

from device_agent.sources import SensorReading
from device_agent.sources.connection import SourceUnavailable
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import HEAD_SECONDS, ForeignInput, ForeignSettings, LineInput, LineResult
from device_agent.sources.ports import DEFAULT_BAUD, DEFAULT_FRAME, MAX_BAUD, Port, PortError, PortSettings
from device_agent.sources.ports.baud import BaudWatch
from device_agent.sources.ports.hold import PortHold
from device_agent.sources.ports.mirror import Mirror, mirror_address, open_mirror
from device_agent.sources.ports.network import connection_problem
from device_agent.sources.ports.opening import PortFinder, open_port
from device_agent.sources.ports.selection import NOT_FOUND, selector_kind
from device_agent.sources.settings import SourceContext
from wire.backoff import full_jitter

RETRY_SECONDS = 1.0
"""Bound of the first delay before another attempt to open an absent port: short for the person who plugs it in."""

MAX_RETRY_SECONDS = 5.0
"""Bound of every delay. The bound doubles from attempt to attempt up to this."""

CHECK_SECONDS = 3.0
"""Longest wait for a terminal server in a check."""

REASONS = {
    errno.ENOENT: NOT_FOUND,
    errno.ENXIO: NOT_FOUND,
    errno.ENODEV: NOT_FOUND,
    errno.EACCES: "no permission to open the port; add the agent's user to the group that owns it, often dialout",
    errno.EBUSY: "another program uses the port",
    errno.EAGAIN: "another program uses the port",
    errno.EIO: "the device was unplugged",
}
"""Causes and remedies of the usual errors, for people."""

_log = logging.getLogger(__name__)


class SerialSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of a serial port that writes lines; those of the port are explained at PortSettings.

    `mirror` is where a serial monitor reads the same bytes: a TCP port of this computer, or the path of a pty.
    """

    port: str
    baud: Annotated[int, Meta(ge=1, le=MAX_BAUD)] = DEFAULT_BAUD
    frame: str = DEFAULT_FRAME
    dtr: bool = True
    reset: bool = False
    mirror: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.line  # noqa: B018 - raises ValueError for wrong settings
        if self.mirror:
            mirror_address(self.mirror)

    @property
    def line(self) -> PortSettings:
        """The settings of the port."""
        return PortSettings(port=self.port, baud=self.baud, frame=self.frame, dtr=self.dtr, reset=self.reset)

    @property
    def default_name(self) -> str:
        return self.port

    def source(self, context: SourceContext) -> SerialSource:
        return SerialSource(self.line, self.input(context), mirror=self.mirror)

    def problems(self) -> Iterator[tuple[str, str]]:
        if selector_kind(self.port) == "url":
            if problem := connection_problem(self.port, CHECK_SECONDS):
                yield "port", problem
            return
        try:
            PortFinder(self.port).find()
        except PortError as error:
            yield "port", str(error)


class SerialSource:
    """The readings that arrive at a port.

    Lines that wait, so that the format can be detected, wait for another one for `head_seconds` at most. `root` is
    where Linux has /sys and /dev. `line_problem` says that the baud rate is probably wrong; empty if not.
    """

    def __init__(
        self,
        settings: PortSettings,
        input: ForeignInput,
        *,
        retry_seconds: float = RETRY_SECONDS,
        head_seconds: float = HEAD_SECONDS,
        root: Path = Path("/"),
        mirror: str = "",
    ) -> None:
        self.settings = settings
        self.input = input
        self._retry_seconds = retry_seconds
        self._head_seconds = head_seconds
        self.line_problem = ""
        self._finder = PortFinder(settings.port, root=root)
        self._hold = PortHold()
        self._mirror_address = mirror_address(mirror) if mirror else None
        self._mirror: Mirror | None = None
        self._port: Port | None = None
        self._lines = LineInput(input)
        self._report = LineReport(settings.port, input, _log, aspect="port")
        self.health = self._report.health

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield readings without end, none while the port is absent or held."""
        attempt = 0
        was_lost = False
        try:
            while True:
                await self._hold.wait_free()
                await self._keep_mirror()
                try:
                    port = await self._hold.opened(self._open())
                except (serial.SerialException, OSError, ValueError) as error:
                    self._report.record_absence(reason_of(error))
                    await self._hold.wait_request(
                        full_jitter(attempt, first=self._retry_seconds, maximum=MAX_RETRY_SECONDS, random=random.random)
                    )
                    attempt += 1
                    continue
                attempt = 0
                watch = self._begin(port, was_lost=was_lost)
                was_lost = False
                self._port = port
                self.health.on_open()
                try:
                    while True:
                        for result in self._results(port, watch, await self._read(port)):
                            for reading in result.readings:
                                yield reading
                except (serial.SerialException, OSError) as error:
                    if self._hold.was_requested:
                        self._report.record_release()
                    else:
                        was_lost = True
                        self._report.record_absence(reason_of(error))
                finally:
                    self._port = None
                    port.close()
        finally:
            self._close_mirror()

    def _begin(self, port: Port, *, was_lost: bool) -> BaudWatch:
        """Record a new connection; return the watch over its baud rate."""
        where = "" if port.name == self.settings.port else f", now {port.name},"
        self._report.record_connection(f"{where} at {self.settings.baud} baud")
        self._lines.open()
        # A connection to a terminal server says nothing of its board.
        if was_lost and "://" not in self.settings.port:
            self._lines.restarts.reopen(time.time_ns())
        return BaudWatch(self.settings.baud, self.input.rules.encoding)

    def _results(self, port: Port, watch: BaudWatch, data: bytes | None) -> Iterator[LineResult]:
        """Yield the results of the next bytes; of the lines that wait for others if there are none."""
        now_ns = time.time_ns()
        if data is not None and self._mirror is not None:
            self._mirror.feed(data)
        results = self._lines.begin(now_ns) if data is None else self._lines.feed(data, now_ns)
        self._report.record_format()
        self._watch_baud(port, watch, data or b"", results)
        for result in results:
            self._report.record_result(result)
            yield result

    def _watch_baud(self, port: Port, watch: BaudWatch, data: bytes, results: Sequence[LineResult]) -> None:
        """Report a wrong baud rate as the cause of what cannot be read."""
        errors = port.line_errors()
        good_lines = sum(bool(result.readings) for result in results)
        watch.add(data, good_lines=good_lines, framing_errors=errors and errors.framing)
        self.line_problem = watch.problem(self.settings.port)
        self._report.record_cause(self.line_problem)

    def finish(self) -> None:
        """Read the lines that wait for others, at the end of a check."""
        for result in self._lines.begin(time.time_ns()):
            self._report.record_result(result)

    @property
    def is_open(self) -> bool:
        """Return whether the port takes bytes now."""
        return self._port is not None and not self._hold.is_requested

    def write(self, data: bytes) -> None:
        """Send bytes to the device. Raises SourceUnavailable; the message says what was sent."""
        if self._port is None or not self.is_open:
            raise SourceUnavailable(f"{self.settings.port} is not open; nothing was sent")
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise SourceUnavailable(f"{self.settings.port}: {_write_problem(error)}") from None

    def uses(self, port: str) -> bool:
        """Return whether this is the setting, the path, or another name of the port of this source."""
        return self._finder.is_port(port)

    def held(self, reason: str) -> AbstractAsyncContextManager[str]:
        """Release the port to another program meanwhile; return its path. The source reports the reason."""
        return self._hold.released(self._finder, self.health, reason)

    async def _keep_mirror(self) -> None:
        """Open the mirror if it is not open. The source reads without it if it cannot be opened."""
        if self._mirror_address is None or self._mirror is not None:
            return
        try:
            self._mirror = await open_mirror(self._mirror_address)
        except OSError as error:
            place = self._mirror_address.path or str(self._mirror_address.port)
            self.health.fail("mirror", f"no mirror at {place}: {error.strerror or error}; the port is read without it")
        else:
            self.health.recover("mirror")
            _log.info("mirror of %s at %s", self.settings.port, self._mirror.name)

    def _close_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.close()
            self._mirror = None

    async def _open(self) -> Port:
        return await open_port(await asyncio.to_thread(self._finder.find), self.settings)

    async def _read(self, port: Port) -> bytes | None:
        """Return the next bytes; None when the lines that wait for others have waited long enough."""
        if not self._lines.is_waiting:
            return await port.read()
        try:
            async with asyncio.timeout(self._head_seconds):
                return await port.read()
        except TimeoutError:
            return None


def _write_problem(error: Exception) -> str:
    if isinstance(error, PortError):
        return reason_of(error)
    return f"{reason_of(error)}; whether something was sent is not known"


def reason_of(error: Exception) -> str:
    """Return why a port cannot be used, with the remedy if it is a usual reason."""
    if isinstance(error, PortError):
        return error.strerror or str(error)
    # pyserial reports a port that disappears while it is read without an error number.
    number = getattr(error, "errno", None) or (errno.EIO if "disconnected" in str(error) else 0)
    return REASONS.get(number, str(error))
