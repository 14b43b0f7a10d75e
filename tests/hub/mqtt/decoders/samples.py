"""The golden samples of the presets: messages written from public documentation, and what is to come of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, DeviceDeclaration, DevicePresence, Message

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = sorted(GOLDEN.rglob("*.json"))


class Told(NamedTuple):
    """One message, and what it tells; None where no decoder takes its topic."""

    message: Message
    found: list[dict[str, Any]] | None


class Golden(NamedTuple):
    """One file: the preset as it stands in the settings, the pages that the messages were written from, and these.

    `source` has their titles and addresses: "Title (https://...); Title (https://...)".
    """

    preset: str
    source: str
    messages: list[Told]


def read(path: Path) -> Golden:
    """The samples of a file; a payload that is no text there is sent as JSON."""
    content = json.loads(path.read_text())
    messages = [
        Told(Message(entry["topic"], _payload(entry["payload"]), retain=entry.get("retain", False)), entry["found"])
        for entry in content["messages"]
    ]
    return Golden(content["preset"], content["source"], messages)


def told(found: Decoded) -> dict[str, Any]:
    """What was found, as the files have it."""
    match found:
        case DecodedRow(device, values, time_ns):
            return _told("row", device, values=values, time_ns=time_ns)
        case DecodedReading(device, metric, value, time_ns, unit):
            return _told("sample", device, metric=metric, value=value, unit=unit, time_ns=time_ns)
        case DevicePresence(device, online, _):
            return _told("presence", device, online=online)
        case DeviceDeclaration(device, metrics, tags):
            return _told("declared", device, metrics=msgspec.to_builtins(list(metrics)), tags=dict(tags))
    raise AssertionError(found)


def _told(kind: str, device: str, **said: Any) -> dict[str, Any]:
    return {kind: device, **{name: value for name, value in said.items() if value not in (None, "", [], {})}}


def _payload(payload: object) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
