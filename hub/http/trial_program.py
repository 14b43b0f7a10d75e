"""Program that reads the content of one trial, and ends. hub.http.trial starts it.

It reads the request from standard input, writes the devices that the content names, reads the types that the hub has
for them, and writes the result: each of them is a line of JSON.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from formats.reading import Reading
from formats.report import Trial
from formats.rules import Rules
from wire.model import MetricType

MAX_SECONDS = 5.0
"""Time for one trial. 64 kB take 0.2 s with every format, most of it the start of the process."""

MAX_MEMORY_BYTES = 512 * 1024 * 1024
"""Address space of the process: the interpreter, the content, and what is read from it."""

MAX_DEVICES = 64
"""Devices whose types in the hub are asked for; those of others are taken as unknown."""

NICENESS = 10


class TrialRequest(msgspec.Struct, frozen=True):
    """Content to read, and the kind of container that it was in."""

    rules: Rules
    content: bytes
    container: str = ""


def read_content(
    request: TrialRequest, types_of: Callable[[list[str]], Mapping[str, Mapping[str, MetricType]]]
) -> bytes:
    """Return the facts of a trial as JSON. `types_of` is called once with the devices that the content names.

    The content is read twice if the hub has types for them, because a type decides how a value is read.
    """
    now_ns = time.time_ns()
    reading, facts = _read(request, {}, now_ns)
    types = types_of([device for device in reading.interpreter.metrics if device][:MAX_DEVICES])
    if any(types.values()):
        _, facts = _read(request, types, now_ns)
    return msgspec.json.encode(facts)


def _read(
    request: TrialRequest, types: Mapping[str, Mapping[str, MetricType]], now_ns: int
) -> tuple[Reading, dict[str, Any]]:
    zone = ZoneInfo(request.rules.zone) if request.rules.zone else UTC
    reading = Reading(request.rules, zone, known_type=lambda device, metric: types.get(device, {}).get(metric))
    trial = Trial(reading, container=request.container)
    trial.add(reading.feed(request.content, now_ns))
    trial.add(reading.finish(now_ns))
    return reading, trial.facts()


def main() -> None:
    """Run one trial within the bounds of time and memory."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    seconds = int(MAX_SECONDS) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    def types_of(devices: list[str]) -> dict[str, dict[str, MetricType]]:
        sys.stdout.buffer.write(msgspec.json.encode(devices) + b"\n")
        sys.stdout.buffer.flush()
        return msgspec.json.decode(sys.stdin.buffer.readline(), type=dict[str, dict[str, MetricType]])

    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=TrialRequest)
    sys.stdout.buffer.write(read_content(request, types_of) + b"\n")


if __name__ == "__main__":
    main()
