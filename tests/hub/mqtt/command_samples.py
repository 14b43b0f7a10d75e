"""Conversations with devices of the presets: how they describe themselves, and what they publish after a command.

A payload that is not a text is encoded as JSON. "$id" in the payload of a command stands for the command's id and
"$src" for the client that asks; answers and their topics contain the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hub.mqtt.message import Message

FOLDER = Path(__file__).parent / "commands"
FILES = sorted(FOLDER.glob("*.json"))


class Exchange(NamedTuple):
    """A command, what the hub publishes, what the device answers, and how the command ends."""

    device: str
    command: str
    parameters: dict[str, Any]
    topic: str
    payload: Any
    answers: list[tuple[str, Any]]
    ends: dict[str, Any]

    def names_in(self, payload: bytes) -> dict[str, str] | None:
        """Return the values of "$id" and "$src" in a published payload, None if it is another one."""
        if isinstance(self.payload, str):
            return {} if payload.decode() == self.payload else None
        try:
            content = json.loads(payload)
        except ValueError:
            return None
        names = {
            text: content[key]
            for key, text in self.payload.items()
            if isinstance(text, str) and text.startswith("$") and key in content
        }
        return names if filled(self.payload, names) == content else None

    def answered(self, names: Mapping[str, str]) -> list[Message]:
        """Return the messages of the device."""
        return [Message(str(filled(topic, names)), encoded(filled(payload, names))) for topic, payload in self.answers]


class CommandSamples(NamedTuple):
    """One file: the preset as in the settings, the messages before the commands, the declared commands, and the
    exchanges in their order."""

    preset: str
    described: list[Message]
    declared: dict[str, list[str]]
    exchanges: list[Exchange]


def read_command_samples(path: Path) -> CommandSamples:
    """Read a file of conversations."""
    content = json.loads(path.read_text())
    described = [
        Message(entry["topic"], encoded(entry["payload"]), retain=entry.get("retain", False))
        for entry in content["described"]
    ]
    exchanges = [
        Exchange(
            entry["device"],
            entry["command"],
            entry.get("parameters", {}),
            entry["published"]["topic"],
            entry["published"]["payload"],
            [(answer["topic"], answer["payload"]) for answer in entry["answers"]],
            entry["ends"],
        )
        for entry in content["exchanges"]
    ]
    return CommandSamples(content["preset"], described, content["declared"], exchanges)


def filled(content: Any, names: Mapping[str, str]) -> Any:
    """Return the content with these values of "$id" and "$src"."""
    if isinstance(content, str):
        for name, value in names.items():
            content = content.replace(name, value)
        return content
    if isinstance(content, list):
        return [filled(item, names) for item in content]
    return {key: filled(value, names) for key, value in content.items()} if isinstance(content, dict) else content


def encoded(payload: Any) -> bytes:
    """Return a payload as bytes."""
    return (payload if isinstance(payload, str) else json.dumps(payload)).encode()
