"""Whether and when to come back after a connection ended: pure decisions, with the randomness given.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): the delay is drawn evenly from
zero to a bound that doubles, so that a fleet that was cut off at one moment does not return at one moment.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from wire.backoff import full_jitter
from wire.errors import CLOSE_FOR_CODE, FINAL_CLOSES, RETRYABLE_CLOSES, Code

FIRST_DELAY_MS = 1000
"""Bound of the first delay until a hub has named its own in a welcome."""

MAX_DELAY_MS = 30_000
"""Bound of every delay: a hub that is back has its whole fleet again half a minute later."""

_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP refusals that pass by themselves. Others (401, 403, 404, …) wait for a person."""


class Pace(Enum):
    """How eagerly to come back."""

    USUAL = "usual"
    SLOW = "slow"
    """The cause does not go away by itself, but a person may mend it (a token, an address) while the spool collects."""
    NEVER = "never"


class Ending(NamedTuple):
    """How a connection, or an attempt at one, ended: a sentence, and what the other side gave as its reason.

    `close` is a WebSocket close code, `status` an HTTP status of a refused upgrade; both None: the network failed.
    `retry_ms` is the time that the hub asked for.
    """

    reason: str
    close: int | None = None
    error: Code | None = None
    status: int | None = None
    retry_ms: int | None = None


def pace_of(ending: Ending) -> Pace:
    """How to go on after this ending, by wire.errors' sets of close codes."""
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
    """How long to wait before the next attempt; None: do not come back.

    `attempt` counts the attempts since the last progress, from 0; `random` draws evenly from [0, 1). A time that
    the hub asked for is kept to, plus a jitter of `first_ms`.
    """
    pace = pace_of(ending)
    if pace is Pace.NEVER:
        return None
    if ending.retry_ms is not None:
        return ending.retry_ms + random() * first_ms
    if pace is Pace.SLOW:
        return max_ms * (1 + random()) / 2
    return full_jitter(attempt, first=first_ms, maximum=max_ms, random=random)
