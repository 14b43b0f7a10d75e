"""The page in a real Chromium: it shows what was sent, also after the hub was killed, and its layout is correct."""

from __future__ import annotations

import asyncio
import csv
import time
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Download, Page

from device_agent import Agent, Metric
from tests.end_to_end.browser import PHONE, check_layout, held, open_page
from tests.end_to_end.hub import Hub

DEVICE = "pump-1"
METRIC = "pressure"
METRICS = [Metric(METRIC, unit="bar"), Metric("state", "string"), Metric("open", "boolean")]


async def send_until(agent: Agent, stop: asyncio.Event) -> None:
    """Send a reading every 50 ms."""
    number = 0
    while not stop.is_set():
        await agent.send({METRIC: float(number), "state": "on" if number % 20 < 10 else "off", "open": number % 7 == 0})
        number += 1
        await asyncio.sleep(0.05)


async def stored(hub: Hub) -> list[tuple[float, Any]]:
    answer = await hub.get("/api/v1/history", device=DEVICE, metric=METRIC, points=0, **{"from": "0"})
    series = answer["series"][0]
    return [(time_ns / 1_000_000, value) for time_ns, value in zip(series["time_ns"], series["values"], strict=True)]


async def grown(page: Page, beyond: int) -> None:
    """Return when the chart holds more points than this."""
    await page.wait_for_function(
        "([d, m, n]) => (window.__hub?.series(d, m)?.values.length ?? 0) > n", arg=[DEVICE, METRIC, beyond]
    )


@pytest.mark.deadline(180)
async def test_the_chart_holds_every_point_after_the_hub_was_killed_under_an_open_page(
    hub: Hub, browser: Browser
) -> None:
    """A page that stays open while the hub is killed and restarted reports the outage and reconnects by itself. Its
    chart then holds exactly the readings of the store, with none missing from the outage."""
    token = await hub.token("device", "--device", DEVICE)
    stop = asyncio.Event()
    async with Agent(hub.url, device=DEVICE, token=token, metrics=METRICS) as agent:
        sending = asyncio.create_task(send_until(agent, stop))
        page = await open_page(browser, hub, f"/device/{DEVICE}")
        await grown(page, 20)
        for _ in range(2):
            before = len(await held(page, DEVICE, METRIC))
            await hub.kill()
            await page.get_by_test_id("link-banner").wait_for()
            await hub.start()
            await page.get_by_test_id("link-banner").wait_for(state="hidden")
            await grown(page, before + 20)
        stop.set()
        await sending
        await agent.drain(60)
        await hub.settled()
        expected = await stored(hub)
        await grown(page, len(expected) - 1)
        shown = await held(page, DEVICE, METRIC)
        assert [value for _, value in shown] == [value for _, value in expected]
        # A float64 holds today's milliseconds to 0.24 µs.
        assert [at for at, _ in shown] == pytest.approx([at for at, _ in expected], rel=0, abs=0.0005)


async def test_live_values_appear_within_moments_of_opening_the_printed_url(hub: Hub, browser: Browser) -> None:
    """The fleet is live as soon as the page is open: its rows have values that change by themselves."""
    token = await hub.token("device", "--device", "live")
    stop = asyncio.Event()
    async with Agent(hub.url, device="live", token=token, metrics=METRICS) as agent:
        sending = asyncio.create_task(send_until(agent, stop))
        began = time.monotonic()
        page = await open_page(browser, hub)
        row = page.get_by_test_id("fleet-row").filter(has_text="live")
        await row.wait_for()
        print(f"first row after {time.monotonic() - began:.2f} s, signing in included")
        first = await row.inner_text()
        await page.wait_for_function(
            "before => document.querySelector('[data-device=live]').innerText !== before", arg=first
        )
        stop.set()
        await sending


