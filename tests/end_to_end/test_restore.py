"""Backup of a running hub, and its restore after the loss of the data directory, with real agents."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from typer.testing import CliRunner

from device_agent import Agent, Metric, SqliteSpool
from hub.cli.application import app
from tests.end_to_end.hub import Hub

BEFORE = 60
"""Batches of each device before the backup; as many follow it."""

SMALL_SPOOL_BYTES = 64 * 1024
"""Keeps about 15 acknowledged batches with this text."""

UNACKNOWLEDGED = 5
"""Batches that wait at most, far fewer than fit into the small spool."""

TEXT = "x" * 4_000

METRICS = [Metric("n", "integer"), Metric("text", "string")]


async def command(*arguments: str) -> tuple[int, Any]:
    """Run a `hub` command in this process; return its exit code and the JSON that it prints."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout else result.stderr


async def send(agent: Agent, first: int, count: int) -> None:
    """Send numbers, each as a batch, and wait until the hub has them."""
    for number in range(first, first + count):
        await agent.send({"n": number, "text": TEXT}, time_ns=number)
        if number % UNACKNOWLEDGED == 0:
            await agent.drain(30)
    await agent.drain(30)


async def keep_sending(agent: Agent, first: int, stop: asyncio.Event) -> int:
    """Send numbers until `stop`; return the number after the last one."""
    number = first
    while not stop.is_set():
        await agent.send({"n": number, "text": TEXT}, time_ns=number)
        number += 1
        await asyncio.sleep(0.002)
    await agent.drain(30)
    return number


async def settled_flow(hub: Hub, device: str, acked: int) -> dict[str, Any]:
    """Return the accounting of a device as soon as the hub has acknowledged this number and stored everything."""
    while True:
        flow = await hub.settled()
        (found,) = [item for item in flow["devices"] if item["device"] == device] or [{"acked": -1}]
        if found["acked"] == acked and found["waiting"] == 0:
            return dict(found)
        await asyncio.sleep(0.05)


async def stored(hub: Hub, device: str) -> list[int]:
    """Return every stored number of a device."""
    answer = await hub.get("/api/v1/history", device=device, metric="n", points=0, **{"from": "0"})
    return [value for series in answer["series"] for value in series["values"]]


@pytest.mark.deadline(180)
async def test_a_restored_backup_and_the_agents_give_everything_back_or_declare_it(tmp_path: Path) -> None:
    """The backup is made under load. After the loss of the disk and a restore, an agent that keeps acknowledged batches
    sends again what the backup lacks, and the other one declares what it does not have. Nothing is stored twice."""
    hub, folder = Hub(tmp_path / "data"), tmp_path / "backup"
    await hub.start()
    try:
        # The backup has the tokens of its time.
        await hub.admin()
        token = await hub.token("gateway", "--devices", "*")
        async with contextlib.AsyncExitStack() as stack:
            small = SqliteSpool(tmp_path / "meter.spool", device="meter", max_bytes=SMALL_SPOOL_BYTES)
            spools: dict[str, Path | SqliteSpool] = {"boiler": tmp_path / "boiler.spool", "meter": small}
            boiler, meter = [
                await stack.enter_async_context(
                    Agent(hub.url, device=device, token=token, spool=spool, metrics=METRICS)
                )
                for device, spool in spools.items()
            ]
            await asyncio.gather(send(boiler, 1, BEFORE), send(meter, 1, BEFORE))
            stop = asyncio.Event()
            sending = asyncio.create_task(keep_sending(boiler, 1 + BEFORE, stop))
            assert await command("verify", "--data", str(hub.data)) == (0, ANY)
            assert await command("backup", str(folder), "--data", str(hub.data)) == (0, ANY)
            stop.set()
            following = await sending
            await asyncio.gather(send(boiler, following, BEFORE), send(meter, 1 + BEFORE, BEFORE))
            last = following + BEFORE - 1
            await hub.settled()
            await hub.kill()
            shutil.rmtree(hub.data)
            code, restored = await command("restore", str(folder), "--data", str(hub.data))
            assert code == 0
            assert await command("verify", "--data", str(hub.data)) == (0, ANY)
            await hub.start()
            of_boiler = await settled_flow(hub, "boiler", last)
            of_meter = await settled_flow(hub, "meter", 2 * BEFORE)
        assert await stored(hub, "boiler") == list(range(1, last + 1))
        assert (of_boiler["lost_batches"], of_boiler["difference"], of_boiler["duplicate_batches"]) == (0, 0, 0)
        numbers = await stored(hub, "meter")
        missing = sorted(set(range(1, 1 + 2 * BEFORE)) - set(numbers))
        assert numbers == sorted(set(numbers))
        assert missing == list(range(1 + BEFORE, 1 + BEFORE + len(missing)))
        assert missing
        assert of_meter["difference"] == 0
        events = (await hub.get("/api/v1/devices/meter/events"))["events"]
        declared = [event["detail"] for event in events if event["kind"] == "hub lost batches"]
        assert any(f"batches {missing[0]} to {missing[-1]}" in detail for detail in declared), declared
        kinds = [event["kind"] for event in (await hub.get("/api/v1/events"))["events"]]
        assert "hub restored" in kinds
        assert "hub ended without a stop" not in kinds
        assert restored["last_offset"] > 0
        assert await hub.stop() == 0
    finally:
        await hub.kill()
