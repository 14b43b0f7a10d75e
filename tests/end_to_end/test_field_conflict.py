"""Readings that InfluxDB rejected for their type are retried after the conflict ends, and are stored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent import Agent, Metric
from tests.end_to_end.hub import Hub
from tests.services.influxdb import InfluxdbServer

TIMES = [1_700_000_000_000_000_000, 1_700_000_000_000_000_001]


async def counts(hub: Hub) -> dict[str, int]:
    answer = await hub.get("/api/v1/quarantine/counts")
    return {entry["code"]: entry["entries"] for entry in answer["codes"]}


@pytest.mark.deadline(90)
async def test_readings_are_retried_after_the_conflict_ends(tmp_path: Path, influxdb2: InfluxdbServer) -> None:
    """During the conflict a retry returns the readings to quarantine under the store's own code. With separate
    measurements for the devices they are stored, and the accounting equals the store's own count."""
    access = influxdb2.fresh()
    settings = tmp_path / "hub.toml"
    settings.write_text(access.settings())
    hub = Hub(tmp_path / "data", options=("--config", str(settings)))
    await hub.start()
    try:
        token = await hub.token("gateway", "--devices", "*")
        async with Agent(hub.url, device="whole", token=token, metrics=[Metric("level", "integer")]) as agent:
            await agent.send_columns(TIMES, {"level": [1, 2]})
            await agent.drain(30)
        await hub.settled()
        async with Agent(hub.url, device="broken", token=token, metrics=[Metric("level")]) as agent:
            await agent.send_columns(TIMES, {"level": [1.5, 2.5]})
            await agent.drain(30)
        await hub.settled()
        assert await counts(hub) == {"field_conflict": 1}
        retry = ("quarantine", "retry", "--all", "--url", hub.url, "--token", await hub.admin())
        await hub.run(*retry)
        await hub.settled()
        assert await counts(hub) == {"field_conflict": 1}
        assert await hub.stop() == 0
        with settings.open("a") as file:
            file.write('measurement = "{device}"\n')
        await hub.start()
        await hub.run(*retry)
        flow = await hub.settled()
        assert await counts(hub) == {}
        assert flow["totals"]["difference"] == 0
        (series,) = (await hub.get("/api/v1/history", device="broken", **{"from": "0"}))["series"]
        assert (series["time_ns"], series["values"]) == (TIMES, [1.5, 2.5])
        (audited,) = (await hub.get("/api/v1/devices/broken/audit"))["metrics"]
        assert audited["stored_least"] == audited["stored_most"] == audited["counted"] == 2
        assert await hub.stop() == 0
    finally:
        await hub.kill()
