"""The page Tokens of a real hub: an admin creates and revokes tokens and signs browsers out, and nobody else does."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, expect

from device_agent import Agent
from tests.end_to_end.browser import PHONE, check_layout, one_time_url, open_browser, open_page, sign_in_with
from tests.end_to_end.hub import NO_TLS, running_hub

TIMEOUT_MS = 30_000
LONG = "x" * 64
RULE = "A device id has 1 to 64 letters, digits, “.”, “_” or “-”, and is not “.” or “..”."


async def created_token(page: Page, device: str) -> str:
    """Create the token of a device with the form and return its text."""
    await page.get_by_role("button", name="Create a token").click()
    await page.get_by_label("Device id").fill(device)
    await page.get_by_label("Label").fill(f"made for {device[:8]}")
    await page.get_by_role("button", name="Create", exact=True).click()
    secret = await page.get_by_test_id("new-token").get_by_test_id("command").inner_text()
    await page.get_by_role("button", name="Done").click()
    return secret.strip()


@pytest.mark.deadline(120)
async def test_an_admin_creates_and_revokes_the_token_of_a_device(tmp_path: Path, chromium: Path) -> None:
    """The secret is shown once and admits the device. The list has its last use. After the revocation, which asks
    first, the connection of the device ends. A new token that is revoked is not shown any more."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        page = await open_page(browser, hub)
        await page.get_by_role("link", name="Tokens").click()
        secret = await created_token(page, "boiler-1")
        assert secret.startswith("hub_device_")
        assert secret not in await page.content()
        row = page.get_by_test_id("token").filter(has_text="boiler-1")
        await expect(row).to_contain_text("never")
        await expect(row).to_contain_text("Valid")
        async with Agent(hub.url, device="boiler-1", token=secret) as agent:
            await agent.send({"temperature": 21.5})
            await agent.drain(30)
            await page.reload()
            await expect(row).to_contain_text("just now", timeout=TIMEOUT_MS)
            await row.get_by_role("button", name="Revoke").click()
            dialog = page.get_by_role("dialog")
            await expect(dialog).to_contain_text("keeps its readings in its spool")
            await dialog.get_by_role("button", name="Cancel").click()
            await expect(row).to_have_count(1)
            await row.get_by_role("button", name="Revoke").click()
            await page.get_by_test_id("confirm").click()
            await expect(row).to_have_count(0)
            await page.get_by_role("button", name="Create a token").click()
            await page.get_by_label("Device id").fill("bad name!")
            await page.get_by_role("button", name="Create", exact=True).click()
            await expect(page.get_by_role("alert")).to_have_text(f"No token was created. {RULE}")
            await page.get_by_label("Device id").fill("boiler-2")
            await page.get_by_role("button", name="Create", exact=True).click()
            await page.get_by_test_id("new-token").wait_for()
            await page.get_by_test_id("token").filter(has_text="boiler-2").get_by_role("button", name="Revoke").click()
            await page.get_by_test_id("confirm").click()
            await expect(page.get_by_test_id("new-token")).to_have_count(0)
            await page.goto(f"{hub.url}/device/boiler-1")
            await expect(page.get_by_test_id("condition").first).to_have_text("Offline", timeout=TIMEOUT_MS)


@pytest.mark.deadline(120)
async def test_an_admin_signs_another_browser_out(tmp_path: Path, chromium: Path) -> None:
    """The page of that browser shows the sign-in form within 5 seconds, without being loaded again; the admin's own
    browser stays signed in. Both are listed, with the token that each signed in with."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        viewer = await hub.token("viewer", "--label", "wall display")
        other = await sign_in_with(browser, hub, viewer)
        await expect(other.get_by_test_id("link-state")).to_have_attribute("data-state", "live")
        page = await open_page(browser, hub, "/tokens")
        sessions = page.get_by_test_id("session")
        await expect(sessions).to_have_count(2)
        await expect(sessions.filter(has_text="this browser")).to_have_count(1)
        wall = sessions.filter(has_text="wall display")
        await wall.get_by_role("button", name="Sign out").click()
        await page.get_by_test_id("confirm").click()
        await expect(sessions).to_have_count(1)
        await expect(other.get_by_text("Sign in to the hub")).to_be_visible(timeout=10_000)
        await expect(page.get_by_test_id("link-state")).to_have_attribute("data-state", "live")


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_others_do_not_see_the_page(tmp_path: Path, chromium: Path, role: str) -> None:
    """The navigation does not list it, its address explains who sees it, and the API answers 403."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        token = await hub.token(role)
        page = await sign_in_with(browser, hub, token)
        await expect(page.get_by_role("link", name="Flow").first).to_be_visible()
        await expect(page.get_by_role("link", name="Tokens")).to_have_count(0)
        await page.goto(f"{hub.url}/tokens")
        await page.get_by_text("Only an admin sees the tokens").wait_for()
        await check_layout(page)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=hub.url, headers=headers, verify=NO_TLS) as client:
            for path in ("/api/v1/tokens", "/api/v1/sessions"):
                assert (await client.get(path)).status_code == 403


@pytest.mark.deadline(120)
async def test_the_page_fits_every_screen(tmp_path: Path, chromium: Path) -> None:
    """In light, dark and on a phone: long ids and labels, an expired token, the form and the new secret."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        await hub.token("gateway", "--devices", "*" * 64, "--label", "a long label " * 9)
        await hub.token("viewer", "--label", "expired", "--expires-in", "1s")
        await hub.token("viewer", "--expires-in", "30d")
        for options in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": PHONE}):
            page = await open_page(browser, hub, "/tokens", **options)
            await expect(page.get_by_test_id("token").filter(has_text="Expired")).to_have_count(1)
            await check_layout(page)
            await page.get_by_role("button", name="Create a token").click()
            await page.get_by_label("Device id").fill(LONG)
            await check_layout(page)
            await page.get_by_role("button", name="Create", exact=True).click()
            await page.get_by_test_id("new-token").wait_for()
            await check_layout(page)


async def test_a_used_url_explains_the_next_step(tmp_path: Path, chromium: Path) -> None:
    """A browser gets a page with the command that prints a new URL; that URL signs it in. A signed-in browser learns
    that it needs none. A program gets a problem document with 403."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        url = await one_time_url(hub)
        first = await (await browser.new_context()).new_page()
        await first.goto(url)
        await first.get_by_test_id("empty-fleet").wait_for()
        await first.goto(url)
        await first.get_by_text("You are signed in").wait_for()
        for options in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": PHONE}):
            page = await (await browser.new_context(**options)).new_page()
            await page.goto(url)
            await expect(page.get_by_test_id("expired-url")).to_contain_text("hub token url")
            assert page.url == f"{hub.url}/sign-in"
            await check_layout(page)
        await page.goto(await one_time_url(hub))
        await page.get_by_test_id("empty-fleet").wait_for()
        async with httpx.AsyncClient(verify=NO_TLS) as client:
            program = await client.get(url)
        assert (program.status_code, program.json()["code"]) == (403, "not_allowed")
