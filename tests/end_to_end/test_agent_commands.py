"""Commands from a real hub to real agents: killed at every step, and a simulated vehicle that obeys."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conditions import QUERY_S, result_of
from tests.device_agent.operator_commands.killed_process import (
    EXPECTED,
    POINTS,
    commanded_agent,
    effects,
    kill_agents,
)
from tests.end_to_end.hub import NO_TLS, Hub, running_hub
from tests.programs import running_module


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run one hub for both tests. The first kills it, and starts it again."""
    async with running_hub(tmp_path_factory.mktemp("commands") / "data") as hub:
        yield hub


class Operator:
    """Sends commands over the API of a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def send(self, device: str, name: str, parameters: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Return the command as soon as it is recorded; the device is waited for until it has declared it."""
        headers = {"Authorization": f"Bearer {await self._hub.admin()}"}
        body = {"name": name, "parameters": parameters, "confirmed": True, **options}
        async with httpx.AsyncClient(base_url=self._hub.url, headers=headers, timeout=30, verify=NO_TLS) as client:
            while True:
                answer = await client.post(f"/api/v1/devices/{device}/commands", json=body)
                if answer.status_code == 201:
                    command: dict[str, Any] = answer.json()
                    return command
                assert answer.status_code in (404, 409, 422), answer.text
                await asyncio.sleep(QUERY_S)

    async def ended(self, command: dict[str, Any]) -> dict[str, Any]:
        """Return the command when it has ended."""
        found: dict[str, Any] = await self._hub.get(
            f"/api/v1/devices/{command['device']}/commands/{command['id']}", wait_s=50
        )
        return found


async def test_every_command_to_killed_agents_ends_and_none_runs_twice(hub: Hub, tmp_path: Path) -> None:
    """Agents are killed before and after each write of a command and in its handler, and the hub with them."""
    async with AsyncExitStack() as restarted:
        token = await hub.token("gateway", "--devices", "*")
        operator = Operator(hub)
        killing = asyncio.create_task(kill_agents(hub.url, tmp_path, token))
        options = {"mode": "queue", "timeout_s": 600}
        commands = [await operator.send(point, "set_speed", {"speed": 3}, **options) for point in POINTS]
        await killing
        await hub.kill()
        await hub.start()
        for point in POINTS:
            agent = commanded_agent(hub.url, tmp_path, point, token, is_killed=False)
            await restarted.enter_async_context(agent)
        ended = [await operator.ended(command) for command in commands]
    found = {command["device"]: (command["state"], len(effects(tmp_path, command["device"]))) for command in ended}
    assert found == EXPECTED
    for command in ended:
        assert command["code"] == ("" if command["state"] == "succeeded" else "interrupted")
        assert command["result"] == (3.0 if command["state"] == "succeeded" else None)
        states = [change["state"] for change in command["states"]]
        assert states in (["queued", "sent", "received", command["state"]], ["queued", "sent", command["state"]])


async def test_a_simulated_vehicle_obeys(hub: Hub) -> None:
    """The operator stops it and lets it drive, and its readings show it."""
    token = await hub.token("gateway", "--devices", "*")
    operator = Operator(hub)
    arguments = ("run", "--hub", hub.url, "--devices", "1", "--profile", "vehicle", "--rate", "20")

    async def showing(state: str) -> bool | None:
        found = (await hub.get("/api/v1/latest", device="vehicle-001", metric="state"))["latest"]
        return any(metric["latest"] is not None and metric["latest"]["value"] == state for metric in found) or None

    async with running_module("device_sim", *arguments, HUB_TOKEN=token):
        for name, parameters, state in (
            ("stop", {}, "waiting"),
            ("set_speed", {"speed": 30}, "driving"),
            ("stop", {}, "waiting"),
        ):
            command = await operator.send("vehicle-001", name, parameters)
            ended = await operator.ended(command)
            assert (ended["state"], ended["message"]) == ("succeeded", "")
            assert [change["code"] for change in ended["states"]][2] == "not_durable"
            await result_of(partial(showing, state))


async def test_a_call_that_was_delayed_is_not_executed(hub: Hub) -> None:
    """The vehicle is suspended until the operator has given up; then it reads the command."""
    token = await hub.token("gateway", "--devices", "*")
    operator = Operator(hub)
    arguments = ("run", "--hub", hub.url, "--devices", "1", "--profile", "vehicle")

    async def rejected(sent: dict[str, Any]) -> dict[str, Any] | None:
        found = await operator.ended(sent)
        return found if found["state"] == "rejected" else None

    async with running_module("device_sim", *arguments, HUB_TOKEN=token) as vehicle:
        assert (await operator.ended(await operator.send("vehicle-001", "stop", {})))["state"] == "succeeded"
        vehicle.send_signal(signal.SIGSTOP)
        sent = await operator.send("vehicle-001", "set_speed", {"speed": 30}, timeout_s=1)
        assert (await operator.ended(sent))["state"] == "timed_out"
        vehicle.send_signal(signal.SIGCONT)
        late = await result_of(partial(rejected, sent))
        assert (late["code"], late["late"]) == ("too_late", True)
