"""The page Commands in a real Chromium: one command to several simulated vehicles, and one that is cancelled."""

from __future__ import annotations

from functools import partial

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.conditions import result_of
from tests.end_to_end.browser import PHONE, check_layout, check_looks, open_page, sign_in_with
from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import connect_agent, hello
from tests.programs import running_module
from wire.device import PROTOCOL_JSON_1_4

VEHICLES = ["vehicle-001", "vehicle-002", "vehicle-003"]
OFFLINE = "vehicle-099"
SPEED = {"name": "speed", "unit": "km/h", "min": 0, "max": 110}
TIMEOUT_MS = 30_000

BRAKED = 2
"""Difference of speeds in km/h. The vehicles accelerate in the first seconds unless they are ordered to stop."""


async def leave_offline_vehicle(hub: Hub, token: str) -> None:
    """Let the hub know a vehicle that declares a command and is not connected."""
    agent = await connect_agent(hub, token, subprotocol=PROTOCOL_JSON_1_4)
    await agent.send(hello(OFFLINE, next_seq=1, commands=[{"name": "set_speed", "parameters": [SPEED]}]))
    assert (await agent.receive())["type"] == "welcome"
    await agent.ws.close()


async def speeds(hub: Hub, least: float = 0) -> dict[str, float] | None:
    """Return the latest speed of each vehicle when all of them are at least this fast."""
    known = {row["device"]: row["metrics"] for row in (await hub.get("/api/v1/devices"))["devices"]}
    latest = {
        device: metric["latest"]["value"]
        for device in VEHICLES
        for metric in known.get(device, ())
        if metric["metric"] == "speed" and metric["latest"] is not None
    }
    return latest if len(latest) == len(VEHICLES) and min(latest.values()) >= least else None


async def braked(hub: Hub, before: dict[str, float]) -> bool | None:
    latest = await speeds(hub)
    return None if latest is None else all(latest[device] < before[device] - BRAKED for device in VEHICLES) or None


async def choose_devices(page: Page, selection: str) -> None:
    await page.get_by_label("Devices and tags").fill(selection, timeout=TIMEOUT_MS)


async def lose_answer(route: Route) -> None:
    await route.fetch()
    await route.abort()


@pytest.mark.deadline(180)
async def test_an_operator_commands_many_vehicles_and_cancels_a_job(hub: Hub, browser: Browser) -> None:
    """The dry run shows who would be refused. Three vehicles brake, and the one that is offline is refused. On a phone
    a job waits for it, is sent once although its first answer is lost, and is cancelled. A viewer sees both jobs, and
    sends nothing."""
    token = await hub.token("gateway", "--devices", "*")
    await leave_offline_vehicle(hub, token)
    arguments = ("run", "--hub", hub.url, "--devices", "3", "--profile", "vehicle", "--rate", "20")
    async with running_module("device_sim", *arguments, HUB_TOKEN=token):
        page = await open_page(browser, hub)
        await page.get_by_label("Filter devices").fill("vehicle", timeout=TIMEOUT_MS)
        await page.get_by_test_id("send-to-fleet").click()
        await expect(page.get_by_test_id("selection-term")).to_have_text("*vehicle*")
        await page.get_by_role("button", name="Remove *vehicle*").click()
        await result_of(partial(speeds, hub))
        await choose_devices(page, "vehicle-*")
        await expect(page.get_by_test_id("selection-count")).to_have_text("4 devices match.")
        await expect(page.get_by_test_id("job-command").filter(has_text="stop")).to_contain_text("3 of 4 devices")
        await page.get_by_role("radio", name="set_speed").check()
        speed = page.get_by_role("textbox", name="speed")
        await speed.fill("111")
        await page.get_by_test_id("try-job").click()
        await expect(page.locator("[data-parameter='speed']")).to_contain_text("At most 110 km/h.")
        await speed.fill("0")
        await page.get_by_test_id("try-job").click()
        dry_run = page.get_by_test_id("dry-run")
        await expect(dry_run).to_contain_text("4 devices in 1 batch. The hub would refuse 1 now")
        await expect(dry_run).to_contain_text(f"{OFFLINE} The device is offline")
        await check_looks(page)
        await page.get_by_test_id("send-job").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Send set_speed to 3 of 4 devices?")
        await check_layout(page)
        before = await result_of(partial(speeds, hub, least=BRAKED + 1))
        await page.get_by_test_id("confirm").click()
        job = page.get_by_test_id("job")
        await expect(job).to_have_attribute("data-state", "completed", timeout=TIMEOUT_MS)
        await expect(job.get_by_test_id("job-progress")).to_have_text("3 succeeded1 refused")
        await expect(job.get_by_test_id("job-state")).to_have_text("Completed, 3 of 4 succeeded")
        refused = job.get_by_test_id("job-target")
        await expect(refused).to_have_attribute("data-device", OFFLINE)
        await expect(refused).to_contain_text("The device is offline")
        await check_layout(page)
        await result_of(partial(braked, hub, before))
        await page.get_by_test_id("repeat-unsuccessful").click()
        await expect(page.get_by_test_id("selection-term")).to_have_text(OFFLINE)
        await expect(page.get_by_role("textbox", name="speed")).to_have_value("0")
        await page.go_back()
        await refused.get_by_role("link", name=OFFLINE).click()
        await expect(page.get_by_test_id("device-name")).to_have_text(OFFLINE)

    phone = await open_page(browser, hub, f"/commands/new?to={OFFLINE}", viewport=PHONE, color_scheme="dark")
    await phone.get_by_role("textbox", name="speed").fill("20", timeout=TIMEOUT_MS)
    await phone.get_by_text("Options:").click()
    await phone.get_by_test_id("job-mode").select_option("queue")
    await phone.get_by_test_id("try-job").click()
    await expect(phone.get_by_test_id("dry-run")).to_contain_text("The hub refuses none of them now.")
    # The hub gets the first request, and its answer is lost.
    await phone.route("**/api/v1/command-jobs", lose_answer, times=1)
    for alert in ("It is not known whether the job has begun", None):
        await phone.get_by_test_id("send-job").click()
        await phone.get_by_test_id("confirm").click()
        if alert is not None:
            await expect(phone.get_by_role("alert")).to_contain_text(alert)
    job = phone.get_by_test_id("job")
    await expect(job.get_by_test_id("job-progress")).to_have_text("1 queued", timeout=TIMEOUT_MS)
    await check_layout(phone)
    await phone.get_by_test_id("cancel-job").click()
    await expect(phone.get_by_role("dialog")).to_contain_text("1 command that was not sent is taken back.")
    await phone.get_by_test_id("confirm").click()
    await expect(job).to_have_attribute("data-state", "cancelled")
    await expect(job.get_by_test_id("job-progress")).to_have_text("1 cancelled")

    viewer = await sign_in_with(browser, hub, await hub.token("viewer"))
    await viewer.goto(f"{hub.url}/commands")
    rows = viewer.get_by_test_id("job-row")
    await expect(rows).to_have_count(2, timeout=TIMEOUT_MS)
    await expect(rows.first).to_have_attribute("data-state", "cancelled")
    await expect(rows.last).to_contain_text("set_speed speed 0")
    await expect(viewer.get_by_test_id("new-job-link")).to_have_count(0)
    await check_layout(viewer)
    await rows.last.get_by_role("link").click()
    await expect(viewer.get_by_test_id("job")).to_have_attribute("data-state", "completed")
    await viewer.goto(f"{hub.url}/commands/new")
    await expect(viewer.get_by_text("Your role is viewer")).to_be_visible()
