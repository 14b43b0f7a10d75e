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
command_devices = ["boiler.*"]
"""


class HomeAssistant:
    """Records every message, and the last payload of each topic."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.received: list[tuple[str, bytes]] = []

    def receive(self, message: Published) -> None:
        """Record a message of the broker."""
        self.retained[message.topic] = message.payload
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
