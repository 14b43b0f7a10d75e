"""The journal's consumer that publishes to a broker: in order, with a cursor that only acknowledgements move."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Protocol

import structlog

from hub.model.batch import Batch, Entry, EntryKind
from hub.model.bridge import OutboundCounts
from hub.model.journal import Journal, JournalError, JournalTrimmed
from hub.mqtt.message import Publish
from hub.mqtt.paho_client import UserProperties, packed_pairs, packet_size
from hub.mqtt.publication import Encoder, LatestValues, MessageOrigin, Publication, Sampler
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
        kept_epochs: Set[str],
        decode: Callable[[Entry], Batch],
        description: Description | None = None,
        on_refused: Callable[[int], None] = lambda reason: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`name` is the bridge's, `hub` the hub's id, `kept_epochs` those of what does not go out: it came in through
        this very bridge, or from another hub. `decode` gives the batch of an entry that was read from the file, in a
        thread; it may raise WireError. `on_refused` is told the broker's reason when it does not take a message.
        Raises ValueError for a publication that cannot be.
        """
        self._journal = journal
        self._consumer = CONSUMER_PREFIX + name
        self._hub = hub
        self._kept_epochs = kept_epochs
        self._decode = decode
        self._description: Description = description or Nothing()
        self._on_refused = on_refused
        self._jitter = jitter
        encoders = [Encoder(publication) for publication in publications]
        self._every = [encoder for encoder in encoders if not encoder.publication.every_s]
        self._latest = [LatestValues(encoder) for encoder in encoders if encoder.publication.every_s]
        self._samplers: list[Sampler] = []
        self._origins: dict[tuple[str, str], bytes] = {}
        self._outlet: Outlet | None = None
        self._retry_after = False
        self._tries = 0
        self._flight = InFlight(0)
        self._offset = 0
        self._limit = self._resume_at = 0
        self._since_turn = 0
        self._is_settling = False
        self._counts = Counts()
        # Set when there may be room, and with `_news`.
        self._wake = asyncio.Event()
        # Set when a connection begins or ends, and when there is something to say.
        self._news = asyncio.Event()
        self._moved = asyncio.Event()

    @property
    def state(self) -> OutboundCounts:
        """Plain counts since the start."""
        counts = self._counts
        return OutboundCounts(
            published=counts.published,
            acknowledged=counts.acknowledged,
            in_flight=len(self._flight),
            passed_over=counts.passed_over,
            offset=self._offset,
            lag=max(0, self._journal.last_offset - self._offset),
            too_large=counts.too_large,
            refused=counts.refused,
            missed=counts.missed,
        )

    def begin(self) -> None:
        """Takes its place among the journal's consumers; called before anything more is accepted."""
        known = any(state.name == self._consumer for state in self._journal.consumers())
        self._offset = self._journal.consumer(self._consumer).offset
        if not known:
            self._move(self._journal.last_offset)

    def connected(self, outlet: Outlet) -> None:
        """There is a connection."""
        self._outlet = outlet
        self._description.connected()
        self.changed()

    def disconnected(self) -> None:
        """It has ended."""
        self._outlet = None
        self.changed()

    def arrived(self, id: int, reason: int = 0) -> None:
        """A message is acknowledged, at QoS 0 by the socket; `reason` is the broker's code. Other ids are nobody's."""
        if reason == QUOTA_EXCEEDED:
            self._retry_after = True
            self.changed()
            return
        if not self._flight.arrived(id):
            return
        self._counts.acknowledged += 1
        if reason >= REFUSED:
            self._counts.refused += 1
            if self._counts.told(reason):
                log.error("the broker refuses messages; they are passed over", code=f"0x{reason:02X}")
            self._on_refused(reason)
        if len(self._flight) <= self._resume_at:
            self._wake.set()
        if not self._is_settling:
            # Once for all acknowledgements of this turn.
            self._is_settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def changed(self) -> None:
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
            if self._outlet is None:
                self._news.clear()
                await self._news.wait()
                continue
            outlet, self._retry_after = self._outlet, False
            try:
                await self._publish_all(outlet)
            except ConnectionError:
                if self._outlet is outlet:
                    self._outlet = None
            except _Lost:
                if not self._retry_after:
                    continue
                await self._pause("the broker's quota is exceeded")
            except JournalError as error:
                await self._pause(str(error))

    async def _pause(self, error: str) -> None:
        self._tries += 1
        log.error("publishing waits", error=error)
        bound_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2 ** min(self._tries - 1, 16))
        await asyncio.sleep(self._jitter() * bound_s)

    async def _publish_all(self, outlet: Outlet) -> None:
        """From the cursor on. Raises _Lost."""
        now_s = asyncio.get_running_loop().time()
        self._flight = InFlight(self._offset)
        self._samplers = [Sampler(latest, now_s) for latest in self._latest]
        self._limit = max(1, min(MAX_IN_FLIGHT, outlet.receive_maximum))
        # As soon as there is room: our packets carry the TCP acknowledgement that a broker with Nagle's algorithm waits
        # for with its next PUBACK. Waiting for half of them cost 40 ms each time.
        self._resume_at = self._limit - 1
        while True:
            self._news.clear()
            self._check(outlet)
            await self._describe(outlet)
            await self._sample(outlet)
            for entry in await self._next_entries(outlet):
                await self._publish_entry(outlet, entry)
            self._settle()

    async def _publish_entry(self, outlet: Outlet, entry: Entry) -> None:
        if entry.batch is None or entry.epoch in self._kept_epochs:
            self._counts.passed_over += 1
        else:
            properties = None
            for message in self._messages(entry, entry.batch):
                if properties is None and outlet.user_properties:
                    properties = self._properties(MessageOrigin(entry.device, entry.epoch, entry.seq))
                if self._fits(outlet, message, properties):
                    await self._room(outlet)
                    self._flight.sent(outlet.publish(message, properties), entry.offset)
                    self._counts.published += 1
        self._flight.handed_out = entry.offset

    def _messages(self, entry: Entry, batch: Batch) -> Iterator[Publish]:
        passed_over = True
        for encoder in self._every:
            if encoder.takes(entry, batch):
                passed_over = False
                yield from encoder.messages(entry, batch)
        for sampler in self._samplers:
            if sampler.take(entry, batch):
                passed_over = False
        self._counts.passed_over += passed_over

    async def _sample(self, outlet: Outlet) -> None:
        """Publishes what is due at a period."""
        now_s = asyncio.get_running_loop().time()
        for sampler in self._samplers:
            due = sampler.due(now_s)
            for origin, message in due:
                properties = self._properties(origin) if outlet.user_properties else None
                await self._say(outlet, message, properties, sampler.hold)
            if due:
                sampler.sent()

    async def _describe(self, outlet: Outlet) -> None:
        for message in self._description.take():
            await self._say(outlet, message, None, None)

    async def _say(self, outlet: Outlet, message: Publish, properties: UserProperties | None, hold: int | None) -> None:
        if self._fits(outlet, message, properties):
            await self._room(outlet)
            self._flight.sent_other(outlet.publish(message, properties), hold)
            self._counts.published += 1

    async def _room(self, outlet: Outlet) -> None:
        """Returns when a message may be published. Raises _Lost."""
        self._since_turn += 1
        if self._since_turn >= MESSAGES_PER_TURN:
            self._since_turn = 0
            await asyncio.sleep(0)
        while outlet is self._outlet and len(self._flight) >= self._limit and not self._retry_after:
            self._wake.clear()
            await self._wake.wait()
        self._check(outlet)

    def _check(self, outlet: Outlet) -> None:
        if outlet is not self._outlet or self._retry_after:
            raise _Lost

    async def _next_entries(self, outlet: Outlet) -> list[Entry]:
        """What the journal has next; nothing where something else has to be done first. Raises _Lost, JournalError."""
        journal, after = self._journal, self._flight.handed_out
        if journal.last_offset <= after:
            await self._wait_for_more(after)
        self._check(outlet)
        try:
            entries = await journal.read(after, max_entries=READ_ENTRIES, max_bytes=READ_BYTES)
        except JournalTrimmed as error:
            missed = error.first - 1 - after
            log.error("the journal has deleted entries that were not published", entries=missed, first=error.first)
            self._counts.missed += missed
            self._flight.handed_out = error.first - 1
            self._settle()
            return []
        cold = [
            entry
            for entry in entries
            if entry.kind is EntryKind.BATCH and entry.batch is None and entry.epoch not in self._kept_epochs
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
                self._counts.missed += 1
                log.error("an accepted batch cannot be decoded any more", offset=entry.offset, reason=error.message)

    def _properties(self, origin: MessageOrigin) -> UserProperties:
        device, epoch, seq = origin
        known = self._origins.get((device, epoch))
        if known is None:
            if len(self._origins) >= ORIGINS_KEPT:
                self._origins.clear()
            known = packed_pairs((("hub-origin", self._hub), ("hub-device", device), ("hub-epoch", epoch)))
            self._origins[device, epoch] = known
        return UserProperties(known + packed_pairs((("hub-seq", str(seq)),)))

    def _fits(self, outlet: Outlet, message: Publish, properties: UserProperties | None) -> bool:
        largest = outlet.maximum_packet_size
        if largest is None or packet_size(message, properties, mqtt5=outlet.user_properties) <= largest:
            return True
        self._counts.too_large += 1
        if self._counts.told(message.topic):
            log.error(
                "a message is larger than the broker's packets and is passed over",
                topic=message.topic,
                payload_bytes=len(message.payload),
                largest_packet_bytes=largest,
            )
        return False

    def _settle(self) -> None:
        """Moves the cursor as far as the acknowledgements allow."""
        self._is_settling = False
        offset = self._flight.cursor(sampler.hold for sampler in self._samplers if sampler.hold is not None)
        if offset > self._offset:
            self._tries = 0
            self._move(offset)

    def _move(self, offset: int) -> None:
        self._offset = offset
        self._journal.advance(self._consumer, offset)
        self._moved.set()
        self._moved = asyncio.Event()


def forget_removed(journal: Journal, names: Sequence[str]) -> list[str]:
    """Trimming does not wait for bridges that are in the settings no more, or publish nothing any more: only for those
    of these names. Gives the names of those forgotten."""
    kept = {CONSUMER_PREFIX + name for name in names}
    gone = [state.name for state in journal.consumers() if state.name.startswith(CONSUMER_PREFIX)]
    removed = [name for name in gone if name not in kept]
    for name in removed:
        journal.forget(name)
    return [name.removeprefix(CONSUMER_PREFIX) for name in removed]


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
