"""The accounting of a real hub balances in every answer, whatever happens to the hub."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from device_agent import Agent, Metric
from tests.end_to_end.accounting_watch import watching_accounting
from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import connect_agent, data, hello
from tests.hub.storage.duckdb.locked_file import locked_by_another_process

AGENTS = 4
KILLS = 2
PACE_S = 0.01
"""Pause between two rows of an agent: about 400 rows a second in total."""
KEPT_DAYS = 1
"""Retention in days. The readings are from 1970, so the retention, which runs at the start of a hub, deletes all of
them."""
METRICS = [Metric("number", "integer"), Metric("half")]

EXPIRY_S = 60
"""Time limit for the retention on a busy machine."""

REJECTED = 10_200
"""Rejected batches: more than the quarantine keeps."""
REJECTED_AT_ONCE = 200


async def send(agent: Agent, stop: asyncio.Event) -> int:
    """Send rows of two readings, and sometimes of one, until `stop` is set; return the number of readings."""
    readings = number = 0
    while not stop.is_set():
        number += 1
        half = number / 2 if number % 5 else None
        await agent.collect({"number": number, "half": half}, number)
        readings += 2 if half is not None else 1
        await asyncio.sleep(PACE_S)
    return readings


async def fill_quarantine(hub: Hub, token: str) -> None:
    """Send invalid batches until every one of them is rejected."""
    sender = await connect_agent(hub, token)
    await sender.send(hello("bad"))
    assert (await sender.receive())["type"] == "welcome"
    for first in range(1, REJECTED, REJECTED_AT_ONCE):
        for seq in range(first, first + REJECTED_AT_ONCE):
            await sender.send(data(seq, {"f": ["warm"]}))
        rejected = 0
        while rejected < REJECTED_AT_ONCE:
            rejected += (await sender.receive())["type"] == "reject"
    await sender.ws.close()


async def some_expired(hub: Hub) -> dict[str, Any]:
    """Return the settled accounting as soon as the retention has deleted something."""
    async with asyncio.timeout(EXPIRY_S):
        while True:
            flow = await hub.settled()
            if flow["totals"]["expired"] > 0:
                return flow
            await asyncio.sleep(0.05)


@pytest.mark.deadline(180)
async def test_the_accounting_balances_over_kills_a_locked_store_and_a_full_quarantine(tmp_path: Path) -> None:
    """Four agents send. The hub is killed at random moments, another process holds its store over a restart, its
    quarantine overflows, and retention deletes what is stored. No answer of /api/v1/flow has a difference, for any
    device or in total. At the end every reading sent is accepted, and stored or expired."""
    settings = tmp_path / "hub.toml"
    settings.write_text(f"[store]\nkeep_raw = {KEPT_DAYS}\n")
    hub = Hub(tmp_path / "data", options=["--config", str(settings)])
    await hub.start()
    moments = random.Random(5)
    stop = asyncio.Event()
    try:
        token = await hub.token("gateway", "--devices", "*")
        async with watching_accounting(hub) as watch, contextlib.AsyncExitStack() as stack:
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
            # This start has all of it to count while the agents continue.
            await hub.start()
            stop.set()
            sent = await asyncio.gather(*sending)
            for agent in agents:
                await agent.drain(30)
            await hub.settled()
            # Start once more with everything stored: what the earlier starts found in the store depends on timing.
            await hub.kill()
            await hub.start()
            flow = await some_expired(hub)
        counts = {device["device"]: device for device in flow["devices"]}
        for number, readings in enumerate(sent):
            mine = counts[f"agent-{number}"]
            assert (mine["accepted"], mine["stored"] + mine["expired"], mine["waiting"]) == (readings, readings, 0)
        assert (counts["bad"]["accepted"], counts["bad"]["quarantined_batches"]) == (0, REJECTED)
        assert flow["quarantine_dropped"] > 0
        assert flow["totals"]["difference"] == flow["consumers"][0]["difference"] == 0
        print(f"{watch.answers} answers, {watch.whole} of them whole, {watch.most_waiting} readings waiting at most")
        assert watch.whole > KILLS
        assert await hub.stop() == 0
    finally:
        await hub.kill()
