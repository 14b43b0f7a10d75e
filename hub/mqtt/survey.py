"""What messages would become, without storing any: which subscription takes which topic, the readings, what would be
refused and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hub.mqtt.message import Decoded, DecodedReading, DecodedRow, Decoder, Message, Undecodable
from hub.mqtt.topics import overlap

MAX_TOPICS = 2_000
"""That are told one by one; of others the messages are counted. More are nothing that anybody reads."""

MAX_SERIES = 10_000
"""Of all topics together, for the same reason."""


class Subscription(NamedTuple):
    """A subscription with the name that people know it by: its template, or its preset's name."""

    label: str
    decoder: Decoder


class Reading(NamedTuple):
    """The newest reading of a series as it would be stored."""

    device: str
    metric: str
    type: str
    value: float | int | bool | str
    unit: str


class TopicSeen:
    """What came under a topic, and what would come of it."""

    def __init__(self, topic: str, takers: Sequence[str]) -> None:
        self.topic = topic
        self.takers = takers
        self.messages = 0
        self.retained = 0
        self.readings: dict[tuple[str, str], Reading] = {}
        self.refused: dict[str, str] = {}


class Survey:
    """Looks at messages one after the other, as a bridge with these subscriptions would: the first that matches a topic
    takes its messages."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._subscriptions = subscriptions
        self._series = 0
        self.topics: dict[str, TopicSeen] = {}
        self.messages = 0
        self.left_out = 0
        """Messages of topics beyond MAX_TOPICS."""

    def add(self, message: Message) -> None:
        """One more message. A retained one is decoded, too: it shows what its topic's next one would become."""
        self.messages += 1
        takers = [one for one in self._subscriptions if one.decoder.takes(message.topic)]
        seen = self.topics.get(message.topic)
        if seen is None:
            if len(self.topics) >= MAX_TOPICS:
                self.left_out += 1
                return
            seen = self.topics[message.topic] = TopicSeen(message.topic, [one.label for one in takers])
        seen.messages += 1
        seen.retained += message.retain
        if takers:
            try:
                found = takers[0].decoder.decode(message)
            except Undecodable as error:
                seen.refused[error.code] = error.sentence
                return
            for reading in _readings(found):
                self._note(seen, reading)

    def _note(self, seen: TopicSeen, reading: Reading) -> None:
        series = (reading.device, reading.metric)
        if series not in seen.readings:
            if self._series >= MAX_SERIES:
                return
            self._series += 1
        seen.readings[series] = reading

    def told(self) -> list[dict[str, object]]:
        """Every topic that was seen, in order, in plain values."""
        return [
            {
                "topic": seen.topic,
                "messages": seen.messages,
                "retained": seen.retained,
                "taken_by": seen.takers[0] if seen.takers else None,
                "also_matches": seen.takers[1:],
                "readings": [reading._asdict() for _, reading in sorted(seen.readings.items())],
                "refused": seen.refused,
            }
            for _, seen in sorted(self.topics.items())
        ]


def loops(subscriptions: Iterable[Subscription], published: Iterable[str]) -> list[dict[str, str]]:
    """Templates of topics that are published and would come back through a subscription, with a topic of both."""
    templates = list(published)
    return [
        {"publish": template, "subscribe": one.label, "topic": topic}
        for one in subscriptions
        for filter in one.decoder.filters
        for template in templates
        if (topic := overlap(filter, template)) is not None
    ]


def _readings(found: Iterable[Decoded]) -> Iterator[Reading]:
    for one in found:
        if isinstance(one, DecodedReading):
            yield Reading(one.device, one.metric, one.type or _type_of(one.value), one.value, one.unit)
        elif isinstance(one, DecodedRow):
            values: Mapping[str, float | bool | str] = one.values
            for metric, value in values.items():
                yield Reading(one.device, metric, _type_of(value), value, "")


def _type_of(value: float | int | bool | str) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "float"
