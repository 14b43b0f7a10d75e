"""The restart of a board: from the lines that it writes to the events and the charts of the page."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.end_to_end.browser import open_browser, open_page
from tests.end_to_end.hub import running_hub
from tests.end_to_end.serial_agent import serial_agent

BANNER = b"ets Jun  8 2016 00:22:57\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\n"
RESTARTED = "rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)"


@pytest.mark.deadline(120)
async def test_a_restart_is_an_event_and_a_mark_on_charts(
    tmp_path: Path, chromium: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An open page shows it without a reload: in the events, as a mark, and in words under the pointer."""
    caplog.set_level(logging.INFO, logger="device_agent")
    async with (
        running_hub(tmp_path / "data") as hub,
        serial_agent(hub, tmp_path, "board") as agent,
        open_browser(chromium) as browser,
    ):
        await agent.play(b"".join(b'{"t": %d, "uptime": %d}\n' % (number % 7, number) for number in range(100)))
        page = await open_page(browser, hub, "/device/board")
        chart = page.get_by_test_id("chart").first
        await expect(chart.locator(".y-axis .tick").first).to_be_visible(timeout=30_000)
        assert await chart.get_by_test_id("restart").count() == 0
        await agent.play(BANNER + b'{"t": 3, "uptime": 0}\n{"t": 4, "uptime": 1}\n')
        events = (await hub.get("/api/v1/devices/board/events"))["events"]
        (restart,) = [event for event in events if event["kind"] == "restarted"]
        assert restart["detail"] == f"{tmp_path / 'port-board'}: {RESTARTED}"
        times = (await agent.series())["uptime"]
        assert times[99] < restart["time_ns"] <= times[0] or restart["time_ns"] <= max(times.values())
        await expect(page.get_by_test_id("events")).to_contain_text(RESTARTED, timeout=30_000)
        mark = chart.get_by_test_id("restart")
        await expect(mark).to_have_count(1)
        await chart.scroll_into_view_if_needed()
        box, plot = await mark.bounding_box(), await chart.locator(".viewport").bounding_box()
        assert box is not None
        assert plot is not None
        assert plot["x"] <= box["x"] <= plot["x"] + plot["width"]
        await page.mouse.move(box["x"] + 1, plot["y"] + plot["height"] / 2)
        await expect(chart.locator(".crosshair-time")).to_contain_text("restarted")
