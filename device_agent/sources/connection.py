"""A source that reads from a connection, or from a socket at which it listens, and opens it again when it ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Generic, Protocol, TypeVar, runtime_checkable

from device_agent.sources import SensorReading, next_tick
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import HEAD_SECONDS, ForeignInput, LineInput, LineResult
from wire.backoff import full_jitter

RETRY_SECONDS = 1.0
"""Bound of the first delay before another attempt."""

MAX_RETRY_SECONDS = 30.0
"""Bound of every delay. The bound doubles from attempt to attempt up to this: a device that returns is read soon."""

READ_BYTES = 4096
"""Bytes that are read at a time. Other tasks of the agent run after each read: a flood costs time and no memory."""

_Connection = TypeVar("_Connection")
_Read = TypeVar("_Read", contravariant=True)


class SourceUnavailable(Exception):
    """The peer of a source cannot be reached, or the connection to it broke; the message is a sentence for people."""


class Connection(Protocol):
    """Open connection to one peer."""

    async def receive(self) -> bytes | None:
        """Return the next bytes, or the next message; None when the peer ended in order. Raises SourceUnavailable."""


@runtime_checkable
class WritableConnection(Protocol):
    """Open connection that also takes bytes."""

    def write(self, data: bytes) -> None:
        """Send bytes. Raises SourceUnavailable; the message says what was sent."""


class ConnectionReader(Protocol[_Read]):
    """Reader of what arrives, by the rules of one input."""

    def open(self) -> None:
        """Expect a new connection."""

    async def read(self, connection: _Read) -> list[LineResult] | None:
        """Return the results of what arrives next; None when the connection ended in order. Raises SourceUnavailable.

        The results of the last lines are those of `flush`.
        """

    def flush(self, now_ns: int) -> list[LineResult]:
        """Return the results of the lines that wait for others."""


class ConnectionSource(Generic[_Connection]):
    """The readings that arrive over a connection. The delay before another attempt has full jitter.

    `connect` opens a connection, which ends with its context, and may use the report of the source. `end` is the reason
    when the peer ended in order. With `interval_s` that is no failure, and the next connection begins on this schedule.
    """

    def __init__(
        self,
        report: LineReport,
        reader: ConnectionReader[_Connection],
        connect: Callable[[LineReport], AbstractAsyncContextManager[_Connection]],
        *,
        interval_s: float | None = None,
        end: str = "the peer closed the connection",
        retry_s: float = RETRY_SECONDS,
    ) -> None:
        self.report = report
        self.health = report.health
        self._reader = reader
        self._connect = connect
        self._interval_s = interval_s
        self._end = end
        self._retry_s = retry_s
        self._connection: _Connection | None = None

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield readings without end, none while there is no connection."""
        clock = asyncio.get_running_loop().time
        started = clock()
        attempt = 0
        while True:
            reason = ""
            try:
                async with self._connect(self.report) as connection:
                    self.report.record_connection()
                    self._reader.open()
                    self._connection = connection
                    self.health.on_open()
                    while (results := await self._reader.read(connection)) is not None:
                        attempt = 0
                        for reading in self._report(results):
                            yield reading
                        # A peer that always sends would otherwise leave no time for the other tasks of the agent.
                        await asyncio.sleep(0)
                reason = "" if self._interval_s is not None else self._end
            except SourceUnavailable as error:
                reason = str(error)
            finally:
                self._connection = None
            for reading in self._report(self._reader.flush(time.time_ns())):
                yield reading
            if reason:
                self.report.record_absence(reason)
                delay_s = full_jitter(attempt, first=self._retry_s, maximum=MAX_RETRY_SECONDS, random=random.random)
                attempt += 1
            else:
                delay_s = next_tick(started, self._interval_s or 0.0, clock()) - clock()
                attempt = 0
            await asyncio.sleep(delay_s)

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection that takes bytes now."""
        return isinstance(self._connection, WritableConnection)

    def write(self, data: bytes) -> None:
        """Send bytes to the peer. Raises SourceUnavailable; the message says what was sent."""
        if not isinstance(self._connection, WritableConnection):
            raise SourceUnavailable(f"{self.report.name} has no connection; nothing was sent")
        self._connection.write(data)

    def finish(self) -> None:
        """Read the lines that wait for others, at the end of a check."""
        for _ in self._report(self._reader.flush(time.time_ns())):
            pass

    def _report(self, results: Sequence[LineResult]) -> Iterator[SensorReading]:
        self.report.record_format()
        for result in results:
            self.report.record_result(result)
            yield from result.readings


class PeerReader:
    """Reader of one peer. `is_message`: it sends complete messages. `is_whole`: it begins and ends with a line.

    `silence_s` is the longest time without anything from the peer.
    """

    def __init__(
        self,
        input: ForeignInput,
        *,
        is_message: bool = False,
        is_whole: bool = False,
        silence_s: float | None = None,
        head_s: float = HEAD_SECONDS,
    ) -> None:
        self._lines = LineInput(input)
        self._is_message = is_message
        self._is_whole = is_whole
        self._silence_s = silence_s or inf
        self._head_s = head_s
        self._last: list[LineResult] = []

    def open(self) -> None:
        """Expect a new connection."""
        self._lines.open(is_whole=self._is_whole)

    async def read(self, connection: Connection) -> list[LineResult] | None:
        """Return the results of what arrives next; None when the peer ended in order. Raises SourceUnavailable."""
        lines = self._lines
        wait_s = min(self._head_s, self._silence_s) if lines.is_waiting else self._silence_s
        timeout = asyncio.timeout(None if wait_s == inf else wait_s)
        try:
            async with timeout:
                data = await connection.receive()
        except TimeoutError:
            if wait_s >= self._silence_s:
                raise SourceUnavailable(f"nothing arrived for {self._silence_s:g} s") from None
            return lines.begin(time.time_ns())
        now_ns = time.time_ns()
        if data is None:
            self._last = lines.finish(now_ns)
            return None
        return lines.feed_message(data, now_ns) if self._is_message else lines.feed(data, now_ns)

    def flush(self, now_ns: int) -> list[LineResult]:
        """Return the results of the lines that wait for others, and of those at the end of the connection."""
        last, self._last = self._last, []
        return last + self._lines.begin(now_ns)
