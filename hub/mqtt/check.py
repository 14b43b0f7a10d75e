"""Trial of a bridge: what its subscriptions would make of a broker's messages. Nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from formats.message import DecodedRow
from formats.record import RefusedInput
from hub.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, ConnectionListener, may_need_other_version
from hub.mqtt.decoders.configured import ConfiguredDecoder
from hub.mqtt.message import Decoded, DeviceDeclaration, Message, Undecodable, value_type
from hub.mqtt.subscriptions import Subscription, Subscriptions
from hub.mqtt.topics import overlap, unshared

MAX_TOPICS = 2_000
"""Topics reported in detail. Messages of further topics are only counted."""

MAX_SERIES = 10_000
"""Series reported over all topics."""

BROKER_VERSION = "$SYS/broker/version"
"""Topic on which many brokers publish their name and version."""


class ObservedTopic:
    """Messages of one topic and the readings decoded from them."""

    def __init__(self, matching: Sequence[str]) -> None:
        self.matching = matching
        self.messages = 0
        self.retained = 0
        self.readings: dict[tuple[str, str], dict[str, object]] = {}
        """Newest reading of each series, by device and metric, as it would be stored."""
        self.refused: dict[str, str] = {}


class BrokerCheck(ConnectionListener):
    """Listener that connects like a bridge, in a temporary session, and decodes what arrives."""

    def __init__(self, options: BrokerOptions, decoders: Sequence[ConfiguredDecoder]) -> None:
        """`options` need a client id that no other client uses."""
        self._options = options._replace(clean_start=True, session_expiry_s=0)
        self._decoders = decoders
        self.filters = [unshared(filter) for configured in decoders for filter in configured.decoder.filters]
        self._subscriptions = Subscriptions(
            Subscription(filter) for filter in dict.fromkeys([*self.filters, BROKER_VERSION])
        )
        self.version = self.broker = ""
        self.refused_filters: list[str] = []
        self.topics: dict[str, ObservedTopic] = {}
        self.messages = 0
        self.messages_beyond_bound = 0
        self._series = 0
        self._units: dict[tuple[str, str], str] = {}

    async def run(self, seconds: float) -> None:
        """Listen for `seconds`, with MQTT 5 or else 3.1.1. Raises BrokerError."""
        try:
            await self._listen(seconds, mqtt5=True)
        except BrokerError as error:
            if self.version or not may_need_other_version(error):
                raise
            await self._listen(seconds, mqtt5=False)

    async def _listen(self, seconds: float, *, mqtt5: bool) -> None:
        connection = BrokerConnection(self._options, self, mqtt5=mqtt5)
        try:
            await connection.open()
            self.version = "5" if mqtt5 else "3.1.1"
            connection.subscribe([*self._subscriptions])
            async with asyncio.timeout(seconds):
                raise BrokerError(await connection.closed())
        except TimeoutError:
            pass
        finally:
            connection.close()

    def messages_received(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        """Decode the messages that are not copies through another subscription."""
        connection.acknowledge([message.id for message in messages if message.qos])
        for message in messages:
            if message.topic == BROKER_VERSION:
                self.broker = message.payload.decode(errors="replace")
            elif not self._subscriptions.is_copy(message.topic, message.subscriptions):
                self.add(message)

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        """Note the refused filters. Their messages arrive through the remaining subscriptions."""
        self.refused_filters = [filter for filter in refused if filter != BROKER_VERSION]
        self._subscriptions.update_refused(self.refused_filters)

    def add(self, message: Message) -> None:
        """Decode a message with the first decoder that takes its topic.

        A retained message is decoded, too: it shows what the next message of its topic becomes.
        """
        self.messages += 1
        matching = [configured for configured in self._decoders if configured.decoder.takes(message.topic)]
        observed = self.topics.get(message.topic)
        if observed is None:
            if len(self.topics) >= MAX_TOPICS:
                self.messages_beyond_bound += 1
                return
            observed = self.topics[message.topic] = ObservedTopic([configured.label for configured in matching])
        observed.messages += 1
        observed.retained += message.retain
        if matching:
            try:
                decoded = matching[0].decoder.decode(message)
            except Undecodable as error:
                observed.refused[error.code] = error.sentence
                return
            for item in decoded:
                self._observe(observed, item)

    def _observe(self, observed: ObservedTopic, item: Decoded) -> None:
        if isinstance(item, DeviceDeclaration):
            self._units |= {(item.device, metric.name): metric.unit for metric in item.metrics}
        elif isinstance(item, RefusedInput):
            observed.refused[item.code] = f"{item.metric}: {item.reason}" if item.metric else item.reason
        elif isinstance(item, DecodedRow):
            for name, value in item.values.items():
                key = (item.device, name)
                if key not in observed.readings:
                    if self._series >= MAX_SERIES:
                        continue
                    self._series += 1
                observed.readings[key] = {
                    "device": item.device,
                    "metric": name,
                    "type": value_type(value),
                    "value": value,
                    "unit": self._units.get(key, ""),
                }

    def topic_report(self) -> list[dict[str, object]]:
        """Return every observed topic, sorted, as plain values for JSON."""
        return [
            {
                "topic": topic,
                "messages": observed.messages,
                "retained": observed.retained,
                "taken_by": observed.matching[0] if observed.matching else None,
                "also_matches": observed.matching[1:],
                "readings": [observed.readings[series] for series in sorted(observed.readings)],
                "refused": observed.refused,
            }
            for topic, observed in sorted(self.topics.items())
        ]

    def loops(self, published: Sequence[str]) -> list[dict[str, str]]:
        """Return the published templates whose messages a subscription would return, each with a common topic."""
        return [
            {"publish": template, "subscribe": configured.label, "topic": topic}
            for configured in self._decoders
            for filter in configured.decoder.filters
            for template in published
            if (topic := overlap(filter, template)) is not None
        ]
