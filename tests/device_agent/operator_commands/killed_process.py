"""Agents that are killed (kill -9) before or after one of the writes that a command causes, or while its handler runs.

    python -m tests.device_agent.operator_commands.killed_process URL DIRECTORY TOKEN POINT…

Each POINT is one agent, in a process of its own: `2-before` dies before its second write of commands, `2-after` after
it, `handler` in the handler, after its effect. The device has the name of the point. The handler appends a line to
DIRECTORY/POINT.effects. The program ends when all agents are dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from device_agent import Agent, Surroundings
from device_agent.spool import SqliteSpool, StoredCommand

WRITES = ("received", "running", "finished", "recorded")
POINTS = (
    *(f"{number}-{when}" for number in range(1, len(WRITES) + 1) for when in ("before", "after")),
    "handler",
)

EXPECTED = {
    "1-before": ("succeeded", 1),
    "1-after": ("succeeded", 1),
    "2-before": ("succeeded", 1),
    "2-after": ("failed", 0),
    "handler": ("failed", 1),
    "3-before": ("failed", 1),
    "3-after": ("succeeded", 1),
    "4-before": ("succeeded", 1),
    "4-after": ("succeeded", 1),
}
"""The final state of each command, and how often its handler took effect. A failed one is `interrupted`."""

ROOT = Path(__file__).parents[3]


class KilledSpool(SqliteSpool):
    """A spool that kills its process at one of its writes of commands."""

    def __init__(self, path: Path, *, device: str, point: str) -> None:
        super().__init__(path, device=device)
        self._point = point
        self._writes = 0

    async def write_commands(self, written: Sequence[StoredCommand], deleted: Sequence[str]) -> None:
        self._writes += 1
        if self._point == f"{self._writes}-before":
            kill()
        await super().write_commands(written, deleted)
        if self._point == f"{self._writes}-after":
            kill()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def effects(directory: Path, point: str) -> list[str]:
    """Return the effects of a handler in all runs of its agent."""
    file = directory / f"{point}.effects"
    return file.read_text().splitlines() if file.exists() else []


def commanded_agent(url: str, directory: Path, point: str, token: str | None, *, is_killed: bool) -> Agent:
    """Return the agent of a point, to be killed there or, in a later run, nowhere."""
    spool = KilledSpool(directory / f"{point}.spool", device=point, point=point if is_killed else "")
    agent = Agent(url, device=point, token=token, spool=spool, surroundings=Surroundings(max_delay_ms=20))

    @agent.command("set_speed")
    def set_speed(speed: float) -> float:
        with (directory / f"{point}.effects").open("a") as file:
            file.write(f"{speed}\n")
        if is_killed and point == "handler":
            kill()
        return speed

    return agent


async def run(*arguments: Any) -> None:
    async with commanded_agent(*arguments, is_killed=True) as agent:
        await agent.wait_stopped()


async def kill_agents(url: str, directory: Path, token: str | None = None) -> None:
    """Run the agents of all points until each is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, str(directory), token or "", *POINTS, cwd=ROOT
    )
    try:
        assert await process.wait() == 0, "an agent ended in another way"
    finally:
        if process.returncode is None:
            process.kill()


def fork_agents(
    run: Callable[..., Coroutine[Any, Any, None]], url: str, directory: str, token: str, *points: str
) -> int:
    """Run an agent for each point in a process of its own; return 0 if all of them were killed."""
    children = []
    for point in points:
        child = os.fork()
        if not child:
            asyncio.run(run(url, Path(directory), point, token or None))
            os._exit(1)
        children.append(child)
    ends = [os.waitpid(child, 0)[1] for child in children]
    return 0 if all(os.WIFSIGNALED(end) and os.WTERMSIG(end) == signal.SIGKILL for end in ends) else 1


if __name__ == "__main__":
    raise SystemExit(fork_agents(run, *sys.argv[1:]))
