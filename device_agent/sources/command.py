"""The lines that a program writes, such as `rtl_433 -F json`: it is started again when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from shutil import which
from signal import Signals
from typing import Annotated

from msgspec import Meta

from device_agent.process_group import GROUP_OPTIONS, end_group
from device_agent.sources.connection import READ_BYTES, Connection, ConnectionSource, PeerReader, SourceUnavailable
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import ForeignSettings
from device_agent.sources.settings import Seconds, SourceContext

MAX_ERROR_BYTES = 4096
"""End of what a program writes to standard error that is kept: its last line is the reason why it ended."""

EXIT_SECONDS = 1.0
"""Longest time between the end of a program and the end of its output, in either order."""

ENDED = "it ended by itself"
"""Reason of a program that ended with 0, although it is not started on a schedule."""

MAX_WORDS = 256
"""Words of a command, enough for any program that a person configures."""

SECRETS = ("HUB_TOKEN",)
"""Variables of the agent that its programs do not get."""

_log = logging.getLogger(__name__)


class CommandSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of a program: `command` is its name and its arguments, `directory` the one in which it runs.

    With `interval_s` it is started on this schedule, and its end is no failure: for a program that prints once and
    ends. `silence_s` is the longest time without output, after which it is started again.
    """

    command: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_WORDS)]
    directory: Path | None = None
    interval_s: Seconds | None = None
    silence_s: Seconds | None = None

    def __post_init__(self) -> None:
        if not self.command[0] or any("\0" in word for word in self.command):
            raise ValueError("command is the name of a program and its arguments")

    @property
    def default_name(self) -> str:
        # An argument may be a secret.
        return f"command {Path(self.command[0]).name}"

    def source(self, context: SourceContext) -> ConnectionSource[Connection]:
        input = self.input(context)
        report = LineReport(self.name or self.default_name, input, _log, aspect="program", problem="not running")
        return ConnectionSource(
            report,
            PeerReader(input, is_whole=True, silence_s=self.silence_s),
            partial(run_program, self.command, self.directory),
            interval_s=self.interval_s,
            end=ENDED,
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        if which(self.command[0]) is None:
            yield "command", f"there is no program {self.command[0]!r} that can be run"


class Program:
    """Running program whose output is read as it is written."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._output, self._errors = process.stdout, process.stderr
        self._last_error = b""

    async def receive(self) -> bytes | None:
        """Return the next bytes; None when the program ended with 0. Raises SourceUnavailable."""
        data = await self._output.read(READ_BYTES)
        if data:
            return data
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_SECONDS):
                await self._process.wait()
        code = self._process.returncode
        if code is None:
            raise SourceUnavailable("it closed its output, and was ended")
        if code == 0:
            return None
        how = f"it was ended by {signal_name(-code)}" if code < 0 else f"it ended with exit code {code}"
        reason = self.last_error
        raise SourceUnavailable(f"{how}: {reason}" if reason else how)

    async def keep_errors(self) -> None:
        """Read standard error until its end, and keep the end of it: a program that cannot write there would wait."""
        while data := await self._errors.read(READ_BYTES):
            self._last_error = (self._last_error + data)[-MAX_ERROR_BYTES:]

    async def end_others(self) -> None:
        """End what the program has left some time after its own end: it holds the output, which would never end."""
        # `wait` of Python 3.11 also waits for the end of the output.
        while self._process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(EXIT_SECONDS)
        await asyncio.sleep(EXIT_SECONDS)
        await end_group(self._process)

    @property
    def last_error(self) -> str:
        """The last line of standard error that is not empty."""
        lines = self._last_error.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@asynccontextmanager
async def run_program(command: Sequence[str], directory: Path | None, report: LineReport) -> AsyncIterator[Connection]:
    """Start a program, and end it with all programs that it started. Raises SourceUnavailable."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env=program_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=READ_BYTES,
            **GROUP_OPTIONS,
        )
    except FileNotFoundError:
        missing = directory if directory is not None and not directory.is_dir() else command[0]
        raise SourceUnavailable(f"{str(missing)!r} does not exist") from None
    except OSError as error:
        raise SourceUnavailable(f"{command[0]!r} cannot be run: {error.strerror or error}") from None
    program = Program(process)
    tasks = [asyncio.create_task(program.keep_errors()), asyncio.create_task(program.end_others())]
    try:
        yield program
    finally:
        await end_group(process)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def program_environment() -> dict[str, str]:
    """Return the environment of programs: that of the agent without its secrets; Python writes each line at once."""
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return {"PYTHONUNBUFFERED": "1", **kept}


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
