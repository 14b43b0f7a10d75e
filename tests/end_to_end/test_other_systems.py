"""The agent, its library and the simulator without what only POSIX or Linux has, against a real hub."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.conditions import result_of
from tests.end_to_end.hub import Hub, running_hub
from tests.programs import run_module, running_module

started = partial(running_module, "tests.other_system")
run = partial(run_module, "tests.other_system")


@pytest.mark.deadline(180)
async def test_the_agent_the_library_and_the_simulator_run_on_a_system_like_windows(tmp_path: Path) -> None:
    """Everything arrives once; the spool has its usual place and is locked, and a signal ends the agent in order."""
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(tmp_path / "data"))
        token = await hub.token("gateway", "--devices", "*")
        environment = {
            "HUB_URL": hub.url, "HUB_TOKEN": token, "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path / "AppData"),
        }  # fmt: skip
        agent = await stack.enter_async_context(
            started("device_agent.commands", "run", "--device", "host", "--interval", "0.2", **environment)
        )
        simulator, library = await asyncio.gather(
            run(
                "device_sim.commands", "run", "--devices", "3", "--rate", "5", "--duration", "1",
                "--json", "-", "--assert", "lost==0", "--assert", "stored==sent", **environment,
            ),
            run("library", hub.url, token, str(tmp_path / "library.spool")),
        )  # fmt: skip
        assert simulator[0] == 0, simulator
        assert json.loads(simulator[1])["readings"]["sent"] > 0
        assert library[0] == 0, library
        await result_of(lambda: accepted(hub, "host"))
        spool = tmp_path / "AppData" / "telemetry-hub" / "host.spool"
        assert spool.exists()
        status, second = await asyncio.gather(
            run("device_agent.commands", "status", "--device", "host", **environment),
            run("device_agent.commands", "run", "--device", "host", **environment),
        )
        assert "agent    running" in status[1]
        assert second[0] == 1
        assert f"is in use by another agent (process {agent.pid})" in second[2]
        agent.send_signal(signal.SIGTERM)
        _, errors = await agent.communicate()
        assert agent.returncode == 0, errors.decode()
        flow = await hub.settled()
    totals = {device["device"]: device for device in flow["devices"]}
    assert totals["library"]["stored"] == totals["library"]["accepted"] == 100
    assert totals["host"]["stored"] == totals["host"]["accepted"] > 0


async def accepted(hub: Hub, device: str) -> bool | None:
    """Return True when the hub has readings of a device."""
    flow = await hub.get("/api/v1/flow")
    return True if any(found["device"] == device and found["accepted"] for found in flow["devices"]) else None
