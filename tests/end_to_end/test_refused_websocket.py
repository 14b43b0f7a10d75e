"""A proxy that lets HTTP pass but no WebSocket: the page and the agents show the cause and the remedy, and recover."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.end_to_end.altering_proxy import AlteringProxy, Header, altering_proxy, without, without_upgrade
from tests.end_to_end.browser import check_layout, one_time_url, open_browser
from tests.end_to_end.hub import Hub, running_hub

BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nServer: proxy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
MOVED = (
    b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://hub.example/v1/device\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
START_S = 30.0


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path_factory.mktemp("proxied") / "data") as hub:
        yield hub


def with_host_of(hub: Hub, headers: list[Header]) -> list[Header]:
    """Change the Host to that of the hub, as nginx does without a setting."""
    return [*without(headers, "host"), ("Host", hub.url.removeprefix("http://"))]


def unaltered(headers: list[Header]) -> list[Header]:
    return headers


async def signed_in_page(browser: Browser, hub: Hub, url: str) -> Page:
    """Open the page at a proxy's address."""
    page = await browser.new_page()
    await page.goto((await one_time_url(hub)).replace(hub.url, url))
    return page


async def shows(page: Page, *texts: str) -> None:
    """Return when the banner shows the cause and the remedy."""
    cause = page.get_by_test_id("link-cause")
    for text in texts:
        await expect(cause).to_contain_text(text, timeout=START_S * 1000)


async def recovers(page: Page, proxy: AlteringProxy, *, by_itself: bool = False) -> None:
    """Correct the proxy, and return when the page is live again without a reload."""
    proxy.alter, proxy.answer = unaltered, None
    if not by_itself:
        await page.get_by_role("button", name="Reconnect now").click()
    await page.get_by_test_id("link-banner").wait_for(state="hidden", timeout=START_S * 1000)
    await expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "live")


@pytest.mark.deadline(180)
async def test_the_page_shows_why_its_websocket_is_refused_and_recovers(
    hub: Hub, chromium: Path, tmp_path: Path
) -> None:
    """HTTP works in each case, so the page can ask the hub. The cause is on the screen with the value for the setting,
    and disappears when the proxy is correct."""
    async with altering_proxy(hub.url, without_upgrade) as proxy, open_browser(chromium) as browser:
        # The proxy has a name of its own, as it has in front of a hub on another machine.
        public = proxy.url.replace("127.0.0.1", "localhost")
        page = await signed_in_page(browser, hub, public)
        await shows(page, "without its header Upgrade", "Let the proxy in front of the hub pass WebSocket upgrades")
        await check_layout(page)
        await page.screenshot(path=tmp_path / "upgrade-lost.png")
        await page.set_viewport_size({"width": 360, "height": 780})
        await check_layout(page)
        await page.screenshot(path=tmp_path / "upgrade-lost-phone.png")
        await recovers(page, proxy, by_itself=True)

        proxy.alter = lambda headers: with_host_of(hub, headers)
        await proxy.close()
        await shows(page, f"The page comes from {public}", f'Add "{public}" to access.allowed_origins', "Host header")
        await page.screenshot(path=tmp_path / "host-changed.png")
        await recovers(page, proxy)

        proxy.alter = lambda headers: [*without(headers, "host"), ("Host", "hub.lan")]
        await proxy.close()
        await shows(page, "This hub is not known as hub.lan", 'add "hub.lan" to access.allowed_hosts')
        await recovers(page, proxy)

        proxy.answer = BAD_GATEWAY
        await proxy.close()
        await shows(page, "The proxy in front of the hub does not reach the hub (502)")
        await recovers(page, proxy)
    lines = [line for line in hub.log().splitlines() if '"request refused"' in line]
    for reason in ("upgrade_lost", "origin_not_allowed", "host_not_allowed"):
        assert any(f'"reason": "{reason}"' in line for line in lines), reason
    assert '"level": "error"' not in hub.log()


@pytest.mark.deadline(120)
async def test_an_expired_session_is_recognised_behind_such_a_proxy(hub: Hub, chromium: Path) -> None:
    """The sign-in page follows, not a cause that the user cannot remove."""
    async with altering_proxy(hub.url, without_upgrade) as proxy, open_browser(chromium) as browser:
        page = await signed_in_page(browser, hub, proxy.url)
        await shows(page, "without its header Upgrade")
        await page.context.clear_cookies()
        await page.get_by_label("Token").wait_for(timeout=START_S * 1000)


async def run_until(pattern: str, *command: str) -> str:
    """Run a command and return its output up to a match of the pattern; end the command then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    output = ""
    try:
        async with asyncio.timeout(START_S):
            while not re.search(pattern, output):
                part = await process.stdout.read(4096)
                assert part, output
                output += part.decode()
    except TimeoutError:
        raise AssertionError(output) from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return output


@pytest.mark.deadline(180)
async def test_agents_print_the_cause_and_the_remedy(hub: Hub, tmp_path: Path) -> None:
    """The agent, the import and the simulator speak of the proxy, the setting or the address, not of a lost network."""
    readings = tmp_path / "old.lp"
    readings.write_text("telemetry,device=kiln temperature=1 1767225600000000000\n")
    token = await hub.token("gateway", "--devices", "*")
    async with altering_proxy(hub.url, without_upgrade) as proxy:
        agent = ("device_agent", "run", "--hub", proxy.url, "--token", token, "--spool", str(tmp_path / "spool"))
        lost = r"the proxy in front of the hub does not pass WebSocket upgrades: .* \(HTTP 426\); readings stay"
        await run_until(lost, *agent)
        upload = ("hub", "import", str(readings), "--url", proxy.url, "--token", token)
        await run_until("the proxy in front of the hub does not pass WebSocket upgrades", *upload)
        fleet = ("device_sim", "run", "--hub", proxy.url, "--token", token, "--devices", "2", "--duration", "1")
        await run_until("(?s)does not pass.*WebSocket.*upgrades", *fleet)

        proxy.alter = lambda headers: [*without(headers, "host"), ("Host", "hub.lan")]
        await run_until('add \\\\?"hub.lan\\\\?" to access.allowed_hosts', *agent)
        proxy.answer = BAD_GATEWAY
        await run_until(r"the proxy does not reach the hub: .* \(HTTP 502 from proxy\)", *agent)
        proxy.answer = PAGE
        await run_until("this is not a hub", *agent)
        proxy.answer = MOVED
        await run_until(r"use the URL wss://hub\.example/v1/device", *agent)
