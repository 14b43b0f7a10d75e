"""The page “Connect a board” in a real Chromium, whose serial port is replaced by one that plays lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Browser, Page

from tests.end_to_end.browser import open_page
from tests.end_to_end.hub import Hub

PORT = Path(__file__).with_name("serial_port.js").read_text()


async def open_board_page(
    browser: Browser,
    hub: Hub,
    lines: Sequence[str],
    *,
    cut: int = 400,
    period_ms: int = 20,
    limit: int | None = None,
    page: Page | None = None,
) -> Page:
    """Open the page with a board that sends these lines once its port is open, or as many as `limit` of them.

    Without a page that is signed in, it has a context of its own.
    """
    first = len(lines) if limit is None else limit
    settings = json.dumps({"lines": list(lines), "cut": cut, "period_ms": period_ms, "limit": first})
    page = page or await open_page(browser, hub)
    await page.context.add_init_script(f"const SETTINGS = {settings};\n{PORT}")
    await page.goto(f"{hub.url}/board")
    return page


async def delivered_lines(page: Page) -> list[int]:
    """Return the numbers of the lines that the port has delivered as a whole."""
    ranges = await page.evaluate('JSON.parse(localStorage.getItem("test.serial")).delivered')
    return [number for first, end in ranges for number in range(first, end)]


async def delivered(page: Page, number: int) -> None:
    """Return when the port has delivered the lines before this one."""
    end = 'JSON.parse(localStorage.getItem("test.serial"))?.delivered?.at(-1)?.[1] ?? 0'
    await page.wait_for_function(f"number => ({end}) >= number", arg=number, polling=20, timeout=60_000)


async def shown_count(page: Page, test_id: str) -> int:
    """Return a count that the page shows."""
    text = await page.get_by_test_id(test_id).inner_text()
    return int("".join(filter(str.isdigit, text)) or 0)
