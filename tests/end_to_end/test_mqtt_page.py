"""The page MQTT of a real hub with a real Mosquitto: its counts, and an outage of the broker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from paho.mqtt import publish
from playwright.async_api import expect

from tests.end_to_end.browser import PHONE, check_layout, open_browser, open_page
from tests.end_to_end.hub import Hub
from tests.services.mosquitto import Mosquitto

TIMEOUT_MS = 30_000


@pytest.mark.deadline(120)
async def test_the_page_shows_the_state_of_each_broker(tmp_path: Path, chromium: Path, mosquitto_program: Path) -> None:
    """Counts equal what was published. An outage of the broker is shown with its consequences, the hub stays ready, and
    the page recovers by itself."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        settings = tmp_path / "hub.toml"
        settings.write_text(
            f'[[mqtt]]\nname = "plant"\nurl = "{broker.url}"\n'
            'subscribe = [{ topic = "sensors/{device}/{metric}", payload = "value" }]\n'
            'publish = [{ topic = "out/{device}/{metric}" }]\n'
        )
        hub = Hub(tmp_path / "data", options=("--config", str(settings)))
        await hub.start()
        try:
            async with open_browser(chromium) as browser:
                page = await open_page(browser, hub)
                await page.get_by_role("link", name="MQTT", exact=True).click()
                card = page.get_by_test_id("bridge-plant")
                await expect(card).to_contain_text("Connected", timeout=TIMEOUT_MS)
                await expect(card).to_contain_text("MQTT 5")
                publish.single("sensors/pump/pressure", "3.5", qos=1, hostname="127.0.0.1", port=broker.port)
                await expect(card).to_contain_text(re.compile("Readings accepted1"), timeout=TIMEOUT_MS)
                await check_layout(page)
                broker.stop()
                await expect(card).to_contain_text("Outgoing messages wait in the journal", timeout=TIMEOUT_MS)
                assert (await page.request.get(hub.url + "/ready")).ok
                phone = await open_page(browser, hub, "/mqtt", viewport=PHONE, color_scheme="dark")
                await expect(phone.get_by_test_id("bridge-plant")).to_contain_text("Reconnecting", timeout=TIMEOUT_MS)
                await check_layout(phone)
                broker.start()
                await expect(card.get_by_test_id("bridge-phase")).to_have_text("Connected", timeout=TIMEOUT_MS)
            assert await hub.stop() == 0
        finally:
            await hub.kill()
