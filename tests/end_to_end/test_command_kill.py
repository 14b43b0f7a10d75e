"""kill -9 of the hub at each step of a command: none is lost, none is executed twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_agent import Agent, Rejected, Surroundings
from tests.conditions import result_of
from tests.device_agent.operator_commands.killed_process import commanded_agent, effects
from tests.end_to_end.hub import Hub, operator
from tests.end_to_end.killed_hub import kill_at

HUB_POINTS = [
    f"{state} {when}" for state in ("queued", "sent", "received", "succeeded") for when in ("before", "after")
]


async def send(client: httpx.AsyncClient, device: str, speed: int) -> Any:
    """Queue a command as soon as the device has declared it. None if the hub ends before it answers."""
    body = {"name": "set_speed", "parameters": {"speed": speed}, "mode": "queue", "timeout_s": 600}

    async def sent() -> Any:
        answer = await client.post(f"/api/v1/devices/{device}/commands", json=body)
        return None if answer.status_code in (404, 422) else answer

    try:
        answer = await result_of(sent)
    except httpx.TransportError:
        return None
    assert answer.status_code == 201, answer.text
    return answer.json()


async def ended(client: httpx.AsyncClient, device: str) -> list[Any]:
    """Return the commands of a device, the oldest first, as soon as none of them is open."""

    async def found() -> list[Any] | None:
        commands = (await client.get(f"/api/v1/devices/{device}/commands")).json()["commands"][::-1]
        return commands if all(row["state"] in ("succeeded", "failed") for row in commands) else None

    return await result_of(found)


@pytest.mark.deadline(300)
async def test_commands_survive_a_hub_that_is_killed_anywhere(tmp_path: Path) -> None:
    """Before and after each commit of a command, with a device that executes them."""
    hub = Hub(tmp_path / "data")
    agent = AsyncExitStack()
    answered: set[int] = set()
    try:
        for speed, place in enumerate(HUB_POINTS, 1):
            hub.prepare = partial(kill_at, f"{place} {speed}")
            await hub.start()
            if speed == 1:
                token = await hub.token("gateway", "--devices", "*")
                await agent.enter_async_context(commanded_agent(hub.url, tmp_path, "pump", token, is_killed=False))
            async with operator(hub) as client:
                answer = await send(client, "pump", speed)
            assert answer is None or not place.startswith("queued")
            answered |= {speed} if answer is not None else set()
            await hub.ended()
        hub.prepare = None
        await hub.start()
        async with operator(hub) as client:
            check_hub(tmp_path, await ended(client, "pump"), answered)
        assert await hub.stop() == 0, hub.log()[-3000:]
    finally:
        await agent.aclose()
        await hub.kill()


def check_hub(directory: Path, found: list[Any], answered: set[int]) -> None:
    """A command that was never on the disk does not exist. Every other one was executed once, and in time."""
    speeds = [round(row["parameters"]["speed"]) for row in found]
    # For a device that was connected, "sent" is in the commit of "queued".
    lost = {HUB_POINTS.index("queued before") + 1, HUB_POINTS.index("sent before") + 1} - {*speeds}
    assert HUB_POINTS.index("queued before") + 1 in lost
    assert not lost & answered
    assert speeds == [speed for speed in range(1, len(HUB_POINTS) + 1) if speed not in lost]
    assert Counter(round(float(line)) for line in effects(directory, "pump")) == Counter(speeds)
    assert {(row["state"], row["late"]) for row in found} == {("succeeded", False)}


ENDS = {"failed": "fail", "rejected": "refuse", "timed_out": "hold", "expired": "stop", "cancelled": "stop"}
"""Ends other than success, and the command that comes to each of them. Nobody is connected to execute `stop`."""

END_POINTS = [f"{state} {when}" for state in ENDS for when in ("before", "after")]


def failing_agent(url: str, token: str, spool: Path, executed: Counter[tuple[str, int]], end: asyncio.Event) -> Agent:
    """Return an agent whose handlers fail, refuse, or hold a command until the end; it counts what it executes."""
    agent = Agent(url, device="pump", token=token, spool=spool, surroundings=Surroundings(max_delay_ms=20))

    @agent.command("fail")
    def fail(speed: float) -> None:
        executed["fail", round(speed)] += 1
        raise OSError("the motor is hot")

    @agent.command("refuse")
    def refuse(speed: float) -> None:
        executed["refuse", round(speed)] += 1
        raise Rejected("the lid is open", code="lid_open")

    @agent.command("hold", concurrent=True, time_limit_s=600)
    async def hold(speed: float) -> None:
        executed["hold", round(speed)] += 1
        await end.wait()

    return agent


@pytest.mark.deadline(300)
async def test_every_end_survives_a_hub_that_is_killed(tmp_path: Path) -> None:
    """Before and after the commit of each end that is no success, of the device, of the time and of the operator."""
    hub = Hub(tmp_path / "data")
    agents = AsyncExitStack()
    executed: Counter[tuple[str, int]] = Counter()
    end = asyncio.Event()
    try:
        await hub.start()
        token = await hub.token("gateway", "--devices", "*")
        await agents.enter_async_context(failing_agent(hub.url, token, tmp_path / "spool", executed, end))
        offline = Agent(hub.url, device="mill", token=token)

        @offline.command("stop")
        def stop(speed: float) -> None:
            executed["stop", round(speed)] += 1

        async with operator(hub) as client, offline:
            for device, count in (("pump", 3), ("mill", 1)):
                await result_of(partial(declares, client, device, count))
        await hub.kill()
        for speed, place in enumerate(END_POINTS, 1):
            hub.prepare = partial(kill_at, f"{place} {speed}")
            await hub.start()
            async with operator(hub) as client:
                await end_command(client, place.split()[0], speed)
            await hub.ended()
        hub.prepare = None
        await hub.start()
        async with operator(hub) as client:
            await check_ends(client, executed, end)
        assert await hub.stop() == 0, hub.log()[-3000:]
    finally:
        await agents.aclose()
        await hub.kill()


async def declares(client: httpx.AsyncClient, device: str, count: int) -> bool | None:
    answer = await client.get(f"/api/v1/devices/{device}/commands/declared")
    return True if answer.status_code == 200 and len(answer.json()["commands"]) == count else None


def device_of(state: str) -> str:
    return "mill" if ENDS[state] == "stop" else "pump"


async def end_command(client: httpx.AsyncClient, state: str, speed: int) -> None:
    """Send a command that comes to this end, which kills the hub."""
    path = f"/api/v1/devices/{device_of(state)}/commands"
    # A call: the time-out of a queued command begins when the device has ended those before it.
    is_call = state == "timed_out"
    times = {"timeout_s": 1 if is_call else 600, "ttl_s": 1 if state == "expired" else 600}
    body = {"name": ENDS[state], "parameters": {"speed": speed}, "mode": "call" if is_call else "queue", **times}

    async def recorded() -> Any:
        answer = await client.post(path, json=body)
        return answer.json() if answer.status_code == 201 else None  # the agent is not connected yet

    try:
        command = await result_of(recorded)
        if state == "cancelled":
            await client.post(f"{path}/{command['id']}/cancel")
    except httpx.TransportError:
        return


async def check_ends(client: httpx.AsyncClient, executed: Counter[tuple[str, int]], end: asyncio.Event) -> None:
    """Each command comes to its end, also where that was lost with the hub, and none was executed twice."""

    async def found() -> dict[int, Any] | None:
        rows = [
            row
            for device in ("pump", "mill")
            for row in (await client.get(f"/api/v1/devices/{device}/commands")).json()["commands"]
        ]
        commands = {round(row["parameters"]["speed"]): row for row in rows}
        assert {*commands} == {*range(1, len(END_POINTS) + 1)}
        for speed, place in enumerate(END_POINTS, 1):
            state, when = place.split()
            row = commands[speed]
            if row["state"] == "queued" and state == "cancelled" and when == "before":
                await client.post(f"/api/v1/devices/mill/commands/{row['id']}/cancel")
                return None
            # The hub waits for a minute after its start for the result of what it had sent, so it is in time here.
            wanted = "succeeded" if state == "timed_out" else state
            if row["state"] != wanted or row["late"] is not (place == "timed_out after"):
                return None
            assert state in ("failed", "expired", "timed_out") or row["code"] in ("lid_open", "cancelled")
        return commands

    end.set()
    await result_of(found)
    ran = {(ENDS[place.split()[0]], speed) for speed, place in enumerate(END_POINTS, 1)}
    assert executed == Counter({(name, speed): 1 for name, speed in ran if name != "stop"})
