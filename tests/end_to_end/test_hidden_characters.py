"""Marks that change the direction of text, in everything that a device chooses: the page shows them as escapes."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from device_agent import Agent, Metric
from tests.end_to_end.browser import open_browser, open_page
from tests.end_to_end.hub import running_hub

MARKS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
TEXTS = """
    [document.body.innerText, ...[...document.querySelectorAll("*")].flatMap(
        (element) => ["title", "aria-label", "placeholder", "alt"].map((name) => element.getAttribute(name) ?? ""),
    )].join("\\n")"""


@pytest.mark.deadline(120)
async def test_the_page_shows_marks_that_reorder_text_as_escapes(tmp_path: Path, chromium: Path) -> None:
    """In names, units, descriptions, tags and values, in the text of the page and in what it shows on hovering."""
    named, state = f"level{MARKS}", f"state{MARKS}"
    metrics = [Metric(named, unit=f"bar{MARKS[0]}", description=f"of{MARKS}the tank"), Metric(state, "string")]
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "pump")
        tags = {"site": f"north{MARKS[4]}"}
        async with Agent(hub.url, device="pump", token=token, metrics=metrics, tags=tags) as agent:
            await agent.send_columns([time.time_ns()], {named: [1.0], state: [f"on{MARKS}"]})
            await agent.drain(30)
        async with open_browser(chromium) as browser:
            page = await open_page(browser, hub, "/device/pump")
            await page.wait_for_selector("[data-testid=chart]")
            await page.get_by_text("on\\u202a").first.wait_for()
            text = await page.evaluate(TEXTS)
    assert not re.search(f"[{MARKS}]", text)
    for shown in ("level", "state", "north", "bar", "of"):
        assert f"{shown}\\u20" in text, shown