async def test_a_download_has_every_reading_or_says_why_there_is_none(hub: Hub, browser: Browser) -> None:
    """The CSV of a chart holds every stored reading up to the click, more than any chart has points. When the hub
    returns no readings, the page reports it and saves nothing."""
    token = await hub.token("device", "--device", "press")
    async with Agent(hub.url, device="press", token=token, metrics=METRICS) as agent:
        page = await open_page(browser, hub, "/device/press")
        button = page.get_by_role("button", name=f"Download {METRIC} as CSV")
        # A minute ago: the page takes its clock from a message of the hub, which a busy browser reads seconds later.
        begin_ns = time.time_ns() - 60_000_000_000
        await agent.send_columns([begin_ns], {METRIC: [0.0]})
        await button.wait_for()
        numbers = range(1, 5000)
        await agent.send_columns([begin_ns + number for number in numbers], {METRIC: list(map(float, numbers))})
        await agent.drain(60)
        await hub.settled()
        async with page.expect_download() as started:
            await button.click()
        download = await started.value
        assert download.suggested_filename == f"press {METRIC}.csv"
        rows = list(csv.DictReader((await download.path()).read_text().splitlines()))
        assert [float(row["value"]) for row in rows] == list(range(5000))
        saved: list[Download] = []
        page.on("download", lambda download: saved.append(download))
        await hub.kill()
        await button.click()
        problem = page.get_by_test_id("download-problem")
        assert await problem.inner_text() == "Nothing was downloaded: The hub does not respond."
        assert saved == []
        await hub.start()
        async with page.expect_download():
            await button.click()
        assert await problem.count() == 0


def _note_problems(page: Page, problems: list[str]) -> None:
    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))


async def test_the_page_logs_no_error_and_fits_a_phone(hub: Hub, browser: Browser) -> None:
    """The console has no error and nothing scrolls sideways at 360 px, in light and dark."""
    token = await hub.token("gateway", "--devices", "*")
    long_id = "x" * 64
    async with (
        Agent(hub.url, device="wide", token=token, metrics=METRICS) as agent,
        Agent(hub.url, device=long_id, token=token, metrics=METRICS) as other,
    ):
        await agent.send({METRIC: 123_456_789_012.0, "state": "on", "open": True})
        await other.send({METRIC: -0.000001, "state": "a very long state " * 10, "open": False})
        await agent.drain(30)
        await other.drain(30)
        for scheme in ("light", "dark"):
            problems: list[str] = []
            page = await open_page(browser, hub, viewport=PHONE, color_scheme=scheme)
            _note_problems(page, problems)
            for path in ("/", "/device/wide", f"/device/{long_id}"):
                await page.goto(hub.url + path)
                await page.get_by_test_id("fleet-row" if path == "/" else "chart").first.wait_for()
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width <= PHONE["width"], (path, width)
            await page.get_by_test_id("menu").click()
            menu = page.get_by_role("dialog", name="Menu")
            titles = [link.strip() for link in await menu.get_by_role("link").all_inner_texts()]
            assert titles == [
                "Fleet",
                "Commands",
                "Flow",
                "Quarantine",
                "Access",
                "Tokens",
                "Try it",
                "Connect a board",
            ]
            await check_layout(page)
            await menu.get_by_role("link", name="Access").click()
            await page.get_by_role("heading", name="Access requests").wait_for(state="attached")
            assert not await menu.is_visible()
            assert problems == []


async def test_a_hub_without_devices_shows_the_first_command(hub: Hub, browser: Browser) -> None:
    """The empty fleet shows a command with a new token, and the token of that command admits a device."""
    await hub.retire_all()
    before = {token["id"] for token in (await hub.get("/api/v1/tokens"))["tokens"]}
    page = await open_page(browser, hub)
    await page.get_by_test_id("empty-fleet").wait_for()
    await page.get_by_role("button", name="Create a token").click()
    command = await page.get_by_test_id("command").filter(has_text="hub_device_").first.inner_text()
    token = next(word for word in command.replace("=", " ").replace('"', " ").split() if word.startswith("hub_"))
    [created] = [t for t in (await hub.get("/api/v1/tokens"))["tokens"] if t["id"] not in before]
    async with Agent(hub.url, device=created["pattern"].replace("*", "first"), token=token) as agent:
        await agent.send({"temperature": 21.5})
        await agent.drain(30)
        await page.get_by_test_id("fleet-row").first.wait_for()
