"""A recorded file as a source: as history, with the times of its records, or live, as if it were recorded now."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Annotated, cast

from msgspec import Meta

from device_agent.source_state import NS_PER_S, SourceHealth
from device_agent.sources import RepeatedWarning, SensorReading
from device_agent.sources.lines import ForeignInput, ForeignSettings, refusal_of_line, sensor_readings
from device_agent.sources.settings import Seconds, SourceContext
from formats.reading import WINDOW, Reading, Result
from formats.record import MAX_RAW_BYTES, RefusedInput, Row

BLOCK_BYTES = 64 * 1024
"""Bytes of a file that are read at a time: at most 0.1 s of work, during which nothing else runs."""

MIN_SPEED, MAX_SPEED = 0.001, 1_000_000.0

INTERVAL_SECONDS = 1.0
"""Time between two records without a time: most sensors report once a second."""

_GZIP = b"\x1f\x8b"

_log = logging.getLogger(__name__)


class ReplaySettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of a recorded file, which may be compressed with gzip.

    `speed` 2 is twice the recorded speed; None: as fast as possible, and the recorded speed if `live`. `live` moves the
    times of the records to now; else they are history. With `loop` a live file begins again at its end. `interval_s` is
    the time between two records of a live file without times.
    """

    file: Path
    speed: Annotated[float, Meta(ge=MIN_SPEED, le=MAX_SPEED)] | None = None
    live: bool = False
    loop: bool = False
    interval_s: Seconds = INTERVAL_SECONDS

    def __post_init__(self) -> None:
        if self.loop and not self.live:
            raise ValueError("loop is for live replay: history that is sent again is stored again")

    @property
    def default_name(self) -> str:
        return self.file.name

    @property
    def is_finite(self) -> bool:
        return not self.loop

    def source(self, context: SourceContext) -> ReplaySource:
        return ReplaySource(self, self.input(context))

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.file.is_file():
            yield "file", f"{self.file} is not a file that can be read"


class Playback:
    """Schedule of the records of a file, in seconds since the start. Pure.

    Records keep their distances, divided by the speed. A time that is earlier than the one before has the same place.
    """

    def __init__(self, speed: float, interval_s: float) -> None:
        self._speed = speed
        self._interval_s = interval_s
        self._first_ns: int | None = None
        self._base_s = self._position_s = self._gap_s = 0.0
        self._is_first = True

    def place(self, time_ns: int | None) -> float:
        """Return the place of the next record. One without a time follows in the interval, or has the last time."""
        if time_ns is not None:
            if self._first_ns is None:
                self._first_ns = time_ns
                self._base_s = self._position_s
            place_s = self._base_s + (time_ns - self._first_ns) / NS_PER_S / self._speed
        elif self._first_ns is None and not self._is_first:
            place_s = self._position_s + self._interval_s / self._speed
        else:
            place_s = self._position_s
        self._is_first = False
        if place_s > self._position_s:
            self._gap_s, self._position_s = place_s - self._position_s, place_s
        return self._position_s

    def rewind(self) -> None:
        """Begin the file again, one step behind its last record."""
        self._position_s += self._gap_s or self._interval_s / self._speed
        self._first_ns = None
        self._is_first = True


class ReplaySource:
    """The readings of a file, once or again and again."""

    def __init__(self, settings: ReplaySettings, input: ForeignInput) -> None:
        self.path = settings.file
        self.input = input
        self.health = SourceHealth(settings.default_name, input=input)
        self._settings = settings
        self._bad = RepeatedWarning(_log, f"{self.path} contains lines or values that are not readings", quiet=1000)

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield the readings in the order of the file. Raises OSError."""
        settings, clock = self._settings, asyncio.get_running_loop().time
        speed = settings.speed or (1.0 if settings.live else None)
        playback = None if speed is None else Playback(speed, settings.interval_s)
        start_s, start_ns = clock(), time.time_ns()
        while True:
            has_readings = False
            # The file is closed at once when the source is stopped.
            async with aclosing(self._once()) as once:
                async for reading in once:
                    has_readings = True
                    time_ns = reading.time_ns
                    if playback is not None:
                        place_s = playback.place(time_ns)
                        await asyncio.sleep(max(0.0, start_s + place_s - clock()))
                        if settings.live:
                            time_ns = start_ns + round(place_s * NS_PER_S)
                    yield reading._replace(time_ns=time_ns, historical=not settings.live)
            # The whole file was read: what was refused in it is reported, and no longer a failure.
            self.health.recover("lines")
            if not settings.loop or playback is None:
                return
            if not has_readings:
                self.health.fail("lines", "the file contains no readings")
                await asyncio.sleep(settings.interval_s)
            playback.rewind()

    async def _once(self) -> AsyncGenerator[SensorReading, None]:
        """Yield the readings of the file. Raises OSError."""
        reading = self.input.new_reading(window=WINDOW)
        # Not in a thread: a stop meanwhile would leave an open file behind.
        with open_recording(self.path) as file:
            data = b"-"
            while data:
                data = await asyncio.to_thread(read_block, file)
                for sensor_reading in self._read(reading, data):
                    yield sensor_reading

    def _read(self, reading: Reading, data: bytes) -> list[SensorReading]:
        """Return the readings in a block of the file, or in its rest where there is none."""
        now_ns = time.time_ns()

        def read() -> Result:
            found = reading.feed(data, now_ns) if data else reading.finish(now_ns)
            if self._settings.live:
                return found
            # A log is history, so the time of arrival says nothing about it.
            rows = found.all_rows
            timeless = [_timeless(row) for row in rows if row.time_ns is None]
            return Result([row for row in rows if row.time_ns is not None], [*found.refusals, *timeless])

        before = self.input.counts.lines - reading.lines
        result = self.input.count(reading, read)
        self.input.counts.lines = before + reading.lines
        if result.refusals:
            reason = refusal_of_line(result.refusals[-1])
            self._bad.record_failure(reason, times=len(result.refusals))
            self.health.fail("lines", f"{self._bad.total:,} refused, the last: {reason}")
            self.health.on_refused(result.refusals)
        return sensor_readings(reading, result)


def open_recording(path: Path) -> IO[bytes]:
    """Open a file, also one that is compressed with gzip. Raises OSError."""
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
    return cast("IO[bytes]", gzip.open(path)) if is_gzip else path.open("rb")


def read_block(file: IO[bytes]) -> bytes:
    """Return the next bytes of a recording, b"" at its end. Raises OSError."""
    try:
        return file.read(BLOCK_BYTES)
    except (EOFError, zlib.error) as error:
        raise OSError(f"the file is compressed and damaged: {error}") from None


def _timeless(row: Row) -> RefusedInput:
    reason = "the record has no time, and a log needs one"
    return RefusedInput(row.line, row.raw[:MAX_RAW_BYTES], "time", reason, setting='time = "FIELD"')
