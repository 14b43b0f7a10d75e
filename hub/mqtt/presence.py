"""Presence of devices as retained messages of a broker: the state of each, and the metrics that are stale. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from hub.model.presence import DevicePresence
from hub.mqtt.message import Publish
from hub.mqtt.publication import time_text
from hub.mqtt.topics import TopicTemplate


def check_presence_topic(topic: TopicTemplate) -> None:
    """Raise ValueError with a sentence about an invalid topic."""
    if topic.share or topic.names != ("device",) or any(level.wild and not level.name for level in topic.levels):
        raise ValueError(
            f"presence_topic {topic.text!r} is published to: it needs {{device}}, and no other placeholder"
        )


class PresenceMessages:
    """Messages with the presence of devices that one bridge has to publish.

    A device is published when its presence differs from what the broker has, which is remembered, and every one after a
    new connection. Several changes before the next `pending` are one message.
    """

    def __init__(
        self,
        topic: TopicTemplate,
        *,
        devices: Callable[[], Iterable[str]],
        presence: Callable[[str], DevicePresence],
        is_published: Callable[[str], bool],
        on_change: Callable[[], None],
    ) -> None:
        """`devices` returns the ids of all devices, `is_published` whether this broker gets the presence of one.
        `on_change` is called when `pending` may have messages. Raises ValueError for an invalid topic."""
        check_presence_topic(topic)
        self._topic = topic
        self._devices = devices
        self._presence = presence
        self._is_published = is_published
        self._on_change = on_change
        self._sent: dict[str, DevicePresence] = {}
        self._due: dict[str, None] = {}

    def connected(self) -> None:
        """Publish every device again, on a new connection."""
        self._sent.clear()
        self._due = dict.fromkeys(self._devices())
        self._on_change()

    def presence_changed(self, device: str) -> None:
        """Note that the presence of a device may have changed."""
        self._due[device] = None
        self._on_change()

    def pending(self) -> list[Publish]:
        """Return the messages that became due since the last call."""
        due, self._due = self._due, {}
        found = []
        for device in due:
            presence = self._presence(device)
            if self._sent.get(device) != presence and self._is_published(device):
                self._sent[device] = presence
                found.append(Publish(self._topic.fill({"device": device}), presence_payload(presence), 1, retain=True))
        return found


def presence_payload(presence: DevicePresence) -> bytes:
    """Return the payload: JSON with the state, since when, and the stale metrics."""
    since = time_text(presence.since_ns) if presence.since_ns else None
    return msgspec.json.encode({"state": presence.state, "since": since, "stale": presence.stale})
