"""Axis labels of charts in a real browser: none is cut, on any screen and with any numbers."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from device_agent import Agent, Metric
from tests.conditions import result_of
from tests.end_to_end.browser import PHONE, open_browser, open_page
from tests.end_to_end.hub import running_hub

SIGNALS = {
    "large": (123_456_789_012.5, 1e9),
    "tiny": (-0.00000123, 4e-7),
    "fine": (1234.56789, 0.00001),
    "thousands": (-99_999.5, 0.25),
    "shortened": (-123_456.75, 0.5),
    "huge": (-1.5e15, 1e12),
}
"""Middle and amplitude of each metric."""

CUT = """async (card, moments) => {
  const cut = [];
  for (let moment = 0; moment < moments; moment++) {
    const box = card.getBoundingClientRect();
    const view = card.querySelector('.viewport').getBoundingClientRect();
    for (const label of card.querySelectorAll('.y-axis .tick, .y-axis .last')) {
      const { left, right } = label.getBoundingClientRect();
      if (left < view.right - 1 || right > box.right || label.scrollWidth > label.clientWidth && label.clientWidth > 0)
        cut.push(label.textContent);
    }
    for (const label of card.querySelectorAll('.time-label:not(.cut)')) {
      const { left, right } = label.getBoundingClientRect();
      if (left < view.left - 1 || right > view.right + 1) cut.push(label.textContent);
    }
    await new Promise(done => requestAnimationFrame(done));
  }
  return cut;
}"""
"""Return the labels of a chart that something cuts at one of several moments."""


async def check_labels(page: Page, moments: int) -> None:
    """Check every chart at several moments of the moving time axis."""
    charts = page.get_by_test_id("chart")
    await expect(charts).to_have_count(len(SIGNALS))
    for chart in await charts.all():
        await chart.scroll_into_view_if_needed()
        await expect(chart.locator(".y-axis .tick").first).to_be_visible(timeout=30_000)
        await expect(chart.locator(".time-label:not(.cut)").first).to_be_visible(timeout=30_000)
        # The chart follows a new width a frame later.
        await result_of(lambda chart=chart: uncut(chart))  # type: ignore[misc]
        assert await chart.evaluate(CUT, moments) == []


async def uncut(chart: Locator) -> bool | None:
    """Return True if nothing cuts a label of the chart now; else None."""
    return await chart.evaluate(CUT, 1) == [] or None


@pytest.mark.deadline(150)
async def test_no_label_is_cut(tmp_path: Path, chromium: Path) -> None:
    """On a wide screen, on one of 700 px, and on a phone: the value axis grows with its labels, and a time label that
    reaches an edge is hidden as a whole."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        token = await hub.token("device", "--device", "pump")
        metrics = [Metric(name, unit=name) for name in SIGNALS]
        async with Agent(hub.url, device="pump", token=token, metrics=metrics) as agent:
            now_ns = time.time_ns()
            times = [now_ns - (300 - second) * 1_000_000_000 for second in range(300)]
            waves = {
                name: [middle + amplitude * math.sin(second / 9) for second in range(300)]
                for name, (middle, amplitude) in SIGNALS.items()
            }
            await agent.send_columns(times, waves)
            await agent.drain(30)
            page = await open_page(browser, hub, "/device/pump")
            for width in (1440, 700, PHONE["width"]):
                await page.set_viewport_size({"width": width, "height": 900})
                await check_labels(page, moments=20)
