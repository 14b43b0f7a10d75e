"""kill -9 of the hub at each step of a command to plain clients: none is lost, none is executed twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage

from tests.conditions import result_of
from tests.end_to_end.hub import Hub, operator
from tests.end_to_end.killed_hub import kill_at
from tests.hub.http.opened_hub import connected

POINTS = [f"{state} {when}" for state in ("queued", "sent", "succeeded") for when in ("before", "after")]
COMMANDS = [{"name": "set_speed", "parameters": ["speed"]}]


class PlainClient:
    """A client that executes commands. One with `repeat` keeps their ids, and both keep results until recorded."""

    def __init__(self, url: str, token: str, *, repeat: bool) -> None:
        self.url = url
        self.token = token
        self.repeat = repeat
        self.results: dict[str, Any] = {}
        self.unrecorded: dict[str, Any] = {}
        self.executed: Counter[float] = Counter()
        self.starts: asyncio.Queue[None] = asyncio.Queue()

    async def run(self) -> None:
        """Serve commands, and connect once after each start of the hub."""
        while True:
            await self.starts.get()
            with suppress(OSError, ConnectionClosed, InvalidMessage):
                async with connected(self.url, token=self.token, open_timeout=None) as hub:
                    await self._serve(hub)

    async def _serve(self, hub: ClientConnection) -> None:
        for frame in ({"commands": COMMANDS, "repeat": self.repeat}, *self.unrecorded.values()):
            await hub.send(json.dumps(frame))
        async for text in hub:
            frame = json.loads(text)
            if "command" in frame:
                await hub.send(json.dumps(self._execute(frame)))
            elif "recorded" in frame:
                self.unrecorded.pop(frame["recorded"], None)

    def _execute(self, frame: Any) -> Any:
        id = frame["id"]
        if not self.repeat or id not in self.results:
            self.executed[frame["parameters"]["speed"]] += 1
            self.results[id] = self.unrecorded[id] = {"result": id, "ok": True}
        return self.results[id]


async def send(client: httpx.AsyncClient, device: str, speed: int) -> None:
    """Queue a command as soon as the device has declared it. The hub may end before it answers."""
    body = {"name": "set_speed", "parameters": {"speed": speed}, "mode": "queue", "timeout_s": 600}

    async def sent() -> Any:
        answer = await client.post(f"/api/v1/devices/{device}/commands", json=body)
        return None if answer.status_code in (404, 422) else answer

    try:
        assert (await result_of(sent)).status_code == 201
    except httpx.TransportError:
        return


async def states(client: httpx.AsyncClient, device: str) -> dict[int, str]:
    """Return the state of each command by its speed."""
    commands = (await client.get(f"/api/v1/devices/{device}/commands")).json()["commands"]
    return {round(command["parameters"]["speed"]): command["state"] for command in commands}


@pytest.mark.deadline(300)
async def test_commands_to_plain_clients_survive_a_hub_that_is_killed_anywhere(tmp_path: Path) -> None:
    """Before and after each commit. A client without a memory executes at most once, and one that keeps ids exactly
    once; only what was recorded as sent and never left the hub stays unknown."""
    hub = Hub(tmp_path / "data")
    clients: dict[str, PlainClient] = {}
    try:
        async with asyncio.TaskGroup() as running:
            for speed, place in enumerate(POINTS, 1):
                hub.prepare = partial(kill_at, f"{place} {speed}")
                await hub.start()
                if speed == 1:
                    for name in ("simple", "keeper"):
                        token = await hub.token("device", "--device", name)
                        clients[name] = PlainClient(f"{hub.ws_url}/v1/plain", token, repeat=name == "keeper")
                    tasks = [running.create_task(client.run()) for client in clients.values()]
                for plain in clients.values():
                    plain.starts.put_nowait(None)
                async with operator(hub) as client:
                    await send(client, "keeper", speed + 100)
                    await send(client, "simple", speed)
                await hub.ended()
            hub.prepare = None
            await hub.start()
            for plain in clients.values():
                plain.starts.put_nowait(None)
            await check(hub, clients)
            for task in tasks:
                task.cancel()
        assert await hub.stop() == 0, hub.log()[-3000:]
    finally:
        await hub.kill()


async def check(hub: Hub, clients: dict[str, PlainClient]) -> None:
    """Check the end of each command, once every result is recorded."""
    simple, keeper = clients["simple"].executed, clients["keeper"].executed
    async with operator(hub) as operated:

        async def settled() -> dict[int, str] | None:
            found = await states(operated, "simple")
            is_true = all((state == "succeeded") is (speed in simple) for speed, state in found.items())
            is_ended = {*found.values()} == {"succeeded", "sent"} and not any(c.unrecorded for c in clients.values())
            return (
                found
                if is_true and is_ended and {*(await states(operated, "keeper")).values()} == {"succeeded"}
                else None
            )

        found = await result_of(settled)
        assert {*await states(operated, "keeper")} == {*keeper}
    assert {*keeper} == {*range(101, 101 + len(POINTS))}
    assert {*simple.values(), *keeper.values()} == {1}
    # For a device that is connected, "sent" is in the commit of "queued".
    unsent = {speed for speed, state in found.items() if state == "sent"}
    assert (
        {POINTS.index("sent after") + 1}
        <= unsent
        <= {POINTS.index(f"{state} after") + 1 for state in ("queued", "sent")}
    )
    lost = {*range(1, len(POINTS) + 1)} - {*found}
    assert (
        {POINTS.index("queued before") + 1}
        <= lost
        <= {POINTS.index(f"{state} before") + 1 for state in ("queued", "sent")}
    )
