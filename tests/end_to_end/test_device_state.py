"""The state of a device on a real hub and in a real Chromium: it follows the device, its sources and the hub's end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from device_agent.status_file import read_agent_status
from tests.conditions import until
from tests.device_agent.pty_port import PtyPort
from tests.end_to_end.browser import PHONE, check_layout, open_browser, open_page
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello
from wire.device import PROTOCOL_JSON_1_1
from wire.limits import MAX_SOURCE_ERROR, MAX_SOURCE_NAME

BACKLOG = 1955


async def shows(page: Page, test_id: str, text: str) -> None:
    """Return when an element has exactly this text."""
    await page.wait_for_function(
        "([id, text]) => [...document.querySelectorAll(`[data-testid=${id}]`)].some(e => e.innerText.trim() === text)",
        arg=[test_id, text],
    )


async def send_up_to(agent: RawAgent, first: int, last: int) -> None:
    """Send batches until the last one is acknowledged, within the hub's window."""
    acked = first - 1
    while acked < last:
        for seq in range(first, min(last, acked + 100) + 1):
            await agent.send(data(seq))
        first = min(last, acked + 100) + 1
        while acked < first - 1:
            answer = await agent.receive()
            assert answer["type"] == "ack", answer
            acked = answer["seq"]


@pytest.mark.deadline(150)
async def test_backlog_and_acknowledged_number_follow_a_catch_up(tmp_path: Path, chromium: Path) -> None:
    """A device that catches up is followed on its page and in the fleet while its connection stays open, without a
    change of the connection or a clock sample."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        agent = await connect_agent(hub, await hub.token("device", "--device", "d"))
        await agent.send({**hello(), "next_seq": BACKLOG + 1})
        assert (await agent.receive())["type"] == "welcome"
        fleet, device = await open_page(browser, hub), await open_page(browser, hub, "/device/d")
        for acked in (0, 955, BACKLOG):
            if acked:
                await send_up_to(agent, 1 if acked == 955 else 956, acked)
            left = BACKLOG - acked
            await shows(device, "acked", f"{acked:,}")
            await shows(device, "backlog", f"{left:,} batches" if left else "none")
            await shows(fleet, "fleet-backlog", f"{left:,}")
        assert (await hub.get("/api/v1/devices/d"))["backlog"] == 0
        await agent.ws.close()


@contextlib.asynccontextmanager
async def serial_agent(hub: Hub, port: Path, state: Path) -> AsyncIterator[None]:
    """Run `device-agent serial` for the device `kiln`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "XDG_"))}
    environment |= {"HUB_TOKEN": await hub.token("device", "--device", "kiln"), "XDG_STATE_HOME": str(state)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "device_agent", "serial", str(port), "--device", "kiln", "--hub", hub.url,
        stderr=asyncio.subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        yield
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def agent_status(state: Path) -> str:
    """Return what `device-agent status` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "device_agent", "status", "--device", "kiln",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "XDG_STATE_HOME": str(state)},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def source_works(state: Path) -> None:
    """Return when the agent's own status says that its source works and the hub is connected."""

    def works() -> bool:
        agent = read_agent_status(state / "telemetry-hub" / "kiln.spool")
        return agent is not None and agent.connection == "online" and [source.ok for source in agent.sources] == [True]

    await until(works)


@pytest.mark.deadline(240)
async def test_a_source_fault_is_visible_until_it_is_over(tmp_path: Path, chromium: Path) -> None:
    """A port that is pulled is a warning in the fleet, an error on the device's page and in `device-agent status`, and
    an event; all of it is over when the port returns. In light, dark and on a phone."""
    port, state = PtyPort(tmp_path / "sensor"), tmp_path / "state"
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        port.plug_in()
        async with serial_agent(hub, port.path, state):
            await source_works(state)
            await port.write(b'{"t": 21.5}\n{"t": 22.5}\n')
            fleet = await open_page(browser, hub)
            await fleet.get_by_test_id("fleet-row").wait_for()
            device = await open_page(browser, hub, "/device/kiln")
            await device.get_by_test_id("sources").filter(has_text="Works since").wait_for()
            assert await fleet.get_by_test_id("fault").count() == 0
            port.pull()
            await fleet.get_by_test_id("fault").filter(has_text="Source failed").wait_for()
            await device.get_by_test_id("source-fault").filter(has_text="no connection").wait_for()
            await device.get_by_test_id("events").filter(has_text="Source failed").wait_for()
            assert "FAILED: no connection" in await agent_status(state)
            failed = (await hub.get("/api/v1/devices/kiln"))["sources"]
            assert [(source["name"], source["ok"]) for source in failed] == [(str(port.path), False)]
            for path in ("/", "/device/kiln"):
                for context in ({"color_scheme": "dark"}, {"viewport": PHONE}):
                    page = await open_page(browser, hub, path, **context)
                    await page.get_by_test_id("fault" if path == "/" else "source-fault").wait_for()
                    await check_layout(page)
            port.plug_in()
            await fleet.get_by_test_id("fault").wait_for(state="detached")
            await device.get_by_test_id("source-fault").wait_for(state="detached")
            await device.get_by_test_id("events").filter(has_text="Source recovered").wait_for()
            await source_works(state)
            # What is refused is counted on the device's page, while the source works.
            await port.write(b'{"t": "hot"}\n' * 3)
            await device.get_by_test_id("source-refused").filter(has_text="3 lines or values refused").wait_for()
            await check_layout(device)
        assert "not running" in await agent_status(state)
        port.pull()


@pytest.mark.deadline(120)
async def test_texts_of_a_source_change_no_layout(tmp_path: Path, chromium: Path) -> None:
    """The longest name and error without a space wrap on a phone. Control and bidirectional characters and sources of
    one name are refused as a bad message."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        token = await hub.token("device", "--device", "d")

        async def report(*sources: dict[str, Any]) -> RawAgent:
            agent = await connect_agent(hub, token, subprotocol=PROTOCOL_JSON_1_1)
            await agent.send({**hello(), "next_seq": 1})
            assert (await agent.receive())["type"] == "welcome"
            await agent.send({"type": "status", "time": 1, "next_seq": 1, "sources": sources})
            return agent

        source = {"name": "port", "ok": False, "since": 1, "error": "gone"}
        for refused in ([{**source, "error": "a\x1b[2J"}], [{**source, "name": "\u202egone"}], [source, source]):
            agent = await report(*refused)
            assert (await agent.receive())["code"] == "bad_message"
            await agent.ws.wait_closed()
            assert agent.ws.close_code == 4400
        agent = await report({**source, "name": "n" * MAX_SOURCE_NAME, "error": "e" * MAX_SOURCE_ERROR})
        page = await open_page(browser, hub, "/device/d", viewport=PHONE)
        await page.get_by_test_id("source-fault").filter(has_text="eee").wait_for()
        await check_layout(page)
        await agent.ws.close()


async def runs(hub: Hub) -> list[dict[str, Any]]:
    """Return the hub's events about its starts and ends, the newest first."""
    return [event for event in (await hub.get("/api/v1/events"))["events"] if event["kind"].startswith("hub ")]


@pytest.mark.deadline(180)
async def test_a_hub_that_was_killed_is_seen_and_recorded(tmp_path: Path, chromium: Path) -> None:
    """The page does not count on while it is offline, and says until when it knows. After the restart the hub and the
    device have an event of the end; a stop in order makes none."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        async with open_browser(chromium) as browser:
            agent = await connect_agent(hub, await hub.token("device", "--device", "d"))
            await agent.send(hello())
            await agent.receive()
            await agent.send(data(1))
            await agent.receive()
            page = await open_page(browser, hub, "/device/d")
            await page.get_by_test_id("connected-for").wait_for()
            await page.get_by_text("known until").wait_for(state="detached")  # until the page is connected itself
            assert [event["kind"] for event in await runs(hub)] == ["hub started"]
            await hub.kill()
            await page.get_by_text("known until").wait_for()
            await page.get_by_test_id("condition").filter(has_text="Unknown").wait_for()
            shown = await page.get_by_test_id("connected-for").inner_text()
            for _ in range(3):  # the ages on the page count on
                before = await page.get_by_test_id("last-reading").inner_text()
                await page.wait_for_function(
                    "text => document.querySelector('[data-testid=last-reading]').innerText !== text", arg=before
                )
            assert await page.get_by_test_id("connected-for").inner_text() == shown
            await hub.start()
            await page.get_by_test_id("events").filter(has_text="hub ended without a stop").wait_for()
            await page.get_by_test_id("condition").filter(has_text="Reconnecting").wait_for()
            events = await runs(hub)
            assert [event["kind"] for event in events] == ["hub started", "hub ended without a stop", "hub started"]
            assert events[1]["detail"] == "killed, or the power failed; 1 device was connected"
            assert events[2]["time_ns"] <= events[1]["time_ns"] <= events[0]["time_ns"]
            await page.goto(hub.url + "/flow")
            await page.get_by_test_id("events").filter(has_text="Hub ended without a stop").wait_for()
            await check_layout(page)
        assert await hub.stop() == 0
        await hub.start()
        events = await runs(hub)
        assert [event["kind"] for event in events][:2] == ["hub started", "hub stopped"]
    finally:
        await hub.kill()
