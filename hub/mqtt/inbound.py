"""From a broker's messages to the intake: decoded as they come, stored together, acknowledged when they are on disk.

What arrives while a commit runs is one round: it becomes few batches, is submitted when that commit has ended, and its
messages are acknowledged, in the order in which they came, when its own has.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import structlog

from hub.ingest.feed import Feed, FeedDirectory, epoch_of
from hub.ingest.intake import Intake
from hub.model.batch import Series
from hub.model.bridge import InboundCounts
from hub.model.journal import JournalError
from hub.mqtt.connection import BrokerConnection
from hub.mqtt.message import (
    Decoded,
    DecodedReading,
    DecodedRow,
    Decoder,
    DeviceDeclaration,
    DevicePresence,
    Message,
    Publish,
    RejectedMessage,
    Undecodable,
)
from hub.mqtt.subscriptions import Subscriptions
from wire import device as messages
from wire.columns import pack_floats, pack_times
from wire.errors import Code, WireError
from wire.model import Metric, MetricType

MAX_WAITING = 4_096
"""Messages that may wait for the round before; then the connection is not read. Those of QoS 1 are bounded by the
receive maximum already; these may be of QoS 0, or of a broker that knows no such bound."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Of their payloads. With a round that is being stored, and what becomes of both, 300 MB at most were seen when 1,500
messages of 1 MB each came and went into quarantine."""

MAX_QUARANTINED_BYTES = 1024 * 1024
"""Of a payload in quarantine: four times what a batch may have. What is longer is cut."""

SEEN_BYTES = 256
"""Of a payload that is remembered as it is, so that it is known when it comes again; of a longer one a digest is."""

RETRY_S = 0.5
"""While nothing can be stored, it is tried again so often; the broker keeps the rest."""

TOPICS_KEPT = 10_000
"""Topics whose decoder is remembered."""

SILENCES = 2
"""Keepalive times within which a broker that hears nothing more ends the connection (MQTT 5.0, section 3.1.2.10: one
and a half): an acknowledgement that was sent before is read, or the connection has ended."""

STORAGE = frozenset({Code.STORAGE_FULL, Code.STORAGE_FAILED, Code.BUSY, Code.SHUTTING_DOWN})

log = structlog.get_logger(__name__)


class BridgeEpochs(NamedTuple):
    """The epochs of what comes from one broker: from devices, and from other hubs."""

    own: str
    relayed: str

    @classmethod
    def of(cls, name: str) -> BridgeEpochs:
        """Those of the bridge of this name."""
        return cls(epoch_of(f"mqtt-{name}"), epoch_of(f"mqtt-{name}-relayed"))


class Inbound:
    """What comes from one broker. `said` is given what decoders want to be published."""

    def __init__(
        self,
        intake: Intake,
        directory: FeedDirectory,
        decoders: Sequence[Decoder],
        *,
        name: str,
        hub: str,
        epochs: BridgeEpochs,
        subscriptions: Subscriptions,
        receive_maximum: int,
        keepalive_s: int,
        recent: RecentReadings,
        said: Callable[[Publish], None],
    ) -> None:
        self._intake = intake
        self._directory = directory
        self._decoders = decoders
        self._hub = hub
        self._epochs = epochs
        self._subscriptions = subscriptions
        self._agent = f"mqtt:{name}"
        self._own = f"mqtt.{name}"
        self._said = said
        self._recent = recent
        self._feeds: dict[str, Feed] = {}
        self._of_topic: dict[str, Decoder | None] = {}
        self._round: PendingMessages = PendingMessages()
        self._wake = asyncio.Event()
        self._paused: BrokerConnection | None = None
        # What came and whose acknowledgement the broker may not have, by message id, with the time: it comes again as
        # it was. A broker that has said something since has read what was sent to it before.
        self._seen: OrderedDict[int, tuple[str, bytes, float]] = OrderedDict()
        self._max_seen = receive_maximum
        self._seen_s = SILENCES * keepalive_s
        self.received = self.taken = self.undecodable = self.retained = self.own = self.copies = 0
        self.accepted = self.duplicates = 0

    @property
    def state(self) -> InboundCounts:
        """Plain counts since the start."""
        return InboundCounts(
            self.received,
            self.taken,
            self.undecodable,
            self.retained,
            self.own,
            self.copies,
            self.accepted,
            self.duplicates,
        )

    def connected(self, *, is_resumed: bool) -> None:
        """A connection began; a new session knows nothing of the ids of the one before."""
        if not is_resumed:
            self._seen.clear()

    def arrived(self, link: BrokerConnection, message: Any) -> None:
        """One message of paho's."""
        self.received += 1
        mid, qos = message.mid, message.qos
        payload = bytes(message.payload)
        round = self._round
        try:
            topic: str = message.topic
        except UnicodeDecodeError:
            topic = ""
        if qos and self._is_repeated(mid, topic, payload, dup=message.dup):
            # It is on its way to the disk in this round or before it: its turn comes with this one's.
            self.duplicates += 1
            self.taken += 1
        elif self._subscriptions.is_copy(topic, getattr(message.properties, "SubscriptionIdentifier", ())):
            self.copies += 1
        else:
            properties = message.properties
            pairs = dict(getattr(properties, "UserProperty", ())) if properties is not None else {}
            told = Message(
                topic, payload, qos, bool(message.retain), bool(message.dup), self._intake.clock(), pairs,
                getattr(properties, "ContentType", "") if properties is not None else "",
            )  # fmt: skip
            self._take(round, told)
        if qos:
            round.acks.append((link, mid))
        round.count += 1
        round.size_bytes += len(payload)
        self._wake.set()
        if (round.count >= MAX_WAITING or round.size_bytes >= MAX_WAITING_BYTES) and self._paused is not link:
            self._paused = link
            link.pause()

    def found(self, found: Iterable[Decoded], message: Message) -> None:
        """What a decoder tells by itself: a host application's time has run out, its connection began."""
        self._add(self._round, message, found)
        self._wake.set()

    async def run(self) -> None:
        """Stores what arrives until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            round, self._round = self._round, PendingMessages()
            if self._paused is not None:
                self._paused.resume()
                self._paused = None
            await self._store(round)
            self.taken += round.taken
            for link, mid in round.acks:
                link.ack(mid)
            # Else its messages would stay in memory until others come.
            del round

    def disconnect(self, why: str) -> None:
        """Nothing is known of the devices any more."""
        for feed in self._feeds.values():
            feed.disconnect(why)

    def _is_repeated(self, mid: int, topic: str, payload: bytes, *, dup: bool) -> bool:
        now_s = asyncio.get_running_loop().time()
        before = self._seen.pop(mid, None)
        # As many as may be on their way: whole, a thousand of the longest would be 16 GB.
        payload = payload if len(payload) <= SEEN_BYTES else blake2b(payload, digest_size=16).digest()
        self._seen[mid] = (topic, payload, now_s)
        if len(self._seen) > self._max_seen:
            self._seen.popitem(last=False)
        return dup and before is not None and before[:2] == (topic, payload) and now_s - before[2] <= self._seen_s

    def _take(self, round: PendingMessages, message: Message) -> None:
        if message.properties.get("hub-origin") == self._hub:
            self.own += 1
            return
        topic = message.topic
        try:
            decoder = self._of_topic[topic]
        except KeyError:
            decoder = next((one for one in self._decoders if one.takes(topic)), None)
            if len(self._of_topic) >= TOPICS_KEPT:
                self._of_topic.clear()
            self._of_topic[topic] = decoder
        if message.retain and (decoder is None or not decoder.wants_retained(topic)):
            self.retained += 1
            return
        try:
            if decoder is None:
                raise Undecodable("topic", "no subscription takes this topic")
            self._add(round, message, decoder.decode(message))
        except Undecodable as error:
            round.refused.append(RejectedMessage(message, error.code, error.sentence))
            return
        except Exception as error:
            # A decoder may be a user's: a mistake in it must cost its messages, and not the connection.
            log.exception("a message could not be decoded", topic=topic)
            round.refused.append(
                RejectedMessage(message, "decoder", f"the decoder failed: {type(error).__name__}: {error}")
            )
            return
        round.taken += 1

    def _add(self, round: PendingMessages, message: Message, found: Iterable[Decoded]) -> None:
        last: tuple[str, int | None, bool] | None = None
        relayed = "hub-origin" in message.properties
        for one in found:
            if isinstance(one, DecodedRow):
                has_time = one.time_ns is not None
                time_ns = message.received_ns if one.time_ns is None else one.time_ns
                line = PendingRow(message, time_ns, one.values, has_time, False, relayed)
                round.lines.setdefault(one.device, []).append(line)
            elif isinstance(one, DecodedReading):
                kind = one.type or type_of(one.value)
                value = float(one.value) if kind == "float" and not isinstance(one.value, str) else one.value
                if one.unit or kind == "integer":
                    round.metrics.setdefault(one.device, {})[one.metric] = Metric(one.metric, kind, one.unit)
                key = (one.device, one.time_ns, one.historical)
                lines = round.lines.setdefault(one.device, [])
                if last == key and one.metric not in lines[-1].values:
                    lines[-1].values[one.metric] = value
                else:
                    time_ns = message.received_ns if one.time_ns is None else one.time_ns
                    lines.append(
                        PendingRow(
                            message, time_ns, {one.metric: value}, one.time_ns is not None, one.historical, relayed
                        )
                    )
                last = key
            elif isinstance(one, DeviceDeclaration):
                metrics = round.metrics.setdefault(one.device, {})
                metrics.update({metric.name: metric for metric in one.metrics})
                round.tags.setdefault(one.device, {}).update(one.tags)
            elif isinstance(one, DevicePresence):
                round.presence[one.device] = one.online
            elif isinstance(one, Publish):
                self._said(one)
            else:
                round.refused.append(one)

    async def _store(self, round: PendingMessages) -> None:
        """Returns when the round is durable, however long the disk is full."""
        is_told = False
        while True:
            remembered: list[tuple[str, int, Values]] = []
            counts = (self.accepted, self.duplicates, self.undecodable)
            try:
                await self._intake.room()
                self._intake.check_open()
                refused = await self._declare(round)
                self._submit(round, remembered, refused)
                await self._durable()
                return
            except (WireError, JournalError) as error:
                for device, time_ns, values in remembered:
                    self._recent.remove(device, time_ns, values)
                self.accepted, self.duplicates, self.undecodable = counts
                if not is_told:
                    log.warning("messages cannot be stored; the broker keeps them", error=str(error))
                is_told = True
                await asyncio.sleep(RETRY_S)

    async def _durable(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settled(error: JournalError | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self._intake.when_durable(settled)
        await done

    async def _declare(self, round: PendingMessages) -> dict[str, WireError]:
        """Makes devices and metrics known; why not, for those that cannot be. Raises WireError of the storage."""
        refused: dict[str, WireError] = {}
        ids = dict.fromkeys([*round.lines, *round.metrics, *round.tags, *round.presence])
        for id in ids:
            feed = self._feed(id)
            known = feed.device.metrics
            wanted: dict[str, Metric] = {}
            for line in round.lines.get(id, ()):
                for name, value in line.values.items():
                    if name not in known and name not in wanted:
                        wanted[name] = Metric(name, type_of(value))
            for name, metric in round.metrics.get(id, {}).items():
                series = known.get(name)
                if not isinstance(series, Series) or (series.type, series.unit) != (metric.type, metric.unit):
                    wanted[name] = metric
            tags = round.tags.get(id)
            if feed.declared and not wanted and tags is None:
                continue
            try:
                await feed.declare(list(wanted.values()), tags)
            except WireError as error:
                if error.code in STORAGE:
                    raise
                refused[id] = error
        return refused

    def _feed(self, id: str) -> Feed:
        feed = self._feeds.get(id)
        if feed is None:
            feed = Feed(self._intake, self._directory, id, epoch=self._epochs.own, agent=self._agent)
            self._feeds[id] = feed
        return feed

    def _submit(
        self,
        round: PendingMessages,
        remembered: list[tuple[str, int, Values]],
        refused: Mapping[str, WireError],
    ) -> None:
        for id, lines in round.lines.items():
            feed = self._feed(id)
            fresh = [line for line in (self._without_known(id, line, remembered) for line in lines) if line.values]
            for batch in batches_of(fresh):
                self._submit_lines(feed, batch, refused.get(id))
        for message, code, sentence in round.refused:
            self._quarantine(None, message, code, sentence)
        for id, online in round.presence.items():
            feed = self._feed(id)
            if not online:
                feed.disconnect("the device is gone, as the broker tells")
            elif not feed.is_taken:
                feed.connect()

    def _without_known(self, id: str, line: PendingRow, remembered: list[tuple[str, int, Values]]) -> PendingRow:
        if not line.has_time:
            return line
        new = self._recent.new_of(id, line.time_ns, line.values)
        self.duplicates += len(line.values) - len(new)
        if new:
            self._recent.add(id, line.time_ns, new)
            remembered.append((id, line.time_ns, new))
        return line if new is line.values else line._replace(values={name: line.values[name] for name in new})

    def _submit_lines(self, feed: Feed, lines: Sequence[PendingRow], refusal: WireError | None) -> None:
        if refusal is None:
            # What a hub relays has an epoch of its own, by which those that publish know it.
            feed.epoch = self._epochs.relayed if lines[0].relayed else self._epochs.own
            try:
                self.accepted += feed.submit(data_of(lines))
                return
            except WireError as error:
                refusal = error
        if len(lines) > 1 and not feed.is_taken:
            # One of them is to blame: the others are as good as ever.
            half = len(lines) // 2
            self._submit_lines(feed, lines[:half], None)
            self._submit_lines(feed, lines[half:], None)
            return
        for line in lines:
            self._quarantine(feed, line.message, refusal.code.value, refusal.message)

    def _quarantine(self, feed: Feed | None, message: Message, code: str, sentence: str) -> None:
        self.undecodable += 1
        if feed is None or feed.is_taken:
            feed = self._feed(self._own)
        kept = message.payload[:MAX_QUARANTINED_BYTES]
        told: dict[str, object] = {"topic": message.topic, "payload_base64": base64.b64encode(kept).decode()}
        if len(kept) < len(message.payload):
            told["payload_bytes"] = len(message.payload)
        feed.quarantine(json.dumps(told).encode(), (code, sentence))


ROWS_A_BATCH = 1_000
PACKED_FROM = 16
"""Rows from which a column of floats goes packed: then acceptance makes arrays of all at once."""


class PendingRow(NamedTuple):
    """One row on its way: of which message, with the time that it has or is given. `relayed`: another hub has published
    it."""

    message: Message
    time_ns: int
    values: dict[str, float | int | bool | str]
    has_time: bool
    historical: bool
    relayed: bool


class PendingMessages:
    """What arrived together, by device; `acks` are the messages to be acknowledged, each with its connection."""

    def __init__(self) -> None:
        self.lines: dict[str, list[PendingRow]] = {}
        self.metrics: dict[str, dict[str, Metric]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.presence: dict[str, bool] = {}
        self.refused: list[RejectedMessage] = []
        self.acks: list[tuple[BrokerConnection, int]] = []
        self.count = 0
        self.size_bytes = 0
        self.taken = 0


def batches_of(lines: Sequence[PendingRow]) -> list[list[PendingRow]]:
    """Rows of the same metrics and the same way here together, as few batches as the order of each metric allows."""
    made: list[list[PendingRow]] = []
    open_: dict[tuple[object, ...], list[PendingRow]] = {}
    last: dict[str, tuple[object, ...]] = {}
    for line in lines:
        key = (line.historical, line.relayed, *line.values)
        batch = open_.get(key)
        if batch is None or len(batch) >= ROWS_A_BATCH:
            for name in line.values:
                # What another batch has of this metric comes before; it takes nothing more.
                if last.get(name) is not None:
                    open_.pop(last[name], None)
                last[name] = key
            batch = open_[key] = []
            made.append(batch)
        batch.append(line)
    return made


def data_of(lines: Sequence[PendingRow]) -> messages.Data:
    """The batch of rows that `batches_of` put together, without a number."""
    first = lines[0]
    times: Any = [line.time_ns for line in lines]
    values: dict[str, Any] = {name: [line.values[name] for line in lines] for name in first.values}
    if len(lines) >= PACKED_FROM and all(type(value) is float for column in values.values() for value in column):
        times = pack_times(times)
        values = {name: pack_floats(column) for name, column in values.items()}
    return messages.Data(1, times, values, first.historical)


def type_of(value: float | int | bool | str) -> MetricType:
    """The type of a metric whose first value this is; a number is a float."""
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "float"


RECENT_VALUES = 131_072
"""Values remembered over all devices of a bridge: what a broker may have in flight, and whatever a publisher says again
after its own connection broke. 70 MB where each has a time of its own, 10 MB where forty share one. A repetition of
something older is a new reading."""

FEW = 8
"""Rows of one time that are looked through one by one; to make sets of each costs ten times as much, but more of them,
of a device whose clock stands still, would take time that grows with their square."""

Values = Mapping[str, float | int | bool | str | None]


class RecentReadings:
    """The newest accepted values by device, time and metric. The time is that of the message: acceptance may store a
    reading later by some ns, where its time is taken."""

    def __init__(self, bound: int = RECENT_VALUES) -> None:
        self._bound = bound
        self._count = 0
        self._rows: OrderedDict[tuple[str, int], list[Values] | dict[str, set[object]]] = OrderedDict()
        # Of rows that were stored right behind another: the time that theirs may have been.
        self._begins: dict[tuple[str, int], int] = {}

    def add(self, device: str, time_ns: int, values: Values) -> None:
        """These are accepted."""
        key = device, time_ns
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = [values]
            self._count += len(values)
        else:
            before = _size(row)
            if isinstance(row, list) and len(row) >= FEW:
                row = self._rows[key] = _as_sets(row)
            if isinstance(row, list):
                row.append(values)
            else:
                for name, value in values.items():
                    row.setdefault(name, set()).add(value)
            self._count += _size(row) - before
        while self._count > self._bound:
            self._count -= _size(self._rows.popitem(last=False)[1])

    def add_stored(self, device: str, time_ns: int, values: Values) -> None:
        """These are stored under this time, in order; where the time before is taken, they may have had that one, or
        the first of those that lead up to it by steps of 1 ns."""
        before = (device, time_ns - 1)
        begin = self._begins.get(before, time_ns - 1 if before in self._rows else None)
        if begin is not None:
            if len(self._begins) >= self._bound:
                self._begins.clear()
            self._begins[device, time_ns] = begin
            self.add(device, begin, values)
        self.add(device, time_ns, values)

    def remove(self, device: str, time_ns: int, values: Values) -> None:
        """They are not, after all."""
        row = self._rows.get((device, time_ns), [])
        before = _size(row)
        if isinstance(row, dict):
            for name, value in values.items():
                row.get(name, set()).discard(value)
        elif values in row:
            row.remove(values)
        self._count += _size(row) - before

    def new_of(self, device: str, time_ns: int, values: Values) -> Values:
        """Those of the values that are not known at this time."""
        row = self._rows.get((device, time_ns))
        if not row:
            return values
        if isinstance(row, dict):
            return {name: value for name, value in values.items() if value not in row.get(name, ())}
        return {name: value for name, value in values.items() if all(one.get(name) != value for one in row)}


def _size(row: list[Values] | dict[str, set[object]]) -> int:
    return sum(map(len, row if isinstance(row, list) else row.values()))


def _as_sets(rows: list[Values]) -> dict[str, set[object]]:
    found: dict[str, set[object]] = {}
    for values in rows:
        for name, value in values.items():
            found.setdefault(name, set()).add(value)
    return found
