"""Benchmark rows of formats: lines of one format to rows, on one core, without a hub."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from bench.figure import Outcome, Plan, ReportProgress, at_least
from formats.nmea import checksum
from formats.reading import Reading
from formats.rules import rules_of

PIECE_BYTES = 256 * 1024
"""Bytes of a piece, as a program reads them from a file."""

MUST_BLOCK_LINES_PER_S = 256_000
"""Required rate of lines with 8 numbers where the format allows a whole block at once."""

START = datetime(2026, 11, 28, 15, tzinfo=UTC)
START_NS = int(START.timestamp()) * 1_000_000_000


class FormatRow(NamedTuple):
    """Reading of one format. `kind` names its lines; `must` is the required rate in lines/s."""

    key: str
    name: str
    kind: str
    lines: int
    must: float | None = None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure the processor time of this process, so that other programs on the core change little."""
        lines = max(3_000, round(self.lines * plan.scale))
        data = content_of(self.kind, lines)
        seconds = []
        for repeat in range(plan.repeats):
            report(f"{self.name}, run {repeat + 1} of {plan.repeats}", repeat / plan.repeats)
            seconds.append(cpu_seconds(data, lines))
        median = statistics.median(seconds)
        return Outcome(
            [
                at_least(self.name, lines / median, "lines/s", self.must),
                at_least(f"{self.name}: bytes", len(data) / median / 1e6, "MB/s", None),
            ],
            [f"{lines:,} lines and {len(data) / 1e6:.1f} MB in {value:.2f} s" for value in seconds],
        )


def cpu_seconds(data: bytes, lines: int) -> float:
    """Return the processor time of reading some lines. Raise AssertionError if one of them is not a row."""
    reading = Reading(rules_of({"device": "bench"}), UTC)
    begun = time.process_time()
    rows = 0
    for start in range(0, len(data), PIECE_BYTES):
        result = reading.feed(data[start : start + PIECE_BYTES], START_NS)
        rows += len(result.rows) + sum(len(next(iter(block.columns.values()))) for block in result.blocks)
    rows += len(reading.finish(START_NS).rows)
    ended = time.process_time()
    assert (rows, reading.refused) == (lines, 0)
    return ended - begun


def content_of(kind: str, count: int) -> bytes:
    """Return a number of lines of a kind, behind a header where the kind has one."""
    names = ",".join(f"m{place}" for place in range(8))
    headers = {"csv-block": [names], "csv-time": [f"time,{names}"], "csv-text": [f"time,{names},state"]}
    header = headers.get(kind, [])
    return "".join(line + "\n" for line in (*header, *lines_of(kind, count))).encode()


def lines_of(kind: str, count: int) -> Iterator[str]:
    """Yield lines of a kind, with numbers that change."""
    for number in range(count):
        values = [f"{(number * 7 + place * 13) % 10_000 / 100 + 0.25:.2f}" for place in range(8)]
        moment = START + timedelta(milliseconds=100 * number)
        match kind:
            case "csv-block":
                yield ",".join(values)
            case "csv-time" | "csv-text":
                end = ",idle" if kind == "csv-text" else ""
                yield f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z,{','.join(values)}{end}"
            case "json":
                yield f'{{"temp":{values[0]},"hum":{values[1]},"pressure":{values[2]},"level":{values[3]}}}'
            case "line":
                fields = ",".join(f"m{place}={value}" for place, value in enumerate(values[:4]))
                yield f"air,room=cellar {fields} {START_NS + number * 100_000_000}"
            case "nmea":
                position = f"48{number % 6000 / 100:05.2f}0,N,011{number % 6000 / 100:05.2f}0,E"
                body = f"GPGGA,{moment:%H%M%S}.00,{position},1,08,0.9,{values[0]},M,46.9,M,,"
                yield f"${body}*{checksum(body):02X}"
            case "pairs":
                yield f"temp={values[0]} hum={values[1]} pressure={values[2]} level={values[3]}"


FORMAT_ROWS = (
    FormatRow("format-csv", "CSV, 8 numbers a line, in blocks", "csv-block", 600_000, MUST_BLOCK_LINES_PER_S),
    FormatRow("format-csv-lines", "CSV, a time and 8 numbers a line, in blocks", "csv-time", 300_000),
    FormatRow("format-csv-text", "CSV line by line: a time, 8 numbers and a text", "csv-text", 60_000),
    FormatRow("format-json", "JSON lines, 4 numbers", "json", 80_000),
    FormatRow("format-line", "line protocol, 4 fields", "line", 60_000),
    FormatRow("format-nmea", "NMEA 0183, GGA", "nmea", 60_000),
    FormatRow("format-pairs", "pairs, 4 numbers", "pairs", 60_000),
)
