"""What a bridge to an MQTT broker tells of itself: plain counts since the hub started, from which others make rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Phase = Literal["connecting", "connected", "waiting"]


class InboundCounts(NamedTuple):
    """What came from the broker. Messages: `received` = `taken` + `undecodable` + `retained` + `own` + `copies` + those
    at work.

    `taken` were decoded and their readings are durable, `undecodable` are in quarantine, `retained` are values older
    than the subscription and no new readings, `own` were published by this very hub, `copies` came by more than one
    subscription. Readings: `accepted` are durable, `duplicates` were durable already.
    """

    received: int = 0
    taken: int = 0
    undecodable: int = 0
    retained: int = 0
    own: int = 0
    copies: int = 0
    accepted: int = 0
    duplicates: int = 0


class OutboundCounts(NamedTuple):
    """What goes to the broker. Messages: `published` were handed to the connection, `acknowledged` by the broker (or,
    at QoS 0, by the socket), `in_flight` wait for that now. `passed_over` counts entries that no template is for.
    Never to arrive: messages that are `too_large` for the broker's packets or were `refused` by it, and entries that
    are `missed`, because the journal had deleted them or they cannot be decoded any more.

    `offset` is the journal's consumer's cursor, `lag` the entries that it has still to do.
    """

    published: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    passed_over: int = 0
    offset: int = 0
    lag: int = 0
    too_large: int = 0
    refused: int = 0
    missed: int = 0


class BridgeState(NamedTuple):
    """A bridge as it is now.

    `address` is the broker's URL without a password, `version` the protocol that was agreed ("5" or "3.1.1", "" while
    it was never connected), `since_ns` the time of the last change of phase. `last_error` says why it waits; None while
    all is well. `inward` is None where nothing is subscribed to, `outward` where nothing is published. `sparkplug` says
    of a host application what was late, asked for again or left out, by reason; None where it is none.
    """

    name: str
    address: str
    version: str
    phase: Phase
    since_ns: int
    last_error: str | None
    inward: InboundCounts | None
    outward: OutboundCounts | None
    sparkplug: Mapping[str, int] | None = None
