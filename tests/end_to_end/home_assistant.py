"""A Home Assistant that receives messages from a broker and reads them as the real one does."""

from __future__ import annotations

import json
from typing import Any

from bench.mqtt_frames import Published

SETTINGS = """
[[mqtt]]
url = "{url}"
client_id = "hub-7"
publish = [{{ topic = "hub/{{device}}/{{metric}}" }}]
presence_topic = "hub/{{device}}/presence"
discovery = {{ enabled = {enabled} }}
allow_commands = true
command_topic = "hub/{{device}}/command/{{command}}"
setting_topic = "hub/{{device}}/setting/{{setting}}"
command_devices = ["boiler.*"]
"""

COMMON = frozenset({"platform", "name", "unique_id"})
STATE = frozenset({"state_topic", "value_template"})
COMMAND = frozenset({"command_topic", "command_template"})

SCHEMA: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "sensor": (
        frozenset({"state_topic"}),
        STATE | {"state_class", "device_class", "unit_of_measurement", "expire_after"},
    ),
    "binary_sensor": (
        frozenset({"state_topic"}),
        STATE | {"payload_on", "payload_off", "device_class", "expire_after"},
    ),
    "button": (frozenset({"command_topic"}), COMMAND | {"payload_press", "device_class"}),
    "switch": (
        frozenset({"command_topic"}),
        STATE | COMMAND | {"payload_on", "payload_off", "state_on", "state_off", "device_class"},
    ),
    "number": (
        frozenset({"command_topic"}),
        STATE | COMMAND | {"min", "max", "step", "mode", "unit_of_measurement", "device_class"},
    ),
    "select": (frozenset({"command_topic", "options"}), STATE | COMMAND | {"options"}),
    "text": (frozenset({"command_topic"}), STATE | COMMAND | {"min", "max", "mode", "pattern"}),
}
"""For each platform the options that Home Assistant's documentation requires and those that it knows. It refuses a part
of a description with any other."""


def check_part(part: dict[str, Any]) -> None:
    """Assert that Home Assistant accepts a part of a description. One with its platform only is a removed one."""
    required, known = SCHEMA[part["platform"]]
    if part.keys() == {"platform"}:
        return
    assert (COMMON | required) <= part.keys() <= (COMMON | known), part
    assert all(isinstance(part[key], str) for key in part.keys() - {"min", "max", "step", "options", "expire_after"})
    if part["platform"] == "number":
        assert part["min"] < part["max"]
        assert part["step"] >= 0.001
        assert part["mode"] in ("box", "slider", "auto")
    if part["platform"] == "select":
        assert part["options"]
        assert all(isinstance(option, str) for option in part["options"])


class HomeAssistant:
    """Records every message, and the last payload of each topic."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.received: list[tuple[str, bytes]] = []

    def receive(self, message: Published) -> None:
        """Record a message of the broker. A description must be one that Home Assistant accepts."""
        self.retained[message.topic] = message.payload
        if message.topic.endswith("/config") and message.payload:
            for part in json.loads(message.payload)["components"].values():
                check_part(part)
        self.received.append((message.topic, message.payload))

    def described(self) -> list[dict[str, Any]]:
        """Return the device descriptions that are not withdrawn."""
        return [
            json.loads(payload) for topic, payload in self.retained.items() if topic.endswith("/config") and payload
        ]

    def controls(self) -> dict[str, dict[str, Any]]:
        """Return the parts of all descriptions that send commands, by name."""
        parts = [part for described in self.described() for part in described["components"].values()]
        return {part["name"]: part for part in parts if "command_topic" in part}

    def is_available(self, described: dict[str, Any]) -> bool:
        """Return whether the device is available by the rule of the mode `all`."""
        assert described["availability_mode"] == "all"
        return all(self.retained.get(source["topic"]) == b"online" for source in described["availability"])

    def presence(self, device: str) -> str | None:
        """Return the state of a device that the hub published last."""
        payload = self.retained.get(f"hub/{device}/presence")
        return None if payload is None else str(json.loads(payload)["state"])

    def count(self, topic: str) -> int:
        """Return how many messages came on the topic."""
        return sum(received == topic for received, _ in self.received)
