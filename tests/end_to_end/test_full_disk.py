"""A full disk: new data is rejected and stays with the agents, reads continue, and the hub resumes by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from device_agent import Agent
from tests.end_to_end.hub import running_hub
from tests.hub.storage.small_disk import SmallDisk

DEVICE = "pump"
DISK_BYTES = 256 << 20
ROWS = 5_000


@pytest.mark.deadline(180)
async def test_a_full_disk_loses_nothing_and_the_hub_resumes_by_itself(tmp_path: Path) -> None:
    """While the disk is full, the hub reports it in /ready, answers queries, and acknowledges nothing that it could
    lose. When there is room again, everything that was sent meanwhile arrives once."""
    mount = tmp_path / "disk"
    mount.mkdir()
    disk = SmallDisk(mount, DISK_BYTES)
    try:
        async with running_hub(mount / "data", log=tmp_path / "hub.log") as hub:
            token = await hub.token("device", "--device", DEVICE)
            await hub.admin()
            async with Agent(hub.url, device=DEVICE, token=token) as agent:
                sent = 0

                async def send() -> None:
                    nonlocal sent
                    times = list(range(sent + 1, sent + 1 + ROWS))
                    await agent.send_columns(times, {"number": [float(time) for time in times]})
                    sent += ROWS

                await send()
                await agent.drain(30)
                await hub.settled()
                before = await hub.get("/api/v1/history", device=DEVICE, points=10, **{"from": "0"})
                with disk.filled(leaving_bytes=1 << 20):
                    while not await hub.problems():
                        await send()
                        await asyncio.sleep(0.05)
                    assert {"journal", "store"} & (await hub.in_trouble()).keys()
                    for _ in range(20):
                        await send()
                    assert await hub.get("/api/v1/devices")
                    during = await hub.get("/api/v1/history", device=DEVICE, points=10, **{"from": "0"})
                    assert during["offset"] >= before["offset"]
                await agent.drain(90)
                flow = await hub.settled()
                counts = flow["devices"][0]
                assert (counts["accepted"], counts["stored"], counts["lost_batches"]) == (sent, sent, 0)
                answer = await hub.get("/api/v1/history", device=DEVICE, points=0, **{"from": "0"})
                assert answer["series"][0]["time_ns"] == list(range(1, sent + 1))
                assert await hub.problems() == {}
    finally:
        disk.unmount()
