"""Authentication of requests: find the identity, look for recently created tokens, and slow down guessing.

Repeated failures delay the answer, and then close the connection. This protects the hub's time and its log. It is not
what keeps tokens from being guessed (160 random bits do that), so it never affects a valid credential: a credential is
verified first, and only a rejected one counts as a failure.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from starlette.types import Scope

from hub.http.access import Access, find_credential
from hub.model.identity import Identity
from wire.errors import Code, WireError

FREE_FAILURES = 5
"""Failures without a delay: for a person who mistypes, or a few agents whose token was revoked."""

CLOSE_FROM = 20
"""From this number of failures, no answer is prepared. It also bounds the answers that wait for one address."""

DELAY_STEP_S = 0.25
"""Added delay of each failure beyond the free ones. The last delay is 3.75 s, less than an unauthenticated connection
may last anyway."""

DECAY_PER_S = 0.5
"""Failures expire at this rate: an agent that reconnects every few seconds is never delayed, a loop always."""

MAX_ADDRESSES = 4_096
"""About 1 MB. At the bound the address with the oldest last failure is removed and starts again: an attacker with that
many addresses is not slowed down, and no other client is locked out."""


class Authenticator:
    """Finds the identity behind a request. `refresh` reads the tokens that other processes have changed."""

    def __init__(self, access: Access, refresh: Callable[[], Awaitable[None]]) -> None:
        self.access = access
        self._refresh = refresh
        self._failures = FailedAttempts()

    async def identify(self, scope: Scope) -> Identity | None:
        """Return the sender of this request; None without a valid credential.

        Raises WireError: NOT_ALLOWED for a cookie in a request that another site's page started, BUSY after too many
        failures from one address.
        """
        identity = self.access.authenticate(scope)
        if identity is None and find_credential(scope) is not None:
            await self._refresh()
            identity = self.access.authenticate(scope)
            if identity is None:
                await self._penalize(scope)
        return identity

    async def identify_token(self, scope: Scope, token: str) -> Identity | None:
        """Return the owner of a token in a message of this connection; None if the token is not valid.

        Raises WireError(BUSY) after too many failures from one address.
        """
        identity = self.access.verify_token(token)
        if identity is None:
            await self._refresh()
            identity = self.access.verify_token(token)
            if identity is None:
                await self._penalize(scope)
        return identity

    async def _penalize(self, scope: Scope) -> None:
        client = scope.get("client") or ("", 0)
        penalty = self._failures.record_failure(client[0], asyncio.get_running_loop().time())
        if penalty.close:
            raise WireError(Code.BUSY, "too many attempts with invalid tokens; wait a minute")
        await asyncio.sleep(penalty.delay_s)


class Penalty(NamedTuple):
    """The penalty of a failure: wait `delay_s` before the answer or, with `close`, end the connection at once."""

    delay_s: float
    close: bool


class FailedAttempts:
    """Failures by client address, which expire with time. `now_s` is the time of a monotonic clock."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        self._max_addresses = max_addresses
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def record_failure(self, address: str, now_s: float) -> Penalty:
        """Count a failure of this address and return its penalty."""
        client = _client(address)
        level, since_s = self._levels.pop(client, (0.0, now_s))
        level = max(0.0, level - (now_s - since_s) * DECAY_PER_S) + 1
        # The level is bounded, so that it expires within a minute.
        self._levels[client] = min(level, CLOSE_FROM), now_s
        if len(self._levels) > self._max_addresses:
            self._levels.popitem(last=False)
        if level >= CLOSE_FROM:
            return Penalty(0.0, close=True)
        return Penalty(max(0.0, level - FREE_FAILURES) * DELAY_STEP_S, close=False)


def _client(address: str) -> str:
    """Return the client of an address: of IPv6 the first 64 bits, because one machine has all addresses below them."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
