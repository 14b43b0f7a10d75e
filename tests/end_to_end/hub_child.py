"""A hub in a forked process: the program's own entry point, without the second that its imports take.

A fork server imports the program once. Each hub is a fork of it, with its own standard streams, and with the
environment and the working directory of the test. Warnings are errors, as with `python -W error`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import duckdb  # noqa: F401 - imported in the fork server
import numpy as np  # noqa: F401
import uvicorn  # noqa: F401

import hub.app.run
import hub.cli.application  # noqa: F401
from hub.cli import main
from tests.conditions import POLL_S, until

LISTENING = "listening on "

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def _run(
    arguments: Sequence[str],
    output: str,
    log: str,
    environment: Mapping[str, str],
    folder: str,
    prepare: Callable[[], None] | None,
) -> None:
    for path, stream in ((output, sys.stdout), (log, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    warnings.simplefilter("error")
    if prepare is not None:
        prepare()
    sys.argv = ["hub", "run", *arguments]
    main()


class HubChild:
    """A hub in a process of its own, whose standard streams are files in a folder."""

    def __init__(
        self,
        data: Path,
        folder: Path,
        *,
        options: Sequence[str] = (),
        listen: str = "127.0.0.1:0",
        log: Path | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Start the hub. What it writes follows what other hubs wrote to the same files.

        `log` is the file for stderr when it is not in `folder`. `prepare` runs in the process before the hub.
        """
        arguments = ("--data", str(data), "--listen", listen, *options)
        self._log = log or folder / "hub.log"
        self._output = self._log.with_suffix(".out")
        self._read_bytes = self._output.stat().st_size if self._output.exists() else 0
        self._process: ForkServerProcess = _context.Process(
            target=_run,
            args=(arguments, str(self._output), str(self._log), dict(os.environ), str(Path.cwd()), prepare),
            daemon=True,
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of a hub that has ended, None for one that runs."""
        return self._process.exitcode

    async def line(self) -> str | None:
        """Return the next line on stdout; None when the hub has ended instead."""
        while True:
            has_ended = self.exit_code is not None
            if self._output.exists():
                with self._output.open("rb") as output:
                    output.seek(self._read_bytes)
                    line = output.readline()
                if line.endswith(b"\n"):
                    self._read_bytes += len(line)
                    return line.decode().rstrip()
            if has_ended:
                return None
            await asyncio.sleep(POLL_S)

    async def address(self) -> str | None:
        """Return the URL when the hub listens; None when it has ended instead."""
        while (line := await self.line()) is not None:
            if line.startswith(LISTENING):
                return line.removeprefix(LISTENING).split()[0]
        return None

    async def wait(self) -> int | None:
        """Wait until the process has ended; return its exit code."""
        await until(lambda: self.exit_code is not None)
        return self.exit_code

    def log(self) -> str:
        """Return everything that the hub wrote to stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def send_signal(self, number: int) -> None:
        """Send a signal; do nothing when the process has ended."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    async def stop(self) -> int | None:
        """Stop the hub in order; return its exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)
        await self.wait()
