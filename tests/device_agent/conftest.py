"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.device_agent.peer import Peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A hub's end that says and keeps what a test wants."""
    async with Peer() as peer:
        yield peer
