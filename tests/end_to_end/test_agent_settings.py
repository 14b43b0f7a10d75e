"""Desired values from a real hub to real agents: killed at every step, and a simulated pump that follows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conditions import result_of
from tests.device_agent.operator_commands.killed_process import effects
from tests.device_agent.operator_commands.killed_setting import (
    EXPECTED_EFFECTS,
    SETTING_POINTS,
    agent_with_setting,
    kill_agents_with_settings,
)
from tests.end_to_end.hub import Hub, operator, running_hub
from tests.programs import running_module


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run one hub for both tests. The first kills it, and starts it again."""
    async with running_hub(tmp_path_factory.mktemp("settings") / "data") as hub:
        yield hub


async def desire(client: httpx.AsyncClient, device: str, **values: object) -> dict[str, Any]:
    """Set desired values as soon as the device has declared them."""

    async def changed() -> dict[str, Any] | None:
        answer = await client.patch(f"/api/v1/devices/{device}/desired", json={"values": values})
        assert answer.status_code in (200, 404, 422), answer.text
        return answer.json() if answer.status_code == 200 else None

    return await result_of(changed)


async def settled(client: httpx.AsyncClient, device: str, setting: str) -> tuple[str, Any]:
    """Return the state of a setting, and its value in force, when the device has the value or has rejected it."""
    answer = (await client.get(f"/api/v1/devices/{device}/desired", params={"wait_s": 60})).json()
    (found,) = [row for row in answer["settings"] if row["name"] == setting]
    return found["desired"]["state"], found["reported"]


async def test_killed_agents_converge_to_the_desired_values(hub: Hub, tmp_path: Path) -> None:
    """Agents are killed before and after the write of a desired value, and in its handler, and the hub with them."""
    token = await hub.token("gateway", "--devices", "*")
    killing = asyncio.create_task(kill_agents_with_settings(hub.url, tmp_path, token))
    async with operator(hub) as client:
        await asyncio.gather(*(desire(client, point, pressure=3) for point in SETTING_POINTS))
    await killing
    assert {point: len(effects(tmp_path, point)) for point in SETTING_POINTS} == EXPECTED_EFFECTS
    await hub.kill()
    await hub.start()
    async with AsyncExitStack() as restarted, operator(hub) as client:
        for point in SETTING_POINTS:
            agent = agent_with_setting(hub.url, tmp_path, point, token, is_killed=False)
            await restarted.enter_async_context(agent)
        states = await asyncio.gather(*(settled(client, point, "pressure") for point in SETTING_POINTS))
    assert states == [("in_sync", 3.0)] * len(SETTING_POINTS)
    assert {point: effects(tmp_path, point)[-1] for point in SETTING_POINTS} == dict.fromkeys(SETTING_POINTS, "3.0")


async def test_a_simulated_pump_follows_its_desired_pressure(hub: Hub) -> None:
    """Its readings show the value, and a value outside of the range is refused by the hub."""
    token = await hub.token("gateway", "--devices", "*")
    arguments = ("run", "--hub", hub.url, "--devices", "1", "--profile", "pump", "--rate", "20")

    async def holds(low: float, high: float) -> bool | None:
        found = (await hub.get("/api/v1/latest", device="pump-001", metric="pressure"))["latest"]
        return any(row["latest"] is not None and low < row["latest"]["value"] < high for row in found) or None

    async with running_module("device_sim", *arguments, HUB_TOKEN=token), operator(hub) as client:
        for target, low, high in ((2.0, 1.0, 3.0), (8.0, 7.0, 9.0)):
            await desire(client, "pump-001", target_pressure=target)
            assert await settled(client, "pump-001", "target_pressure") == ("in_sync", target)
            started = await client.post("/api/v1/devices/pump-001/commands", json={"name": "start", "wait_s": 20})
            assert started.json()["state"] == "succeeded"
            await result_of(partial(holds, low, high))
        refused = await client.patch("/api/v1/devices/pump-001/desired", json={"values": {"target_pressure": 9}})
        assert (refused.status_code, refused.json()["code"]) == (422, "wrong_value")
