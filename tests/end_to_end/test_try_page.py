"""The page “Try it” of a real hub: pasted lines, a file, settings and refusals."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.end_to_end.browser import PHONE, check_layout, open_browser, open_page
from tests.end_to_end.hub import running_hub

TIMEOUT_MS = 20_000
TABLE = "time;Temperatur [°C];count\n2026-11-28T15:05:00;1.234;7\n2026-11-28T15:06:00;21,5;x\n"


@pytest.mark.deadline(120)
async def test_content_is_read_and_not_stored(tmp_path: Path, chromium: Path) -> None:
    """The result follows the content and the settings; the settings to copy are those of the result."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        page = await open_page(browser, hub)
        await page.get_by_role("navigation").get_by_role("link", name="Try it").click()
        result = page.get_by_role("region", name="Result")
        lines, readings = page.get_by_label("Lines"), page.get_by_test_id("reading")
        await page.get_by_role("button", name="NMEA", exact=True).click()
        await expect(result.get_by_role("heading", name="NMEA 0183")).to_be_visible(timeout=TIMEOUT_MS)
        await expect(result).to_contain_text("Nothing refused")

        await lines.fill(TABLE)
        await expect(result.get_by_role("heading", name="CSV and tables")).to_be_visible(timeout=TIMEOUT_MS)
        await expect(readings.filter(has_text="21.5 °C")).to_be_visible()
        await expect(page.get_by_test_id("refusal")).to_contain_text("count")
        await page.get_by_label("Device", exact=True).fill("boiler-7")
        await page.get_by_label("Zone").fill("Europe/Berlin")
        await expect(readings.first).to_contain_text("2026-11-28 14:05:00", timeout=TIMEOUT_MS)
        await expect(readings.first).to_contain_text("boiler-7")
        await expect(result.get_by_test_id("command").first).to_contain_text('zone = "Europe/Berlin"')
        await check_layout(page)

        await page.get_by_label("No value").fill("x")
        await expect(result).to_contain_text("1 without a value", timeout=TIMEOUT_MS)
        await expect(result).to_contain_text("Nothing refused")
        await page.get_by_label("Types").fill("count=string, Temperatur=float")
        await expect(result.get_by_test_id("command").first).to_contain_text("[types]", timeout=TIMEOUT_MS)

        await page.get_by_label("Zone").fill("Berlin")
        await expect(result).to_contain_text("use a name like Europe/Berlin", timeout=TIMEOUT_MS)
        await page.get_by_label("Zone").fill("")
        packed = tmp_path / "log.gz"
        packed.write_bytes(gzip.compress(b'{"temp": 21.5}\n'))
        await page.get_by_label("File").set_input_files(packed)
        await expect(result.get_by_role("heading", name="JSON in gzip")).to_be_visible(timeout=TIMEOUT_MS)

        await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
        await page.get_by_role("navigation").get_by_role("link", name="Flow").click()
        await page.get_by_test_id("flow-verdict").wait_for()
        await check_layout(page)
        await page.get_by_role("banner").get_by_role("link", name="Try it").click()
        await page.get_by_label("Lines").fill(f"temp\n1\n{'broken ' * 40}\n")
        raw = page.get_by_test_id("refusal").locator("pre").last
        await raw.wait_for(timeout=TIMEOUT_MS)
        inside = "line => line.getBoundingClientRect().right <= line.closest('.box').getBoundingClientRect().right"
        assert await raw.evaluate(inside)
        await page.get_by_role("button", name="JSON", exact=True).click()
        await expect(page.get_by_test_id("reading").first).to_be_visible(timeout=TIMEOUT_MS)
        await check_layout(page)
        assert (await hub.get("/api/v1/devices"))["devices"] == []
