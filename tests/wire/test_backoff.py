"""Backoff with jitter: wire.backoff."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.backoff import equal_jitter, full_jitter

ATTEMPTS = st.integers(min_value=0, max_value=10_000)
SHARES = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(ATTEMPTS, SHARES)
def test_a_delay_is_between_zero_and_the_maximum(attempt: int, share: float) -> None:
    """No delay is negative or longer than the maximum, however many attempts there were."""
    assert 0 <= full_jitter(attempt, first=0.5, maximum=30.0, random=lambda: share) <= 30.0


@given(st.integers(min_value=0, max_value=20))
def test_the_bound_doubles_up_to_the_maximum(attempt: int) -> None:
    """The largest delay is the first bound, doubled with each attempt until it reaches the maximum."""
    largest = full_jitter(attempt, first=0.5, maximum=30.0, random=lambda: 1.0)
    assert largest == min(30.0, 0.5 * 2**attempt)


@given(ATTEMPTS, SHARES)
def test_a_delay_with_a_lower_bound_is_at_least_half_of_the_largest(attempt: int, share: float) -> None:
    """The attempt after a failure never comes at once."""
    largest = full_jitter(attempt, first=1.0, maximum=60.0, random=lambda: 1.0)
    assert largest / 2 <= equal_jitter(attempt, first=1.0, maximum=60.0, random=lambda: share) <= largest
