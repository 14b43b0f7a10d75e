"""The journal's consumer that publishes to a broker: in order, with a cursor that only acknowledgements move."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence, Set

import structlog

from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind
from hub.model.bridge import OutboundCounts
from hub.model.journal import JournalError, JournalTrimmed
from hub.mqtt.connection import BrokerConnection
from hub.mqtt.discovery import Discovery
from hub.mqtt.message import Publish
from hub.mqtt.paho_client import UserProperties, encode_pairs, packet_size
from hub.mqtt.publication import Encoder, LatestValues, MessageOrigin, Publication, Sampler
from wire.backoff import full_jitter
from wire.errors import WireError

CONSUMER_PREFIX = "mqtt:"
"""The journal knows the bridge to the broker `home` as the consumer `mqtt:home`."""

MAX_IN_FLIGHT = 1_000
"""Messages that wait for the broker, where it allows so many: at 50 ms there and back 20,000/s, more than one core
publishes, and some 1 MB of memory."""

MESSAGES_PER_TURN = 64
"""Published at once; then everybody else has a turn of the event loop. Some 4 ms of it."""

READ_ENTRIES = 1_000
READ_BYTES = 1 << 20
"""Of one portion of the journal: what is in memory of a backlog, however long it is."""

FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
"""After a broker's "quota exceeded", or an error of the journal: a random part of a bound that doubles."""

ORIGINS_KEPT = 10_000
"""Devices whose part of the user properties is kept as it is sent: some 2 MB. At the bound all are made anew."""

REFUSED = 0x80
"""Reason codes from here on say that the broker did not take the message (MQTT 5.0, section 2.4)."""

MAX_REPORTED = 1_000
"""Subjects that are logged once each. As many topics are enough to find the cause."""

QUOTA_EXCEEDED = 0x97
"""It would take it at another time."""

log = structlog.get_logger(__name__)


class _Lost(Exception):
    """The connection has ended, or the broker has to be asked again later."""


