"""Process groups: a program and the programs that it started end together. POSIX and Windows differ only here."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

TERMINATE_SECONDS = 2.0
"""Time to end in order before the group is killed."""

POLL_SECONDS = 0.02
"""Time between two looks at a program that ends."""

GROUP_OPTIONS: dict[str, Any]
"""Arguments of `subprocess` that give a program a group of its own, and no Ctrl-C of the agent's terminal."""

if sys.platform == "win32":
    GROUP_OPTIONS = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    GROUP_OPTIONS = {"start_new_session": True}


async def end_group(process: asyncio.subprocess.Process) -> None:
    """End a program that has a group of its own, with all processes in it, and close its pipes."""
    await _signal_group(process, gently=True)
    await _wait(process)
    # Also after its own end: it may have left others.
    await _signal_group(process, gently=False)
    await _wait(process)
    # asyncio closes a pipe at its end only, which a stream that is full does not read; it has no public way to do it.
    process._transport.close()  # type: ignore[attr-defined]


async def _wait(process: asyncio.subprocess.Process) -> None:
    """Wait until the program itself has ended, for TERMINATE_SECONDS at most; `wait` also waits for its pipes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(TERMINATE_SECONDS):
            while process.returncode is None:  # noqa: ASYNC110 - asyncio has no event for it
                await asyncio.sleep(POLL_SECONDS)


async def _signal_group(process: asyncio.subprocess.Process, *, gently: bool) -> None:
    if sys.platform == "win32":
        # A group is no tree there, and a program cannot be asked to end unless it has a console.
        if process.returncode is None:
            command = ("taskkill", "/T", "/F", "/PID", str(process.pid))
            killer = await asyncio.create_subprocess_exec(
                *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            await killer.wait()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if gently else signal.SIGKILL)
