"""Inbound side of a bridge: messages of the broker are decoded, journalled together, and acknowledged when durable.

Messages that arrive during a commit are collected. They become a few batches, which are submitted after that commit.
The messages are acknowledged, in the order of their arrival, when their own commit is durable.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import structlog

from formats.message import DecodedRow
from formats.record import RefusedInput
from hub.ingest.agent_session import MetricDirectory
from hub.ingest.device import Devices
from hub.ingest.local_source import LocalSource, epoch_of
from hub.ingest.recent_readings import RecentReadings, Values
from hub.ingest.rejected_input import QuarantinedInput, read_quarantined, stored_times
from hub.ingest.row_writer import DeviceDescription, PendingRow, RowWriter, batch_of, group_rows
from hub.model.batch import Entry
from hub.model.bridge import DecodedMessage, InboundCounts
from hub.model.command import Undelivered
from hub.model.journal import JournalError, durable
from hub.mqtt.command_links import CommandLinks, state_of
from hub.mqtt.connection import BrokerConnection, BrokerOptions
from hub.mqtt.message import (
    AvailabilityChange,
    CommandAnswer,
    Decoded,
    Decoder,
    DeviceCommands,
    DeviceDeclaration,
    Message,
    Publish,
    RejectedMessage,
    TopicDecoder,
    Undecodable,
)
from hub.mqtt.subscriptions import Subscriptions
from wire.device import CommandState
from wire.errors import WireError
from wire.limits import MAX_MESSAGE
from wire.model import Metric

MAX_WAITING = 4_096
"""Messages that may wait for the previous commit; beyond it the connection is not read. The messages of one turn of the
event loop (PACKETS_PER_TURN) may come on top. Messages of QoS 1 are also bounded by the receive maximum, but QoS 0 and
MQTT 3.1.1 have no such bound."""

MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Payload bytes that may wait. Together with the messages that are being stored and their batches, at most 300 MB were
measured, when 1,500 messages of 1 MB went into quarantine."""

MAX_PLAIN_BYTES = 1024
"""Payloads up to this size are remembered whole for the redelivery check, of longer ones only a digest: at most 64 MB
for the largest receive maximum, and 1 MB for the usual one."""

AGENT_PREFIX = "mqtt:"
"""Begin of the agent's name of a device whose readings arrive through a broker; the name of the bridge follows."""

RETRY_S = 0.5
"""Interval of the attempts while the disk is full or fails. The broker keeps further messages."""

TOPICS_KEPT = 50_000
"""Topics whose decoder is remembered, with what it has learned: 2 to 3 KB each, 150 MB in all. Beyond that, a message
of a dropped topic takes 60 µs more."""

SILENT_KEEPALIVES = 2
"""A broker that hears nothing ends the connection within one and a half keepalive times (MQTT 5.0, section 3.1.2.10).
After two, an acknowledgement was received or the connection has ended."""

_new: Any = tuple.__new__
"""Constructor of named tuples without their Python constructors: 0.2 µs instead of 0.4 µs, once a message."""

log = structlog.get_logger(__name__)


class BridgeEpochs(NamedTuple):
    """Epochs of the readings from one broker: those of its devices, and those that another hub has published."""

    own: str
    relayed: str

    @classmethod
    def of(cls, name: str) -> BridgeEpochs:
        """Return the epochs of a bridge."""
        return cls(epoch_of(f"mqtt-{name}"), epoch_of(f"mqtt-{name}-relayed"))


class TopicRoute(NamedTuple):
    """Way of the messages of one topic: their decoder, None if no subscription takes them, and the device that the
    topic names, "" for none. `wants_retained`: retained messages are descriptions. `decode_whole` replaces `decode` for
    a decoder that needs the properties of messages."""

    decode: TopicDecoder | None = None
    wants_retained: bool = False
    device: str = ""
    decode_whole: Callable[[Message], Sequence[Decoded]] | None = None


Row: TypeAlias = PendingRow[Message]

