"""A log that is sent again: a file of lines of JSON objects with their times."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

from device_agent.episode import Episode
from device_agent.sources.line import MAX_LINE_BYTES, BadLine, parse_line
from device_agent.sources.reading import Reading

BLOCK_BYTES = 1 << 20
"""Of the file in memory at a time."""

_log = logging.getLogger(__name__)


class ReplaySource:
    """The readings of a file, once, as fast as they are taken or at a multiple of the speed they were recorded at.

    `bad_lines` counts lines that are not readings with a time.
    """

    def __init__(self, path: Path, *, speed: float | None = None) -> None:
        self.path = path
        self._speed = speed
        self._bad = Episode(_log, f"{path} holds lines that are not readings", quiet=1000)

    @property
    def bad_lines(self) -> int:
        """Lines so far that were not readings."""
        return self._bad.total

    async def readings(self) -> AsyncGenerator[Reading, None]:
        """The readings in the order of the file. Raises OSError."""
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

    def _parse(self, line: bytes) -> Reading | None:
        if not line:
            return None
        try:
            if len(line) > MAX_LINE_BYTES:
                raise BadLine(f"more than {MAX_LINE_BYTES} bytes")
            reading = parse_line(line)
            if reading.time_ns is None:
                raise BadLine("no time")
        except BadLine as error:
            self._bad.trouble(f"{error} in {line[:60]!r}")
            return None
        self._bad.fine()
        return reading
