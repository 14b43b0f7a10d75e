"""The books of a real hub balance at every moment at which it answers, whatever is done to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from device_agent import Agent, Metric
from tests.end_to_end.flow_watch import watching_flow
from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import connect_agent, data, hello
from tests.hub.storage.duckdb.locked_file import locked_by_another_process

AGENTS = 4
KILLS = 2
PACE_S = 0.01
"""Between two rows of an agent: some 400 a second in all."""
KEPT_DAYS = 1
"""The readings are of 1970: a retention, which runs as a hub starts, finds all of them too old."""
METRICS = [Metric("number", "integer"), Metric("half")]

EXPIRY_S = 60
"""For the retention to find what is too old, on a machine with other work."""

REFUSED = 10_200
"""Batches that the hub will not accept: more than the quarantine keeps."""
REFUSED_AT_ONCE = 200


async def send(agent: Agent, stop: asyncio.Event) -> int:
    """Sends rows of two readings, and now and then of one, until told to stop; returns how many readings."""
    readings = number = 0
    while not stop.is_set():
        number += 1
        half = number / 2 if number % 5 else None
        await agent.collect({"number": number, "half": half}, number)
        readings += 2 if half is not None else 1
        await asyncio.sleep(PACE_S)
    return readings


async def fill_quarantine(hub: Hub, token: str) -> None:
    """Sends what cannot be accepted, until every one of it was refused."""
    sender = await connect_agent(hub, token)
    await sender.send(hello("bad"))
    assert (await sender.receive())["type"] == "welcome"
    for first in range(1, REFUSED, REFUSED_AT_ONCE):
        for seq in range(first, first + REFUSED_AT_ONCE):
            await sender.send(data(seq, {"f": ["warm"]}))
        rejected = 0
        while rejected < REFUSED_AT_ONCE:
            rejected += (await sender.receive())["type"] == "reject"
    await sender.ws.close()


async def some_expired(hub: Hub) -> dict[str, Any]:
    """The settled books once the retention has deleted something."""
    async with asyncio.timeout(EXPIRY_S):
        while True:
            flow = await hub.settled()
            if flow["totals"]["expired"] > 0:
                return flow
            await asyncio.sleep(0.05)


@pytest.mark.deadline(180)
async def test_the_books_balance_over_kills_a_locked_store_and_a_full_quarantine(tmp_path: Path) -> None:
    """Under load from 4 agents the hub is killed at random moments, its store is held by another process over a
    restart, its quarantine is filled beyond its bound, and what is stored is so old that retentions delete it: no
    answer of /api/v1/flow has a difference, for any device or in all, and in the end every reading sent is accepted,
    and stored or expired."""
    settings = tmp_path / "hub.toml"
    settings.write_text(f"[store]\nkeep_raw = {KEPT_DAYS}\n")
    hub = Hub(tmp_path / "data", options=["--config", str(settings)])
    await hub.start()
    moments = random.Random(5)
    stop = asyncio.Event()
    try:
        token = await hub.token("gateway", "--devices", "*")
        async with watching_flow(hub) as watch, contextlib.AsyncExitStack() as stack:
            agents = [
                await stack.enter_async_context(Agent(hub.url, device=f"agent-{n}", token=token, metrics=METRICS))
                for n in range(AGENTS)
            ]
            sending = [asyncio.create_task(send(agent, stop)) for agent in agents]
            for _ in range(KILLS):
                await asyncio.sleep(moments.uniform(0.0, 1.0))  # the random moment; nothing is waited for
                await hub.kill()
                await hub.start()
            await hub.kill()
            with locked_by_another_process(hub.data / "history.duckdb"):
                await hub.start()
                assert "in use by another process" in (await hub.in_trouble())["store"]
                await fill_quarantine(hub, token)
                for agent in agents:
                    await agent.drain(30)
                await hub.kill()
            # Begins with all of that to count, while the agents go on.
            await hub.start()
            stop.set()
            sent = await asyncio.gather(*sending)
            for agent in agents:
                await agent.drain(30)
            await hub.settled()
            # Once more with all of it stored: how much the starts before found in the store is a matter of moments.
            await hub.kill()
            await hub.start()
            flow = await some_expired(hub)
        books = {device["device"]: device for device in flow["devices"]}
        for number, readings in enumerate(sent):
            mine = books[f"agent-{number}"]
            assert (mine["accepted"], mine["stored"] + mine["expired"], mine["waiting"]) == (readings, readings, 0)
        assert (books["bad"]["accepted"], books["bad"]["quarantined_batches"]) == (0, REFUSED)
        assert flow["quarantine_dropped"] > 0
        assert flow["totals"]["difference"] == flow["consumers"][0]["difference"] == 0
        print(f"{watch.answers} answers, {watch.whole} of them whole, {watch.most_waiting} readings waiting at most")
        assert watch.whole > KILLS
        assert await hub.stop() == 0
    finally:
        await hub.kill()
