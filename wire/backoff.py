"""Backoff with jitter, the retry delays of the repository. Pure: the randomness is an argument.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_DOUBLINGS = 30
"""Every bound is reached after this many doublings. The limit keeps the exponent small after weeks of retries."""


def full_jitter(attempt: int, *, first: float, maximum: float, random: Callable[[], float]) -> float:
    """Return the delay before retry number `attempt`, counted from 0, in the unit of `first` and `maximum`.

    The delay is drawn evenly between zero and a bound. The bound starts at `first` and doubles with each attempt up to
    `maximum`. Clients that failed at the same moment therefore do not return at the same moment. `random` returns
    numbers from [0, 1).
    """
    return random() * _bound(attempt, first, maximum)


def equal_jitter(attempt: int, *, first: float, maximum: float, random: Callable[[], float]) -> float:
    """Return a delay between half of the bound of `full_jitter` and the bound, with the same arguments.

    It is for work that one client repeats by itself: there, an attempt without a delay only fails again.
    """
    return (1 + random()) / 2 * _bound(attempt, first, maximum)


def _bound(attempt: int, first: float, maximum: float) -> float:
    return min(maximum, first * 2.0 ** min(max(attempt, 0), MAX_DOUBLINGS))
