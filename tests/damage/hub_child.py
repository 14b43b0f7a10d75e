"""A hub in a forked process: the program's own entry point, without the second that its imports take.

A fork server imports the program once. Each hub is a fork of it, with its own standard streams.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import duckdb  # noqa: F401 - imported in the fork server
import numpy as np  # noqa: F401
import uvicorn  # noqa: F401

import hub.app.run
import hub.cli.run  # noqa: F401
from hub.cli import main
from tests.conditions import POLL_S, until
from tests.damage.unchecked import switch_off_checksums
from tests.end_to_end.hub import LISTENING

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def _run(arguments: Sequence[str], output: str, log: str, unchecked: bool) -> None:
    for path, stream in ((output, sys.stdout), (log, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    if unchecked:
        switch_off_checksums()
    sys.argv = ["hub", "run", *arguments]
    main()


class HubChild:
    """A hub in a process of its own, whose standard streams are files in a folder."""

    def __init__(self, data: Path, folder: Path, *, options: Sequence[str] = (), unchecked: bool = False) -> None:
        """Start the hub. `folder` has no files of another hub. `unchecked` switches checksums off."""
        arguments = ("--data", str(data), "--listen", "127.0.0.1:0", *options)
        self._output = folder / "hub.out"
        self._log = folder / "hub.log"
        self._process: ForkServerProcess = _context.Process(
            target=_run, args=(arguments, str(self._output), str(self._log), unchecked), daemon=True
        )
        self._process.start()

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of a hub that has ended, None for one that runs."""
        return self._process.exitcode

    async def address(self) -> str | None:
        """Return the URL when the hub listens; None when it has ended instead."""
        while True:
            for line in _read(self._output).splitlines(keepends=True):
                if line.startswith(LISTENING) and line.endswith("\n"):
                    return line.removeprefix(LISTENING).split()[0]
            if self.exit_code is not None:
                return None
            await asyncio.sleep(POLL_S)

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await until(lambda: not self._process.is_alive())

    def log(self) -> str:
        """Return everything that the hub wrote to stderr."""
        return _read(self._log)

    async def stop(self) -> int | None:
        """Stop the hub in order; return its exit code."""
        self._process.terminate()
        await self.wait()
        return self.exit_code

    async def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        await self.wait()


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
