"""The state of a bridge to an MQTT broker, as the bridge reports it and the API returns it.

The counts begin with the start of the hub; a reader computes rates from two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from wire.device import Data

Phase = Literal["connecting", "connected", "waiting"]


class DecodedMessage(NamedTuple):
    """Message in quarantine that was decoded again.

    `batches` are the devices and the values that can be accepted now. `reason` (code, message) is why others are still
    refused, and `rest` the content of an entry with them; None and empty if there are none.
    """

    batches: Sequence[tuple[str, Data]] = ()
    reason: tuple[str, str] | None = None
    rest: bytes = b""


class InboundCounts(Struct):
    """The traffic from a broker since the hub started.

    `received` = `taken` + `undecodable` + `retained` + `own` + `copies` + the messages in progress.
    """

    received: Annotated[int, Meta(description="All messages, including those in progress.")] = 0
    taken: Annotated[int, Meta(description="Messages whose readings are durable.")] = 0
    undecodable: Annotated[int, Meta(description="Messages in quarantine, with their topics and payloads.")] = 0
    retained: Annotated[int, Meta(description="Messages older than the subscription, which are no new readings.")] = 0
    own: Annotated[int, Meta(description="Messages that this hub had published itself.")] = 0
    copies: Annotated[int, Meta(description="Further copies of a message, by another subscription to its topic.")] = 0
    accepted: Annotated[int, Meta(description="Readings that are durable.")] = 0
    refused: Annotated[int, Meta(description="Values in quarantine whose neighbours in the message are durable.")] = 0
    duplicates: Annotated[int, Meta(description="Readings that were durable already: the broker redelivered them.")] = 0


class OutboundCounts(Struct, frozen=True):
    """The traffic to a broker since the hub started, and the position of the bridge in the journal."""

    published: Annotated[int, Meta(description="Messages given to the connection.")] = 0
    acknowledged: Annotated[int, Meta(description="Messages that the broker acknowledged, or at QoS 0 the socket.")] = 0
    in_flight: Annotated[int, Meta(description="Messages that wait for their acknowledgement now.")] = 0
    passed_over: Annotated[int, Meta(description="Journal entries that no template is for.")] = 0
    offset: Annotated[int, Meta(description="The cursor of the bridge in the journal.")] = 0
    lag: Annotated[int, Meta(description="Journal entries still to process.")] = 0
    too_large: Annotated[int, Meta(description="Messages skipped because they exceed the broker's packet size.")] = 0
    refused: Annotated[int, Meta(description="Messages skipped because the broker refused them.")] = 0
    missed: Annotated[
        int, Meta(description="Journal entries deleted, or not decodable, before they were published.")
    ] = 0


class BridgeState(Struct, frozen=True):
    """A bridge as it is now.

    `inward` is null if the bridge subscribes to nothing, `outward` if it publishes nothing.
    """

    name: str
    address: Annotated[str, Meta(description="The broker's URL without a password.")]
    version: Annotated[
        str, Meta(description="The negotiated version of MQTT: `5` or `3.1.1`; empty before the first connection.")
    ]
    phase: Phase
    since_ns: Annotated[int, Meta(description="The time of the last change of phase.")]
    last_error: Annotated[str | None, Meta(description="Why the bridge waits, and what to do; null if it does not.")]
    inward: InboundCounts | None
    outward: OutboundCounts | None
    sparkplug: Annotated[
        Mapping[str, int] | None,
        Meta(description="Of a Sparkplug host application: what was late, requested again or omitted, by reason."),
    ] = None
