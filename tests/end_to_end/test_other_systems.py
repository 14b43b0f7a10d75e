"""The agent, its library and the simulator without what only POSIX or Linux has, against a real hub."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.conditions import result_of
from tests.end_to_end.hub import Hub, running_hub


@asynccontextmanager
async def started(*arguments: str, **environment: str) -> AsyncIterator[Process]:
    """Run a program during the block; kill it if it has not ended then."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "XDG_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.other_system", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env={**clean, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
    async with started(*arguments, **environment) as process:
        output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()


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
