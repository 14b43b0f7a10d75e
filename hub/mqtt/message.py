"""Messages of a broker and what decoders find in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from formats.message import DecodedRow
from formats.record import Note, RefusedInput
from hub.ingest.rejected_input import StoredTimes, reason_of, rejected_content
from wire.command import CommandDeclaration
from wire.device import Command
from wire.model import Metric, MetricType


class Message(NamedTuple):
    """Message from a broker.

    `received_ns` is the hub's clock. At QoS 1 the message is acknowledged by its `id`. `properties` are the user
    properties of MQTT 5, `subscriptions` the identifiers of the subscriptions through which the broker sent it.
    `response_topic` is where the sender expects an answer, with the same `correlation` data.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    received_ns: int = 0
    properties: Mapping[str, str] = {}
    id: int = 0
    subscriptions: Sequence[int] = ()
    response_topic: str = ""
    correlation: bytes = b""


class AvailabilityChange(NamedTuple):
    """Change of a device's presence: a birth, a last will, or an availability topic."""

    device: str
    online: bool


class DeviceDeclaration(NamedTuple):
    """Description of a device without a reading: metrics with units and types, and tags."""

    device: str
    metrics: Sequence[Metric] = ()
    tags: Mapping[str, str] = {}


class Publish(NamedTuple):
    """Message to publish at the broker."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class DeviceCommands(NamedTuple):
    """Commands that a device takes through its broker. `is_complete`: it takes no others."""

    device: str
    commands: Sequence[CommandDeclaration]
    is_complete: bool = False


class ReportedOutcome(NamedTuple):
    """State of a command as a device reports it, with the reason as a code and a sentence. `result` is a JSON value."""

    state: Literal["received", "succeeded", "failed", "rejected"]
    code: str = ""
    message: str = ""
    result: Any = None


class CommandAnswer(NamedTuple):
    """Answer of a device that names the command by its id."""

    device: str
    id: str
    outcome: ReportedOutcome


class Confirmation(NamedTuple):
    """Messages that show what became of a command without naming it, such as the new state of a device.

    They arrive on `topics`. `outcome` returns what a message and its decoded content show, None for nothing. Of several
    commands with the same `subject`, such as a property of a device, a message is compared with the oldest first.
    """

    topics: frozenset[str]
    subject: str
    outcome: Callable[[Message, Sequence[Decoded]], ReportedOutcome | None]


class CommandDelivery(NamedTuple):
    """Message that carries a command to its device. Without a `confirmation` only a CommandAnswer reports on it.

    With MQTT 5 the message has the `response_topic` and the `correlation` data, empty for none. Its QoS is `qos`.
    `repeat`: the device may execute it twice, so it is published again after an interruption.
    """

    publish: Publish
    confirmation: Confirmation | None = None
    response_topic: str = ""
    correlation: bytes = b""
    qos: int = 1
    repeat: bool = False


class Undeliverable(Exception):
    """A command that cannot be sent to its device. `code` is stable for programs, `sentence` is for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class RejectedMessage(NamedTuple):
    """Message that goes to quarantine. `Undecodable` rejects the current message, this value also an earlier one.

    `refusals` are its refused values. `is_partial`: its other values are stored. `device` is the one that its topic
    names, "" for none. `stored` are the times of stored values of the same metrics.
    """

    message: Message
    code: str
    sentence: str
    refusals: Sequence[RefusedInput] = ()
    is_partial: bool = False
    device: str = ""
    stored: StoredTimes | None = None

    @classmethod
    def of(
        cls, message: Message, refusals: Sequence[RefusedInput], *, is_partial: bool, device: str = "",
        stored: StoredTimes | None = None,
    ) -> RejectedMessage:  # fmt: skip
        """Return a message with refused values. Its reason is that of the first one, with its setting."""
        return cls(message, *reason_of(refusals), refusals, is_partial, device, stored)

    def content(self) -> bytes:
        """Return the content of its quarantine entry: the topic, the payload, each value with its reason."""
        origin = {"topic": self.message.topic}
        return rejected_content(
            origin, self.message.payload, self.refusals, is_partial=self.is_partial, stored=self.stored
        )


Decoded = (
    DecodedRow
    | RefusedInput
    | AvailabilityChange
    | DeviceDeclaration
    | DeviceCommands
    | CommandAnswer
    | Publish
    | RejectedMessage
)
"""Everything that a decoder can return for a message: also the values that are refused, while their neighbours are
stored."""


class Undecodable(Exception):
    """A message that does not have the expected content. `code` is stable for programs, `sentence` is for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


TopicDecoder: TypeAlias = Callable[[bytes, int], Sequence[Decoded]]
"""Decoder of one topic: from a payload and the time of its arrival to its content. Raises Undecodable.

Everything that depends on the topic alone is resolved: the device, names and tags. The caller keeps it for the next
messages of the topic, as long as the decoder that returned it.
"""


class Decoder(Protocol):
    """Decoder of messages into readings. It may remember a bounded amount from earlier messages.

    `filters` are the topic filters that it needs, `retained` the last levels of the topics of `wants_retained`.
    `is_repeatable`: a message means the same when it is decoded later. `needs_properties`: messages are passed to
    `decode` with their properties of MQTT 5.
    """

    filters: Sequence[str]
    retained: tuple[str, ...] = ()
    is_repeatable: bool = True
    needs_properties: bool = False

    def takes(self, topic: str) -> bool:
        """Return whether messages with this topic are for this decoder."""

    def wants_retained(self, topic: str) -> bool:
        """Return whether a retained message with this topic is a description, a birth or a presence, and not only a
        reading from before the connection."""
        return topic.endswith(self.retained)

    def device_of(self, topic: str) -> str:
        """Return the device that a topic names, "" for none. Refused messages of the topic are charged to it."""
        return ""

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric: a person has changed its type or name."""
        return

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read, with the settings that change it."""
        return ()

    def decode(self, message: Message) -> Sequence[Decoded]:
        """Return the content of the message. Raises Undecodable."""

    def commands_of(self, device: str) -> Sequence[CommandDeclaration]:
        """Return the commands that a device takes without having described them."""
        return ()

    def repeats(self, device: str) -> bool:
        """Return whether a device has commands that it may execute twice."""
        return False

    def delivery(self, device: str, command: Command) -> CommandDelivery | None:
        """Return the message that carries a command to a device, None if it has no such command of this decoder.

        Raises Undeliverable.
        """
        return None

    def compile(self, topic: str) -> TopicDecoder:
        """Return the decoder of a topic that this decoder takes."""
        return lambda payload, received_ns: self.decode(Message(topic, payload, received_ns=received_ns))


PYTHON_TYPES: dict[MetricType, type] = {"float": float, "integer": int, "boolean": bool, "string": str}
