"""An I/O error of the disk under the journal: the hub stops with an exit code, and nothing acknowledged is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from device_agent import Agent
from tests.conditions import until
from tests.end_to_end.hub import Hub

DEVICE = "pump"


@pytest.mark.deadline(120)
async def test_after_an_io_error_the_hub_stops_and_continues_after_a_restart(tmp_path: Path) -> None:
    """Batches after the error are not acknowledged, the hub names the disk and ends with exit code 1. After a restart
    on the repaired disk everything arrives once."""
    switch = tmp_path / "broken"
    hub = Hub(
        tmp_path / "data",
        launcher=(sys.executable, "-m", "tests.end_to_end.failing_disk", str(switch)),
    )
    await hub.start()
    try:
        token = await hub.token("device", "--device", DEVICE)
        acked = 0

        def note(seq: int) -> None:
            nonlocal acked
            acked = seq

        async with Agent(hub.url, device=DEVICE, token=token, on_ack=note) as agent:
            await agent.send({"number": 1.0})
            await agent.drain(30)
            switch.touch()
            await agent.send({"number": 2.0})
            await until(lambda: not hub.is_running)
            assert await hub.stop() == 1
            assert "hub: journal failed: the disk that holds the journal failed" in hub.log()
            assert "restart the hub" in hub.log()
            assert acked == 1
            switch.unlink()
            await agent.send({"number": 3.0})
            await hub.start()
            await agent.drain(60)
            await hub.settled()
            answer = await hub.get("/api/v1/history", device=DEVICE, points=0, **{"from": "0"})
            assert answer["series"][0]["values"] == [1.0, 2.0, 3.0]
            assert acked == 3
        assert await hub.stop() == 0
    finally:
        await hub.kill()
