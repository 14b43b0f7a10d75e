"""Lines of JSON objects: from bytes to lines, and from a line to a reading. Pure.

A line is an object of metric → value. Objects within it are flattened with dots, so {"imu": {"x": 1}} is "imu.x". A
field "time" at the top is the time: nanoseconds since 1970 as an integer, or text as RFC 3339 writes it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import msgspec

from device_agent.sources.reading import Reading
from wire.model import Value

MAX_LINE_BYTES = 16 * 1024
"""A line at 115,200 baud for a second and a half; what is longer is not a reading but a wrong baud rate."""

MAX_DEPTH = 8
"""Of objects within objects; names would not be readable any more."""


class BadLine(ValueError):
    """A line that is not a reading, and why."""


class Framing:
    """Splits what arrives at newlines. What is longer than MAX_LINE_BYTES is dropped up to the next, and counted."""

    def __init__(self) -> None:
        self.overlong = 0
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends; blank ones are left out."""
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


def parse_line(line: bytes) -> Reading:
    """The reading of a line. Raises BadLine."""
    try:
        content = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadLine(str(error)) from None
    if not isinstance(content, dict):
        raise BadLine("not an object")
    time = content.pop("time", None)
    values: dict[str, Value] = {}
    _flatten(content, "", values, MAX_DEPTH)
    return Reading(values, None if time is None else parse_time(time))


def parse_time(time: object) -> int:
    """Nanoseconds since 1970 from what a line says. Raises BadLine."""
    if isinstance(time, int) and not isinstance(time, bool):
        return time
    if not isinstance(time, str):
        raise BadLine("a time is an integer of nanoseconds or a text like 2026-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise BadLine(f"{time!r} is not a time like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise BadLine(f"{time!r} does not say its zone; UTC is a Z at the end")
    since = moment.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + _fraction_ns(time)


def _fraction_ns(time: str) -> int:
    """The digits after the seconds, which datetime cuts at six."""
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
            raise BadLine(f"{name!r} is in it twice")
        else:
            values[name] = cast("Value", value)
