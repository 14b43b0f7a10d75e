"""The fleet of `hub run --demo`: an agent for this computer's sensors and a simulated fleet, each in its own process.

They are started by their command lines, as a user would start them; the hub knows them through the protocol only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import structlog

STOP_S = 10.0
"""Time after SIGTERM after which an agent is killed; its readings stay in its spool."""

SIMULATED_DEVICES = 20

PAST = "24h"
"""History of a simulated device that the hub does not know yet: the first charts are full. It is written once."""

DESCRIPTION = f"this computer's sensors and {SIMULATED_DEVICES} simulated devices"

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def demo_fleet(url: str, token: str, data: Path, *, certificate: Path | None = None) -> AsyncIterator[None]:
    """Run the two processes until the context ends. They log to files in `data`/demo, overwritten at each start.

    With TLS they trust the hub's certificate, which has to contain the address in `url`.
    """
    folder = data / "demo"
    folder.mkdir(exist_ok=True)
    commands = (
        ("device_agent", "run", "--device", "this-computer", "--spool", str(folder / "this-computer.spool")),
        ("device_sim", "run", "--devices", str(SIMULATED_DEVICES), "--rate", "1", "--past", PAST),
    )
    # The token is passed in the environment, because every user of the machine can see command lines.
    environment = {**os.environ, "HUB_URL": url, "HUB_TOKEN": token}
    if certificate is not None:
        environment["HUB_CA"] = str(certificate)
    processes = [await _start(command, environment, folder / f"{command[0]}.log") for command in commands]
    try:
        yield
    finally:
        await asyncio.gather(*(_stop(process) for process in processes))


async def _start(command: Sequence[str], environment: Mapping[str, str], log_file: Path) -> asyncio.subprocess.Process:
    # The new session keeps the terminal's Ctrl-C away from the agents: the hub stops them first and itself last.
    with log_file.open("wb") as stderr:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        log.warning("a demo process stopped by itself", pid=process.pid, exit_code=process.returncode)
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
    """Make Linux send SIGTERM to this process when the hub dies (prctl(2), PR_SET_PDEATHSIG = 1)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
