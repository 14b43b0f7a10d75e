"""A user's own page on another port of the host, in a browser that is signed in to the hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from tests.end_to_end.browser import one_time_url, open_browser
from tests.end_to_end.hub import running_hub

SCRIPT = """
window.read = async (url, options) => {
  try {
    const answer = await fetch(url, options);
    const body = await answer.json();
    return { status: answer.status, retry: answer.headers.get("Retry-After"), body };
  } catch (error) {
    return { hidden: String(error) };
  }
};
window.watch = (url, subprotocols, first) =>
  new Promise((resolve) => {
    const socket = new WebSocket(url, subprotocols);
    socket.onopen = () => first && socket.send(JSON.stringify(first));
    socket.onmessage = ({ data }) => resolve({ protocol: socket.protocol, message: JSON.parse(data) });
    socket.onclose = ({ code }) => resolve({ code });
  });
"""
SUBPROTOCOL = "telemetry.live.v1"


@contextlib.asynccontextmanager
async def own_page() -> AsyncIterator[str]:
    """Serve a page with the script above on a free port; return its origin."""
    body = f"<!doctype html><title>Own page</title><script>{SCRIPT}</script>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + body)
            await writer.drain()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


async def read(page: Page, url: str, **options: Any) -> dict[str, Any]:
    """Return what the page reads with fetch; `hidden` if the browser hides the answer."""
    answer: dict[str, Any] = await page.evaluate("([url, options]) => read(url, options)", [url, options])
    return answer


async def watch(page: Page, url: str, subprotocols: list[str], first: Any = None) -> dict[str, Any]:
    """Return the first message that the page's WebSocket receives, or its close code."""
    answer: dict[str, Any] = await page.evaluate(
        "([url, subprotocols, first]) => watch(url, subprotocols, first)", [url, subprotocols, first]
    )
    return answer


@pytest.mark.deadline(120)
async def test_a_page_on_another_port_uses_the_hub_with_a_token(tmp_path: Path, chromium: Path) -> None:
    """The browser sends the hub's cookie along. The page reads answers and errors if its origin is allowed, and nothing
    if not; a WebSocket works from both with a token, and without one it gets nothing."""
    settings = tmp_path / "hub.toml"
    async with own_page() as allowed, own_page() as foreign:
        settings.write_text(f'[access]\nallowed_origins = ["{allowed}"]\n')
        async with (
            running_hub(tmp_path / "data", options=("--config", str(settings))) as hub,
            open_browser(chromium) as browser,
        ):
            # A cookie belongs to the host name, whatever the port.
            url = hub.url.replace("127.0.0.1", "localhost")
            live = f"{url.replace('http', 'ws', 1)}/v1/live"
            viewer = await hub.token("viewer")
            token = {"Authorization": f"Bearer {viewer}"}
            page = await browser.new_page()
            await page.goto((await one_time_url(hub)).replace(hub.url, url))
            (name,) = [cookie["name"] for cookie in await page.context.cookies()]
            assert re.fullmatch(r"telemetry_hub_session_[0-9a-z]{8}", name)

            await page.goto(allowed)
            answer = await read(page, f"{url}/api/v1/hub", headers=token)
            assert (answer["status"], answer["body"]["role"]) == (200, "viewer")
            answer = await read(page, f"{url}/api/v1/hub", credentials="include")
            assert (answer["status"], answer["body"]["role"]) == (200, "admin")
            answer = await read(page, f"{url}/api/v1/hub", headers={"Authorization": "Bearer wrong"})
            assert (answer["status"], answer["body"]["code"]) == (401, "not_authenticated")
            answer = await read(page, f"{url}/api/v1/nothing", headers=token)
            assert (answer["status"], answer["body"]["code"]) == (404, "not_found")
            body = json.dumps({"path": "/v1/live"})
            headers = {**token, "Content-Type": "application/json", "Idempotency-Key": "1"}
            answer = await read(page, f"{url}/api/v1/connection-check", method="POST", headers=headers, body=body)
            assert answer["body"]["code"] == "ok"

            for origin in (allowed, foreign):
                await page.goto(origin)
                watched = await watch(page, live, [SUBPROTOCOL, f"token.{viewer}"])
                assert (watched["protocol"], watched["message"]["role"]) == (SUBPROTOCOL, "viewer")
                watched = await watch(page, live, [SUBPROTOCOL], {"type": "authenticate", "token": viewer})
                assert watched["message"]["type"] == "welcome"

            assert "hidden" in await read(page, f"{url}/api/v1/hub", headers=token)
            assert "hidden" in await read(page, f"{url}/api/v1/hub", credentials="include")
            watched = await watch(page, live, [SUBPROTOCOL])
            assert watched["message"]["code"] == "not_allowed"
            assert f'add "{foreign}" to access.allowed_origins' in watched["message"]["message"]
        assert f'add \\"{foreign}\\" to access.allowed_origins' in hub.log()
