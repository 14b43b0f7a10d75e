"""Bounds of attempts: failures to authenticate by client address, and sign-ins by token. Pure.

Repeated failures to authenticate delay the answer, and then close the connection. This protects the hub's time and its
log. It is not what keeps tokens from being guessed (160 random bits do that), so it never affects a valid credential: a
credential is verified first, and only a rejected one counts as a failure.
"""

from __future__ import annotations

from hub.http.leaky_bucket import LeakyBuckets
from hub.http.refusals import client_of

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

MAX_SIGN_IN_BURST = 30
"""Sign-ins of one token at once: a room of dashboards that starts together, or a person who tries many browsers."""

SIGN_INS_PER_S = 1 / 6
"""Sign-ins of one token in the long run: each one writes to the disk, and may end another session of the token."""

MAX_SIGN_IN_TOKENS = 1_024
"""Tokens whose sign-ins are counted, in about 200 kB. At the bound the one that signed in first starts again."""


class FailedAttempts:
    """Failures by client address, which expire with time. `now_s` is the time of a monotonic clock."""

    def __init__(self, max_addresses: int = MAX_ADDRESSES) -> None:
        # The level is bounded, so that it expires within a minute.
        self._levels = LeakyBuckets(leak_per_s=DECAY_PER_S, capacity=CLOSE_FROM, max_sources=max_addresses)

    def __len__(self) -> int:
        return len(self._levels)

    def record_failure(self, address: str, now_s: float) -> float | None:
        """Count a failure of this address.

        Return the seconds to wait before the answer, or None to end the connection at once.
        """
        level = self._levels.add(client_of(address), 1, now_s)
        return None if level >= CLOSE_FROM else max(0.0, level - FREE_FAILURES) * DELAY_STEP_S


class SignInRate:
    """Rate of the sign-ins of each token. `now_s` is the time of a monotonic clock."""

    def __init__(self, max_tokens: int = MAX_SIGN_IN_TOKENS) -> None:
        self._levels = LeakyBuckets(leak_per_s=SIGN_INS_PER_S, capacity=MAX_SIGN_IN_BURST, max_sources=max_tokens)

    def record(self, token_id: str, now_s: float) -> float:
        """Count a sign-in and return 0, or return the seconds after which the token may open another session."""
        excess = max(0.0, self._levels.level(token_id, now_s) + 1 - MAX_SIGN_IN_BURST)
        # A refused sign-in does not count, and yet its token is active.
        self._levels.add(token_id, 0 if excess else 1, now_s)
        return excess / SIGN_INS_PER_S
