"""Access requests between a real hub, a real agent and a real Chromium."""

from __future__ import annotations

import asyncio
import re
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from playwright.async_api import expect

from tests.conditions import result_of
from tests.end_to_end.browser import PHONE, SCREEN, check_layout, open_browser, open_page
from tests.end_to_end.hub import NO_TLS, Hub, running_hub

PATH = "/api/v1/access-requests"
TIMEOUT_MS = 30_000

LOOKS: tuple[tuple[Literal["dark", "light"], dict[str, int]], ...] = (
    ("dark", SCREEN),
    ("light", PHONE),
    ("light", SCREEN),
)


class Service:
    """A `device-agent` process, and what it has written to its log."""

    def __init__(self, log: Path, process: asyncio.subprocess.Process) -> None:
        self.log = log
        self.process = process

    async def code(self) -> str:
        """Return the code that it shows."""

        async def shown() -> str | None:
            found = re.search(r"compare the code (\S+) at (\S+)/access,", self.log.read_text())
            return None if found is None else found[1]

        return await result_of(shown)


@asynccontextmanager
async def service(log: Path, *arguments: str) -> AsyncIterator[Service]:
    """Run `device-agent` and stop it in order."""
    command = (sys.executable, "-W", "error", "-m", "device_agent", *arguments)
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)
    try:
        yield Service(log, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def decide(hub: Hub, code: str, decision: str) -> None:
    headers = {"Authorization": f"Bearer {await hub.token('operator')}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, verify=NO_TLS) as client:
        answer = await client.post(f"{PATH}/{code}/{decision}")
        assert answer.status_code == 204, answer.text


async def readings(hub: Hub, device: str, more_than: int = 0) -> int | None:
    """Return how many readings of a device the hub has; None if they are not more than these."""
    rows: list[dict[str, Any]] = (await hub.get("/api/v1/flow"))["devices"]
    found = next((row["accepted"] for row in rows if row["device"] == device), 0)
    return found if found > more_than else None


@pytest.mark.deadline(120)
async def test_a_device_gets_access_and_keeps_its_history_after_its_token_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service of agent.toml starts without a token, and collects meanwhile. After the approval it connects. The
    token file is for its user alone.

    Then the token is revoked and its file is gone: the agent asks again, as a known device, and the accounting and the
    history of the device continue.
    """
    monkeypatch.delenv("HUB_TOKEN", raising=False)
    config, token = tmp_path / "agent.toml", tmp_path / "spools" / "kiln.token"
    async with running_hub(tmp_path / "data") as hub:
        config.write_text(
            f'hub = "{hub.url}"\ndevice = "kiln"\nspool_directory = "spools"\n'
            '[[source]]\nkind = "host"\ninterval_s = 0.5\n'
        )
        async with service(tmp_path / "first.log", "run", "--config", str(config)) as agent:
            await decide(hub, await agent.code(), "approve")
            await result_of(lambda: readings(hub, "kiln"))
        before = await readings(hub, "kiln")
        assert before is not None
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        (created,) = [row for row in (await hub.get("/api/v1/tokens"))["tokens"] if row["pattern"] == "kiln"]
        assert token.read_text().startswith(f"hub_device_{created['id']}_")
        names = [metric["metric"] for metric in (await hub.get("/api/v1/devices/kiln"))["metrics"]]

        await hub.run("token", "revoke", "--data", str(hub.data), created["id"])
        token.unlink()
        async with service(tmp_path / "second.log", "run", "--config", str(config)) as agent:
            code = await agent.code()
            (request,) = (await hub.get(PATH))["requests"]
            assert (request["code"], request["is_known"], request["tokens"]) == (code, True, 0)
            await decide(hub, code, "approve")
            await result_of(lambda: readings(hub, "kiln", before))
        assert [metric["metric"] for metric in (await hub.get("/api/v1/devices/kiln"))["metrics"]] == names
        kinds = [event["kind"] for event in (await hub.get("/api/v1/events"))["events"]]
        assert kinds.count("access_approved") == 2


@pytest.mark.deadline(120)
async def test_an_operator_decides_on_the_page(tmp_path: Path, chromium: Path) -> None:
    """The page shows code, device, program and address, and asks for the code before the approval. It is looked at in
    dark, on a phone and in light, empty and with the longest names. A decided request leaves the list, and the number
    in the navigation."""
    async with (
        running_hub(tmp_path / "data") as hub,
        open_browser(chromium) as browser,
        httpx.AsyncClient(base_url=hub.url, verify=NO_TLS) as stranger,
    ):
        asked = [
            (await stranger.post(PATH, json={"device": device, "program": "p" * 64})).json()
            for device in ("x" * 64, "boiler")
        ]
        page = await open_page(browser, hub, "/access")
        rows = page.get_by_test_id("access-request")
        await expect(rows).to_have_count(2, timeout=TIMEOUT_MS)
        waiting = page.get_by_test_id("waiting-requests")
        await expect(waiting.first).to_have_text("2, 2 devices ask for access")
        for scheme, size in LOOKS:
            await page.emulate_media(color_scheme=scheme)
            await page.set_viewport_size({"width": size["width"], "height": size["height"]})
            await check_layout(page)
        boiler = rows.filter(has_text="boiler")
        await expect(boiler).to_contain_text(asked[1]["code"])
        await expect(boiler).to_contain_text("new device")
        await boiler.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("dialog")).to_contain_text(f"Does the device show {asked[1]['code']}?")
        await page.get_by_test_id("confirm").click()
        await expect(page.get_by_test_id("access-done")).to_contain_text("boiler has access")
        await rows.get_by_role("button", name="Refuse").click()
        await expect(rows).to_have_count(0)
        await expect(page.get_by_text("An agent without a token asks for access")).to_be_visible()
        await expect(waiting).to_have_count(0)
        await check_layout(page)
        states = [(await stranger.post(f"{PATH}/poll", json={"secret": request["secret"]})).json() for request in asked]
        assert {state["state"] for state in states} == {"refused", "approved"}


@pytest.mark.deadline(120)
async def test_setup_stores_the_token_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with 0 when the token is stored, and with 1 after a refusal. A file with a token stays."""
    monkeypatch.delenv("HUB_TOKEN", raising=False)
    async with running_hub(tmp_path / "data") as hub:
        options = ("setup", "--hub", hub.url, "--device", "pump", "--token-file", str(tmp_path / "token"))
        async with (
            service(tmp_path / "refused.log", *options[:-1], str(tmp_path / "none")) as refused,
            service(tmp_path / "approved.log", *options[:3], "--device", "boiler", *options[5:]) as approved,
        ):
            await decide(hub, await refused.code(), "refuse")
            await decide(hub, await approved.code(), "approve")
            assert (await refused.process.wait(), await approved.process.wait()) == (1, 0)
        assert "an operator refused the request" in refused.log.read_text()
        assert not (tmp_path / "none").exists()
        assert (tmp_path / "token").read_text().startswith("hub_device_")
        async with service(tmp_path / "again.log", *options) as again:
            assert await again.process.wait() == 0
        assert "contains a token" in again.log.read_text()
