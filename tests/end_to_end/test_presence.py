"""Presence and staleness on a real hub that is stopped and killed, and in a real Chromium."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conditions import result_of
from tests.end_to_end.browser import PHONE, check_layout, open_browser, open_page
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello

INTERVAL_S = 1.1


async def send(agent: RawAgent, seq: int, begin_ns: int) -> None:
    """Send a reading with its time, and return when it is durable."""
    await agent.send(data(seq, {"f": [1.0]}, [begin_ns + round(seq * INTERVAL_S * 1e9)]))
    assert await agent.receive() == {"type": "ack", "seq": seq}


async def connect(hub: Hub, token: str, next_seq: int) -> RawAgent:
    """Connect the device."""
    agent = await connect_agent(hub, token)
    await agent.send({**hello(), "next_seq": next_seq})
    assert (await agent.receive())["type"] == "welcome"
    return agent


async def reporting(hub: Hub) -> str:
    """Return how the metric reports, as far as the hub has learned it."""
    metrics = (await hub.get("/api/v1/devices/d"))["metrics"]
    return next(str(metric["freshness"]["reporting"]) for metric in metrics if metric["metric"] == "f")


async def device_in(hub: Hub, state: str) -> dict[str, Any]:
    """Return the device when it has this state."""

    async def query() -> dict[str, Any] | None:
        device: dict[str, Any] = await hub.get("/api/v1/devices/d")
        return device if device["presence"] == state else None

    return await result_of(query)


@pytest.mark.deadline(240)
async def test_a_silent_device_is_seen_and_a_restart_is_no_alarm(tmp_path: Path, chromium: Path) -> None:
    """A sensor that stops is stale in the fleet, on its page and in the API, in light, dark and on a phone. A stop of
    the hub keeps that, and a kill is no absence of the device."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        token = await hub.token("device", "--device", "d")
        begin_ns = time.time_ns()
        agent, seq = await connect(hub, token, 1), 0
        while await reporting(hub) != "periodic":
            seq += 1
            await send(agent, seq, begin_ns)
            await device_in(hub, "connected")
            await asyncio.sleep(INTERVAL_S)  # the interval of the sensor
        fleet, page = await open_page(browser, hub), await open_page(browser, hub, "/device/d")
        await fleet.get_by_test_id("condition").filter(has_text="Silent").wait_for()
        await fleet.get_by_test_id("stale-cell").filter(has_text="ago").wait_for()
        for state in ("silent", "stale"):
            await fleet.get_by_test_id(f"chip-{state}").click()
            await fleet.wait_for_url(f"**/?state={state}")
            await fleet.get_by_test_id("fleet-row").wait_for()
        await fleet.get_by_test_id("chip-online").click()
        await fleet.get_by_text("No device matches the filter").wait_for()
        await page.get_by_test_id("value").get_by_test_id("stale-age").filter(has_text="ago").wait_for()
        await page.get_by_test_id("chart").get_by_test_id("stale-age").filter(has_text="ago").wait_for()
        await page.get_by_test_id("connection").filter(has_text="Silent").wait_for()
        await page.get_by_test_id("metrics").filter(has_text=re.compile(r"every 1\.\d s")).wait_for()
        await check_layout(page)
        for context in ({"color_scheme": "dark"}, {"viewport": PHONE}):
            other = await open_page(browser, hub, "/device/d", **context)
            await other.get_by_test_id("connection").filter(has_text="Silent").wait_for()
            await check_layout(other)
        silent = await hub.get("/api/v1/devices/d")
        assert (silent["presence"], silent["stale"], silent["connected"]) == ("silent", ["f"], True)
        freshness = {metric["metric"]: metric["freshness"] for metric in silent["metrics"]}
        assert freshness["f"]["reporting"] == "periodic"
        assert freshness["f"]["interval_ns"] == pytest.approx(INTERVAL_S * 1e9, rel=0.05)
        assert (freshness["f"]["stale"], freshness["i"]["reporting"]) == (True, "learning")

        assert await hub.stop() == 0
        await hub.start()
        assert (await hub.get("/api/v1/devices/d"))["presence"] == "reconnecting"
        agent = await connect(hub, token, seq + 1)
        assert (await device_in(hub, "silent"))["stale"] == ["f"]
        await send(agent, seq + 1, begin_ns)
        assert (await device_in(hub, "connected"))["stale"] == []
        await page.get_by_test_id("condition").filter(has_text="Online").first.wait_for()

        await hub.kill()
        await hub.start()
        assert (await hub.get("/api/v1/devices/d"))["presence"] == "reconnecting"
        agent = await connect(hub, token, seq + 2)
        await device_in(hub, "connected")
        await agent.ws.close()
        await device_in(hub, "offline")
        timeline = (await hub.get("/api/v1/devices/d/presence"))["intervals"]
        states = [interval["state"] for interval in reversed(timeline)]
        assert states[:4] == ["connected", "silent", "unknown", "reconnecting"]
        assert states[-4:] == ["unknown", "reconnecting", "connected", "offline"]
