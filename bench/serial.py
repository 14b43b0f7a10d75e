"""Benchmark rows of the serial source: lines that a device writes to a real tty, to readings, without a hub."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import termios
import time
import tty
from contextlib import aclosing
from datetime import UTC
from tempfile import TemporaryFile
from typing import NamedTuple

from bench.figure import Outcome, Plan, ReportProgress, at_least
from bench.formats import content_of
from device_agent.sources.lines import ForeignInput
from device_agent.sources.ports import PortSettings
from device_agent.sources.serial import SerialSource
from formats.rules import rules_of

MARK = 57_600
"""Rate by which the writer sees that the port is open; a pty has no rate."""

WRITER = """
import os, sys
data, end = sys.stdin.buffer.read(), int(sys.argv[1])
while data:
    data = data[os.write(end, data[:4096]):]
"""
"""Program that plays the device, so that its work is not measured."""


class SerialRow(NamedTuple):
    """Reading of one kind of lines from a tty."""

    key: str
    name: str
    kind: str
    lines: int

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure the processor time of this process, so that other programs on the core change little."""
        lines = max(1_000, round(self.lines * plan.scale))
        seconds = []
        for repeat in range(plan.repeats):
            report(f"{self.name}, run {repeat + 1} of {plan.repeats}", repeat / plan.repeats)
            seconds.append(asyncio.run(cpu_seconds(content_of(self.kind, lines), lines)))
        median = statistics.median(seconds)
        return Outcome(
            [at_least(self.name, lines / median, "lines/s", None)],
            [f"{lines:,} lines in {value:.2f} s of processor time" for value in seconds],
        )


async def cpu_seconds(data: bytes, lines: int) -> float:
    """Return the processor time of reading these lines. Raise AssertionError if one of them is refused."""
    end, port = os.openpty()
    tty.setraw(port)
    input = ForeignInput(rules_of({"device": "bench"}), UTC)
    source = SerialSource(PortSettings(port=os.ttyname(port), baud=MARK), input)
    with TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        async with aclosing(source.readings()) as readings:
            first = asyncio.ensure_future(anext(readings))
            # Opening a port discards what was written before, and sets the rate before that.
            while not _is_open(end):  # noqa: ASYNC110 - a tty announces nothing
                await asyncio.sleep(0.001)
            command = [sys.executable, "-c", WRITER, str(end)]
            writer = subprocess.Popen(command, stdin=file, pass_fds=[end])  # noqa: ASYNC220 - takes milliseconds
            await first
            begun = time.process_time()
            for _ in range(lines - 1 - input.counts.skipped):
                await anext(readings)
            used = time.process_time() - begun
    writer.wait()
    os.close(end)
    os.close(port)
    assert input.counts.refused == 0
    return used


def _is_open(end: int) -> bool:
    attributes = termios.tcgetattr(end)
    return attributes[5] == termios.B57600 and not attributes[2] & termios.HUPCL


SERIAL_ROWS = (
    SerialRow("serial-json", "serial port, JSON lines of 4 numbers", "json", 60_000),
    SerialRow("serial-pairs", "serial port, pairs of 4 numbers", "pairs", 60_000),
    SerialRow("serial-nmea", "serial port, NMEA 0183, GGA", "nmea", 60_000),
)
