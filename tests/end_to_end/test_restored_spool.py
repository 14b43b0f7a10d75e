"""An agent whose spool was restored from an older copy: nothing is stored twice, and nothing new is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

from device_agent import Agent, Metric
from device_agent.spool.status import read_status
from tests.end_to_end.hub import Hub


def _agent(hub: Hub, token: str, spool: Path) -> Agent:
    return Agent(hub.url, device="boiler", token=token, spool=spool, metrics=[Metric("n")], drain_seconds=0.0)


async def test_a_restored_spool_sends_only_what_the_hub_lacks(tmp_path: Path) -> None:
    """The copy has batches that wait, which the hub got after the copy was made. Only the new batch is sent."""
    spool, copy = tmp_path / "agent" / "boiler.spool", tmp_path / "copy"
    spool.parent.mkdir()
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        token = await hub.token("device", "--device", "boiler")
        async with _agent(hub, token, spool) as agent:
            await agent.send({"n": 1.0}, time_ns=1)
            await agent.drain(30)
            await hub.kill()
            for number in (2, 3):
                await agent.send({"n": float(number)}, time_ns=number)
            shutil.copytree(spool.parent, copy)
            await hub.start()
            for number in (4, 5):
                await agent.send({"n": float(number)}, time_ns=number)
            await agent.drain(30)
        shutil.rmtree(spool.parent)
        copy.rename(spool.parent)
        async with _agent(hub, token, spool) as agent:
            await agent.send({"n": 6.0}, time_ns=6)
            await agent.drain(30)
        await hub.settled()
        answer = await hub.get("/api/v1/history", device="boiler", points=0, **{"from": "0"})
        assert [series["values"] for series in answer["series"]] == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
        # Nobody knows what the replaced spool had besides: that is declared, and reported at both ends.
        (flow,) = (await hub.get("/api/v1/flow"))["devices"]
        assert flow["lost_batches"] == 1
        events = (await hub.get("/api/v1/devices/boiler/events"))["events"]
        assert any("replaced by an older copy" in event["detail"] for event in events)
        assert "replaced by an older copy" in read_status(spool).incidents[0].text
    finally:
        await hub.kill()
