"""Trial of a bridge: its messages pass decoders, types and validation, and reach a journal that stores nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from formats.record import setting_text
from hub.ingest.agent_session import MetricDirectory
from hub.ingest.device import Devices
from hub.ingest.recent_readings import RecentReadings
from hub.model.batch import Entry, EntryKind, Mark
from hub.model.journal import (
    CommitListener,
    DurabilityCallback,
    EntrySource,
    EntryWriter,
    QuarantineDecision,
    QuarantineIndex,
)
from hub.mqtt.connection import BrokerConnection, BrokerError, BrokerOptions, ConnectionListener, may_need_other_version
from hub.mqtt.decoders.configured import ConfiguredDecoder
from hub.mqtt.inbound import Inbound
from hub.mqtt.message import Message
from hub.mqtt.subscriptions import Subscription, Subscriptions
from hub.mqtt.topics import overlap, unshared

MAX_TOPICS = 2_000
"""Topics reported in detail. Messages of further topics are only counted."""

MAX_SERIES = 10_000
"""Series reported over all topics."""

MAX_SHAPES = 8
"""Shapes of the messages of one topic; messages of further shapes are only counted."""

MAX_EXAMPLE = 200
"""Characters of the example of a shape."""

MAX_WAITING = 10_000
"""Messages that may wait to be examined. Messages beyond it are only counted."""

BROKER_VERSION = "$SYS/broker/version"
"""Topic on which many brokers publish their name and version."""


class DiscardingJournal(EntryWriter):
    """Journal that reports each entry as durable and stores none. `entries` are those since the caller cleared it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._listener: CommitListener | None = None

    def marks(self) -> dict[str, Mark]:
        """Return no mark: every device is new to a trial."""
        return {}

    def listen(self, listener: CommitListener) -> None:
        """Report every entry to this listener."""
        self._listener = listener

    def submit(self, source: EntrySource, entry: Entry, decision: QuarantineDecision | None = None) -> None:
        """Report an entry as durable."""
        self.entries.append(entry)
        if self._listener is not None:
            self._listener.committed([entry], [entry], {source: source.mark()})

    async def append(
        self, entries: Sequence[Entry], marks: Sequence[Mark], decisions: Sequence[QuarantineDecision] = ()
    ) -> int:
        """Discard entries."""
        return 0

    def submit_fact(self, name: str, text: str) -> None:
        """Discard a fact."""

    def facts(self) -> Mapping[str, int | str]:
        """Return nothing."""
        return {}

    def when_durable(self, callback: DurabilityCallback) -> None:
        """Call back in the next turn of the event loop."""
        asyncio.get_running_loop().call_soon(callback, None)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn of the event loop."""
        asyncio.get_running_loop().call_soon(callback)

    @property
    def pending(self) -> bool:
        """Return that nothing waits."""
        return False

    @property
    def congested(self) -> bool:
        """Return that nothing waits."""
        return False

    async def room(self) -> None:
        """Return at once."""

    @property
    def quarantine(self) -> QuarantineIndex:
        """Raise LookupError: what is refused is among the entries."""
        raise LookupError("a trial has no quarantine")


class TrialReading(NamedTuple):
    """A reading that would be stored."""

    device: str
    metric: str
    type: str
    value: object
    unit: str


class ObservedShape(NamedTuple):
    """Messages of one topic with the same metrics, types and reasons. The readings and refusals are the newest.

    `is_duplicate`: all their readings arrived in earlier messages.
    """

    example: str
    counts: list[int]
    readings: list[TrialReading]
    refusals: list[dict[str, object]]
    is_duplicate: bool


class ObservedTopic:
    """Messages of one topic and what would become of them."""

    def __init__(self, matching: Sequence[str]) -> None:
        self.matching = matching
        self.messages = 0
        self.retained = 0
        self.readings: dict[tuple[str, str], TrialReading] = {}
        """Newest reading of each series, by device and metric, as it would be stored."""
        self.refused: dict[str, str] = {}
        self.shapes: dict[object, ObservedShape] = {}

    def add_shape(
        self, message: Message, readings: list[TrialReading], refusals: list[dict[str, object]], *, is_repeated: bool
    ) -> None:
        """Add a message to its shape. `is_repeated`: it has readings of earlier messages, which are left out."""
        is_duplicate = is_repeated and not readings and not refusals
        key = (
            is_duplicate,
            tuple((reading.metric, reading.type) for reading in readings),
            tuple((refusal.get("metric", ""), refusal["code"]) for refusal in refusals),
        )
        shape = self.shapes.get(key)
        if shape is None:
            if len(self.shapes) >= MAX_SHAPES:
                return
            text = message.payload.decode(errors="backslashreplace")
            example = text if len(text) <= MAX_EXAMPLE else f"{text[: MAX_EXAMPLE - 1]}…"
            shape = self.shapes[key] = ObservedShape(example, [0], [], [], is_duplicate)
        shape.counts[0] += 1
        shape.readings[:], shape.refusals[:] = readings, refusals


class BrokerCheck(ConnectionListener):
    """Listener that connects like a bridge, in a temporary session, and runs its inbound side without a store."""

    def __init__(
        self,
        options: BrokerOptions,
        decoders: Sequence[ConfiguredDecoder],
        directory: MetricDirectory,
        *,
        name: str = "mqtt",
        hub: str = "",
    ) -> None:
        """`options` need a client id that no other client uses. `directory` has the metrics of the hub `hub`."""
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
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue(MAX_WAITING)
        self._journal = DiscardingJournal()
        devices = Devices(self._journal, clock=time.time_ns, on_committed=lambda _: None, latest_time_ns=lambda _: -1)
        self._inbound = Inbound(
            devices, directory, [configured.decoder for configured in decoders], name=name, hub=hub, options=options,
            subscriptions=self._subscriptions, recent=RecentReadings(), publish=lambda _: None,
        )  # fmt: skip

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
        examining = asyncio.create_task(self._examine(), name="check")
        try:
            await connection.open()
            self.version = "5" if mqtt5 else "3.1.1"
            connection.subscribe([*self._subscriptions])
            closed = asyncio.ensure_future(connection.closed())
            await asyncio.wait((closed, examining), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                raise BrokerError(closed.result())
            closed.cancel()
            await self._waiting.put(None)
            await examining
        finally:
            examining.cancel()
            connection.close()

    async def _examine(self) -> None:
        while (message := await self._waiting.get()) is not None:
            await self.add(message)

    def messages_received(self, connection: BrokerConnection, messages: Sequence[Message]) -> None:
        """Acknowledge messages, and examine those that are not copies through another subscription."""
        connection.acknowledge([message.id for message in messages if message.qos])
        for message in messages:
            if message.topic == BROKER_VERSION:
                self.broker = message.payload.decode(errors="replace")
            elif not self._subscriptions.is_copy(message.topic, message.subscriptions):
                self.messages += 1
                if self._waiting.full():
                    self.messages_beyond_bound += 1
                else:
                    self._waiting.put_nowait(message)

    def subscribed(self, refused: Sequence[str], lowered: Sequence[str], *, complete: bool) -> None:
        """Note the refused filters. Their messages arrive through the remaining subscriptions."""
        self.refused_filters = [filter for filter in refused if filter != BROKER_VERSION]
        self._subscriptions.update_refused(self.refused_filters)

    async def add(self, message: Message) -> None:
        """Run a message through the inbound side, and note what would be stored and what would be refused.

        A retained message is read, too: it shows what the next message of its topic becomes.
        """
        matching = [configured.label for configured in self._decoders if configured.decoder.takes(message.topic)]
        observed = self.topics.get(message.topic)
        if observed is None:
            if len(self.topics) >= MAX_TOPICS:
                self.messages_beyond_bound += 1
                return
            observed = self.topics[message.topic] = ObservedTopic(matching)
        observed.messages += 1
        observed.retained += message.retain
        if not matching:
            return
        self._journal.entries.clear()
        duplicates = self._inbound.counts.duplicates
        await self._inbound.take(message._replace(retain=False, qos=0, subscriptions=()))
        readings = [reading for entry in self._journal.entries for reading in _readings(entry)]
        refusals = [refusal for entry in self._journal.entries for refusal in _refusals(entry)]
        for reading in readings:
            key = reading.device, reading.metric
            if key not in observed.readings:
                if self._series >= MAX_SERIES:
                    continue
                self._series += 1
            observed.readings[key] = reading
        observed.refused |= {str(refusal["code"]): _sentence(refusal) for refusal in refusals}
        is_repeated = self._inbound.counts.duplicates > duplicates
        observed.add_shape(message, readings, refusals, is_repeated=is_repeated)

    def topic_report(self) -> list[dict[str, object]]:
        """Return every observed topic, sorted, as plain values for JSON."""
        return [
            {
                "topic": topic,
                "messages": observed.messages,
                "retained": observed.retained,
                "taken_by": observed.matching[0] if observed.matching else None,
                "also_matches": observed.matching[1:],
                "readings": [observed.readings[series]._asdict() for series in sorted(observed.readings)],
                "refused": observed.refused,
                "shapes": [
                    {
                        "messages": shape.counts[0],
                        "example": shape.example,
                        "readings": [reading._asdict() for reading in shape.readings],
                        "refused": shape.refusals,
                        "duplicate": shape.is_duplicate,
                    }
                    for shape in observed.shapes.values()
                ],
            }
            for topic, observed in sorted(self.topics.items())
        ]

    def rules(self) -> list[dict[str, str]]:
        """Return the rules that decided how messages were read, by decoder, with the settings that change them."""
        return [
            {"decoder": configured.label, "sentence": note.sentence, "setting": note.setting}
            for configured in self._decoders
            for note in configured.decoder.notes()
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


def _readings(entry: Entry) -> list[TrialReading]:
    """Return the last row of a batch."""
    if entry.batch is None:
        return []
    return [
        TrialReading(entry.device, series.metric, series.type, values[-1], series.unit)
        for series, values in sorted(entry.batch.columns, key=lambda column: column[0].metric)
    ]


def _refusals(entry: Entry) -> list[dict[str, object]]:
    """Return the refused values of an entry in quarantine, or the reason of the whole message, with its device."""
    if entry.kind is not EntryKind.QUARANTINE or entry.reason is None:
        return []
    content: Mapping[str, object] = msgspec.json.decode(entry.payload)
    values = content.get("refused")
    code, sentence = entry.reason
    refused = values if isinstance(values, list) else [{"code": code, "reason": sentence}]
    return [{"device": entry.device, **refusal} for refusal in refused]


def _sentence(refusal: Mapping[str, object]) -> str:
    metric = f"{refusal['metric']}: " if refusal.get("metric") else ""
    setting = f"; {setting_text(str(refusal['setting']))}" if refusal.get("setting") else ""
    return f"{metric}{refusal['reason']}{setting}"
