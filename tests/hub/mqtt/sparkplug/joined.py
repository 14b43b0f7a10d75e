"""Edge node, host application and observer, connected for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hub.mqtt.message import Message
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.sparkplug.payload import SparkplugPayload, encode
from tests.hub.mqtt.sparkplug.edge import NS_PER_MS, Edge, HostObserver

VALUES = {"": {"load": 1.0}, "pump": {"speed": 10.0, "flow": 11.0}, "valve": {"position": 20.0}}
NAMES = [(device, name) for device, metrics in VALUES.items() for name in metrics]
NODE, PUMP, VALVE = "plant.edge", "plant.edge.pump", "plant.edge.valve"


class Joined:
    """Edge node, host and observer."""

    def __init__(self, **options: Any) -> None:
        self.edge = Edge(VALUES)
        self.host = HostApplication(**options)
        self.listener = HostObserver()

    def deliver(self, *messages: Message) -> None:
        for message in messages:
            self.listener.hear(self.host.decode(message))

    def pass_time(self, by_ms: int) -> None:
        self.edge.now_ms += by_ms
        self.listener.hear(self.host.expire(self.edge.now_ns))

    def agrees(self) -> bool:
        """Return whether the observer has exactly the values of the edge node."""
        devices = self.edge.values.items()
        ids = {device: f"{NODE}.{device}" if device else NODE for device in self.edge.values}
        return self.listener.values() == {
            (ids[device], name): value for device, metrics in devices for name, value in metrics.items()
        }


def of(metrics: Iterable[Any], **options: Any) -> tuple[HostApplication, list[Any]]:
    """Return the results of the birth of a node with these metrics."""
    host = HostApplication()
    born = Message("spBv1.0/g/NBIRTH/n", encode(SparkplugPayload(5, 0, tuple(metrics))), received_ns=NS_PER_MS)
    return host, host.decode(born)
