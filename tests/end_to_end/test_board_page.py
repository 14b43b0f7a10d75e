"""A board that is plugged into the browser: its lines, through an agent in the page, to the history of a real hub."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.conditions import result_of
from tests.end_to_end.board_page import delivered, delivered_lines, open_board_page, shown_count
from tests.end_to_end.browser import PHONE, check_layout, open_page, sign_in_with
from tests.end_to_end.hub import Hub

LINES = 10_000
TIMEOUT_MS = 30_000


async def start(page: Page, device: str) -> None:
    """Choose the port and stream it as this device, while lines arrive."""
    await page.get_by_role("button", name="Choose a port").click()
    await expect(page.get_by_test_id("port-state")).to_have_attribute("data-state", "reading")
    await page.get_by_label("Device id").fill(device)
    await page.evaluate("__serial.send(2000)")
    await page.get_by_test_id("start").click()
    await expect(page.get_by_test_id("uplink")).to_have_attribute("data-state", "online", timeout=TIMEOUT_MS)


async def all_acknowledged(page: Page) -> int:
    """Return the number of readings when the hub has acknowledged all of them, and the spool is empty."""

    async def acknowledged() -> int | None:
        read, acked, waiting = [await shown_count(page, name) for name in ("read", "acknowledged", "waiting")]
        return read if (acked, waiting) == (read, 0) else None

    return await result_of(acknowledged)


async def stored(hub: Hub, device: str) -> dict[str, list[Any]]:
    """Return the stored values of each metric in the order of their times."""
    await hub.settled()
    answer = await hub.get("/api/v1/history", device=device, points=0, **{"from": "0", "to": str(2**62)})
    return {series["metric"]: series["values"] for series in answer["series"]}


def online(page: Page) -> Locator:
    """Return the state of the uplink while it is online."""
    return page.locator("[data-testid=uplink][data-state=online]")


async def kill_between(page: Page, hub: Hub, end: int) -> None:
    """Kill the hub while lines arrive, and start it again; return when the page is connected again."""
    await page.evaluate(f"__serial.send({end})")
    await delivered(page, end - 1500)
    await hub.kill()
    uplink = page.get_by_test_id("uplink")
    await expect(uplink).to_have_attribute("data-state", "waiting", timeout=TIMEOUT_MS)
    await delivered(page, end)
    assert await shown_count(page, "waiting") > 0
    await hub.start()
    # The page may have connected by itself before the click.
    await page.get_by_test_id("stream").get_by_role("button", name="Connect now").or_(online(page)).click()
    await expect(uplink).to_have_attribute("data-state", "online", timeout=TIMEOUT_MS)


@pytest.mark.deadline(180)
async def test_two_kills_of_the_hub_and_a_reload_lose_and_repeat_nothing(hub: Hub, browser: Browser) -> None:
    """Each line that the port has delivered as a whole is stored once and in order: while the hub is away, it waits in
    the database of the browser. After the reload the page continues by itself, with the granted port and the same
    numbers."""
    lines = [json.dumps({"n": number, "even": number % 2 == 0}) for number in range(LINES)]
    page = await open_board_page(browser, hub, lines, cut=1800, period_ms=4, limit=200)
    await start(page, "uno-1")
    await kill_between(page, hub, 4000)
    epoch = (await hub.get("/api/v1/devices/uno-1"))["epoch"]
    await page.evaluate("__serial.send(6000)")
    await delivered(page, 5000)
    await page.reload()
    await expect(page.get_by_test_id("uplink")).to_have_attribute("data-state", "online", timeout=TIMEOUT_MS)
    await kill_between(page, hub, 8000)
    await page.evaluate(f"__serial.send({LINES})")
    await delivered(page, LINES)
    whole = await delivered_lines(page)
    # The reload can cut one line.
    assert LINES - 1 <= len(whole) <= LINES
    await all_acknowledged(page)
    history = await stored(hub, "uno-1")
    # Lines before the start are shown, and not stored.
    begin = int(history["n"][0])
    assert history["n"] == [number for number in whole if number >= begin]
    assert history["even"] == [number % 2 == 0 for number in whole if number >= begin]
    assert begin < 2000
    device = await hub.get("/api/v1/devices/uno-1")
    assert (device["epoch"], device["source_refused"]) == (epoch, 0)
    (row,) = [row for row in (await hub.settled())["devices"] if row["device"] == "uno-1"]
    assert (row["accepted"], row["quarantined"]) == (2 * len(history["n"]), 0)
    assert (row["difference"], row["lost_batches"]) == (0, 0)


TABLE = [
    "Temp [°C];Door;Note",
    *(f"{20 + number / 10:.1f}".replace(".", ",") + ";open;ok" for number in range(40)),
    "hot;closed;<b>ok</b>\u202e",
    "21,0",
    *(f"{30 + number / 10:.1f}".replace(".", ",") + ";closed;ok" for number in range(4000)),
]


@pytest.mark.deadline(180)
async def test_a_person_connects_a_board_and_releases_it(hub: Hub, browser: Browser) -> None:
    """The lines and what they become are shown before anything is stored, refused ones with their reasons. After the
    start the board streams on every page, is opened again when it is plugged in again, and after a reload knows the
    header that the board does not repeat. Another tab cannot run it, and a forgotten board has no token any more."""
    page = await open_board_page(browser, hub, TABLE, cut=60, period_ms=30)
    await expect(page.get_by_label("Device id")).to_be_visible()
    await expect(page.get_by_test_id("start")).to_be_disabled()
    await page.get_by_role("button", name="Choose a port").click()
    lines = page.get_by_test_id("line")
    await expect(lines.filter(has_text="hot").first).to_contain_text("is not a number", timeout=TIMEOUT_MS)
    await expect(lines.filter(has_text="hot").first).to_contain_text("<b>ok</b>\\u202e")
    await expect(lines.filter(has_text="1 cells for 3 columns")).to_be_visible()
    await expect(page.get_by_test_id("refused")).to_have_text("2")
    assert "kiln" not in {device["device"] for device in (await hub.get("/api/v1/devices"))["devices"]}
    await check_layout(page)

    await page.get_by_label("Device id").fill("two words")
    await expect(page.get_by_test_id("start")).to_be_disabled()
    await page.get_by_label("Device id").fill("kiln")
    await page.get_by_test_id("start").click()
    await expect(page.get_by_test_id("uplink")).to_have_attribute("data-state", "online", timeout=TIMEOUT_MS)
    await page.get_by_role("link", name="Fleet").first.click()
    await page.get_by_test_id("fleet-row").filter(has_text="kiln").wait_for()
    await expect(page.get_by_test_id("board-chip")).to_contain_text("Board kiln")

    await page.evaluate("__serial.unplug()")
    await page.get_by_role("navigation").get_by_role("link", name="Connect a board").click()
    port = page.get_by_test_id("port-state")
    await expect(port).to_have_attribute("data-state", "failed")
    await page.evaluate("__serial.plug()")
    await expect(port).to_have_attribute("data-state", "reading")

    await page.reload()
    await expect(port).to_have_attribute("data-state", "reading", timeout=TIMEOUT_MS)
    await expect(page.get_by_test_id("uplink")).to_have_attribute("data-state", "online", timeout=TIMEOUT_MS)
    await expect(lines.filter(has_text="Temp").last).to_contain_text("closed")
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    await check_layout(page)

    other = await page.context.new_page()
    await other.goto(f"{hub.url}/board")
    await other.get_by_role("button", name="Resume").click()
    await expect(other.get_by_role("alert")).to_contain_text("Another tab of this browser runs kiln")
    await other.close()

    await page.get_by_test_id("stop").click()
    read = await all_acknowledged(page)
    history = await stored(hub, "kiln")
    assert sorted(history) == ["Door", "Note", "Temp"]
    assert sum(map(len, history.values())) == read
    device = await hub.get("/api/v1/devices/kiln")
    assert {metric["metric"]: metric["unit"] for metric in device["metrics"]}["Temp"] == "°C"

    await page.get_by_role("button", name="Release").click()
    await page.get_by_role("button", name="Forget").click()
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("known-board")).to_have_count(0)
    await result_of(lambda: revoked(hub, "kiln"))


@pytest.mark.deadline(120)
async def test_a_page_without_ports_or_rights_says_what_to_do(hub: Hub, browser: Browser) -> None:
    """A page over plain HTTP of another computer, and a browser without Web Serial, name what helps. Without the right
    to create tokens, the page takes one that somebody else created; a wrong one is reported and loses nothing."""
    context = (await open_page(browser, hub, viewport=PHONE)).context
    for script, problem in (
        ("Object.defineProperty(window, 'isSecureContext', {value: false})", "insecure"),
        ("delete Navigator.prototype.serial", "unsupported"),
    ):
        page = await context.new_page()
        await page.add_init_script(script)
        await page.goto(f"{hub.url}/board")
        await expect(page.get_by_test_id("no-serial")).to_have_attribute("data-problem", problem)
        await check_layout(page)
    response = await page.goto(f"{hub.url}/board")
    assert response is not None
    assert response.headers["permissions-policy"] == "serial=(self)"
    await context.close()

    viewer = await sign_in_with(browser, hub, await hub.token("viewer"))
    page = await open_board_page(browser, hub, ["v=1"] * 20_000, period_ms=5, page=viewer)
    await page.get_by_role("button", name="Choose a port").click()
    await page.get_by_label("Device id").fill("probe")
    await expect(page.get_by_test_id("start")).to_be_disabled()
    await page.get_by_label("Token of the device").fill("hub_device_wrong")
    await page.get_by_test_id("start").click()
    await expect(page.get_by_test_id("uplink")).to_contain_text("not_authenticated", timeout=TIMEOUT_MS)
    await check_layout(page)


async def revoked(hub: Hub, device: str) -> bool | None:
    """Return True when no token is for the device; None while there is one."""
    tokens = (await hub.get("/api/v1/tokens"))["tokens"]
    return device not in {token["pattern"] for token in tokens} or None
