"""Outbound side of a bridge: a sink of the journal that publishes readings to a broker, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import lru_cache

import structlog

from hub.journal.consumer import Consumer, Decode, SinkClosed, SinkLimits, SinkPace, SinkUnavailable
from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry
from hub.model.bridge import OutboundCounts
from hub.model.store import RefusedReadings
from hub.mqtt.connection import BrokerConnection
from hub.mqtt.discovery import Discovery
from hub.mqtt.message import Publish
from hub.mqtt.paho_client import EncodedProperties, encode_pairs, packet_size
from hub.mqtt.presence import PresenceMessages
from hub.mqtt.publication import Encoder, LatestValues, MessageOrigin, Publication
from hub.mqtt.setting_requests import SettingMessages

CONSUMER_PREFIX = "mqtt:"
"""The consumer of the bridge `home` has the name `mqtt:home` in the journal."""

MAX_IN_FLIGHT = 1_000
"""Messages without an acknowledgement, if the broker allows as many. With a round trip of 50 ms this allows 20,000/s,
more than one core publishes, and needs about 1 MB."""

MESSAGES_PER_TURN = 64
"""Messages published before other tasks run: about 4 ms of the event loop."""

WRITE_ENTRIES = 1_000
WRITE_BYTES = 1 << 20
"""Bounds of one write, and so of the memory for a backlog."""

ORIGINS_KEPT = 10_000
"""Devices whose encoded user properties are kept: about 2 MB."""

MAX_REPORTED = 1_000
"""Problems that are logged once each. As many topics are enough to find the cause."""

REFUSED = 0x80
"""Reason codes from here on mean that the broker rejected the message (MQTT 5.0, section 2.4)."""

QUOTA_EXCEEDED = 0x97
"""The broker may accept the message later."""

log = structlog.get_logger(__name__)


class InFlight:
    """Messages that wait for their acknowledgement. Entries up to `handed_out` were published in order.

    A message that does not belong to one entry (a periodic sample, an announcement) holds the cursor at an offset that
    is given with it, or not at all.
    """

    def __init__(self, offset: int) -> None:
        self.handed_out = offset
        # By message id in the order of sending: the offset of the entry, or of the hold.
        self._of_entries: dict[int, int] = {}
        self._others: dict[int, int | None] = {}

    def __len__(self) -> int:
        return len(self._of_entries) + len(self._others)

    def __contains__(self, message_id: int) -> bool:
        return message_id in self._of_entries or message_id in self._others

    def add(self, message_id: int, *, entry: int | None, hold: int | None = None) -> None:
        """Add a message of the entry with this offset. Until one of no entry is acknowledged, the cursor does not pass
        `hold`."""
        if entry is not None:
            self._of_entries[message_id] = entry
        else:
            self._others[message_id] = hold

    def remove(self, message_id: int) -> None:
        """Remove a message that is acknowledged."""
        if self._of_entries.pop(message_id, None) is None:
            self._others.pop(message_id, None)

    def cursor(self, holds: Iterable[int] = ()) -> int:
        """Return the last offset up to which every message is acknowledged, but none beyond any of `holds`.

        Visits the held messages: call it once for many acknowledgements.
        """
        first = next(iter(self._of_entries.values()), None)
        lowest = self.handed_out if first is None else first - 1
        for hold in self._others.values():
            if hold is not None and hold < lowest:
                lowest = hold
        return min([lowest, *holds])


class Outbound:
    """Outbound side of one bridge. Implements hub.journal.consumer.Sink.

    The journal's cursor moves only with acknowledgements of the broker. A new bridge begins at the end of the journal.
    A message that can never arrive (larger than the broker's packets, refused, not decodable) is counted, logged and
    skipped. Everything else waits in the journal for the broker.
    """

    def __init__(
        self,
        journal: Journal,
        publications: Sequence[Publication],
        *,
        name: str,
        hub: str,
        excluded_epochs: Set[str],
        decode: Decode,
        discovery: Discovery | None = None,
        presence: PresenceMessages | None = None,
        settings: SettingMessages | None = None,
        on_refused: Callable[[int], None] = lambda reason: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`hub` is the hub's id. Entries with one of `excluded_epochs` came from this broker or through another hub.

        `on_refused` is called with the reason code of a rejected message. Raises ValueError for an invalid publication.
        """
        self._journal = journal
        self._excluded_epochs = excluded_epochs
        self._announcements = [source for source in (discovery, presence, settings) if source is not None]
        self._on_refused = on_refused
        self._consumer = Consumer(
            journal,
            CONSUMER_PREFIX + name,
            self,
            decode=decode,
            quarantine=False,
            needs_batch=lambda entry: entry.epoch not in excluded_epochs,
            random=jitter,
        )
        encoders = [Encoder(publication) for publication in publications]
        self._immediate = [encoder for encoder in encoders if not encoder.publication.every_s]
        self._periodic = [LatestValues(encoder) for encoder in encoders if encoder.publication.every_s]
        # The hold of samples that are being published.
        self._sending_hold: int | None = None
        self._encode_origin = lru_cache(ORIGINS_KEPT)(
            lambda device, epoch: encode_pairs((("hub-origin", hub), ("hub-device", device), ("hub-epoch", epoch)))
        )
        self._connection: BrokerConnection | None = None
        # The connection that entries are written to; None until `open` has prepared it.
        self._opened: BrokerConnection | None = None
        self._acknowledge: Callable[[int], None] = lambda offset: None
        self._in_flight = InFlight(0)
        self._limit = self._resume_at = 0
        self._since_turn = 0
        self._is_over_quota = self._is_probing = self._is_settling = False
        self._published = self._acknowledged = self._passed_over = self._too_large = self._refused = 0
        self._reported: set[object] = set()
        # Set by acknowledgements and connection changes; and when there are announcements or samples.
        self._wake = asyncio.Event()
        self._other_due = asyncio.Event()

    @property
    def counts(self) -> OutboundCounts:
        """Counts since the start."""
        status = self._consumer.status
        return OutboundCounts(
            published=self._published,
            acknowledged=self._acknowledged,
            in_flight=len(self._in_flight),
            passed_over=self._passed_over,
            offset=status.acknowledged,
            lag=max(0, self._journal.last_offset - status.acknowledged),
            too_large=self._too_large,
            refused=self._refused,
            missed=status.missed,
        )

    @property
    def limits(self) -> SinkLimits:
        """Bounds of one write."""
        return SinkLimits(WRITE_ENTRIES, WRITE_BYTES)

    @property
    def pace(self) -> SinkPace:
        """No pauses: every entry is published at once."""
        return SinkPace()

    def register(self) -> None:
        """Register with the journal. Call it before further readings are accepted."""
        self._consumer.register(at_end=True)

    async def run(self) -> None:
        """Publish until cancelled, whenever there is a connection."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consumer.run(), name=f"{self._consumer.name} consumer")
            tasks.create_task(self._publish_others(), name=f"{self._consumer.name} samples and announcements")

    async def reached(self, offset: int) -> None:
        """Wait until everything up to this offset is published and acknowledged."""
        await self._consumer.reached(offset, acknowledged=True)

    def connected(self, connection: BrokerConnection) -> None:
        """Use a new connection."""
        self._connection = connection
        self._wake.set()

    def disconnected(self) -> None:
        """Stop using the connection. Unacknowledged messages are published again on the next one."""
        self._connection = self._opened = None
        self._wake.set()
        self._consumer.reopen()

    def notify(self) -> None:
        """Publish the announcements that became due."""
        self._other_due.set()

    def acknowledged(self, message_id: int, reason: int = 0) -> None:
        """Handle an acknowledgement, at QoS 0 of the socket. Unknown ids belong to other messages of the bridge."""
        if message_id not in self._in_flight:
            return
        if reason == QUOTA_EXCEEDED:
            self._is_over_quota = True
            self._wake.set()
            self._consumer.reopen()
            return
        self._in_flight.remove(message_id)
        self._acknowledged += 1
        if reason >= REFUSED:
            self._refused += 1
            if self._is_first(reason):
                log.error("broker refuses messages, skipped", bridge=self._consumer.name, code=f"0x{reason:02X}")
            self._on_refused(reason)
        if len(self._in_flight) <= self._resume_at:
            self._wake.set()
        if not self._is_settling:
            # Once for all acknowledgements of this turn of the event loop.
            self._is_settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    async def open(self, acknowledge: Callable[[int], None]) -> None:
        """Wait for a connection. Raises SinkUnavailable after the broker has reported that its quota is exceeded."""
        self._opened = None
        offset = self._consumer.status.acknowledged
        self._in_flight = InFlight(offset)
        if self._is_over_quota:
            self._is_over_quota, self._is_probing = False, True
            raise SinkUnavailable("the broker's quota is exceeded; readings stay in the journal and are sent later")
        while self._connection is None:
            self._wake.clear()
            await self._wake.wait()
        self._acknowledge = acknowledge
        now_s = asyncio.get_running_loop().time()
        for latest in self._periodic:
            latest.begin(now_s)
        self._sending_hold = None
        self._limit = max(1, min(MAX_IN_FLIGHT, self._connection.receive_maximum))
        # Continue as soon as there is room: our packets carry the TCP acknowledgement that a broker with Nagle's
        # algorithm needs before its next PUBACK. Waiting for half of them cost 40 ms each time.
        self._resume_at = self._limit - 1
        self._opened = self._connection
        for source in self._announcements:
            source.connected()
        self._other_due.set()

    async def write(self, entries: Sequence[Entry]) -> Sequence[RefusedReadings]:
        """Publish the messages of the entries. Raises SinkClosed."""
        connection = self._checked(self._opened)
        for entry in entries:
            await self._publish_entry(connection, entry)
        if self._is_probing:
            # After an exceeded quota, wait for the broker's answer: only an accepted write ends the backoff.
            await self._wait_for_room(connection, 1)
            self._is_probing = False
        self._settle()
        return ()

    async def flush(self) -> None:
        """Do nothing: the broker acknowledges without a request. Raises SinkClosed."""
        self._checked(self._opened)

    async def close(self) -> None:
        """Stop writing to the connection."""
        self._opened = None

    async def _publish_entry(self, connection: BrokerConnection, entry: Entry) -> None:
        if entry.batch is None or entry.epoch in self._excluded_epochs:
            self._passed_over += 1
        else:
            properties = None
            for message in self._messages(entry, entry.batch):
                if properties is None and connection.mqtt5:
                    properties = self._properties(MessageOrigin(entry.device, entry.epoch, entry.seq))
                await self._publish(connection, message, properties, entry=entry.offset)
        self._in_flight.handed_out = entry.offset

    def _messages(self, entry: Entry, batch: Batch) -> Iterator[Publish]:
        is_passed_over = True
        for encoder in self._immediate:
            if encoder.takes(entry, batch):
                is_passed_over = False
                yield from encoder.messages(entry, batch)
        for latest in self._periodic:
            if latest.add(entry, batch):
                is_passed_over = False
                self._other_due.set()
        self._passed_over += is_passed_over

    async def _publish_others(self) -> None:
        """Publish samples and announcements when they are due."""
        while True:
            self._other_due.clear()
            connection = self._opened
            try:
                if connection is not None:
                    await self._publish_announcements(connection)
                    await self._publish_samples(connection)
            except SinkClosed:
                # `open` sets `_other_due` for the next connection.
                pass
            due_s = min((latest.due_s for latest in self._periodic if latest.hold is not None), default=None)
            if self._opened is None or due_s is None:
                await self._other_due.wait()
                continue
            try:
                async with asyncio.timeout_at(due_s):
                    await self._other_due.wait()
            except TimeoutError:
                continue

    async def _publish_announcements(self, connection: BrokerConnection) -> None:
        for source in self._announcements:
            for message in source.pending():
                await self._publish(connection, message, None)

    async def _publish_samples(self, connection: BrokerConnection) -> None:
        now_s = asyncio.get_running_loop().time()
        for latest in self._periodic:
            # Readings that arrive during the following waits get a hold of their own.
            hold = self._sending_hold = latest.hold
            for origin, message in latest.due(now_s):
                properties = self._properties(origin) if connection.mqtt5 else None
                await self._publish(connection, message, properties, hold=hold)
            self._sending_hold = None
        self._settle()

    async def _publish(
        self,
        connection: BrokerConnection,
        message: Publish,
        properties: EncodedProperties | None,
        *,
        entry: int | None = None,
        hold: int | None = None,
    ) -> None:
        """Publish a message when the flow control allows it, unless it is too large. Raises SinkClosed."""
        if not self._fits(connection, message, properties):
            return
        self._since_turn += 1
        if self._since_turn >= MESSAGES_PER_TURN:
            self._since_turn = 0
            await asyncio.sleep(0)
        if len(self._in_flight) >= self._limit:
            await self._wait_for_room(connection, self._limit)
        self._checked(connection)
        try:
            message_id = connection.publish(message, properties)
        except ConnectionError:
            if self._connection is connection:
                self.disconnected()
            raise SinkClosed from None
        self._published += 1
        self._in_flight.add(message_id, entry=entry, hold=hold)

    async def _wait_for_room(self, connection: BrokerConnection, limit: int) -> None:
        """Wait until fewer than `limit` messages are in flight. Raises SinkClosed."""
        while connection is self._opened and len(self._in_flight) >= limit and not self._is_over_quota:
            self._wake.clear()
            await self._wake.wait()
        self._checked(connection)

    def _checked(self, connection: BrokerConnection | None) -> BrokerConnection:
        """Return the connection if it can be used. Raises SinkClosed."""
        if connection is None or connection is not self._opened or self._is_over_quota:
            raise SinkClosed
        return connection

    def _properties(self, origin: MessageOrigin) -> EncodedProperties:
        return EncodedProperties(
            self._encode_origin(origin.device, origin.epoch) + encode_pairs((("hub-seq", str(origin.seq)),))
        )

    def _fits(self, connection: BrokerConnection, message: Publish, properties: EncodedProperties | None) -> bool:
        largest = connection.maximum_packet_size
        if largest is None or packet_size(message, properties, mqtt5=connection.mqtt5) <= largest:
            return True
        self._too_large += 1
        if self._is_first(message.topic):
            log.error(
                "message exceeds the broker's packet size, skipped",
                bridge=self._consumer.name,
                topic=message.topic,
                payload_bytes=len(message.payload),
                max_packet_bytes=largest,
            )
        return False

    def _is_first(self, subject: object) -> bool:
        """Return whether this subject is reported for the first time."""
        if subject in self._reported or len(self._reported) >= MAX_REPORTED:
            return False
        self._reported.add(subject)
        return True

    def _settle(self) -> None:
        """Move the cursor as far as the acknowledgements allow."""
        self._is_settling = False
        if self._opened is None or self._is_over_quota:
            return
        holds = [latest.hold for latest in self._periodic if latest.hold is not None]
        if self._sending_hold is not None:
            holds.append(self._sending_hold)
        offset = self._in_flight.cursor(holds)
        if offset > self._consumer.status.acknowledged:
            self._acknowledge(offset)


def remove_consumers(journal: Journal, *, keep: Sequence[str]) -> list[str]:
    """Remove the consumers of bridges that are no longer configured to publish, and return their names.

    The journal would otherwise keep all entries for them. `keep` are the names of the publishing bridges.
    """
    kept = {CONSUMER_PREFIX + name for name in keep}
    bridges = [state.name for state in journal.consumers() if state.name.startswith(CONSUMER_PREFIX)]
    removed = [name for name in bridges if name not in kept]
    for name in removed:
        journal.remove_consumer(name)
    return [name.removeprefix(CONSUMER_PREFIX) for name in removed]
