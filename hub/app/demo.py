"""`hub run --demo`: an agent for this computer's sensors and a simulated fleet, each in a process of its own.

They are started by their command lines, as their users would start them; the hub knows them over the wire only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

STOP_S = 10.0
"""An agent that has not stopped this long after SIGTERM is killed: what it holds stays in its spool."""

SIMULATED_DEVICES = 20

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def demo_fleet(url: str, token: str, data: Path) -> AsyncIterator[None]:
    """Runs the two processes; stops them when the context ends, before the hub itself stops."""
    (data / "demo").mkdir(exist_ok=True)
    commands = (
        ("device_agent", "run", "--device", "this-computer", "--spool", str(data / "demo" / "this-computer.spool")),
        ("device_sim", "run", "--devices", str(SIMULATED_DEVICES), "--rate", "1"),
    )
    processes = [await _start(command, url, token) for command in commands]
    try:
        yield
    finally:
        await asyncio.gather(*(_stop(process) for process in processes))


async def _start(command: Sequence[str], url: str, token: str) -> asyncio.subprocess.Process:
    # The token goes by the environment: command lines are seen by everyone on the machine. A session of its own keeps
    # the terminal's Ctrl-C away: the hub stops its agents first and itself last.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        env={**os.environ, "HUB_URL": url, "HUB_TOKEN": token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        log.warning("a demo process had stopped by itself", pid=process.pid, exit_code=process.returncode)
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        log.warning("a demo process did not stop in time", pid=process.pid)
        process.kill()
        await process.wait()


def _die_with_parent() -> None:
    """Linux sends SIGTERM when the hub dies, however it dies (prctl(2), PR_SET_PDEATHSIG = 1)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
