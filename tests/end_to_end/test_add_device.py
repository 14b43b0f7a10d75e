"""The guide that adds a device: its commands, copied from the page, install the agent from the hub and connect it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from playwright.async_api import Browser, Page, expect

from device_agent import Agent
from hub.http.wheel import make_wheel
from tests.end_to_end.browser import PHONE, SCREEN, check_layout, check_looks, open_page
from tests.end_to_end.hub import Hub
from tests.packaging.lock import needed_by

RULE = "A device id has 1 to 64 letters, digits, “.”, “_” or “-”, and is not “.” or “..”."


def add_libraries(folder: Path) -> None:
    """Put the wheels of the agent's libraries into a folder: those of the environment of the tests."""
    folder.mkdir()
    own = Requirement("telemetry-hub")
    for name in needed_by([own]) - {canonicalize_name(own.name)}:
        wheel = make_wheel(distribution(name))
        (folder / wheel.file).write_bytes(wheel.content)


def install(command: str, folder: Path) -> None:
    """Run the two commands of the page. Raises CalledProcessError.

    The environment has no pip of its own, which would take seconds to install: the one of the tests replaces it. It
    compiles no modules: the agent imports few of them.
    """
    environment, installation = command.splitlines()
    assert environment == "python3 -m venv telemetry-agent"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "telemetry-agent"], cwd=folder, check=True)
    program, *arguments = shlex.split(installation)
    assert program == "telemetry-agent/bin/pip"
    pip = [sys.executable, "-m", "pip", "--python", "telemetry-agent", *arguments]
    subprocess.run(pip, cwd=folder, check=True, env={**os.environ, "PIP_NO_COMPILE": "1"})


@pytest.mark.deadline(180)
async def test_the_commands_of_the_page_install_and_connect_a_device(
    tmp_path: Path, hub: Hub, browser: Browser
) -> None:
    """With the libraries on the hub, pip needs no package index. It accepts the file by its hash and rejects it with
    another. The installed agent connects with the token of the page, and the page shows the device."""
    await asyncio.to_thread(add_libraries, hub.data / "wheels")
    page = await open_page(browser, hub, "/add")
    await page.get_by_label("Device id").fill("boiler-7")
    await page.get_by_role("button", name="Create a token").click()
    await page.get_by_role("button", name="Token created").wait_for()
    commands = page.get_by_test_id("command")
    await commands.filter(has_text="sha256=").wait_for()
    lines = await commands.filter(has_text="sha256=").locator("div").all_inner_texts()
    assert "--no-index" in lines[1]
    starts = commands.filter(has_text="hub_device_")
    assert [line.split()[2] for line in (await starts.all_inner_texts())[:2]] == ["run", "serial"]
    start = await starts.first.inner_text()
    await asyncio.to_thread(install, "\n".join(lines), tmp_path)
    variable, program, *arguments = shlex.split(start)
    assert program == "telemetry-agent/bin/device-agent"
    name, _, token = variable.partition("=")
    agent = await asyncio.create_subprocess_exec(
        *(str(tmp_path / program), *arguments, "--spool", str(tmp_path / "spool"), "--interval", "1"),
        cwd=tmp_path,
        env={**os.environ, name: token, "PYTHONPATH": ""},
    )
    try:
        await page.get_by_text("Show the device").click()
        await page.get_by_test_id("device-name").filter(has_text="boiler-7").wait_for()
    finally:
        agent.terminate()
        await agent.wait()
    wrong = re.sub(r"sha256=\w+", "sha256=" + "0" * 64, lines[1])
    with pytest.raises(subprocess.CalledProcessError):
        await asyncio.to_thread(install, f"{lines[0]}\n{wrong}", tmp_path)


