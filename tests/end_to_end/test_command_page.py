"""The cards of commands and settings on a device's page, in a real Chromium: a simulated vehicle obeys, and nothing is
called done that is not."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.end_to_end.browser import PHONE, check_layout, check_looks, held, open_page, sign_in_with
from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello
from tests.programs import running_module
from wire.device import PROTOCOL_JSON_1_4

VEHICLE = "vehicle-001"
TIMEOUT_MS = 30_000
"""The simulator starts in a second, and in ten on a machine with a load of 20."""

SLOWER = 6
"""Difference of an ordered speed to the present one, in km/h. The vehicle brakes slowly. Without the order it would
accelerate, because the test begins soon after its start."""

SET_SPEED = {
    "name": "set_speed",
    "parameters": [{"name": "speed", "unit": "m/s", "min": 0, "max": 30, "default": 5.5}],
}


async def order_speed(page: Page) -> None:
    """Send the vehicle a speed that it reaches within seconds, and return when its readings have it."""
    card = page.get_by_test_id("commands")
    await card.get_by_role("button", name="set_speed", exact=True).click()
    await page.wait_for_function("(device) => window.__hub.series(device, 'speed')?.values.length > 0", arg=VEHICLE)
    speed = max(0, round((await held(page, VEHICLE, "speed"))[-1][1]) - SLOWER)
    await card.get_by_role("textbox", name="speed").fill(str(speed))
    await card.get_by_test_id("send-command").click()
    outcome = card.get_by_test_id("command-outcome")
    await expect(outcome).to_contain_text(f"set_speed speed {speed} km/h", timeout=TIMEOUT_MS)
    await expect(outcome).to_contain_text("Succeeded", timeout=TIMEOUT_MS)
    await page.wait_for_function(
        """([device, speed, tolerance]) => {
          const shown = document.querySelector(".value-tile[data-metric='speed'] .big").textContent;
          const readings = window.__hub.series(device, "speed").values;
          return [parseFloat(shown), readings.at(-1)].every((value) => Math.abs(value - speed) < tolerance);
        }""",
        arg=[VEHICLE, speed, SLOWER / 2],
    )


@pytest.mark.deadline(180)
async def test_an_operator_drives_a_vehicle_on_a_desk_and_on_a_phone(hub: Hub, browser: Browser) -> None:
    """A speed beyond the range is refused in place. One within it is sent, and the value and the chart follow, on a
    desk and on a phone. After the vehicle is gone, a command waits for it, and is taken back."""
    token = await hub.token("gateway", "--devices", "*")
    arguments = ("run", "--hub", hub.url, "--devices", "1", "--profile", "vehicle", "--rate", "20")
    async with running_module("device_sim", *arguments, HUB_TOKEN=token):
        fleet = await open_page(browser, hub)
        await fleet.get_by_role("link", name=VEHICLE).first.click(timeout=TIMEOUT_MS)
        card = fleet.get_by_test_id("commands")
        speed = card.get_by_role("textbox", name="speed")
        await speed.fill("111", timeout=TIMEOUT_MS)
        await speed.press("Enter")
        await expect(speed).to_be_focused()
        await expect(speed).to_have_attribute("aria-invalid", "true")
        await expect(card.locator("[data-parameter='speed']")).to_contain_text("At most 110 km/h.")
        await expect(card.get_by_test_id("command-row")).to_have_count(0)
        await order_speed(fleet)

        await card.get_by_role("button", name="stop", exact=True).click()
        await card.get_by_test_id("send-command").click()
        dialog = fleet.get_by_role("dialog")
        await expect(dialog).to_contain_text(f"Send stop to {VEHICLE}?")
        await check_layout(fleet)
        await fleet.keyboard.press("Escape")
        await expect(card.get_by_test_id("command-row")).to_have_count(1)
        await card.get_by_test_id("command-row").locator("summary").click()
        await expect(card.get_by_test_id("command-row")).to_contain_text("The agent keeps commands in memory")
        await check_looks(fleet)

        phone = await open_page(browser, hub, f"/device/{VEHICLE}", viewport=PHONE, color_scheme="dark")
        await order_speed(phone)
        # What one operator sends is in the history of the other.
        await expect(card.get_by_test_id("command-row")).to_have_count(2, timeout=TIMEOUT_MS)

    await expect(card.get_by_test_id("command-mode")).to_contain_text("waits for it, at most a day", timeout=TIMEOUT_MS)
    await card.get_by_role("button", name="start", exact=True).click()
    await card.get_by_test_id("send-command").click()
    outcome = card.get_by_test_id("command-outcome")
    await expect(outcome).to_contain_text(f"{VEHICLE} is not connected. The command waits for it")
    await check_layout(fleet)
    await card.get_by_test_id("cancel-command").click()
    await expect(outcome).to_contain_text("It was taken back before it was sent. By admin")
    await expect(card.get_by_test_id("command-row").first).to_have_attribute("data-state", "cancelled")


async def connected(hub: Hub, token: str, commands: list[dict[str, Any]]) -> RawAgent:
    """Connect a device that declares these commands."""
    agent = await connect_agent(hub, token, subprotocol=PROTOCOL_JSON_1_4)
    await agent.send(hello(next_seq=1, commands=commands))
    assert (await agent.receive())["type"] == "welcome"
    return agent


@pytest.mark.deadline(120)
async def test_each_state_is_shown_as_the_hub_has_it(hub: Hub, browser: Browser) -> None:
    """A command is *sent* until the device has it, and *failed* with the reason of the device. A value that the hub
    refuses is shown at its field, and a viewer sees everything and sends nothing."""
    token = await hub.token("device", "--device", "d")
    agent = await connected(hub, token, [])
    page = await open_page(browser, hub, "/device/d")
    await expect(page.get_by_test_id("no-commands")).to_contain_text("[[command]]", timeout=TIMEOUT_MS)
    await agent.send({"type": "declare", "metrics": [], "commands": [SET_SPEED]})
    card = page.get_by_test_id("commands")
    speed = card.get_by_role("textbox", name="speed")
    await expect(speed).to_have_value("5.5", timeout=TIMEOUT_MS)
    await expect(page.get_by_test_id("no-commands")).to_have_count(0)
    await card.get_by_test_id("send-command").click()
    outcome = card.get_by_test_id("command-outcome")
    await expect(outcome).to_contain_text("d has not confirmed it yet.")
    command = await agent.receive()
    assert (command["name"], command["parameters"]) == ("set_speed", {"speed": 5.5})
    state = {"type": "command_state", "id": command["id"], "time": 1}
    await agent.send({**state, "state": "received"})
    await expect(outcome).to_contain_text("d has it, and has not reported a result yet.")
    await agent.send({**state, "state": "failed", "code": "port_closed", "message": "the port is closed"})
    await expect(outcome).to_contain_text("d reports that it failed. The port is closed.")
    row = card.get_by_test_id("command-row")
    await expect(row).to_have_attribute("data-state", "failed")

    # This page has an older declaration than the hub.
    await page.route("**/commands/declared", lambda route: route.abort())
    narrow = {"name": "speed", "unit": "m/s", "min": 0, "max": 10}
    await agent.send({"type": "declare", "metrics": [], "commands": [{**SET_SPEED, "parameters": [narrow]}]})
    await agent.send(data(1))
    assert await agent.receive() == {"type": "command_recorded", "id": command["id"], "state": "received"}
    assert await agent.receive() == {"type": "command_recorded", "id": command["id"], "state": "failed"}
    assert await agent.receive() == {"type": "ack", "seq": 1}
    await speed.fill("20")
    await speed.press("Enter")
    await expect(card.locator("[data-parameter='speed']")).to_contain_text("20 m/s is above 10 m/s.")
    await expect(card.get_by_role("alert")).to_contain_text("Expected: set_speed speed=FLOAT m/s (0 to 10)")
    await expect(row).to_have_count(1)
    await check_layout(page)

    viewer = await sign_in_with(browser, hub, await hub.token("viewer"))
    await viewer.goto(f"{hub.url}/device/d")
    seen = viewer.get_by_test_id("commands")
    await expect(seen.get_by_test_id("commands-read-only")).to_contain_text("Your role is viewer", timeout=TIMEOUT_MS)
    await expect(seen.get_by_test_id("command-row")).to_have_attribute("data-state", "failed")
    await expect(seen.get_by_test_id("send-command")).to_have_count(0)
    await agent.ws.close()


@pytest.mark.deadline(120)
async def test_a_setting_is_in_sync_when_the_device_has_said_so(hub: Hub, browser: Browser) -> None:
    """A value outside of the range is refused in place. Another one waits until the device reports it, a refused one
    has the reason of the device, and a value for a device that is gone waits for it, on a phone, too."""
    token = await hub.token("device", "--device", "tank")
    agent = await connect_agent(hub, token, subprotocol=PROTOCOL_JSON_1_4)
    declared = [{"name": "level", "unit": "m", "min": 1, "max": 6}, {"name": "heating", "type": "boolean"}]
    await agent.send(hello("tank", next_seq=1, settings=declared))
    assert (await agent.receive())["type"] == "welcome"
    report = {"type": "reported", "values": {"level": 2.5, "heating": False}}
    await agent.send({**report, "version": 0})
    page = await open_page(browser, hub, "/device/tank")
    card = page.get_by_test_id("settings")
    level, heating = (card.locator(f"[data-setting='{name}']") for name in ("level", "heating"))
    await level.get_by_test_id("edit-setting").click(timeout=TIMEOUT_MS)
    field = card.get_by_role("textbox", name="level")
    await expect(field).to_have_value("2.5")
    await field.fill("7")
    await field.press("Enter")
    await expect(card.locator("[data-parameter='level']")).to_contain_text("At most 6 m.")
    await field.fill("3.5")
    await field.press("Enter")
    await expect(level).to_contain_text("Waiting")
    await expect(level).to_contain_text("tank has not processed it yet.")
    assert await agent.receive() == {"type": "desired", "version": 1, "values": {"level": 3.5}}
    report["values"] = {"level": 3.5, "heating": False}
    await agent.send({**report, "version": 1})
    await expect(level).to_contain_text("In sync")
    await heating.get_by_test_id("edit-setting").click()
    await card.get_by_role("button", name="On").click()
    await card.get_by_test_id("save-setting").click()
    assert (await agent.receive())["values"] == {"level": 3.5, "heating": True}
    problem = {"name": "heating", "code": "dry", "message": "there is no water"}
    await agent.send({**report, "version": 2, "problems": [problem]})
    await expect(heating).to_contain_text("tank refuses it: there is no water.")
    await level.get_by_test_id("edit-setting").click()
    await check_looks(page)
    await agent.ws.close()
    await card.get_by_role("textbox", name="level").fill("4")
    await card.get_by_test_id("save-setting").click()
    await expect(level).to_contain_text("tank is not connected: it gets the value when it returns.")
    await heating.get_by_test_id("edit-setting").click()
    await card.get_by_test_id("clear-setting").click()
    await expect(heating.get_by_test_id("sync-state")).to_have_count(0)
    await expect(heating.get_by_test_id("desired")).to_have_text("–")


@pytest.mark.deadline(120)
async def test_a_simulated_pump_holds_the_desired_pressure(hub: Hub, browser: Browser) -> None:
    """The operator sets it on a phone. The setting is in sync when the pump has it, and the readings follow."""
    token = await hub.token("gateway", "--devices", "*")
    arguments = ("run", "--hub", hub.url, "--devices", "1", "--profile", "pump", "--rate", "20")
    async with running_module("device_sim", *arguments, HUB_TOKEN=token):
        fleet = await open_page(browser, hub, viewport=PHONE, color_scheme="dark")
        await fleet.get_by_role("link", name="pump-001").click(timeout=TIMEOUT_MS)
        setting = fleet.locator("[data-setting='target_pressure']")
        await setting.get_by_test_id("edit-setting").click(timeout=TIMEOUT_MS)
        await fleet.get_by_role("textbox", name="target_pressure").fill("3")
        await fleet.get_by_test_id("save-setting").click()
        await expect(setting.get_by_test_id("sync-state")).to_have_text("In sync", timeout=TIMEOUT_MS)
        await expect(setting.get_by_test_id("reported")).to_have_text("3 bar")
        await fleet.wait_for_function(
            "() => Math.abs(window.__hub.series('pump-001', 'pressure').values.at(-1) - 3) < 0.5"
        )
        await check_layout(fleet)
