"""kill -9 of agents before and after each write of a command, and while its handler runs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.device_agent.operator_commands.killed_process import (
    EXPECTED,
    POINTS,
    commanded_agent,
    effects,
    kill_agents,
)
from tests.device_agent.peer import Peer

COMMAND = "00112233445566{:02x}"


async def test_a_killed_agent_runs_no_command_twice_and_explains_each(tmp_path: Path) -> None:
    """Whenever it is killed: the command is repeated by the hub, found on disk, or reported as interrupted."""
    ids = {point: COMMAND.format(number) for number, point in enumerate(POINTS)}

    async def command(peer: Peer, point: str) -> None:
        """Send the command with each connection until there is an answer, as the hub does."""
        await peer.until(lambda: point in peer.links)
        if not peer.states_of(ids[point]):
            await peer.command(point, ids[point], "set_speed", speed=3)

    async with Peer() as peer, AsyncExitStack() as agents:
        sending = [asyncio.create_task(command(peer, point)) for point in POINTS]
        await kill_agents(peer.url, tmp_path)
        await asyncio.gather(*sending)
        await peer.until(lambda: not peer.links)
        for point in POINTS:
            await agents.enter_async_context(commanded_agent(peer.url, tmp_path, point, None, is_killed=False))
            await command(peer, point)
        finals = ("succeeded", "failed")
        await peer.until(lambda: all(any(state in finals for state, _ in peer.states_of(id)) for id in ids.values()))
    found = {point: (peer.states_of(id)[-1][0], len(effects(tmp_path, point))) for point, id in ids.items()}
    assert found == EXPECTED
    for point, id in ids.items():
        ends = {(state, code) for state, code in peer.states_of(id) if state != "received"}
        assert ends == {("succeeded", "") if EXPECTED[point][0] == "succeeded" else ("failed", "interrupted")}
