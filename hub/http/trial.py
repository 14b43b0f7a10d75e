"""Trial of an input: content that a person pasted is read by the code of all inputs, in a process of its own.

A regular expression of a user can be slow on every line, and content can need much memory. So the process has bounds of
time and memory, and is killed at them; the hub is not disturbed. The module is the program of that process, too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from formats.container import unpacked
from formats.reading import Reading
from formats.record import FrameRefused
from formats.report import Trial
from formats.rules import DEFAULT_RULES, Rules, RulesError, rules_of
from wire.model import MetricType, Value

MAX_SECONDS = 5.0
"""Time for one trial. 64 kB take 0.2 s with every format, most of it the start of the process."""

MAX_CONTENT_BYTES = 4 * 1024 * 1024
"""Bytes of compressed content after it was opened; a request has at most 64 KiB."""

MAX_MEMORY_BYTES = 512 * 1024 * 1024
"""Address space of the process: the interpreter, the content, and what is read from it."""

MAX_AT_ONCE = 2
MAX_WAITING = 8
"""Trials at a time, and all with those that wait; one more is refused. A person who types needs two a second."""

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Bytes of one line that the process answers: 1,000 rows and 1,000 refusals of 4 kB."""

MAX_DEVICES = 64
"""Devices whose types in the hub are asked for; those of others are taken as unknown."""

NICENESS = 10

_PART_BYTES = 1 << 16

TypesOf = Callable[[str], Mapping[str, MetricType]]
"""Return the types of a device's metrics in the hub; nothing for a device that the hub does not know."""


class TrialBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Content to read as every input of the hub would, and the rules; what they leave open is decided by evidence."""

    content: Annotated[str, Meta(description="A text, or bytes in base64, also compressed.")]
    base64: Annotated[bool, Meta(description="The content is in base64.")] = False
    rules: Annotated[Rules, Meta(description="The settings of docs/formats.md.")] = DEFAULT_RULES


class TriedRow(Struct, frozen=True):
    """The readings of one device at one time."""

    line: Annotated[int, Meta(description="Number of the line in the content, from 1.")]
    device: Annotated[str, Meta(description="Empty if the content names none: the input does.")]
    time_ns: Annotated[int | None, Meta(description="null: the time of arrival.")]
    odd_time: Annotated[bool, Meta(description="The time is before 1990 or more than a day ahead.")]
    values: Mapping[str, Value]


class TriedRefusal(Struct, frozen=True):
    """A line or a value that is refused."""

    line: int
    code: str
    reason: str
    metric: Annotated[str, Meta(description="Empty if the whole line is refused.")]
    value: str
    setting: Annotated[str, Meta(description="The setting that changes the decision; empty if there is none.")]
    raw: Annotated[str, Meta(description="The line, up to 4,096 bytes.")]


class TriedMetric(Struct, frozen=True):
    """A metric that the content has."""

    device: str
    metric: str
    type: MetricType
    unit: str
    label: Annotated[str, Meta(description="The name before it was repaired; empty if it was not.")]


class TriedNote(Struct, frozen=True):
    """A rule that decided something."""

    code: str
    sentence: str
    setting: Annotated[str, Meta(description="The line for the settings that fixes the decision; can be empty.")]


class TrialResult(Struct, frozen=True):
    """The way in which content is read. Nothing was stored."""

    container: Annotated[str, Meta(description="gzip or zlib; empty if the content is not compressed.")]
    format: Annotated[str | None, Meta(description="null: no line has a known format.")]
    reason: Annotated[str | None, Meta(description="The evidence for the format.")]
    lines: int
    rows: int
    readings: int
    no_values: Annotated[int, Meta(description="Values that are words such as nan or unavailable: no readings.")]
    odd_times: int
    refused: Annotated[Mapping[str, int], Meta(description="Refusals by code.")]
    first_rows: Annotated[Sequence[TriedRow], Meta(description="Up to 1,000.")]
    refusals: Annotated[Sequence[TriedRefusal], Meta(description="Up to 1,000.")]
    metrics: Sequence[TriedMetric]
    labels: Annotated[Mapping[str, str], Meta(description="Device ids that were repaired, and their names before.")]
    notes: Sequence[TriedNote]
    settings: Annotated[str, Meta(description="The rules with everything that was detected, in TOML.")]


class TrialRequest(Struct, frozen=True):
    """Content to read, and the kind of container that it was in."""

    rules: Rules
    content: bytes
    container: str = ""


class TrialFailed(Exception):
    """A trial without a result; the message is for the person who asked."""


class TrialsBusy(Exception):
    """More trials than may wait."""


class TrialRunner:
    """Runs trials in processes, a bounded number at a time."""

    def __init__(self, types_of: TypesOf) -> None:
        self._types_of = types_of
        self._free = asyncio.Semaphore(MAX_AT_ONCE)
        self._waiting = 0

    async def run(self, request: TrialRequest) -> bytes:
        """Return the facts of a trial as JSON. Raises TrialFailed and TrialsBusy."""
        if self._waiting >= MAX_WAITING:
            raise TrialsBusy
        self._waiting += 1
        try:
            async with self._free:
                return await self._run(request)
        finally:
            self._waiting -= 1

    async def _run(self, request: TrialRequest) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "hub.http.trial"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(MAX_SECONDS):
                return await self._converse(process, request)
        except TimeoutError:
            raise TrialFailed(
                f"reading takes longer than {MAX_SECONDS:g} s: use a simpler pattern, or try a part of the content"
            ) from None
        except (EOFError, OSError):
            raise TrialFailed("the content is too much for a trial: try a part of it") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # `wait` returns at the end of the output, which is not reached while nobody reads it.
            await process.communicate()

    async def _converse(self, process: asyncio.subprocess.Process, request: TrialRequest) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        await process.stdin.drain()
        devices = msgspec.json.decode(await _line(process.stdout), type=list[str])
        types = {device: self._types_of(device) for device in devices}
        process.stdin.write(msgspec.json.encode(types) + b"\n")
        await process.stdin.drain()
        return await _line(process.stdout)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, which may be longer than the stream's buffer. Raises EOFError without one."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = await stream.read(_PART_BYTES)
        line += part
        if not part or len(line) > MAX_ANSWER_BYTES:
            raise EOFError
    return bytes(line)


def request_of(rules: Rules, content: str, *, is_base64: bool = False) -> TrialRequest:
    """Return a request after all checks: those of the rules of every input, and those of the content.

    Raises RulesError and TrialFailed.
    """
    checked = rules_of(msgspec.to_builtins(rules))
    if checked.format == "function":
        raise RulesError("a function is a program of yours and does not run here; `hub try --function FILE` runs it")
    try:
        ZoneInfo(checked.zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RulesError(f"the time zone {checked.zone!r} is unknown; use a name like Europe/Berlin, or UTC") from None
    try:
        data = base64.b64decode(content, validate=True) if is_base64 else content.encode()
        return TrialRequest(checked, *unpacked(data, MAX_CONTENT_BYTES))
    except (binascii.Error, UnicodeEncodeError):
        raise TrialFailed("the content is not base64" if is_base64 else "the content is not text") from None
    except FrameRefused as error:
        raise TrialFailed(error.reason) from None


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
    """Read one request from standard input, write the devices that it names, read their types, write the facts."""
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