Batches = Mapping[str, Sequence[Sequence[Row]]]
"""Rows by device. Those of one batch have the same metrics."""


class PendingMessages:
    """Messages that are journalled together, by device, with the acknowledgements that are then due."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.metrics: dict[str, dict[str, Metric]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.presence: dict[str, bool] = {}
        self.commands: dict[str, list[DeviceCommands]] = {}
        self.reports: list[tuple[str, CommandState | Undelivered]] = []
        self.rejected: list[RejectedMessage] = []
        self.acknowledgements: dict[BrokerConnection, list[int]] = {}
        self.count = 0
        self.size_bytes = 0
        self.decoded = 0

    def add(
        self, message: Message, decoded: Iterable[Decoded], publish: Callable[[Publish], object], device: str = ""
    ) -> None:
        """Add the content of a message, whose topic names the device. Refused values go to quarantine together."""
        refusals: list[RefusedInput] = []
        rows: list[DecodedRow] = []
        for item in decoded:
            if isinstance(item, DecodedRow):
                self._add_row(message, item.device, item.time_ns, item.values, item.historical)
                rows.append(item)
            elif isinstance(item, RefusedInput):
                refusals.append(item)
            elif isinstance(item, DeviceDeclaration):
                metrics = self.metrics.setdefault(item.device, {})
                metrics.update({metric.name: metric for metric in item.metrics})
                self.tags.setdefault(item.device, {}).update(item.tags)
            elif isinstance(item, AvailabilityChange):
                self.presence[item.device] = item.online
            elif isinstance(item, DeviceCommands):
                self.commands.setdefault(item.device, []).append(item)
            elif isinstance(item, CommandAnswer):
                self.reports.append((item.device, state_of(item.id, item.outcome, message.received_ns)))
            elif isinstance(item, Publish):
                publish(item)
            else:
                self.rejected.append(item)
        if refusals:
            stored = stored_times(refusals, rows)
            rejected = RejectedMessage.of(message, refusals, is_partial=bool(rows), device=device, stored=stored)
            self.rejected.append(rejected)
        self.decoded += bool(rows) or not refusals

    def _add_row(
        self,
        message: Message,
        device: str,
        time_ns: int | None,
        values: dict[str, float | int | bool | str],
        historical: bool = False,
    ) -> None:
        has_time = time_ns is not None
        relayed = bool(message.properties) and "hub-origin" in message.properties
        row = _new(
            PendingRow, (message, time_ns if has_time else message.received_ns, values, has_time, historical, relayed)
        )
        rows = self.rows.get(device)
        if rows is None:
            self.rows[device] = [row]
        else:
            rows.append(row)


class Inbound:
    """Inbound side of one bridge."""

    def __init__(
        self,
        devices: Devices,
        directory: MetricDirectory,
        decoders: Sequence[Decoder],
        *,
        name: str,
        hub: str,
        options: BrokerOptions,
        subscriptions: Subscriptions,
        recent: RecentReadings,
        publish: Callable[[Publish], object],
    ) -> None:
        """`hub` is the hub's id, `publish` sends messages of decoders to the broker."""
        self._devices = devices
        self._journal = devices.journal
        self._hub = hub
        self._epochs = BridgeEpochs.of(name)
        self._subscriptions = subscriptions
        self.epoch = self._epochs.own
        """Epoch of the entries that the bridge puts into quarantine."""
        self._writer: RowWriter[Message] = RowWriter(
            devices, directory, epoch=self._epochs.own, agent=f"{AGENT_PREFIX}{name}"
        )
        self._own_device = f"mqtt.{name}"
        self._publish = publish
        self.commands: CommandLinks | None = None
        """Set before `run`; None if the devices of this broker get no commands."""
        self._recent = recent
        self._decoders = decoders
        self._route_of = lru_cache(TOPICS_KEPT)(self._find_route)
        self._pending = PendingMessages()
        self._wake = asyncio.Event()
        self._paused: BrokerConnection | None = None
        # Received messages by id, with their time: without our acknowledgement the broker sends them again unchanged.
        # A broker that has answered since then has also read the acknowledgement.
        self._received: OrderedDict[int, tuple[str, bytes, float]] = OrderedDict()
        self._max_received = options.receive_maximum
        self._redelivery_s = SILENT_KEEPALIVES * options.keepalive_s
        self.counts = InboundCounts()

    def connected(self, *, is_resumed: bool) -> None:
        """Handle a new connection. A new session uses message ids anew."""
        if not is_resumed:
            self._received.clear()

    def receive(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        """Decode messages. They are stored by `run`."""
        self.counts.received += len(messages)
        pending = self._pending
        ids = pending.acknowledgements.setdefault(connection, [])
        now_s = asyncio.get_running_loop().time()
        for message in messages:
            pending.size_bytes += len(message.payload)
            if message.qos:
                ids.append(message.id)
                if self._is_redelivery(message, now_s):
                    # The first delivery is pending here or being stored; this one is acknowledged after it.
                    self.counts.duplicates += 1
                    self.counts.taken += 1
                    continue
            if message.subscriptions and self._subscriptions.is_copy(message.topic, message.subscriptions):
                self.counts.copies += 1
            else:
                decoded = self._decode(pending, message)
                if self.commands is not None:
                    self.commands.received(message, decoded)
        pending.count += len(messages)
        self._wake.set()
        is_full = pending.count >= MAX_WAITING or pending.size_bytes >= MAX_WAITING_BYTES
        if is_full and self._paused is not connection:
            self._paused = connection
            connection.pause_reading()

    def handle(self, decoded: Iterable[Decoded], message: Message) -> None:
        """Add results that a decoder produced without a message, such as a Sparkplug timeout."""
        decoded_before = self._pending.decoded
        self._pending.add(message, decoded, self._publish)
        self._pending.decoded = decoded_before
        self._wake.set()

    def report(self, device: str, report: CommandState | Undelivered) -> None:
        """Record a state of a command soon, as if a message had shown it."""
        self._pending.reports.append((device, report))
        self._wake.set()

    def declare_commands(self, commands: DeviceCommands) -> None:
        """Record commands of a device soon, as if a message had described them."""
        self._pending.commands.setdefault(commands.device, []).append(commands)
        self._wake.set()

    def is_present(self, device: str) -> bool:
        """Return whether a device is connected through this bridge."""
        return self._writer.is_present(device)

    async def take(self, message: Message) -> None:
        """Decode one message and store it; return when it is durable. For a caller that does not use `run`."""
        pending = PendingMessages()
        self._decode(pending, message)
        await self._store(pending)

    async def decode_again(self, entry: Entry) -> DecodedMessage:
        """Decode a message in quarantine by the settings and types of now, without the values that are stored.

        The metrics of its values are declared. If the entry has only the beginning of the message, or its values cannot
        be distinguished from stored ones, its reason stays. Raises WireError while no metrics can be declared.
        """
        kept = read_quarantined(entry.payload)
        payload = None if kept is None else kept.payload
        if kept is None or payload is None or not self._is_repeatable(kept.topic):
            return DecodedMessage(reason=entry.reason)
        message = Message(kept.topic, payload, received_ns=entry.received_ns)
        pending = PendingMessages()
        self._decode(pending, message)
        pending.presence.clear()
        for whole in pending.rejected:
            if not whole.refusals:
                return DecodedMessage([], (whole.code, whole.sentence[:MAX_MESSAGE]), whole.content())
        decoded = [
            DecodedRow(device, row.values, row.time_ns if row.has_time else None)
            for device, of_device in pending.rows.items()
            for row in of_device
        ]
        rows = kept.unstored_rows(pending.rows, [refusal for part in pending.rejected for refusal in part.refusals])
        if rows is None:
            return DecodedMessage(reason=entry.reason)
        pending.rows = rows
        batches = {device: group_rows(rows) for device, rows in pending.rows.items()}
        for error in (await self._declare(pending, batches)).values():
            return DecodedMessage(reason=(error.code.value, error.message))
        accepted = [(device, batch_of(rows)) for device, grouped in batches.items() for rows in grouped]
        rest = _rest_of(kept, message, pending.rejected, decoded, is_partial=bool(accepted))
        if rest is None:
            return DecodedMessage(accepted)
        return DecodedMessage(accepted, (rest.code, rest.sentence[:MAX_MESSAGE]), rest.content())

    def _is_repeatable(self, topic: str) -> bool:
        return all(decoder.is_repeatable for decoder in self._decoders if decoder.takes(topic))

    async def run(self) -> None:
        """Store what arrives until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, PendingMessages()
            if self._paused is not None:
                self._paused.resume_reading()
                self._paused = None
            await self._store(pending)
            self.counts.taken += pending.decoded
            for connection, message_ids in pending.acknowledgements.items():
                connection.acknowledge(message_ids)
            # Release the payloads now and not with the next message.
            del pending

    def disconnect(self, reason: str) -> None:
        """Mark all devices of this bridge as disconnected."""
        for source in self._writer.sources:
            source.disconnect(reason)

    def _is_redelivery(self, message: Message, now_s: float) -> bool:
        # Whole payloads could take 16 GB: a thousand of the largest size.
        payload = message.payload
        if len(payload) > MAX_PLAIN_BYTES:
            payload = blake2b(payload, digest_size=16).digest()
        received = self._received
        earlier = received.pop(message.id, None)
        received[message.id] = (message.topic, payload, now_s)
        if len(received) > self._max_received:
            received.popitem(last=False)
        if not message.dup or earlier is None:
            return False
        return earlier[:2] == (message.topic, payload) and now_s - earlier[2] <= self._redelivery_s

    def _decode(self, pending: PendingMessages, message: Message) -> Sequence[Decoded]:
        if message.properties and message.properties.get("hub-origin") == self._hub:
            self.counts.own += 1
            return ()
        device = ""
        decoded: Sequence[Decoded] = ()
        try:
            decode, wants_retained, device, decode_whole = self._route_of(message.topic)
            if message.retain and not wants_retained:
                self.counts.retained += 1
                return ()
            if decode is None:
                raise Undecodable("topic", "no subscription takes this topic")
            decoded = decode(message.payload, message.received_ns) if decode_whole is None else decode_whole(message)
            pending.add(message, decoded, self._publish, device)
        except Undecodable as error:
            pending.rejected.append(RejectedMessage(message, error.code, error.sentence, device=device))
        except Exception as error:
            # A decoder may run a user's function. Its mistake costs the message, and not those that arrived with it.
            log.exception("decoder failed, message quarantined", topic=message.topic)
            sentence = f"the decoder failed: {type(error).__name__}: {error}"
            pending.rejected.append(RejectedMessage(message, "decoder", sentence, device=device))
        return decoded

    def _find_route(self, topic: str) -> TopicRoute:
        decoder = next((decoder for decoder in self._decoders if decoder.takes(topic)), None)
        if decoder is None:
            return TopicRoute()
        whole = decoder.decode if decoder.needs_properties else None
        return TopicRoute(decoder.compile(topic), decoder.wants_retained(topic), decoder.device_of(topic), whole)

    async def _store(self, pending: PendingMessages) -> None:
        """Return when the messages are durable. Retry without end while the disk is full or fails."""
        batches = {device: group_rows(self._without_repeated(device, rows)) for device, rows in pending.rows.items()}
        is_logged = False
        while True:
            counts = self.counts
            before = (counts.accepted, counts.undecodable, counts.refused)
            try:
                await self._journal.room()
                self._devices.check_open()
                errors = await self._declare(pending, batches)
                if self.commands is not None:
                    known = {device: found for device, found in pending.commands.items() if device not in errors}
                    await self.commands.record(known, pending.reports)
                self._submit(pending, batches, errors)
                await durable(self._journal)
                return
            except (WireError, JournalError) as error:
                counts.accepted, counts.undecodable, counts.refused = before
                if not is_logged:
                    log.warning("journal unavailable, messages stay at the broker", error=str(error), retry_s=RETRY_S)
                is_logged = True
                await asyncio.sleep(RETRY_S)

    async def _declare(self, pending: PendingMessages, batches: Batches) -> dict[str, WireError]:
        """Register devices and metrics. Return the errors by device; raise a WireError of the storage."""
        errors: dict[str, WireError] = {}
        named = (pending.rows, pending.metrics, pending.tags, pending.presence, pending.commands)
        for device in dict.fromkeys(chain.from_iterable(named)):
            details = DeviceDescription(pending.metrics.get(device, {}), pending.tags.get(device))
            error = await self._writer.declare(device, batches.get(device, ()), details)
            if error is not None:
                errors[device] = error
        return errors

    def _submit(self, pending: PendingMessages, batches: Batches, errors: Mapping[str, WireError]) -> None:
        for device, grouped in batches.items():
            source = self._writer.source(device)
            for rows in grouped:
                # Readings that a hub relays have their own epoch, by which publishing bridges recognize them.
                epoch = self._epochs.relayed if rows[0].relayed else self._epochs.own
                error = errors.get(device)
                self.counts.accepted += self._writer.submit(source, rows, self._refuse, error=error, epoch=epoch)
        for rejected in pending.rejected:
            self._quarantine(self._owner(rejected), rejected)
        for device, online in pending.presence.items():
            source = self._writer.source(device)
            if not online:
                source.disconnect("the broker reports that the device is offline", has_left=True)
            elif not source.is_taken:
                source.connect()

    def _without_repeated(self, device: str, rows: Sequence[Row]) -> list[Row]:
        """Return the rows without the values that were accepted before. The others are remembered."""
        fresh = []
        accept = self._recent.accept
        for row in rows:
            values: Values = row.values
            if row.has_time:
                values = accept(device, row.time_ns, row.values)
                if values is not row.values:
                    self.counts.duplicates += len(row.values) - len(values)
                    row = row._replace(values={name: row.values[name] for name in values})
            if values:
                fresh.append(row)
        return fresh

    def _refuse(self, source: LocalSource, row: Row, error: WireError) -> None:
        self._quarantine(source, RejectedMessage(row.message, error.code.value, error.message))

    def _owner(self, rejected: RejectedMessage) -> LocalSource:
        """Return the source of the device whose values are refused, or else of the one that the topic names.

        If the hub does not know it, the source is that of the bridge's own device: anybody can publish any name.
        """
        devices = {refusal.device for refusal in rejected.refusals if refusal.device} or {rejected.device}
        device = devices.pop() if len(devices) == 1 else ""
        return self._writer.source(device if self._devices.get(device) is not None else self._own_device)

    def _quarantine(self, source: LocalSource, rejected: RejectedMessage) -> None:
        if rejected.is_partial:
            self.counts.refused += sum(refusal.total for refusal in rejected.refusals)
        else:
            self.counts.undecodable += 1
        if source.is_taken:
            source = self._writer.source(self._own_device)
        source.epoch = self._epochs.own
        readings = sum(refusal.readings for refusal in rejected.refusals)
        source.quarantine(rejected.content(), (rejected.code, rejected.sentence), readings)


def _rest_of(
    kept: QuarantinedInput, message: Message, rejected: Sequence[RejectedMessage],
    rows: Iterable[DecodedRow], *, is_partial: bool,
) -> RejectedMessage | None:  # fmt: skip
    """Return the part of a message that is still refused, None if there is none. The `rows` are stored."""
    refusals = [
        refusal for part in rejected for refusal in part.refusals if kept.was_refused(refusal.device, refusal.metric)
    ]
    if not refusals:
        return None
    stored = kept.stored_after(refusals, rows)
    return RejectedMessage.of(message, refusals, is_partial=is_partial or kept.partial, stored=stored)
