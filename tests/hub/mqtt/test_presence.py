"""Messages with the presence of devices: what a broker receives, and when."""

from __future__ import annotations

import json

import pytest

from hub.model.presence import DevicePresence
from hub.mqtt.presence import PresenceMessages
from hub.mqtt.topics import TopicTemplate


def test_each_change_is_published_once_and_everything_after_a_connection() -> None:
    """Retained, with the state, since when, and the stale metrics. Devices of other brokers only."""
    known = {"a": DevicePresence("connected", 5), "b": DevicePresence(), "own": DevicePresence("connected", 5)}
    notified: list[None] = []
    messages = PresenceMessages(
        TopicTemplate.parse("hub/{device}/presence"),
        devices=lambda: list(known),
        presence=known.__getitem__,
        is_published=lambda device: device != "own",
        on_change=lambda: notified.append(None),
    )
    messages.connected()
    sent = messages.pending()
    assert [(message.topic, message.qos, message.retain) for message in sent] == [
        ("hub/a/presence", 1, True), ("hub/b/presence", 1, True)
    ]  # fmt: skip
    assert [json.loads(message.payload) for message in sent] == [
        {"state": "connected", "since": "1970-01-01T00:00:00.000000005Z", "stale": []},
        {"state": "unconnected", "since": None, "stale": []},
    ]
    messages.presence_changed("a")
    assert messages.pending() == []
    known["a"] = DevicePresence("silent", 7, ("flow",))
    for device in ("a", "a", "own"):
        messages.presence_changed(device)
    assert [json.loads(message.payload)["stale"] for message in messages.pending()] == [["flow"]]
    messages.connected()
    assert len(messages.pending()) == 2
    assert len(notified) == 6


@pytest.mark.parametrize("topic", ["presence", "a/{metric}", "a/{device}/{metric}", "a/{device}/+", "a/{device#}/b"])
def test_a_topic_names_the_device_alone(topic: str) -> None:
    """Otherwise all devices would have one topic, or none could be published to."""
    with pytest.raises(ValueError):  # noqa: PT011
        PresenceMessages(
            TopicTemplate.parse(topic),
            devices=list,
            presence=lambda device: DevicePresence(),
            is_published=bool,
            on_change=lambda: None,
        )