async def run_program(page: Page, folder: Path) -> tuple[int, str]:
    """Save the program of the page and run its command as the page says; return its exit code and its output."""
    program = page.get_by_test_id("program")
    name = await program.locator(".mono").inner_text()
    (folder / name).write_text(await program.locator("pre").inner_text(), encoding="utf-8")
    command = (await page.get_by_test_id("command").last.inner_text()).splitlines()[-1]
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_shell(
        command, cwd=folder, env={**os.environ, "PATH": python}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.deadline(240)
async def test_the_page_shows_what_the_hub_refuses_and_then_the_first_reading(
    tmp_path: Path, hub: Hub, browser: Browser
) -> None:
    """On an empty fleet, the page shows each wrong token and each refused message while it waits. The program of the
    page, started as the page says, sends a reading, and the page turns into the fleet with it."""
    await hub.retire_all()
    page = await open_page(browser, hub)
    await page.get_by_label("Device id").fill("boiler-2")
    await page.get_by_role("radio", name="A program").check()
    await page.get_by_role("radio", name="Python", exact=True).check()
    arrival = page.get_by_test_id("arrival")
    await expect(arrival).to_contain_text("The hub has no connection of boiler-2 yet.")
    await expect(arrival).to_have_attribute("aria-busy", "false")
    problems = arrival.get_by_test_id("arrival-problem")
    await expect(problems).to_have_count(0)
    async with httpx.AsyncClient(base_url=hub.url, timeout=30) as device:
        for _ in range(2):
            await device.post("/api/v1/readings", json={"t": 1}, headers={"Authorization": "Bearer wrong"})
        await expect(problems).to_contain_text(
            "2 attempts from 127.0.0.1 at /api/v1/readings were refused: the token is not valid. Create a token"
        )
        await page.get_by_role("button", name="Create a token").click()
        await page.get_by_role("button", name="Token created").wait_for()
        command = await page.get_by_test_id("command").last.inner_text()
        token = re.search(r"HUB_TOKEN=(\S+)", command)
        assert token is not None
        headers = {"Authorization": f"Bearer {token[1]}"}
        await device.post("/api/v1/readings", content=b'{"temperature": 21.5', headers=headers)
    await expect(problems.nth(1)).to_contain_text("The hub refused what boiler-2 sent:")
    await check_layout(page)
    code, output = await run_program(page, tmp_path)
    assert (code, output.splitlines()) == (0, ["connected", '{"ok":1}'])
    row = page.get_by_test_id("fleet-row")
    await expect(row).to_contain_text("boiler-2")
    await expect(row).to_contain_text("21.5")


@pytest.mark.deadline(240)
async def test_every_way_has_commands_that_fit_the_screen(hub: Hub, browser: Browser) -> None:
    """The page of each way and of each language has its commands with the token, on a screen and on a phone. A device
    that sends one request, and never connects, turns live, which is readable in light and in dark."""
    page = await open_page(browser, hub, "/add")
    await page.get_by_label("Device id").fill("boiler-1")
    await page.get_by_role("button", name="Create a token").click()
    await page.get_by_role("button", name="Token created").wait_for()
    for size in (SCREEN, PHONE):
        await page.set_viewport_size({"width": size["width"], "height": size["height"]})
        for way in await page.get_by_role("radiogroup", name="How it sends").get_by_role("radio").all():
            await way.check()
            assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        await page.get_by_role("radio", name="A program").check()
        for language in await page.get_by_role("radiogroup", name="Language").get_by_role("radio").all():
            await language.check()
            await expect(page.get_by_test_id("add-device")).to_contain_text("hub_device_")
            assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    await page.get_by_role("radio", name="curl", exact=True).check()
    [_, token] = (await page.get_by_test_id("command").first.inner_text()).split("Bearer ")
    async with httpx.AsyncClient(base_url=hub.url, timeout=30) as device:
        secret = token.partition('"')[0]
        headers = {"Authorization": f"Bearer {secret}"}
        await device.post("/api/v1/readings", json={"temperature": 21.5, "open": True}, headers=headers)
    arrival = page.get_by_test_id("arrival")
    await expect(arrival).to_contain_text("boiler-1 is live.")
    await expect(arrival.get_by_role("definition").first).to_have_text("21.5")
    await check_looks(page)


@pytest.mark.deadline(120)
async def test_every_role_gets_instructions_that_fit_the_screen(hub: Hub, browser: Browser) -> None:
    """Without the right to create tokens, the guide names the command for the machine of the hub. An invalid name
    creates no token. The fleet links the guide, which proposes a name that no device has, and warns of
    one that exists."""
    await hub.retire_all()
    page = await (await browser.new_context(viewport={"width": 360, "height": 780})).new_page()
    await page.goto(hub.url)
    await page.get_by_label("Token").fill(await hub.token("viewer"))
    await page.get_by_role("button", name="Sign in").click()
    guide = page.get_by_test_id("empty-fleet")
    await page.get_by_label("Device id").fill("x" * 64)
    await expect(guide).to_contain_text(f"hub token create --role device --device {'x' * 64}")
    await expect(guide).to_contain_text("sha256=")
    await check_layout(page)
    gateway = await hub.token("gateway", "--devices", "*")
    async with Agent(hub.url, device="my-device", token=gateway) as agent:
        await agent.send({"pressure": 1.5})
        await agent.drain(30)
    page = await open_page(browser, hub)
    await page.get_by_test_id("fleet-row").wait_for()
    await check_looks(page)
    await page.get_by_role("link", name="Add a device").click()
    guide = page.get_by_test_id("add-device")
    await guide.wait_for()
    await expect(page).to_have_title("Add a device · Telemetry Hub")
    await expect(page.get_by_label("Device id")).to_have_value("my-device-2")
    await expect(page.get_by_test_id("known-device")).to_have_count(0)
    await page.get_by_label("Device id").fill("my-device")
    await expect(page.get_by_test_id("known-device")).to_contain_text("This device exists already.")
    await check_looks(page)
    await page.get_by_label("Device id").fill("two words")
    await expect(page.get_by_role("button", name="Create a token")).to_be_disabled()
    await expect(page.get_by_role("alert")).to_have_text(f"“two words” is not a device id. {RULE}")
    await expect(guide).not_to_contain_text("--device")
    await expect(guide).to_contain_text("sha256=")
    await check_looks(page)
