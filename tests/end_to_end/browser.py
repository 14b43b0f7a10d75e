"""A real Chromium that shows the page of a real hub."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from tests.end_to_end.hub import Hub

DISABLED = (
    *("HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "MediaRouter", "OptimizationHints", "PaintHolding"),
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
)
"""Features of Chromium. The list replaces Playwright's own, so it begins with what matters of that.

The last two are pages of the address bar, which Chromium loads for each window, also without one to see: 1.9 of the
2.8 s of processor time that a start with one page took."""

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--disable-features={','.join(DISABLED)}",
]
AXE = Path(__file__).parents[2] / "dashboards" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 780}
SCREEN = {"width": 1440, "height": 900}


@contextlib.asynccontextmanager
async def open_browser(chromium: Path, *arguments: str) -> AsyncIterator[Browser]:
    """Run a Chromium with a fresh profile and further arguments."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(chromium), args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()


async def open_page(browser: Browser, hub: Hub, path: str = "/", **context: Any) -> Page:
    """Open a page in a context of its own, signed in by a one-time URL."""
    created = await browser.new_context(**{"viewport": SCREEN, **context})
    page = await created.new_page()
    await page.goto(await one_time_url(hub))
    if path != "/":
        await page.goto(hub.url + path)
    return page


async def sign_in_with(browser: Browser, hub: Hub, token: str) -> Page:
    """Open the page and sign in with a token, as a person does."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(hub.url)
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="Fleet").first.wait_for()
    return page


async def one_time_url(hub: Hub) -> str:
    """Return a new one-time URL, as `hub token url` prints it."""
    return await hub.run("token", "url", "--data", str(hub.data))


async def held(page: Page, device: str, metric: str) -> list[tuple[float, Any]]:
    """Return the points of a metric's chart: (time in ms, value)."""
    series = await page.evaluate("([d, m]) => window.__hub?.series(d, m) ?? null", [device, metric])
    return [] if series is None else list(zip(series["times_ms"], series["values"], strict=True))


SETTLED = """Promise.allSettled(document.getAnimations()
    .filter((animation) => animation.effect.getComputedTiming().endTime !== Infinity)
    .map((animation) => animation.finished))"""
"""Waits until no colour changes any more: one on its way would count as one of low contrast."""


async def check_layout(page: Page) -> None:
    """Check that the page does not scroll sideways and that axe finds no accessibility fault."""
    await page.evaluate(SETTLED)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if AXE.exists():
        if not await page.evaluate("'axe' in window"):
            await page.evaluate(AXE.read_text())
        found = await page.evaluate("axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes[0].html))")
        assert found == [], found


async def check_looks(page: Page) -> None:
    """Check the layout in light, in dark and on a phone, which the page shows afterwards."""
    for scheme, size in (("light", SCREEN), ("dark", SCREEN), ("light", PHONE)):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await page.set_viewport_size(size)  # type: ignore[arg-type]
        await check_layout(page)
