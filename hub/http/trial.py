"""Trial of an input: content that a person pasted is read by the code of all inputs, in a process of its own.

A regular expression of a user can be slow on every line, and content can need much memory. So the process has bounds of
time and memory, and is killed at them; the hub is not disturbed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import sys
from collections.abc import Callable, Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from formats.container import unpacked
from formats.record import FrameRefused
from formats.rules import Rules, RulesError, rules_of
from hub.http.trial_program import MAX_SECONDS, TrialRequest
from wire.model import MetricType

MAX_CONTENT_BYTES = 4 * 1024 * 1024
"""Bytes of compressed content after it was opened; a request has at most 64 KiB."""

MAX_AT_ONCE = 2
MAX_WAITING = 8
"""Trials at a time, and all with those that wait; one more is refused. A person who types needs two a second."""

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Bytes of one line that the process answers: 1,000 rows and 1,000 refusals of 4 kB."""

_PART_BYTES = 1 << 16

TypesOf = Callable[[str], Mapping[str, MetricType]]
"""Return the types of a device's metrics in the hub; nothing for a device that the hub does not know."""


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
            *(sys.executable, "-P", "-m", "hub.http.trial_program"),
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
