"""SampleFile samples of the presets: messages from public documentation, and the expected results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, DeviceDeclaration, DevicePresence, Message

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = sorted(GOLDEN.rglob("*.json"))


class SampleMessage(NamedTuple):
    """One message and its expected results; None if no decoder takes its topic."""

    message: Message
    found: list[dict[str, Any]] | None


class SampleFile(NamedTuple):
    """One file: the preset as in the settings, the documentation pages, and the messages. `source` contains titles and
    addresses: "Title (https://...); Title (https://...)"."""

    preset: str
    source: str
    messages: list[SampleMessage]


def read_samples(path: Path) -> SampleFile:
    """Read the samples of a file. A payload that is not a text is encoded as JSON."""
    content = json.loads(path.read_text())
    messages = [
        SampleMessage(
            Message(entry["topic"], _payload(entry["payload"]), retain=entry.get("retain", False)), entry["found"]
        )
        for entry in content["messages"]
    ]
    return SampleFile(content["preset"], content["source"], messages)


def as_sample(found: Decoded) -> dict[str, Any]:
    """Return a result in the form of the sample files."""
    match found:
        case DecodedRow(device, values, time_ns):
            return _told("row", device, values=values, time_ns=time_ns)
        case DecodedReading(device, metric, value, time_ns, unit):
            return _told("sample", device, metric=metric, value=value, unit=unit, time_ns=time_ns)
        case DevicePresence(device, online):
            return _told("presence", device, online=online)
        case DeviceDeclaration(device, metrics, tags):
            return _told("declared", device, metrics=msgspec.to_builtins(list(metrics)), tags=dict(tags))
    raise AssertionError(found)


def _told(kind: str, device: str, **said: Any) -> dict[str, Any]:
    return {kind: device, **{name: value for name, value in said.items() if value not in (None, "", [], {})}}


def _payload(payload: object) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
