"""The page of a device that is offline when a browser opens it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from device_agent import Agent, Metric
from tests.end_to_end.browser import open_browser, open_page
from tests.end_to_end.hub import Hub, running_hub

RANGES = ("5m", "1h", "15m", "24h", "5m")
"""The first is the one that the page opens with: each click switches to other data and back."""

LEVELS = [20.0, 21.5, 23.0, 22.25]


async def send_and_leave(hub: Hub, device: str, ages_s: list[float]) -> int:
    """Send readings of these ages and disconnect. Return the time of the newest one in ns."""
    token = await hub.token("device", "--device", device)
    metrics = [Metric("level", unit="bar"), Metric("burner", type="boolean")]
    times = [time.time_ns() - round(age * 1e9) for age in ages_s]
    async with Agent(hub.url, device=device, token=token, metrics=metrics) as agent:
        levels = [LEVELS[position % len(LEVELS)] for position in range(len(times))]
        await agent.send_columns(times, {"level": levels, "burner": [True] * len(times)})
        await agent.drain(30)
    return times[-1]


async def open_offline(page: Page) -> None:
    """Return when the page shows the device as offline and its chart has readings."""
    await page.locator(".device-head").get_by_text("Offline").wait_for()
    await expect(page.locator("[data-testid=chart] .readout")).to_have_text(re.compile(r"^[0-9]"))


@pytest.mark.deadline(120)
async def test_every_range_shows_the_readings_of_an_offline_device(tmp_path: Path, chromium: Path) -> None:
    """The newest value stays beside the chart, and the plot has readings, after a click on each range."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        await send_and_leave(hub, "boiler", [float(age) for age in range(180, 60, -1)])
        page = await open_page(browser, hub, "/device/boiler")
        await open_offline(page)
        chart = page.get_by_test_id("chart")
        for name in RANGES:
            await page.get_by_test_id(f"range-{name}").click()
            await expect(page).to_have_url(re.compile(f"range={name}"))
            await expect(chart.locator(".readout")).to_have_text(re.compile(r"22\.25"))
            await expect(chart.locator(".plot.empty")).to_have_count(0)
