"""kill -9 of the hub at each durable write of a desired value: none is lost, and none is in sync falsely."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conditions import result_of
from tests.device_agent.operator_commands.killed_process import effects
from tests.device_agent.operator_commands.killed_setting import agent_with_setting
from tests.end_to_end.hub import Hub, operator
from tests.end_to_end.killed_hub import kill_at

POINTS = [f"{write} {when}" for write in ("declared", "desired", "reported") for when in ("before", "after")]
PATH = "/api/v1/devices/pump/desired"


async def desire(client: httpx.AsyncClient, pressure: int) -> bool:
    """Set the desired value. Return whether the hub has answered before its end."""
    try:
        answer = await client.patch(PATH, json={"values": {"pressure": pressure}})
    except httpx.TransportError:
        return False
    assert answer.status_code == 200, answer.text
    return True


@pytest.mark.deadline(300)
async def test_desired_values_survive_a_hub_that_is_killed_anywhere(tmp_path: Path) -> None:
    """Before and after each commit, with a real agent. The device never gets a value that is not on the disk."""
    hub = Hub(tmp_path / "data")
    agent = AsyncExitStack()
    try:
        for pressure, place in enumerate(POINTS, 1):
            hub.prepare = partial(kill_at, f"{place} {pressure}")
            await hub.start()
            if pressure == 1:
                token = await hub.token("gateway", "--devices", "*")
                await agent.enter_async_context(agent_with_setting(hub.url, tmp_path, "pump", token, is_killed=False))
            if not place.startswith("declared"):
                async with operator(hub) as client:
                    is_answered = await desire(client, pressure)
                assert not is_answered or place.startswith("reported")
            await hub.ended()
        hub.prepare = None
        await hub.start()
        shown = await result_of(lambda: current(hub))
        setting = shown["settings"][0]
        assert (setting["desired"]["value"], setting["desired"]["state"], setting["reported"]) == (6, "in_sync", 6)
        assert (shown["version"], shown["reported_version"]) == (3, 3)
        # 3 was never on the disk. 4 is replaced by 5 if the agent connects later than the operator sets that.
        applied = [*dict.fromkeys(effects(tmp_path, "pump"))]
        assert applied in (["4.0", "5.0", "6.0"], ["5.0", "6.0"])
        events = (await hub.get("/api/v1/devices/pump/events"))["events"]
        assert [event["kind"] for event in events].count("desired value") == 3
        assert await hub.stop() == 0, hub.log()[-3000:]
    finally:
        await agent.aclose()
        await hub.kill()


async def current(hub: Hub) -> Any:
    """Return the settings of the device as soon as it has reported on its new connection."""
    shown = await hub.get(PATH)
    return shown if shown["is_current"] and shown["reported_version"] == shown["version"] else None