class Outbound:
    """Publishes what the journal has and gets.

    A consumer of the journal that is new begins at its end: what was accepted before is not asked for. A message that
    can never arrive (larger than the broker's packets, refused by it, not decodable) is counted, told and passed over.
    Everything else waits for the broker, in the journal.
    """

    def __init__(
        self,
        journal: Journal,
        publications: Sequence[Publication],
        *,
        name: str,
        hub: str,
        excluded_epochs: Set[str],
        decode: Callable[[Entry], Batch],
        discovery: Discovery | None = None,
        on_refused: Callable[[int], None] = lambda reason: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._journal = journal
        self._consumer = CONSUMER_PREFIX + name
        self._hub = hub
        self._excluded_epochs = excluded_epochs
        self._decode = decode
        self._discovery = discovery
        self._on_refused = on_refused
        self._jitter = jitter
        encoders = [Encoder(publication) for publication in publications]
        self._every = [encoder for encoder in encoders if not encoder.publication.every_s]
        self._latest = [LatestValues(encoder) for encoder in encoders if encoder.publication.every_s]
        self._samplers: list[Sampler] = []
        self._origins: dict[tuple[str, str], bytes] = {}
        self._connection: BrokerConnection | None = None
        self._retry_after = False
        self._tries = 0
        self._in_flight = InFlight(0)
        self._offset = 0
        self._limit = self._resume_at = 0
        self._since_turn = 0
        self._is_settling = False
        self._published = self._acknowledged = self._passed_over = 0
        self._too_large = self._refused = self._missed = 0
        self._reported: set[object] = set()
        # Set when there may be room, and with `_news`.
        self._wake = asyncio.Event()
        # Set when a connection begins or ends, and when there is something to say.
        self._news = asyncio.Event()
        self._moved = asyncio.Event()

    @property
    def counts(self) -> OutboundCounts:
        """Plain counts since the start."""
        return OutboundCounts(
            published=self._published,
            acknowledged=self._acknowledged,
            in_flight=len(self._in_flight),
            passed_over=self._passed_over,
            offset=self._offset,
            lag=max(0, self._journal.last_offset - self._offset),
            too_large=self._too_large,
            refused=self._refused,
            missed=self._missed,
        )

    def begin(self) -> None:
        """Takes its place among the journal's consumers; called before anything more is accepted."""
        known = any(state.name == self._consumer for state in self._journal.consumers())
        self._offset = self._journal.consumer(self._consumer).offset
        if not known:
            self._move(self._journal.last_offset)

    def connected(self, connection: BrokerConnection) -> None:
        """There is a connection."""
        self._connection = connection
        if self._discovery is not None:
            self._discovery.connected()
        self.notify()

    def disconnected(self) -> None:
        """It has ended."""
        self._connection = None
        self.notify()

    def acknowledged(self, message_id: int, reason: int = 0) -> None:
        """A message is acknowledged, at QoS 0 by the socket; `reason` is the broker's code. Other ids are nobody's."""
        if reason == QUOTA_EXCEEDED:
            self._retry_after = True
            self.notify()
            return
        if not self._in_flight.arrived(message_id):
            return
        self._acknowledged += 1
        if reason >= REFUSED:
            self._refused += 1
            if self._is_first(reason):
                log.error("the broker refuses messages; they are passed over", code=f"0x{reason:02X}")
            self._on_refused(reason)
        if len(self._in_flight) <= self._resume_at:
            self._wake.set()
        if not self._is_settling:
            # Once for all acknowledgements of this turn.
            self._is_settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def notify(self) -> None:
        """The description has something to say."""
        self._news.set()
        self._wake.set()

    async def reached(self, offset: int) -> None:
        """Returns when all up to this offset is published and acknowledged."""
        while self._offset < offset:
            await self._moved.wait()

    async def run(self) -> None:
        """Publishes until cancelled, while there are connections; `begin` comes before."""
        while True:
            if self._connection is None:
                self._news.clear()
                await self._news.wait()
                continue
            connection, self._retry_after = self._connection, False
            try:
                await self._publish_all(connection)
            except ConnectionError:
                if self._connection is connection:
                    self._connection = None
            except _Lost:
                if not self._retry_after:
                    continue
                await self._pause("the broker's quota is exceeded")
            except JournalError as error:
                await self._pause(str(error))

    async def _pause(self, error: str) -> None:
        self._tries += 1
        log.error("publishing waits", error=error)
        delay_s = full_jitter(self._tries - 1, first=FIRST_RETRY_S, maximum=MAX_RETRY_S, random=self._jitter)
        await asyncio.sleep(delay_s)

    async def _publish_all(self, connection: BrokerConnection) -> None:
        """From the cursor on. Raises _Lost."""
        now_s = asyncio.get_running_loop().time()
        self._in_flight = InFlight(self._offset)
        self._samplers = [Sampler(latest, now_s) for latest in self._latest]
        self._limit = max(1, min(MAX_IN_FLIGHT, connection.receive_maximum))
        # As soon as there is room: our packets carry the TCP acknowledgement that a broker with Nagle's algorithm waits
        # for with its next PUBACK. Waiting for half of them cost 40 ms each time.
        self._resume_at = self._limit - 1
        while True:
            self._news.clear()
            self._check(connection)
            await self._describe(connection)
            await self._sample(connection)
            for entry in await self._next_entries(connection):
                await self._publish_entry(connection, entry)
            self._settle()

    async def _publish_entry(self, connection: BrokerConnection, entry: Entry) -> None:
        if entry.batch is None or entry.epoch in self._excluded_epochs:
            self._passed_over += 1
        else:
            properties = None
            for message in self._messages(entry, entry.batch):
                if properties is None and connection.mqtt5:
                    properties = self._properties(MessageOrigin(entry.device, entry.epoch, entry.seq))
                if self._fits(connection, message, properties):
                    await self._room(connection)
                    self._in_flight.sent(connection.publish(message, properties), entry.offset)
                    self._published += 1
        self._in_flight.handed_out = entry.offset

    def _messages(self, entry: Entry, batch: Batch) -> Iterator[Publish]:
        passed_over = True
        for encoder in self._every:
            if encoder.takes(entry, batch):
                passed_over = False
                yield from encoder.messages(entry, batch)
        for sampler in self._samplers:
            if sampler.add(entry, batch):
                passed_over = False
        self._passed_over += passed_over

    async def _sample(self, connection: BrokerConnection) -> None:
        """Publishes what is due at a period."""
        now_s = asyncio.get_running_loop().time()
        for sampler in self._samplers:
            due = sampler.due(now_s)
            for origin, message in due:
                properties = self._properties(origin) if connection.mqtt5 else None
                await self._say(connection, message, properties, sampler.hold)
            if due:
                sampler.mark_sent()

    async def _describe(self, connection: BrokerConnection) -> None:
        for message in self._discovery.pending() if self._discovery is not None else ():
            await self._say(connection, message, None, None)

    async def _say(
        self, connection: BrokerConnection, message: Publish, properties: UserProperties | None, hold: int | None
    ) -> None:
        if self._fits(connection, message, properties):
            await self._room(connection)
            self._in_flight.sent_other(connection.publish(message, properties), hold)
            self._published += 1

    async def _room(self, connection: BrokerConnection) -> None:
        """Returns when a message may be published. Raises _Lost."""
        self._since_turn += 1
        if self._since_turn >= MESSAGES_PER_TURN:
            self._since_turn = 0
            await asyncio.sleep(0)
        while connection is self._connection and len(self._in_flight) >= self._limit and not self._retry_after:
            self._wake.clear()
            await self._wake.wait()
        self._check(connection)

    def _check(self, connection: BrokerConnection) -> None:
        if connection is not self._connection or self._retry_after:
            raise _Lost

    async def _next_entries(self, connection: BrokerConnection) -> list[Entry]:
        """What the journal has next; nothing where something else has to be done first. Raises _Lost, JournalError."""
        journal, after = self._journal, self._in_flight.handed_out
        if journal.last_offset <= after:
            await self._wait_for_more(after)
        self._check(connection)
        try:
            entries = await journal.read(after, max_entries=READ_ENTRIES, max_bytes=READ_BYTES)
        except JournalTrimmed as error:
            missed = error.first - 1 - after
            log.error("the journal has deleted entries that were not published", entries=missed, first=error.first)
            self._missed += missed
            self._in_flight.handed_out = error.first - 1
            self._settle()
            return []
        cold = [
            entry
            for entry in entries
            if entry.kind is EntryKind.BATCH and entry.batch is None and entry.epoch not in self._excluded_epochs
        ]
        if cold:
            await asyncio.to_thread(self._decode_all, cold)
        return entries

    async def _wait_for_more(self, after: int) -> None:
        """Until there are entries, something to say, or a publication is due."""
        now_s = asyncio.get_running_loop().time()
        due_s = min((sampler.due_s for sampler in self._samplers if sampler.hold is not None), default=None)
        grown = asyncio.ensure_future(self._journal.wait(after))
        woken = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait(
                [grown, woken],
                timeout=None if due_s is None else max(0.0, due_s - now_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            grown.cancel()
            woken.cancel()
            await asyncio.gather(grown, woken, return_exceptions=True)

    def _decode_all(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                entry.batch = self._decode(entry)
            except WireError as error:
                self._missed += 1
                log.error("an accepted batch cannot be decoded any more", offset=entry.offset, reason=error.message)

    def _properties(self, origin: MessageOrigin) -> UserProperties:
        device, epoch, seq = origin
        known = self._origins.get((device, epoch))
        if known is None:
            if len(self._origins) >= ORIGINS_KEPT:
                self._origins.clear()
            known = encode_pairs((("hub-origin", self._hub), ("hub-device", device), ("hub-epoch", epoch)))
            self._origins[device, epoch] = known
        return UserProperties(known + encode_pairs((("hub-seq", str(seq)),)))

    def _fits(self, connection: BrokerConnection, message: Publish, properties: UserProperties | None) -> bool:
        largest = connection.maximum_packet_size
        if largest is None or packet_size(message, properties, mqtt5=connection.mqtt5) <= largest:
            return True
        self._too_large += 1
        if self._is_first(message.topic):
            log.error(
                "a message is larger than the broker's packets and is passed over",
                topic=message.topic,
                payload_bytes=len(message.payload),
                largest_packet_bytes=largest,
            )
        return False

    def _is_first(self, subject: object) -> bool:
        """Return whether this subject is reported for the first time."""
        if subject in self._reported or len(self._reported) >= MAX_REPORTED:
            return False
        self._reported.add(subject)
        return True

    def _settle(self) -> None:
        """Moves the cursor as far as the acknowledgements allow."""
        self._is_settling = False
        offset = self._in_flight.cursor(sampler.hold for sampler in self._samplers if sampler.hold is not None)
        if offset > self._offset:
            self._tries = 0
            self._move(offset)

    def _move(self, offset: int) -> None:
        self._offset = offset
        self._journal.advance(self._consumer, offset)
        self._moved.set()
        self._moved = asyncio.Event()


def remove_consumers(journal: Journal, *, keep: Sequence[str]) -> list[str]:
    """Trimming does not wait for bridges that are in the settings no more, or publish nothing any more: only for those
    of these names. Gives the names of those forgotten."""
    kept = {CONSUMER_PREFIX + name for name in keep}
    gone = [state.name for state in journal.consumers() if state.name.startswith(CONSUMER_PREFIX)]
    removed = [name for name in gone if name not in kept]
    for name in removed:
        journal.remove_consumer(name)
    return [name.removeprefix(CONSUMER_PREFIX) for name in removed]


class InFlight:
    """Messages that wait for their acknowledgement, of entries up to `handed_out`, which went out in order.

    A message that does not come from one entry (the latest at a period, a description) holds the cursor at an offset
    that is given with it, or not at all.
    """

    def __init__(self, offset: int) -> None:
        self.handed_out = offset
        # By message id, in the order of sending: the offset of the entry that each is from.
        self._sent: dict[int, int] = {}
        self._others: dict[int, int | None] = {}

    def __len__(self) -> int:
        return len(self._sent) + len(self._others)

    def sent(self, id: int, offset: int) -> None:
        """A message of this entry is on its way."""
        self._sent[id] = offset

    def sent_other(self, id: int, hold: int | None) -> None:
        """A message of no entry is; until it has arrived, the cursor does not pass `hold`."""
        self._others[id] = hold

    def arrived(self, id: int) -> bool:
        """It is acknowledged. False where no such message is on its way."""
        if self._sent.pop(id, None) is not None:
            return True
        if id in self._others:
            del self._others[id]
            return True
        return False

    def cursor(self, holds: Iterable[int] = ()) -> int:
        """The last entry whose every message has arrived, and no later one than any of `holds`.

        Walks over what is on its way: to be asked once for many arrivals.
        """
        first = next(iter(self._sent.values()), None)
        least = self.handed_out if first is None else first - 1
        for hold in self._others.values():
            if hold is not None and hold < least:
                least = hold
        return min([least, *holds])
