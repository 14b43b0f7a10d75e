"""The page Flow of a real hub: it shows the accounting, with problems in red."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page

from device_agent import Agent
from tests.end_to_end.browser import check_layout, check_looks, open_browser, open_page
from tests.end_to_end.hub import Hub
from tests.hub.storage.duckdb.locked_file import locked_by_another_process

LONG = "x" * 64
ROWS = 1_234


async def send(hub: Hub, token: str, device: str, first: int) -> None:
    async with Agent(hub.url, device=device, token=token) as agent:
        times = list(range(first, first + ROWS))
        await agent.send_columns(times, {"number": [float(time) for time in times]})
        await agent.drain(30)


async def says(page: Page, test_id: str, words: str) -> None:
    """Return when an element contains these words."""
    await page.get_by_test_id(test_id).filter(has_text=words).wait_for()


@pytest.mark.deadline(120)
async def test_the_page_shows_the_accounting(tmp_path: Path, chromium: Path) -> None:
    """Totals equal those of the API and update by themselves. An outage of the store is shown at the store, in words
    and with the waiting readings, and disappears by itself. All of it in light, dark and on a phone."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        token = await hub.token("gateway", "--devices", "*")
        await send(hub, token, "pump", 1)
        await send(hub, token, LONG, 1)
        await hub.settled()
        async with open_browser(chromium) as browser:
            page = await open_page(browser, hub, "/flow")
            await says(page, "flow-verdict", "Balanced")
            await says(page, "flow-sum", f"{2 * ROWS:,}")
            await send(hub, token, "pump", ROWS + 1)
            await says(page, "flow-sum", f"{3 * ROWS:,}")
            await check_layout(page)
            await hub.kill()
            with locked_by_another_process(hub.data / "history.duckdb"):
                await hub.start()
                await says(page, "flow-store", "in use by another process")
                await says(page, "trouble", "The hub does not store data.")
                await says(page, "trouble", "in use by another process")
                await says(page, "flow-verdict", "not known yet")
                await says(page, "flow-store", "Unavailable")
                await check_looks(page)
            await says(page, "flow-verdict", "Balanced")
            await says(page, "flow-store", "Running")
            await page.get_by_test_id("trouble").wait_for(state="detached")
        assert await hub.stop() == 0
    finally:
        await hub.kill()
