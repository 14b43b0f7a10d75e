"""What publishing needs of a connection, and what is said beside readings; what is counted of it. Pure."""

from __future__ import annotations

from typing import Protocol

from hub.mqtt.packet import UserProperties
from hub.mqtt.reading import Publish

MAX_TOLD = 1_000
"""Things that are told once: so many topics of messages that cannot arrive are enough to find out what is wrong."""


class Outlet(Protocol):
    """A connection to a broker, for as long as it lasts. What it was given and is not acknowledged when it ends, is
    forgotten: it is published again on the next one."""

    @property
    def receive_maximum(self) -> int:
        """Messages at QoS 1 that the broker allows to be unacknowledged."""

    @property
    def maximum_packet_size(self) -> int | None:
        """The largest packet that the broker takes, in bytes; None for any."""

    @property
    def user_properties(self) -> bool:
        """Whether messages can have them: MQTT 5."""

    def publish(self, message: Publish, properties: UserProperties | None = None) -> int:
        """Hands the message to the connection; its id, with which `Outward.arrived` is told of it, never before this
        returns. Raises ConnectionError when the connection has ended."""


class Description(Protocol):
    """What is to be said beside readings, for example to Home Assistant."""

    def take(self) -> list[Publish]:
        """What has to be published now; nothing after that until something changes."""

    def connected(self) -> None:
        """A connection begins: all has to be said again."""


class Nothing:
    """Where there is nothing to say but readings."""

    def take(self) -> list[Publish]:
        """Nothing."""
        return []

    def connected(self) -> None:
        """Nothing has to be said again."""


class Counts:
    """What happened since the start; and of what it was told once, within a bound."""

    def __init__(self) -> None:
        self.published = self.acknowledged = self.passed_over = 0
        self.too_large = self.refused = self.missed = 0
        self._told: set[object] = set()

    def told(self, what: object) -> bool:
        """Whether this is to be told: the first time."""
        if what in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(what)
        return True
