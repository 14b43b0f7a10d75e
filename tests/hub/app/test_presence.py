"""The facts from which the presence of a device follows."""

from __future__ import annotations

import pytest

from hub.app.presence import device_link
from hub.ingest.device import Device
from hub.model.batch import Mark


@pytest.mark.parametrize(("agent", "by_agent"), [("mqtt:home", False), ("device-agent/1.0", True), ("", True)])
def test_a_device_behind_a_broker_is_known_by_its_agent(agent: str, by_agent: bool) -> None:
    """After a kill of the hub nothing else may be known of it, and it cannot return before its next message."""
    link = device_link(Device("d", Mark("d", "0" * 16, 0), agent=agent))
    assert (link.by_agent, link.connected, link.has_agent) == (by_agent, False, agent != "")
