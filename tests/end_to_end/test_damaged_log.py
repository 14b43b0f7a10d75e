"""A damaged write-ahead log of the journal: no acknowledged batch is lost, and the damage is reported."""

from __future__ import annotations

from pathlib import Path

import httpx

from device_agent import Agent, Metric
from tests.end_to_end.hub import Hub

BATCHES = 400


async def test_a_flipped_bit_in_the_journals_log_loses_no_acknowledged_batch(tmp_path: Path) -> None:
    """After a kill and a flipped bit in the middle of the log, every batch behind the damage is stored as well."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        await _damage(hub)
    finally:
        await hub.kill()


async def _damage(hub: Hub) -> None:
    token = await hub.token("device", "--device", "boiler")
    async with Agent(hub.url, device="boiler", token=token, metrics=[Metric("n")]) as agent:
        for number in range(BATCHES):
            await agent.send({"n": float(number)}, time_ns=number + 1)
            if number % 20 == 19:
                await agent.drain(30)  # each time a commit of its own
    await hub.kill()
    log = hub.data / "journal.db-wal"
    content = bytearray(log.read_bytes())
    content[int(len(content) * 0.6)] ^= 4
    log.write_bytes(content)
    await hub.start()
    await hub.settled()
    headers = {"Authorization": f"Bearer {await hub.token('admin')}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as client:
        flow = (await client.get("/api/v1/flow")).json()
        events = (await client.get("/api/v1/events")).json()["events"]
        answer = await client.get("/api/v1/history", params={"device": "boiler", "from": "0", "points": "0"})
    (series,) = answer.json()["series"]
    assert flow
    assert series["values"] == [float(number) for number in range(BATCHES)]
    assert any(event["kind"] == "journal repaired" for event in events)
    assert list(hub.data.glob("journal.db-wal.damaged-*"))
