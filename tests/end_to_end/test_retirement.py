"""A retired device leaves the fleet everywhere at once, keeps its history, and returns when it sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_agent import Agent
from tests.end_to_end.bridged_hub import connected, publish
from tests.end_to_end.browser import open_browser, open_page
from tests.end_to_end.home_assistant import SETTINGS, HomeAssistant
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.mqtt_peers import Subscriber
from tests.services.mosquitto import Mosquitto


async def devices(hub: Hub, **query: str) -> list[str]:
    return [device["device"] for device in (await hub.get("/api/v1/devices", **query))["devices"]]


async def send(hub: Hub, *names: str) -> None:
    token = await hub.token("gateway", "--devices", "*")
    for name in names:
        async with Agent(hub.url, device=name, token=token) as agent:
            await agent.send({"temperature": 21.5})
            await agent.drain(30)


async def test_a_retired_device_leaves_the_fleet_keeps_its_history_and_returns(tmp_path: Path) -> None:
    """This also holds over a restart. A retirement by pattern selects only devices that have not been seen for the
    given time."""
    async with running_hub(tmp_path / "data") as hub:
        await send(hub, "boiler-1", "test-1", "test-2")
        access = ("--data", str(hub.data), "--url", hub.url)
        retired = json.loads(await hub.run("device", "retire", "test-*", "--yes", "--json", *access))
        assert retired == {"count": 2, "devices": ["test-1", "test-2"], "connected": 0}
        assert await devices(hub) == ["boiler-1"]
        assert await devices(hub, retired="true") == ["test-1", "test-2"]
        assert {entry["device"] for entry in (await hub.get("/api/v1/latest"))["latest"]} == {"boiler-1"}
        assert "boiler-1" in await hub.run("device", "list", *access)
        # Reading the events writes them: a kill loses those of the last second.
        assert "retired" in [event["kind"] for event in (await hub.get("/api/v1/devices/test-2/events"))["events"]]
        await hub.kill()
        await hub.start()
        assert await devices(hub) == ["boiler-1"]
        test_1 = await hub.get("/api/v1/devices/test-1")
        assert (test_1["retired"], [metric["metric"] for metric in test_1["metrics"]]) == (True, ["temperature"])
        history = await hub.get("/api/v1/history", device="test-1", **{"from": "-1h"}, points=0)
        assert [len(entry["values"]) for entry in history["series"]] == [1]
        assert {row["device"]: row["accepted"] for row in (await hub.settled())["devices"]} == {
            "boiler-1": 1, "test-1": 1, "test-2": 1
        }  # fmt: skip
        await send(hub, "test-2")
        assert await devices(hub) == ["boiler-1", "test-2"]
        kinds = [event["kind"] for event in (await hub.get("/api/v1/devices/test-2/events"))["events"]]
        assert {"retired", "back in service"} <= {*kinds}
        await hub.stop()
        await hub.start()
        assert await devices(hub) == ["boiler-1", "test-2"]


async def test_a_viewer_cannot_retire_a_device(tmp_path: Path) -> None:
    """A viewer cannot retire a device, and invalid requests are rejected."""
    async with running_hub(tmp_path / "data") as hub:
        await send(hub, "boiler-1")
        answers = []
        for role in ("viewer", "operator"):
            headers = {"Authorization": f"Bearer {await hub.token(role)}"}
            async with httpx.AsyncClient(base_url=hub.url, headers=headers) as client:
                requests: list[dict[str, Any]] = [
                    {"devices": []},
                    {"devices": ["*"], "unseen_since_ns": 1},
                    {"devices": ["boiler-1"]},
                ]
                for request in requests:
                    answer = await client.post("/api/v1/devices/retire", json=request)
                    answers.append((answer.status_code, answer.json().get("count")))
        assert answers == [(403, None)] * 3 + [(422, None), (200, 0), (200, 1)]


@pytest.mark.deadline(60)
async def test_a_retired_device_is_removed_from_home_assistant(mosquitto_program: Path, tmp_path: Path) -> None:
    """The announcement is withdrawn from the broker, and published again when the device returns."""
    settings = tmp_path / "hub.toml"
    home = HomeAssistant()
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        settings.write_text(SETTINGS.format(url=broker.url, enabled="true"))
        async with (
            Subscriber(broker.port, "home-assistant", "#", home.receive) as ear,
            running_hub(tmp_path / "data", options=["--config", str(settings)]) as hub,
        ):
            await connected(hub)
            await send(hub, "boiler-1", "boiler-2")
            await ear.until(lambda: len(home.described()) == 2)
            await hub.run("device", "retire", "boiler-2", "--yes", "--data", str(hub.data), "--url", hub.url)
            await ear.until(lambda: [entry["device"]["name"] for entry in home.described()] == ["boiler-1"])
            gone = [topic for topic, _ in home.retained.items() if "boiler-2" in topic and "/device/" in topic]
            await ear.until(lambda: {home.retained[topic] for topic in gone} == {b""})
            assert len(gone) == 2
            publish(broker, [("homeassistant/status", "online")])
            await send(hub, "boiler-2")
            await ear.until(lambda: len(home.described()) == 2)


async def test_the_page_retires_a_device(chromium: Path, tmp_path: Path) -> None:
    """The page asks for confirmation. The device's page stays readable, the fleet omits it at once, and shows it again
    when it sends."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        await send(hub, "boiler-1", "boiler-2")
        fleet = await open_page(browser, hub)
        await fleet.get_by_text("boiler-2").first.wait_for()
        page = await open_page(browser, hub, "/device/boiler-2")
        await page.get_by_test_id("retire").click()
        await page.get_by_test_id("confirm").click()
        await page.get_by_test_id("retired").wait_for()
        assert await page.get_by_test_id("device-name").inner_text() == "boiler-2"
        await fleet.get_by_text("boiler-2").first.wait_for(state="detached")
        assert await fleet.get_by_text("boiler-1").count() == 1
        await fleet.get_by_test_id("chip-retired").click()
        await fleet.get_by_test_id("condition").filter(has_text="Retired").wait_for()
        assert await fleet.get_by_test_id("fleet-row").count() == 1
        assert fleet.url.endswith("/?state=retired")
        await page.goto(fleet.url)
        await page.get_by_role("link", name="boiler-2").click()
        await page.get_by_test_id("retired").wait_for()
        await page.go_back()
        await page.get_by_test_id("chip-retired").filter(has_text="Retired 1").wait_for()
        await page.goto(f"{hub.url}/device/boiler-2")
        await fleet.get_by_test_id("chip-all").click()
        assert fleet.url.endswith("/")
        await send(hub, "boiler-2")
        await fleet.get_by_text("boiler-2").first.wait_for()
        await page.get_by_test_id("retire").wait_for()
