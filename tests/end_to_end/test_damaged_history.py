"""A damaged DuckDB file: the hub continues in a new one, and `hub store rebuild` restores every reading."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_agent import Agent, Metric
from tests.end_to_end.hub import COMMAND, Hub
from tests.hub.storage.duckdb.damaged_file import flip_readings

READINGS = 40_000
BATCHES = 8


async def send(hub: Hub, first: int) -> None:
    """Send batches of readings that DuckDB cannot compress, from this number on."""
    token = await hub.token("device", "--device", "boiler")
    async with Agent(hub.url, device="boiler", token=token, metrics=[Metric("t")]) as agent:
        for number in range(first, first + BATCHES):
            times = list(range(number * READINGS + 1, (number + 1) * READINGS + 1))
            await agent.send_columns(times, {"t": [value_at(time) for time in times]})
        await agent.drain(60)
    await hub.settled()


def value_at(time: int) -> float:
    return time * 0.6180339887498949 % 1


async def read(hub: Hub) -> httpx.Response:
    """Return the hub's answer for everything that is stored."""
    headers = {"Authorization": f"Bearer {await hub.admin()}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=60) as client:
        return await client.get("/api/v1/history", params={"device": "boiler", "from": "0", "points": "0"})


async def rebuild(hub: Hub, *options: str) -> tuple[int | None, dict[str, Any], str]:
    """Run the command; return its exit code, its report and stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("store", "rebuild", "--data", str(hub.data), "--json", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, json.loads(out) if out else {}, err.decode()


@pytest.mark.deadline(180)
async def test_a_damaged_history_is_set_aside_and_rebuilt(tmp_path: Path) -> None:
    """Damage that appears only when a query reads it. Meanwhile the hub accepts and stores; the page, /ready and an
    event name the command; after it every reading is there once, and the accounting balances."""
    hub = Hub(tmp_path / "data", log=tmp_path / "hub.log")
    umask = os.umask(0)
    try:
        await hub.start()
    finally:
        os.umask(umask)
    try:
        await send(hub, 0)
        for file in hub.data.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file
        assert await hub.stop() == 0
        path = hub.data / "history.duckdb"
        flip_readings(path)
        await hub.start()
        await read(hub)  # unless the rolling up in the background finds it first
        problem = (await hub.in_trouble())["history"]
        assert "run `hub store rebuild`" in problem
        assert problem in (await hub.get("/api/v1/hub"))["problems"].values()
        events = (await hub.get("/api/v1/events"))["events"]
        assert any(event["kind"] == "history set aside" for event in events)
        await hub.settled()
        await send(hub, BATCHES)
        assert len((await read(hub)).json()["series"][0]["values"]) > 0
        assert await hub.stop() == 0
        status, report, errors = await rebuild(hub)
        assert status == 0, errors
        assert (report["missing"], report["readings"]) == ({}, 2 * BATCHES * READINGS)
        status, _, errors = await rebuild(hub)
        assert status == 1
        assert "no damaged history is set aside" in errors
        await hub.start()
        flow = await hub.settled()
        assert await hub.problems() == {}
        (series,) = (await read(hub)).json()["series"]
        assert series["values"] == [value_at(time) for time in range(1, 2 * BATCHES * READINGS + 1)]
        assert flow["totals"]["difference"] == 0
    finally:
        await hub.kill()
