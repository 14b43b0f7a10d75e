"""The metrics on a device's page: an admin corrects one, and the page follows without being loaded again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.conditions import result_of
from tests.end_to_end.browser import PHONE, check_layout, held, open_browser, open_page, sign_in_with
from tests.end_to_end.hub import running_hub
from tests.end_to_end.raw_agent import connect_agent, data, hello

TIMEOUT_MS = 30_000


async def shown(page: Page, count: int) -> list[Any] | None:
    """Return the values of the chart; None until it has `count` points. A reading that the store lacks arrives live."""
    values = [value for _, value in await held(page, "d", "temperature")]
    return values if len(values) >= count else None


@pytest.mark.deadline(180)
async def test_an_admin_corrects_a_metric_on_the_page(tmp_path: Path, chromium: Path) -> None:
    """Name, type and unit are changed in one dialog, which reports what left the quarantine. The chart continues with
    the readings that the device sends under the old name, and a name that is taken is an error in the dialog."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        connection = await connect_agent(hub, await hub.token("device", "--device", "d"))
        metrics = [{"name": "t", "type": "string"}, {"name": "pressure", "unit": "bar"}]
        await connection.send(hello(metrics=metrics, next_seq=1))
        now_ns = time.time_ns()
        await connection.send(data(1, {"t": ["n/a"], "pressure": [1.5]}, [now_ns - 5_000_000_000]))
        await connection.send(data(2, {"t": [20.5]}, [now_ns - 4_000_000_000]))
        page = await open_page(browser, hub, "/device/d")
        row = page.get_by_test_id("metrics").locator("li[data-metric='t']")
        await expect(row).to_contain_text("string", timeout=TIMEOUT_MS)
        await expect(page.get_by_test_id("timeline")).to_have_count(1)
        await row.get_by_test_id("edit-metric").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("pressure")
        await dialog.get_by_test_id("save-metric").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("choose another one")
        await dialog.get_by_label("Name").fill("temperature")
        await dialog.get_by_label("Type").select_option("float")
        await dialog.get_by_label("Unit").fill("°C")
        await check_layout(page)
        await page.screenshot(path=tmp_path / "dialog.png")
        await dialog.get_by_test_id("save-metric").click()
        await expect(dialog.get_by_test_id("retried")).to_have_text("1 message with 1 reading left the quarantine.")
        await dialog.get_by_role("button", name="Close").click()
        row = page.get_by_test_id("metrics").locator("li[data-metric='temperature']")
        await expect(row).to_contain_text("float, °C")
        await expect(page.get_by_test_id("timeline")).to_have_count(0)
        await connection.send(data(3, {"t": [21.5]}, [now_ns]))
        await expect(page.locator(".value-tile[data-metric='temperature']")).to_contain_text("21.5")
        await expect(page.locator(".value-tile[data-metric='temperature']")).to_contain_text("°C")
        await expect(page.locator("[data-metric='t']")).to_have_count(0)
        assert [value for _, value in await held(page, "d", "temperature")][-1] == 21.5
        await page.reload()
        await expect(page.locator(".value-tile[data-metric='temperature']")).to_contain_text("21.5")
        assert await result_of(lambda: shown(page, 2)) == [20.5, 21.5]
        await check_layout(page)
        await page.screenshot(path=tmp_path / "device.png", full_page=True)
        await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
        await row.get_by_test_id("edit-metric").click()
        await check_layout(page)
        await page.screenshot(path=tmp_path / "phone.png")


@pytest.mark.deadline(120)
async def test_only_an_admin_can_edit_metrics(tmp_path: Path, chromium: Path) -> None:
    """An operator sees the metrics without a button."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        connection = await connect_agent(hub, await hub.token("device", "--device", "d"))
        await connection.send(hello(next_seq=1))
        assert (await connection.receive())["type"] == "welcome"
        page = await sign_in_with(browser, hub, await hub.token("operator"))
        await page.goto(f"{hub.url}/device/d")
        await expect(page.get_by_test_id("metrics").get_by_role("listitem")).to_have_count(4, timeout=TIMEOUT_MS)
        await expect(page.get_by_test_id("edit-metric")).to_have_count(0)
