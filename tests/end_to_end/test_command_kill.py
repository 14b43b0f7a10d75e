"""kill -9 of the hub at each step of a command: none is lost, none is executed twice."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

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
