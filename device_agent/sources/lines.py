"""Lines of JSON objects: their format, and a file of them as a source.

A line is an object of metric → value. Objects within it are flattened with dots, so {"imu": {"x": 1}} is "imu.x". A
field "time" at the top is the time: nanoseconds since 1970 as an integer, or text in the form of RFC 3339.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec

from device_agent.source_state import SourceHealth
from device_agent.sources import RepeatedWarning, SensorReading
from wire.model import Value
from wire.text import plural

MAX_LINE_BYTES = 16 * 1024
"""A second and a half at 115,200 baud. A longer line is not a reading but the result of a wrong baud rate."""

MAX_DEPTH = 8
"""Nested objects; with more, names are unreadable."""

MAX_SHOWN_BYTES = 60
"""Bytes of an unreadable line that are shown: enough to recognise a wrong baud rate or another format."""

BLOCK_BYTES = 1 << 20
"""Bytes of a file that are in memory at a time."""

_log = logging.getLogger(__name__)


class BadLine(ValueError):
    """A line that is not a reading; the message has the reason."""


class Framing:
    """Splitter of bytes into lines. A line longer than MAX_LINE_BYTES is discarded and counted in `overlong`."""

    def __init__(self) -> None:
        self.overlong = 0
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are now complete, without line ends and without blank lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._dropping:
            del lines[0]
            self._dropping = False
        kept = [line for line in lines if len(line) <= MAX_LINE_BYTES]
        self.overlong += len(lines) - len(kept)
        if len(self._rest) > MAX_LINE_BYTES or self._dropping:
            self.overlong += not self._dropping
            self._rest, self._dropping = b"", True
        return [line for line in map(bytes.strip, kept) if line]


def bad_line_text(error: BadLine, line: bytes) -> str:
    """Return the reason with the beginning of the line, which is cut."""
    return f"{error} in {line[:MAX_SHOWN_BYTES]!r}"


def parse_line(line: bytes) -> SensorReading:
    """Return the reading in a line. Raises BadLine."""
    try:
        content = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadLine(str(error)) from None
    if not isinstance(content, dict):
        raise BadLine("not an object")
    time = content.pop("time", None)
    values: dict[str, Value] = {}
    _flatten(content, "", values, MAX_DEPTH)
    return SensorReading(values, None if time is None else parse_time(time))


def parse_time(time: object) -> int:
    """Return the nanoseconds since 1970 for the time in a line. Raises BadLine."""
    if isinstance(time, int) and not isinstance(time, bool):
        return time
    if not isinstance(time, str):
        raise BadLine("a time is an integer of nanoseconds or a text like 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise BadLine(f"{time!r} is not a time like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise BadLine(f"{time!r} has no time zone; end it with Z for UTC")
    since = moment.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + _fraction_ns(time)


def _fraction_ns(time: str) -> int:
    """Return the fraction of the second, of which datetime keeps only six digits."""
    _, point, rest = time.replace(",", ".").partition(".")
    digits = rest[: next((i for i, letter in enumerate(rest) if not letter.isdecimal()), len(rest))]
    return int(digits[:9].ljust(9, "0")) if point else 0


def _flatten(content: dict[str, object], prefix: str, values: dict[str, Value], depth: int) -> None:
    if depth == 0:
        raise BadLine(f"objects are nested more than {MAX_DEPTH} deep")
    for key, value in content.items():
        name = prefix + key
        if isinstance(value, dict):
            _flatten(value, f"{name}.", values, depth - 1)
        elif isinstance(value, list):
            raise BadLine(f"{name!r} is a list; a value is a number, a boolean or a text")
        elif name in values:
            raise BadLine(f"{name!r} occurs twice")
        else:
            values[name] = cast("Value", value)


class ReplaySource:
    """The readings of a file, as fast as possible or at a multiple of the speed at which they were recorded.

    `bad_lines` counts lines that are not readings with a time.
    """

    def __init__(self, path: Path, *, speed: float | None = None) -> None:
        self.path = path
        self.health = SourceHealth(path.name)
        self._speed = speed
        self._bad = RepeatedWarning(_log, f"{path} contains lines that are not readings", quiet=1000)

    @property
    def bad_lines(self) -> int:
        """Number of lines that were not readings so far."""
        return self._bad.total

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield the readings in the order of the file. Raises OSError."""
        loop = asyncio.get_running_loop()
        start: tuple[float, int] | None = None
        with await asyncio.to_thread(self.path.open, "rb") as file:
            while lines := await asyncio.to_thread(file.readlines, BLOCK_BYTES):
                for line in lines:
                    reading = self._parse(line.strip())
                    if reading is None or reading.time_ns is None:
                        continue
                    if self._speed is not None:
                        start = start or (loop.time(), reading.time_ns)
                        due = start[0] + (reading.time_ns - start[1]) / 1e9 / self._speed
                        await asyncio.sleep(max(0.0, due - loop.time()))
                    yield reading

    def _parse(self, line: bytes) -> SensorReading | None:
        if not line:
            return None
        try:
            if len(line) > MAX_LINE_BYTES:
                raise BadLine(f"it has more than {MAX_LINE_BYTES} bytes")
            reading = parse_line(line)
            if reading.time_ns is None:
                raise BadLine("it has no time")
        except BadLine as error:
            reason = bad_line_text(error, line)
            self._bad.record_failure(reason)
            self.health.fail("lines", f"{plural(self.bad_lines, 'unreadable line')}, the last: {reason}")
            return None
        self._bad.record_success()
        return reading
