"""Edge node according to the specification, with new aliases at each birth, and an observer of the host's results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from formats.message import DecodedRow
from formats.record import RefusedInput
from hub.mqtt.message import (
    AvailabilityChange,
    Decoded,
    DeviceDeclaration,
    Message,
    Publish,
    RejectedMessage,
)
from hub.mqtt.sparkplug.payload import DataType, SparkplugMetric, SparkplugPayload, decode, encode, metric

START_MS = 1_700_000_000_000
NS_PER_MS = 1_000_000


class Edge:
    """Edge node.

    `values` contains the metrics of each device, "" is the node itself. Each message is 1 ms later than the last.
    """

    def __init__(self, values: Mapping[str, Mapping[str, float]], *, group: str = "plant", name: str = "edge") -> None:
        self.group = group
        self.name = name
        self.values = {device: dict(metrics) for device, metrics in values.items()}
        self.now_ms = START_MS
        self.bd_seq = -1
        self.seq = 0
        self._births = 0
        self._aliases: dict[tuple[str, str], int] = {}

    def connect(self) -> list[Message]:
        """Begin a new session."""
        self.bd_seq = (self.bd_seq + 1) % 256
        return self.births()

    def births(self) -> list[Message]:
        """Return all births of the session, as at its beginning and at each rebirth."""
        self._births += 1
        names = [(device, name) for device, metrics in self.values.items() for name in metrics]
        # Turned by one at each birth, so that an alias of before means another metric.
        self._aliases = {key: (place + self._births) % len(names) for place, key in enumerate(names)}
        self.seq = 0
        return [self.birth(device) for device in sorted(self.values)]

    def birth(self, device: str) -> Message:
        """Return the birth of one device, or of the node itself."""
        metrics = [
            metric(DataType.DOUBLE, value, name=name, alias=self._aliases[device, name], time_ms=self._tick())
            for name, value in self.values[device].items()
        ]
        if not device:
            metrics.append(metric(DataType.INT64, self.bd_seq, name="bdSeq"))
        return self.message("DBIRTH" if device else "NBIRTH", device, metrics)

    def change(self, device: str, name: str, value: float, *, by_name: bool = False) -> Message:
        """Return a message with a new value of a metric."""
        self.values[device][name] = value
        changed = metric(DataType.DOUBLE, value, time_ms=self._tick())._replace(datatype=None)
        changed = changed._replace(name=name) if by_name else changed._replace(alias=self._aliases[device, name])
        return self.message("DDATA" if device else "NDATA", device, [changed])

    def die(self, device: str = "") -> Message:
        """Return the death of a device, or the last will of the node."""
        if device:
            return self.message("DDEATH", device, [])
        will = SparkplugPayload(self._tick(), None, (metric(DataType.INT64, self.bd_seq, name="bdSeq"),))
        return Message(f"spBv1.0/{self.group}/NDEATH/{self.name}", encode(will), received_ns=self.now_ns)

    def message(self, kind: str, device: str, metrics: Iterable[SparkplugMetric]) -> Message:
        """Return a message with the next sequence number."""
        payload = SparkplugPayload(self._tick(), self.seq, tuple(metrics))
        self.seq = (self.seq + 1) % 256
        topic = f"spBv1.0/{self.group}/{kind}/{self.name}" + (f"/{device}" if device else "")
        return Message(topic, encode(payload), received_ns=self.now_ns)

    @property
    def now_ns(self) -> int:
        return self.now_ms * NS_PER_MS

    def _tick(self) -> int:
        self.now_ms += 1
        return self.now_ms


class Reading(NamedTuple):
    """One value of a row."""

    device: str
    metric: str
    value: object
    historical: bool


@dataclass
class HostObserver:
    """Observer of a host's results: the newest value of each metric, the devices online, and the rejections."""

    newest: dict[tuple[str, str], tuple[int, object]] = field(default_factory=dict)
    samples: list[Reading] = field(default_factory=list)
    values_refused: list[RefusedInput] = field(default_factory=list)
    online: dict[str, bool] = field(default_factory=dict)
    declared: dict[str, DeviceDeclaration] = field(default_factory=dict)
    refused: list[RejectedMessage] = field(default_factory=list)
    published: list[Publish] = field(default_factory=list)

    def hear(self, found: Iterable[Decoded]) -> None:
        for word in found:
            match word:
                case DecodedRow(device, values, time_ns, historical):
                    assert time_ns is not None
                    self.samples += [Reading(device, name, value, historical) for name, value in values.items()]
                    for name, value in values.items():
                        if time_ns >= self.newest.get((device, name), (0, None))[0]:
                            self.newest[device, name] = time_ns, value
                case RefusedInput():
                    self.values_refused.append(word)
                case AvailabilityChange(device, online):
                    self.online[device] = online
                case DeviceDeclaration(device):
                    self.declared[device] = word
                case RejectedMessage():
                    self.refused.append(word)
                case Publish():
                    self.published.append(word)

    def values(self) -> dict[tuple[str, str], object]:
        return {key: value for key, (_, value) in self.newest.items()}

    def rebirths(self) -> list[str]:
        """Return the topics of the rebirth requests and check each request."""
        topics = []
        for publish in self.published:
            payload = decode(publish.payload)
            assert payload.seq is None
            (command,) = payload.metrics
            assert (command.name, command.datatype, command.raw) == ("Node Control/Rebirth", DataType.BOOLEAN, True)
            assert (publish.qos, publish.retain) == (0, False)
            topics.append(publish.topic)
        return topics
