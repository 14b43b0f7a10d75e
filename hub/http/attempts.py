"""What repeated failures to authenticate cost: the answer comes later, or the connection is closed.

This protects the hub's time and its log. It is not what keeps tokens from being guessed (160 random bits do that), so
it never stands in the way of a valid credential: credentials are judged first, and only a refused one is counted here.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

FREE_FAILURES = 5
"""A person who mistypes and a handful of agents whose token was revoked get their answer at once."""

CLOSE_FROM = 20
"""From so many failures on, no answer is prepared any more. It also bounds the answers that wait for one address."""

DELAY_STEP_S = 0.25
"""Each failure beyond the free ones delays its answer by so much more: the last by 3.75 s, less than the time that an
unauthenticated connection has anyway."""

FORGIVEN_PER_S = 0.5
"""Failures are forgotten at this pace: one agent that comes back every few seconds is never delayed, a loop always."""

MAX_ADDRESSES = 4_096
"""About 1 MB. At the bound the address whose last failure is the oldest is forgotten and starts anew: an attacker with
that many addresses is not slowed down, and nobody else is locked out."""


class Penalty(NamedTuple):
    """What follows a failure: wait `delay_s` before the answer, or, with `close`, end it at once and cheaply."""

    delay_s: float
    close: bool


class FailedAttempts:
    """Failures by client address, forgotten as time goes by. `now_s` is a monotonic clock's."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._max_addresses = max_addresses
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def fail(self, address: str, now_s: float) -> Penalty:
        """Counts a failure of this address; says what it costs."""
        client = _client(address)
        level, since_s = self._levels.pop(client, (0.0, now_s))
        level = max(0.0, level - (now_s - since_s) * FORGIVEN_PER_S) + 1
        # Above the bound there is nothing more to tell apart, and pardon is not to take for ever.
        self._levels[client] = min(level, CLOSE_FROM), now_s
        if len(self._levels) > self._max_addresses:
            self._levels.popitem(last=False)
        if level >= CLOSE_FROM:
            return Penalty(0.0, close=True)
        return Penalty(max(0.0, level - FREE_FAILURES) * DELAY_STEP_S, close=False)


def _client(address: str) -> str:
    """Whose address this is: of IPv6 the first 64 bits, since a single machine has all of the others."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
