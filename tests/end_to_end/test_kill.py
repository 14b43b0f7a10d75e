"""SIGKILL of the hub: acknowledged batches are stored once, the hub accepts again, and the agents lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent import Agent, Metric
from tests.end_to_end.hub import Hub

AGENTS = 20
KILLS = 20
PACE_S = 0.02
"""Pause between two batches of an agent: 1,000 batches a second in total."""


async def _send(agent: Agent, stop: asyncio.Event) -> int:
    """Send 1, 2, 3, … until `stop` is set; return the last number that the spool accepted."""
    number = 0
    while not stop.is_set():
        number += 1
        await agent.send({"number": number, "half": number / 2})
        await asyncio.sleep(PACE_S)
    return number


class Acknowledged(dict[str, int]):
    """Highest acknowledged number of each agent, with a way to wait for the next acknowledgement."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(dict.fromkeys(names, 0))
        self._happened = asyncio.Event()

    def noting(self, name: str) -> Callable[[int], None]:
        """Return the callback for the acknowledgements of an agent."""

        def note(seq: int) -> None:
            self[name] = seq
            self._happened.set()

        return note

    async def next(self) -> None:
        """Return at the next acknowledgement."""
        self._happened.clear()
        await self._happened.wait()


@pytest.mark.deadline(300)
async def test_acknowledged_batches_are_stored_exactly_once_over_kills_of_the_hub(tmp_path: Path) -> None:
    """The hub is killed 20 times at random moments under load from 20 agents. Every acknowledged batch is stored once,
    none is lost, and each restart acknowledges a new agent."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    token = await hub.token("gateway", "--devices", "agent-*")
    moments = random.Random(3)
    acked = Acknowledged([f"agent-{n}" for n in range(AGENTS)])
    metrics = [Metric("number", "integer"), Metric("half")]
    stop = asyncio.Event()
    took: list[float] = []
    try:
        async with contextlib.AsyncExitStack() as stack:
            agents = [
                await stack.enter_async_context(
                    Agent(hub.url, device=name, token=token, metrics=metrics, on_ack=acked.noting(name))
                )
                for name in acked
            ]
            sending = [asyncio.create_task(_send(agent, stop)) for agent in agents]
            await acked.next()
            for _ in range(KILLS):
                await asyncio.sleep(moments.uniform(0.0, 1.0))  # the random moment; nothing is waited for
                await hub.kill()
                started = time.monotonic()
                await hub.start()
                async with Agent(hub.url, device="agent-new", token=token) as newcomer:
                    await newcomer.send({"number": 1.0})
                    await newcomer.drain(30)
                took.append(time.monotonic() - started)
            stop.set()
            sent = await asyncio.gather(*sending)
            for agent in agents:
                await agent.drain(60)
        flow = await hub.settled()
        counts = {device["device"]: device for device in flow["devices"]}
        for name, last in zip(acked, sent, strict=True):
            answer = await hub.get("/api/v1/history", device=name, metric="number", points=0, **{"from": "0"})
            assert answer["series"][0]["values"] == list(range(1, last + 1)), name
            assert (counts[name]["accepted_batches"], counts[name]["lost_batches"]) == (last, 0), name
            assert counts[name]["stored"] == counts[name]["accepted"] == 2 * last, name
        median = statistics.median(took)
        print(f"{sum(sent)} batches, {KILLS} kills, accepting again after {median:.2f} s, {max(took):.2f} s at most")
        assert await hub.stop() == 0
    finally:
        await hub.kill()
