"""A hub and a browser for all tests of a module: each of them takes seconds to start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.end_to_end.browser import open_browser
from tests.end_to_end.hub import Hub, running_hub


@pytest.fixture(scope="module")
async def module_browser(chromium: Path) -> AsyncIterator[Browser]:
    """Run one Chromium for the tests of a module."""
    async with open_browser(chromium) as browser:
        yield browser


@pytest.fixture
async def browser(module_browser: Browser) -> AsyncIterator[Browser]:
    """Return the browser of the module without a context. An open page would disturb the next test."""
    yield module_browser
    for context in module_browser.contexts:
        await context.close()


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run one hub for the tests of a module, which may kill it and start it again."""
    async with running_hub(tmp_path_factory.mktemp("hub") / "data") as hub:
        yield hub
