"""Fixtures for the tests of the host application."""

from __future__ import annotations

import pytest

from tests.hub.mqtt.sparkplug.joined import Joined


@pytest.fixture
def joined() -> Joined:
    """Return a host that has received the births of an edge node."""
    joined = Joined()
    joined.deliver(*joined.edge.connect())
    return joined
