"""SampleFile samples of the presets: messages from public documentation, and the expected results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from formats.message import DecodedRow
from hub.mqtt.message import AvailabilityChange, DeviceDeclaration, Message
from wire.model import Metric

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


class Observer:
    """Observer of results: of the decoders, and of the same in the form of the sample files.

    `metrics` has the type, the unit and the description of each declared metric.
    """

    def __init__(self) -> None:
        self.metrics: dict[tuple[str, str], tuple[str, str, str]] = {}

    def observe(self, found: Iterable[Any]) -> list[tuple[object, ...]]:
        """Return each reading with its unit, each presence and each tag, in an order of their own."""
        told: list[tuple[object, ...]] = []
        for item in found:
            match item:
                case DecodedRow(device, values, time_ns) | {"row": device, "values": values, "time_ns": time_ns}:
                    told += [self._reading(device, name, value, time_ns) for name, value in values.items()]
                case {"row": device, "values": values}:
                    told += [self._reading(device, name, value, None) for name, value in values.items()]
                case {"sample": str(device), "metric": str(name), "value": value}:
                    if item.get("unit"):
                        self.metrics[device, name] = ("float", item["unit"], "")
                    told.append(self._reading(device, name, value, item.get("time_ns")))
                case AvailabilityChange(device, online) | {"presence": device, "online": online}:
                    told.append(("presence", device, online))
                case DeviceDeclaration(device, metrics, tags):
                    self._declare(device, metrics)
                    told += [("tag", device, *tag) for tag in tags.items()]
                case {"declared": str(device)}:
                    self._declare(device, msgspec.convert(item.get("metrics", []), list[Metric]))
                    told += [("tag", device, *tag) for tag in item.get("tags", {}).items()]
                case _:
                    told.append((item,))
        return sorted(told, key=repr)

    def _declare(self, device: str, metrics: Iterable[Metric]) -> None:
        self.metrics |= {(device, metric.name): (metric.type, metric.unit, metric.description) for metric in metrics}

    def _reading(self, device: str, name: str, value: object, time_ns: int | None) -> tuple[object, ...]:
        return device, name, value, self.metrics.get((device, name), ("", "", ""))[1], time_ns


def _payload(payload: object) -> bytes:
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
