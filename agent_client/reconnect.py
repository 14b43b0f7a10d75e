"""The decision whether and when to reconnect. Pure: the randomness is an argument. The delay is `wire.backoff`."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from wire.backoff import full_jitter
from wire.errors import CLOSE_FOR_CODE, FINAL_CLOSES, RETRYABLE_CLOSES, Code

FIRST_DELAY_MS = 1000
"""Bound of the first delay before a welcome of the hub sets another one."""

MAX_DELAY_MS = 30_000
"""Bound of every delay: the whole fleet is connected half a minute after the hub returns."""

MIN_DELAY_MS = 100
"""Floor of every delay: even if each connection fails at once, an agent connects at most ten times a second."""

_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Temporary HTTP errors. Others (401, 403, 404, …) need a person."""


class Pace(Enum):
    """Speed of reconnecting."""

    USUAL = "usual"
    SLOW = "slow"
    """A person has to correct the cause (a token, an address) while the spool keeps the readings."""
    NEVER = "never"


class Ending(NamedTuple):
    """The end of a connection, or of an attempt: a sentence, and the reason that the other side gave.

    `close` is a WebSocket close code, `status` the HTTP status of a rejected upgrade; both None: the network failed.
    `retry_ms` is the delay that the hub asked for.
    """

    reason: str
    close: int | None = None
    error: Code | None = None
    status: int | None = None
    retry_ms: int | None = None


def pace_of(ending: Ending) -> Pace:
    """Return the pace after this ending, by the sets of close codes in `wire.errors`."""
    if ending.status is not None:
        return Pace.USUAL if ending.status in _PASSING_STATUSES else Pace.SLOW
    close = ending.close if ending.error is None else CLOSE_FOR_CODE.get(ending.error, ending.close)
    if close is None or close in RETRYABLE_CLOSES:
        return Pace.USUAL
    return Pace.NEVER if close in FINAL_CLOSES else Pace.SLOW


def delay_ms(
    ending: Ending,
    attempt: int,
    *,
    first_ms: int,
    max_ms: int = MAX_DELAY_MS,
    random: Callable[[], float],
) -> float | None:
    """Return the delay before the next attempt; None: do not reconnect.

    `attempt` counts the attempts since the last progress, from 0; `random` returns numbers from [0, 1). A delay that
    the hub asked for is kept, plus a jitter of `first_ms`. No delay is shorter than MIN_DELAY_MS.
    """
    pace = pace_of(ending)
    if pace is Pace.NEVER:
        return None
    floor = min(MIN_DELAY_MS, max_ms)
    if ending.retry_ms is not None:
        return max(floor, ending.retry_ms + random() * first_ms)
    if pace is Pace.SLOW:
        return max_ms * (1 + random()) / 2
    return max(floor, full_jitter(attempt, first=first_ms, maximum=max_ms, random=random))
