"""The promise as a law: whatever happens on the way, everything that a spool accepted arrives once and in order."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent import Agent, Surroundings
from tests.device_agent.peer import Peer

QUICK = Surroundings(max_delay_ms=2)

Step = Literal["send", "burst", "rows", "collect", "drop", "crash", "hold", "release", "away", "back", "leave", "turn"]
STEPS: tuple[Step, ...] = (
    "send", "burst", "rows", "collect", "drop", "crash", "hold", "release", "away", "back", "leave",
    "turn", "turn", "turn",
)  # fmt: skip


class Course:
    """An agent, its hub, and what was accepted so far."""

    def __init__(self, peer: Peer, spool: Path) -> None:
        self.peer = peer
        self.accepted: list[float] = []
        self._spool = spool
        self._numbers = itertools.count()
        self._is_away = False

    def agent(self) -> Agent:
        return Agent(self.peer.url, device="boiler", spool=self._spool, surroundings=QUICK, drain_seconds=0)

    async def take(self, step: Step, agent: Agent) -> None:
        peer = self.peer
        match step:
            case "send":
                number = next(self._numbers)
                await agent.send({"n": number})
                self.accepted.append(number)
            case "burst":
                burst = [next(self._numbers) for _ in range(20)]
                await asyncio.gather(*(agent.send({"n": number}) for number in burst))
                self.accepted += burst
            case "rows":
                rows = [next(self._numbers) for _ in range(10)]
                await agent.send_columns(range(10), {"n": rows})
                self.accepted += rows
            case "collect":
                number = next(self._numbers)
                await agent.collect({"n": number})
                self.accepted.append(number)
            case "drop":
                await peer.drop()
            case "crash":
                await peer.crash()
            case "hold":
                peer.hold()
            case "release":
                await peer.release()
            case "away" if not self._is_away:
                self._is_away = True
                await peer.stop()
            case "back":
                await self.back()
            case "turn":
                for _ in range(30):
                    await asyncio.sleep(0)

    async def back(self) -> None:
        if self._is_away:
            self._is_away = False
            await self.peer.start()


@pytest.mark.deadline(120)
@settings(max_examples=60)
@given(st.lists(st.sampled_from(STEPS), max_size=30), st.integers(1, 8))
async def test_everything_accepted_arrives_once_and_in_order(plan: list[Step], window: int) -> None:
    """Sends, broken connections, crashes and absences of the hub, and new runs of the agent, in any order."""
    with tempfile.TemporaryDirectory() as folder:
        async with Peer(window=window) as peer:
            course = Course(peer, Path(folder) / "boiler.spool")
            runs = AsyncExitStack()
            agent = await runs.enter_async_context(course.agent())
            for step in plan:
                if step == "leave":
                    await runs.aclose()
                    agent = await runs.enter_async_context(course.agent())
                else:
                    await course.take(step, agent)
            await course.back()
            await peer.release()
            await agent.drain(60)
            await runs.aclose()
        assert peer.values("n") == course.accepted
        peer.check_order()
