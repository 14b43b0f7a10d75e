"""The words between the decoders of messages and the bridge: what comes in, and what is to come of it. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from wire.limits import MAX_DEVICE_ID, MAX_METRIC_NAME
from wire.model import Metric, MetricType

HASH_DIGITS = 12
"""Hexadecimal digits that a changed name is given, so that two of them do not fall together: of 100,000 names that
change to the same text, with one chance in 56,000."""


class Message(NamedTuple):
    """One message of a broker. `received_ns` is the hub's clock, `properties` are MQTT 5's user properties."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    received_ns: int = 0
    properties: Mapping[str, str] = {}
    content_type: str = ""


class DecodedReading(NamedTuple):
    """One reading of a message. Without `time_ns` it has the time at which the hub received it.

    `type` None: a number is a float (a bare integer, too, so that a metric does not change its type with a value), a
    bool a boolean, a str a string. `historical` marks backfill.
    """

    device: str
    metric: str
    value: float | int | bool | str
    time_ns: int | None = None
    unit: str = ""
    type: MetricType | None = None
    historical: bool = False


class DecodedRow(NamedTuple):
    """Readings of one device that share a time: what a flat JSON object is. `values` are Samples without more to say
    of them (finite floats, bools and strs; every number a float), by legal names of metrics.

    A message of forty values costs a third as much in this form as in forty Samples.
    """

    device: str
    values: dict[str, float | bool | str]
    time_ns: int | None = None


class DevicePresence(NamedTuple):
    """A device came or went: a birth, a last will, an availability topic."""

    device: str
    online: bool
    time_ns: int | None = None


class DeviceDeclaration(NamedTuple):
    """What is told of a device without a reading: its metrics with units and types, and its tags."""

    device: str
    metrics: Sequence[Metric] = ()
    tags: Mapping[str, str] = {}


class Publish(NamedTuple):
    """What a decoder wants to be said to the broker."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class RejectedMessage(NamedTuple):
    """A message that cannot be understood, or only in part: it goes to quarantine. Undecodable says so of the message
    at hand and of all of it; this one also says it of an earlier message, and beside what is found."""

    message: Message
    code: str
    sentence: str


Decoded = DecodedReading | DecodedRow | DevicePresence | DeviceDeclaration | Publish | RejectedMessage
"""What a decoder finds in a message."""


class Undecodable(Exception):
    """A message that is not what its topic promises. `code` is stable, for programs; `sentence` is for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class Decoder(Protocol):
    """Makes readings of messages. It may keep what earlier messages told, within a bound."""

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters that it has to be subscribed to for."""

    def takes(self, topic: str) -> bool:
        """Whether messages of this topic are for this decoder."""

    def wants_retained(self, topic: str) -> bool:
        """Whether a retained message of this topic tells something (a description, a birth, whether a device is there),
        and is not just a reading of some time before the connection."""

    def decode(self, message: Message) -> list[Decoded]:
        """What the message tells. Raises Undecodable."""


_NOT_IN_DEVICE = re.compile(r"[^A-Za-z0-9_.-]")
_NOT_IN_METRIC = re.compile(r"[\x00-\x1f\x7f]")


def legal_device(name: str) -> str:
    """A device id for this name: the name itself where it is one, else one that no other name is changed to.

    What an id cannot have becomes "_"; "-" and a hash of the name follow.
    """
    if 0 < len(name) <= MAX_DEVICE_ID and not _NOT_IN_DEVICE.search(name) and name not in (".", ".."):
        return name
    return _marked(_NOT_IN_DEVICE.sub("_", name), name, MAX_DEVICE_ID)


def legal_metric(name: str) -> str:
    """A metric's name for this one, by the same rule: any text without control characters and without a space at
    either end."""
    if 0 < len(name) <= MAX_METRIC_NAME and not _NOT_IN_METRIC.search(name) and " " not in (name[0], name[-1]):
        return name
    return _marked(_NOT_IN_METRIC.sub("_", name).strip(" "), name, MAX_METRIC_NAME)


def _marked(changed: str, name: str, longest: int) -> str:
    mark = "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
    return changed[: longest - len(mark)] + mark
