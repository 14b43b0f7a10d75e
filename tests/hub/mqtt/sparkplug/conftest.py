"""The fixtures of the host application's tests."""

from __future__ import annotations

import pytest

from tests.hub.mqtt.sparkplug.joined import Joined


@pytest.fixture
def joined() -> Joined:
    """Joined after the edge node's births."""
    joined = Joined()
    joined.deliver(*joined.edge.connect())
    return joined
