"""The page of a real hub for an unknown address, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.browser import PHONE, check_layout, open_browser, open_page
from tests.end_to_end.hub import running_hub

BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"


@pytest.mark.deadline(120)
async def test_an_unknown_address_has_the_look_of_the_page(tmp_path: Path, chromium: Path) -> None:
    """It is a 404 with the colours of the theme that the browser remembers, and it links the fleet."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        page = await open_page(browser, hub, "/flow", color_scheme="light")
        await page.get_by_test_id("theme").wait_for()
        await page.evaluate("localStorage.setItem('telemetry-hub.theme', 'dark')")
        await page.reload()
        await page.get_by_test_id("theme").wait_for()
        colour = await page.evaluate(BACKGROUND)
        for size in (None, PHONE):
            if size is not None:
                await page.set_viewport_size({"width": size["width"], "height": size["height"]})
            answer = await page.goto(f"{hub.url}/nonsense/below")
            assert answer is not None
            assert answer.status == 404
            await page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            assert await page.evaluate(BACKGROUND) == colour
            await check_layout(page)
            text = await page.get_by_test_id("not-found").locator("p").bounding_box()
            assert text is not None
            assert text["x"] >= 12, "the text touches the edge"
        await page.get_by_role("link", name="Back to the fleet").click()
        await page.get_by_test_id("empty-fleet").wait_for()
