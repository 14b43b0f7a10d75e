"""Subscriptions of one broker connection, and the rule that selects one of several copies of a message. Pure except for
one small file.

A broker may deliver a message once for each subscription that matches its topic (MQTT 5.0, section 3.3.4).
Subscriptions that overlap have an identifier each, which the broker sends with the message. The message is accepted
from the first subscription that matches and ignored from the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from hub.mqtt.topics import TopicTemplate, overlap
from integrity.finding import Finding
from wire.text import plural

MAX_IDENTIFIER = 268_435_455
"""Largest subscription identifier (MQTT 5.0, section 3.8.2.1.2)."""

TOPICS_KEPT = 10_000
"""Topics whose subscription is remembered."""


class Subscription(NamedTuple):
    """Topic filter with its QoS.

    With `always`, retained messages are delivered with each connection and not only with the first. With
    `as_published`, a message that is published with the retain flag has it also when the subscription exists already
    (MQTT 5 only). `identifier` is what the broker sends with each message; 0 means none.
    """

    filter: str
    qos: int = 1
    always: bool = False
    identifier: int = 0
    as_published: bool = False


class Subscriptions:
    """All subscriptions of one connection, in the order in which they are requested: the highest QoS first.

    The first subscription that matches a topic must exist before a later one relies on it. Each identifier is derived
    from all filters of the group that overlap. A message that the broker kept under other settings has another
    identifier; it is accepted, because a copy is better than a loss.
    """

    def __init__(self, subscriptions: Iterable[Subscription], refused: Iterable[str] = ()) -> None:
        """`refused` are the filters that the broker refused earlier."""
        ordered = sorted(subscriptions, key=lambda subscription: -subscription.qos)
        # Only overlapping subscriptions get an identifier: other messages then have no properties to read.
        self._overlaps = {
            wanted: any(wanted is not other and overlap(wanted.filter, other.filter) for other in ordered)
            for wanted in ordered
        }
        self.refused: frozenset[str] = frozenset()
        self._assign_identifiers(frozenset(refused))

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    def update_refused(self, refused: Iterable[str]) -> bool:
        """Record the filters that the broker refuses. Return whether this changed, so that all must be requested again
        with new identifiers."""
        now = frozenset(refused)
        if now == self.refused:
            return False
        self._assign_identifiers(now)
        return True

    def _assign_identifiers(self, refused: frozenset[str]) -> None:
        self.refused = refused
        granted = [wanted for wanted, overlaps in self._overlaps.items() if overlaps and wanted.filter not in refused]
        group = "\n".join(f"{wanted.qos} {wanted.filter}" for wanted in granted)
        self._all = [
            wanted._replace(identifier=zlib.crc32(f"{wanted.filter}\n{group}".encode()) % MAX_IDENTIFIER + 1)
            if wanted in granted
            else wanted
            for wanted in self._overlaps
        ]
        self._granted = [
            (TopicTemplate.parse(wanted.filter), wanted.identifier) for wanted in self._all if wanted.identifier
        ]
        self._identifiers = {identifier for _, identifier in self._granted}
        self._identifier_of = lru_cache(TOPICS_KEPT)(self._find_identifier)

    def is_copy(self, topic: str, identifiers: Sequence[int]) -> bool:
        """Return whether the message is also delivered through an earlier subscription.

        A message without an identifier, or with one from earlier settings, is not a copy.
        """
        if not identifiers:
            return False
        return bool(self._identifiers.intersection(identifiers)) and self._identifier_of(topic) not in identifiers

    def _find_identifier(self, topic: str) -> int:
        return next((identifier for template, identifier in self._granted if template.match(topic) is not None), 0)


class _StoredFilters(msgspec.Struct):
    filters: list[str] = []
    refused: list[str] = []


def verify_subscriptions(path: Path) -> Finding:
    """Return whether the file of a bridge can be read."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_StoredFilters)
    except OSError as error:
        return Finding(path.name, None, f"the file cannot be read: {error.strerror}")
    except msgspec.DecodeError as error:
        return Finding(
            path.name,
            False,
            f"the file is damaged: {error}",
            "the hub subscribes again; topics that the settings do not name any more may stay subscribed at the broker",
            "delete the file and restart the hub",
        )
    return Finding(path.name, True, plural(len(stored.filters), "topic filter"))


class SubscriptionStore:
    """File with the filters that the broker may still hold for this client, and those that it refused.

    The broker keeps a session longer than the hub keeps its settings. A missing or unreadable file means no filters.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stored = msgspec.json.decode(path.read_bytes(), type=_StoredFilters)
        except (OSError, msgspec.DecodeError):
            self._stored = _StoredFilters()
        self.refused = self._stored.refused
        """Filters that the broker refused when the hub ran before."""

    def obsolete(self, filters: Iterable[str]) -> list[str]:
        """Return the stored filters that are not among `filters`."""
        return sorted({*self._stored.filters} - {*filters})

    def save(self, filters: Iterable[str], refused: Iterable[str] = ()) -> None:
        """Store the filters that the broker may hold from now on. Raises OSError."""
        stored = _StoredFilters(sorted({*filters}), sorted({*refused}))
        if stored != self._stored:
            part = self._path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(stored))
            part.replace(self._path)
            self._stored = stored
