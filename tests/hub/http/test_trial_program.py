"""The reading of the content of a trial."""

from __future__ import annotations

import json

from formats.rules import Rules
from hub.http.trial import request_of
from hub.http.trial_program import read_content
from wire.model import MetricType


def test_the_devices_of_the_content_are_asked_for_once() -> None:
    """A type of the hub wins over the content, which is read a second time with it."""
    asked: list[list[str]] = []

    def types_of(devices: list[str]) -> dict[str, dict[str, MetricType]]:
        asked.append(devices)
        return {"boiler": {"temp": "string"}}

    facts = json.loads(read_content(request_of(Rules(), '{"device": "boiler", "temp": 21.5}'), types_of))
    assert asked == [["boiler"]]
    assert facts["metrics"][0]["type"] == "string"
