"""A disk that reports an I/O error: the hub stops acknowledging and reports it; nothing acknowledged is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from device_agent import Agent
from tests.end_to_end.hub import Hub

DEVICE = "pump"


@pytest.mark.deadline(120)
async def test_after_an_io_error_nothing_is_acknowledged_until_a_restart(tmp_path: Path) -> None:
    """Batches after the error are not acknowledged, /ready names the journal, and reads continue. After a restart on
    the repaired disk everything arrives once."""
    switch = tmp_path / "broken"
    hub = Hub(
        tmp_path / "data",
        launcher=(sys.executable, "-m", "tests.end_to_end.failing_disk", str(switch)),
    )
    await hub.start()
    try:
        token = await hub.token("device", "--device", DEVICE)
        await hub.admin()
        acked = 0

        def note(seq: int) -> None:
            nonlocal acked
            acked = seq

        async with Agent(hub.url, device=DEVICE, token=token, on_ack=note) as agent:
            await agent.send({"number": 1.0})
            await agent.drain(30)
            switch.touch()
            await agent.send({"number": 2.0})
            assert "journal" in await hub.in_trouble()
            switch.unlink()
            await agent.send({"number": 3.0})
            assert (await hub.get("/api/v1/devices"))["devices"][0]["acked"] == 1
            assert acked == 1
            await hub.kill()
            await hub.start()
            await agent.drain(60)
            await hub.settled()
            answer = await hub.get("/api/v1/history", device=DEVICE, points=0, **{"from": "0"})
            assert answer["series"][0]["values"] == [1.0, 2.0, 3.0]
            assert acked == 3
        assert await hub.stop() == 0
    finally:
        await hub.kill()
