"""Tests of the bounds of frames, with a clock of their own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire import limits
from wire.frame_budget import Flood, FrameBudget

PING, PONG, CONTINUATION, LAST, TEXT, FIRST = 0x89, 0x8A, 0x00, 0x80, 0x81, 0x01
EMPTY = 6
"""Size of a masked frame without content."""


def admitted() -> FrameBudget:
    """Return the budget of a client that has authenticated."""
    return FrameBudget(is_admitted=True)


def test_a_message_may_have_as_many_fragments_as_the_bound() -> None:
    """One more is a flood, although none of them has a byte of content."""
    budget = admitted()
    frames = [FIRST, *[CONTINUATION] * (limits.MAX_FRAGMENTS - 2), LAST]
    for _ in range(3):
        assert {budget.count_frame(first, EMPTY, 0.0) for first in frames} == {None}
    found = [budget.count_frame(first, EMPTY, 0.0) for first in [FIRST, *[CONTINUATION] * limits.MAX_FRAGMENTS]]
    assert found == [*[None] * limits.MAX_FRAGMENTS, Flood.FRAGMENTS]


def test_control_frames_between_fragments_do_not_count_as_fragments() -> None:
    """RFC 6455, 5.4 allows them there."""
    budget = admitted()
    assert budget.count_frame(FIRST, EMPTY, 0.0) is None
    assert budget.count_frame(PING, EMPTY, 0.0) is None
    assert (budget.fragments, budget.control_frames.level) == (1, 1)


@given(st.lists(st.floats(0, 20), max_size=300), st.sampled_from([PING, PONG]))
def test_control_frames_are_accepted_up_to_the_burst_and_the_rate(gaps: list[float], first: int) -> None:
    """In any interval, the accepted ones are at most the burst and what the rate allows for its length."""
    budget, now = admitted(), 0.0
    accepted: list[float] = []
    for gap in gaps:
        now += gap / 20
        if budget.count_frame(first, EMPTY, now) is not None:
            break
        accepted.append(now)
    for start in range(len(accepted)):
        seconds = accepted[-1] - accepted[start]
        allowed = limits.MAX_CONTROL_BURST + limits.MAX_CONTROL_RATE * seconds
        assert len(accepted) - start <= allowed + 1e-6


def test_a_client_at_the_rate_is_never_closed() -> None:
    """One at twice the rate is, once its burst is used."""
    slow, fast = admitted(), admitted()
    gap = 1 / limits.MAX_CONTROL_RATE
    assert {slow.count_frame(PING, EMPTY, number * gap) for number in range(1000)} == {None}
    found = [fast.count_frame(PING, EMPTY, number * gap / 2) for number in range(1000)]
    assert found.index(Flood.CONTROL_FRAMES) in range(limits.MAX_CONTROL_BURST, 2 * limits.MAX_CONTROL_BURST + 2)


def test_a_client_without_a_token_has_a_bound_of_frames_and_of_bytes() -> None:
    """The bounds count every kind of frame, and end with the authentication."""
    frames = FrameBudget()
    assert frames.count_messages(limits.MAX_FRAMES_BEFORE_AUTHENTICATION - 1, 100) is None
    assert frames.count_frame(PONG, EMPTY, 0.0) is None
    assert frames.count_frame(TEXT, EMPTY, 0.0) is Flood.BEFORE_AUTHENTICATION
    size = FrameBudget()
    assert size.count_messages(1, limits.MAX_BYTES_BEFORE_AUTHENTICATION) is None
    assert size.count_messages(1, 1) is Flood.BEFORE_AUTHENTICATION
    size.is_admitted = True
    assert size.count_messages(1_000_000, 1_000_000_000) is None


def test_the_longest_hello_fits_in_fragments_of_256_bytes() -> None:
    """With the headers of its frames."""
    budget = FrameBudget()
    count = limits.MAX_BATCH_BYTES // 256
    frames = [FIRST, *[CONTINUATION] * (count - 2), LAST]
    assert {budget.count_frame(first, 256 + 8, 0.0) for first in frames} == {None}
