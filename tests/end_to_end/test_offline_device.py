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
from tests.end_to_end.import_command import import_result, start_import

RANGES = ("5m", "1h", "15m", "24h", "5m")
"""The first is the one that the page opens with: each click switches to other data and back."""

LEVELS = [20.0, 21.5, 23.0, 22.25]


async def send_and_leave(hub: Hub, device: str, ages_s: list[float]) -> None:
    """Send readings of these ages and disconnect."""
    token = await hub.token("device", "--device", device)
    metrics = [Metric("level", unit="bar"), Metric("burner", type="boolean")]
    times = [time.time_ns() - round(age * 1e9) for age in ages_s]
    async with Agent(hub.url, device=device, token=token, metrics=metrics) as agent:
        levels = [LEVELS[position % len(LEVELS)] for position in range(len(times))]
        await agent.send_columns(times, {"level": levels, "burner": [True] * len(times)})
        await agent.drain(30)


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


@pytest.mark.deadline(120)
async def test_readings_of_the_past_have_their_own_time(tmp_path: Path, chromium: Path) -> None:
    """The last reading of an import is years old, and the button leads to it instead of the time of the import."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        begin_s = 757_382_400  # 1 January 1994
        await send_and_leave(hub, "archive", [time.time() - begin_s - minute * 60 for minute in range(5)])
        page = await open_page(browser, hub, "/device/archive")
        await page.get_by_text("No readings since 1 Jan 1994").wait_for()
        await expect(page.get_by_test_id("last-reading")).to_have_text(re.compile(r"^\d{5} d"))
        await page.get_by_test_id("show-last").click()
        chart = page.get_by_test_id("chart")
        await expect(chart.locator(".plot")).to_have_count(1)
        await expect(chart.locator(".plot.empty")).to_have_count(0)


@pytest.mark.deadline(120)
async def test_a_device_that_was_only_imported_has_no_agent(tmp_path: Path, chromium: Path) -> None:
    """Nothing of it went offline: the fleet, its page and `hub device list` say so."""
    file = tmp_path / "archive.csv"
    file.write_text("time,level\n1994-01-01T00:00:00Z,21.5\n")
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        token = await hub.token("gateway", "--devices", "*")
        status, _, errors = await import_result(await start_import(hub, token, str(file), "--device", "archive"))
        assert status == 0, errors
        page = await open_page(browser, hub)
        await expect(page.get_by_test_id("condition")).to_have_text("No agent")
        await expect(page.get_by_test_id("chip-unconnected")).to_have_text("No agent 1")
        await expect(page.get_by_test_id("chip-offline")).to_have_count(0)
        await page.goto(f"{hub.url}/device/archive")
        await expect(page.get_by_test_id("condition")).to_have_text("No agent")
        await expect(page.locator(".fact").filter(has_text="Connected").locator("dd")).to_have_text("never")
        assert " no agent " in await hub.run("device", "list", "--url", hub.url, "--token", await hub.admin())


GAP = re.compile(r"No readings for (?:(\d+) min ?)?(?:(\d+) s)?")


@pytest.mark.deadline(120)
async def test_the_silence_of_an_offline_device_is_hatched_and_its_length_is_right(
    tmp_path: Path, chromium: Path
) -> None:
    """After a single reading as well. The gap lasts until now, and not until the end of the drawing."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        before_ns = time.time_ns()
        await send_and_leave(hub, "button", [60.0])
        page = await open_page(browser, hub, "/device/button")
        await open_offline(page)
        chart = page.get_by_test_id("chart")
        await expect(chart.get_by_test_id("gap")).to_have_count(1)
        box = await chart.locator(".viewport").bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] * 0.98, box["y"] + box["height"] / 2)
        shown = chart.locator(".crosshair-time")
        await expect(shown).to_have_text(re.compile(r"No readings for .+\. The device was offline"))
        found = GAP.search(await shown.inner_text())
        assert found is not None
        length_s = 60 * int(found[1] or 0) + int(found[2] or 0)
        assert 0 <= length_s <= (time.time_ns() - before_ns) / 1e9 + 1
        timeline = page.get_by_test_id("timeline")
        box = await timeline.locator(".viewport").bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] * 0.98, box["y"] + box["height"] / 2)
        await expect(timeline.get_by_test_id("state")).to_have_text("–")
        await page.mouse.move(0, 0)
        await expect(timeline.get_by_test_id("state")).to_have_text("on")
