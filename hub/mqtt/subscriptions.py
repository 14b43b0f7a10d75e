"""What a broker is asked for, and which of several subscriptions a message is taken from. Pure but for one small file.

A broker may deliver a message once for each subscription that its topic matches (MQTT 5.0, section 3.3.4). Those that
have a topic in common have an identifier each, which the broker sends along: the message is taken from the first
subscription that matches, and passed over from the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hub.mqtt.topics import TopicTemplate, overlap

MAX_IDENTIFIER = 268_435_455
"""MQTT 5.0, section 3.8.2.1.2."""

TOPICS_KEPT = 10_000
"""Topics of which it is remembered whose they are."""


class Subscription(NamedTuple):
    """A filter with its QoS. `always`: retained messages come with each connection, and not only with the first.
    `overlaps`: another subscription takes some of its topics, too."""

    filter: str
    qos: int = 1
    always: bool = False
    overlaps: bool = False

    @property
    def identifier(self) -> int:
        """Always the same for a filter, so that what the broker has kept meanwhile is known, too."""
        return zlib.crc32(self.filter.encode()) % MAX_IDENTIFIER + 1


class Subscriptions:
    """All subscriptions of one connection, those of the highest QoS first."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        asked = sorted(subscriptions, key=lambda one: -one.qos)
        # An identifier costs paho a tenth of the time of a message: only those have one that need it.
        self._all = [
            one._replace(overlaps=any(one is not other and overlap(one.filter, other.filter) for other in asked))
            for one in asked
        ]
        self._of_topic: dict[str, int] = {}
        self.granted()

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    def granted(self, refused: Sequence[str] = ()) -> None:
        """The broker gives all but these filters."""
        self._granted = [
            (TopicTemplate.parse(one.filter), one.identifier) for one in self._all if one.filter not in refused
        ]
        self._identifiers = {identifier for _, identifier in self._granted}
        self._of_topic.clear()

    def is_copy(self, topic: str, identifiers: Sequence[int]) -> bool:
        """Whether this message comes, or came, by another subscription as well.

        What comes without an identifier, or with that of a subscription of earlier settings, is none.
        """
        if not self._identifiers.intersection(identifiers):
            return False
        own = self._of_topic.get(topic)
        if own is None:
            own = next((identifier for template, identifier in self._granted if template.match(topic) is not None), 0)
            if len(self._of_topic) >= TOPICS_KEPT:
                self._of_topic.clear()
            self._of_topic[topic] = own
        return own not in identifiers


class AskedBefore:
    """The filters that the broker may still have for this client, in a file: it keeps a session longer than the hub
    keeps its settings. A file that is missing or cannot be read is one without filters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._filters: list[str] = msgspec.json.decode(path.read_bytes(), type=list[str])
        except (OSError, msgspec.DecodeError):
            self._filters = []

    def others_than(self, filters: Iterable[str]) -> list[str]:
        """Those that are asked for no more."""
        return sorted({*self._filters} - {*filters})

    def keep(self, filters: Iterable[str]) -> None:
        """The broker may have these from now on. Raises OSError."""
        wanted = sorted({*filters})
        if wanted != self._filters:
            part = self._path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(wanted))
            part.replace(self._path)
            self._filters = wanted
