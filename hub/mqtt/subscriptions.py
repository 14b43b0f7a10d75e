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
    `identifier`: what the broker sends along with its messages; 0 for none."""

    filter: str
    qos: int = 1
    always: bool = False
    identifier: int = 0


class Subscriptions:
    """All subscriptions of one connection, those of the highest QoS first.

    They are to be asked for in this order: the first that matches a topic is there before a later one counts on it. An
    identifier is made of all filters that count on each other: what the broker kept under other settings has other
    identifiers, and is taken, rather twice than not at all.
    """

    def __init__(self, subscriptions: Iterable[Subscription], refused: Iterable[str] = ()) -> None:
        """`refused` are the filters that the broker is known not to give."""
        asked = sorted(subscriptions, key=lambda one: -one.qos)
        # An identifier costs paho a tenth of the time of a message: only those have one that need it.
        self._asked = {
            one: any(one is not other and overlap(one.filter, other.filter) for other in asked) for one in asked
        }
        self.refused: frozenset[str] = frozenset()
        self._of_topic: dict[str, int] = {}
        self._identify(frozenset(refused))

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    def learn(self, refused: Iterable[str]) -> bool:
        """The broker gives all but these filters; whether that is news, so that all have to be asked for anew."""
        now = frozenset(refused)
        if now == self.refused:
            return False
        self._identify(now)
        return True

    def _identify(self, refused: frozenset[str]) -> None:
        self.refused = refused
        granted = [one for one, overlaps in self._asked.items() if overlaps and one.filter not in refused]
        together = "\n".join(f"{one.qos} {one.filter}" for one in granted)
        self._all = [
            one._replace(identifier=_identifier(one.filter, together)) if one in granted else one for one in self._asked
        ]
        self._granted = [(TopicTemplate.parse(one.filter), one.identifier) for one in self._all if one.identifier]
        self._identifiers = {identifier for _, identifier in self._granted}
        self._of_topic.clear()

    def is_copy(self, topic: str, identifiers: Sequence[int]) -> bool:
        """Whether this message comes, or came, by another subscription as well.

        What comes without an identifier, or with one of earlier settings, is none.
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


def _identifier(filter: str, together: str) -> int:
    return zlib.crc32(f"{filter}\n{together}".encode()) % MAX_IDENTIFIER + 1


class _Kept(msgspec.Struct):
    filters: list[str] = []
    refused: list[str] = []


class SubscriptionStore:
    """The filters that the broker may still have for this client, and those that it refused, in a file: it keeps a
    session longer than the hub keeps its settings. A file that is missing or cannot be read is one without filters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError):
            self._kept = _Kept()

    @property
    def refused(self) -> list[str]:
        """What the broker did not give."""
        return self._kept.refused

    def others_than(self, filters: Iterable[str]) -> list[str]:
        """Those that are asked for no more."""
        return sorted({*self._kept.filters} - {*filters})

    def keep(self, filters: Iterable[str], refused: Iterable[str] = ()) -> None:
        """The broker may have these from now on. Raises OSError."""
        kept = _Kept(sorted({*filters}), sorted({*refused}))
        if kept != self._kept:
            part = self._path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(kept))
            part.replace(self._path)
            self._kept = kept
