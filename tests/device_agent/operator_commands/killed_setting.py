"""Agents that are killed (kill -9) before or after the write that a desired value causes, or while its handler runs.

    python -m tests.device_agent.operator_commands.killed_setting URL DIRECTORY TOKEN POINT…

As `killed_process` for commands: each POINT is one agent, whose device has the name of the point.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from device_agent import Agent, Surroundings
from device_agent.spool import SqliteSpool
from tests.device_agent.operator_commands.killed_process import ROOT, fork_agents, kill

SETTING_POINTS = ("before", "after", "handler", "effect")
EXPECTED_EFFECTS = {"before": 0, "after": 0, "handler": 0, "effect": 1}
"""Number of times that the value took effect before the agent was killed."""


class KilledSpool(SqliteSpool):
    """A spool that kills its process before or after its first write of settings."""

    def __init__(self, path: Path, *, device: str, point: str) -> None:
        super().__init__(path, device=device)
        self._point = point

    async def write_settings(self, content: bytes) -> None:
        if self._point == "before":
            kill()
        await super().write_settings(content)
        if self._point == "after":
            kill()


def agent_with_setting(url: str, directory: Path, point: str, token: str | None, *, is_killed: bool) -> Agent:
    """Return the agent of a point, to be killed there or, in a later run, nowhere."""
    spool = KilledSpool(directory / f"{point}.spool", device=point, point=point if is_killed else "")
    agent = Agent(url, device=point, token=token, spool=spool, surroundings=Surroundings(max_delay_ms=20))

    @agent.setting("pressure", min=0, max=9, unit="bar")
    def set_pressure(value: float) -> None:
        if is_killed and point == "handler":
            kill()
        with (directory / f"{point}.effects").open("a") as file:
            file.write(f"{value}\n")
        if is_killed and point == "effect":
            kill()

    return agent


async def run(*arguments: Any) -> None:
    async with agent_with_setting(*arguments, is_killed=True) as agent:
        await agent.wait_stopped()


async def kill_agents_with_settings(url: str, directory: Path, token: str | None = None) -> None:
    """Run the agents of all points until each is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, str(directory), token or "", *SETTING_POINTS, cwd=ROOT
    )
    try:
        assert await process.wait() == 0, "an agent ended in another way"
    finally:
        if process.returncode is None:
            process.kill()


if __name__ == "__main__":
    raise SystemExit(fork_agents(run, *sys.argv[1:]))
