"""A command to many devices, with real agents and simulated ones, and kill -9 of the hub in the middle."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from device_agent import Agent, Surroundings
from device_agent.spool import SqliteSpool
from tests.conditions import result_of
from tests.end_to_end.hub import COMMAND, Hub, running_hub
from tests.programs import running_module

PUMPS = [f"pump-{number}" for number in range(4)]
VEHICLES = ["vehicle-001", "vehicle-002"]


class Pumps:
    """Agents that stop on command. The one in the middle waits until it is released."""

    def __init__(self, directory: Path) -> None:
        self.executed: Counter[str] = Counter()
        self.started = asyncio.Event()
        self.released = asyncio.Event()
        self._directory = directory

    def agent(self, url: str, token: str, device: str) -> Agent:
        spool = SqliteSpool(self._directory / f"{device}.spool", device=device)
        agent = Agent(url, device=device, token=token, spool=spool, surroundings=Surroundings(max_delay_ms=20))

        @agent.command("stop")
        async def stop() -> None:
            self.executed[device] += 1
            if device == PUMPS[2]:
                self.started.set()
                await self.released.wait()

        return agent


async def declared(hub: Hub, device: str) -> bool | None:
    """Return whether a device has declared that it stops."""
    known = (await hub.get("/api/v1/devices"))["devices"]
    if device not in [row["device"] for row in known]:
        return None
    commands = (await hub.get(f"/api/v1/devices/{device}/commands/declared"))["commands"]
    return any(command["name"] == "stop" for command in commands) or None


async def commands_of(hub: Hub, device: str) -> list[Any]:
    found: list[Any] = (await hub.get(f"/api/v1/devices/{device}/commands"))["commands"]
    return found


@pytest.mark.deadline(240)
async def test_a_job_continues_after_a_hub_that_is_killed_in_the_middle(tmp_path: Path) -> None:
    """Each device executes its command once, and the program that waits for the job sees it complete."""
    async with running_hub(tmp_path / "data") as hub, AsyncExitStack() as devices:
        token = await hub.token("gateway", "--devices", "*")
        simulated = ("run", "--hub", hub.url, "--devices", "2", "--profile", "vehicle", "--rate", "5")
        await devices.enter_async_context(running_module("device_sim", *simulated, HUB_TOKEN=token))
        pumps = Pumps(tmp_path)
        for pump in PUMPS:
            await devices.enter_async_context(pumps.agent(hub.url, token, pump))
        for device in (*PUMPS, *VEHICLES):
            await result_of(partial(declared, hub, device))
        sending = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("command", "send", "--to", "pump-*", "--to", "vehicle-*", "stop", "--batch", "2", "--timeout", "600"),
            *("--stop-at", "0%", "--yes"),
            env={**os.environ, "HUB_URL": hub.url, "HUB_TOKEN": await hub.admin()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await pumps.started.wait()
        await hub.kill()
        await hub.start()
        pumps.released.set()
        output, progress = await sending.communicate()
        assert output.decode() == "completed: 6 succeeded\n", progress.decode() + hub.log()[-2000:]
        assert progress.decode().splitlines()[-1] == "6 of 6: 6 succeeded"
        assert pumps.executed == Counter(PUMPS)
        (job,) = (await hub.get("/api/v1/command-jobs"))["jobs"]
        for device in (*PUMPS, *VEHICLES):
            (command,) = await commands_of(hub, device)
            assert (command["state"], command["job"], command["late"]) == ("succeeded", job["id"], False)
