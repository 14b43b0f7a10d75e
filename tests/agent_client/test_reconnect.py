"""The decision whether and when to reconnect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.reconnect import MAX_DELAY_MS, MIN_DELAY_MS, Ending, Pace, delay_ms, pace_of
from wire.errors import Code

endings = st.builds(
    Ending,
    st.just("it ended"),
    st.none() | st.integers(1000, 4999),
    st.none() | st.sampled_from(Code),
    st.none() | st.integers(100, 599),
    st.none() | st.integers(0, 60_000),
)


@pytest.mark.parametrize(
    ("ending", "pace"),
    [
        (Ending("no connection"), Pace.USUAL),
        (Ending("broke", close=1006), Pace.USUAL),
        (Ending("no code", close=1005), Pace.USUAL),
        (Ending("restart", close=1012), Pace.USUAL),
        (Ending("later", close=1013), Pace.USUAL),
        (Ending("bad message", close=4400), Pace.USUAL),
        (Ending("unknown token", close=4401), Pace.SLOW),
        (Ending("not allowed", close=4403), Pace.SLOW),
        (Ending("too big", close=1009), Pace.SLOW),
        (Ending("a proxy's own code", close=3500), Pace.SLOW),
        (Ending("superseded", close=4409), Pace.NEVER),
        (Ending("superseded", close=1006, error=Code.SUPERSEDED), Pace.NEVER),
        (Ending("revoked", close=1006, error=Code.REVOKED), Pace.SLOW),
        (Ending("full", error=Code.STORAGE_FULL), Pace.USUAL),
        (Ending("rolled back", error=Code.ROLLED_BACK), Pace.USUAL),
        (Ending("a code for batches", close=1000, error=Code.EMPTY), Pace.USUAL),
        (Ending("unauthorised", status=401), Pace.SLOW),
        (Ending("forbidden", status=403), Pace.SLOW),
        (Ending("not a hub", status=404), Pace.SLOW),
        (Ending("busy", status=503), Pace.USUAL),
        (Ending("gateway", status=502), Pace.USUAL),
    ],
)
def test_the_pace_follows_the_reason(ending: Ending, pace: Pace) -> None:
    """A temporary cause has the usual pace, a cause for a person the slow one; a superseded agent never reconnects."""
    assert pace_of(ending) is pace


@given(endings, st.integers(0, 10_000), st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_within_its_bounds(ending: Ending, attempt: int, first_ms: int, chance: float) -> None:
    """A delay is within the floor and the maximum, except for a time that the hub asked for."""
    delay = delay_ms(ending, attempt, first_ms=first_ms, random=lambda: chance)
    if pace_of(ending) is Pace.NEVER:
        assert delay is None
    elif ending.retry_ms is not None:
        assert delay is not None
        assert max(ending.retry_ms, MIN_DELAY_MS) <= delay <= max(ending.retry_ms + first_ms, MIN_DELAY_MS)
    else:
        assert delay is not None
        assert 0 <= delay <= MAX_DELAY_MS


def test_the_usual_delay_doubles_from_the_first_on() -> None:
    """The bound of the jitter doubles with each attempt up to the maximum."""
    bounds = [
        delay_ms(Ending("away"), attempt, first_ms=500, max_ms=3000, random=lambda: 0.5) for attempt in (0, 1, 2, 3, 99)
    ]
    assert bounds == [250, 500, 1000, 1500, 1500]


def test_jitter_is_full() -> None:
    """The usual delay is spread down to the floor, so that a fleet comes back evenly, and none in a tight loop."""
    assert delay_ms(Ending("away"), 5, first_ms=1000, random=lambda: 0.0) == MIN_DELAY_MS


def test_the_slow_pace_is_slow_from_the_first_attempt_on() -> None:
    """Half the maximum is the least, however few attempts there were."""
    assert delay_ms(Ending("unknown token", status=401), 0, first_ms=1, random=lambda: 0.0) == MAX_DELAY_MS / 2


def test_a_delay_that_the_hub_asked_for_gets_a_jitter() -> None:
    """Otherwise the agents that it sent away at once would return at once."""
    ending = Ending("busy", close=1013, retry_ms=2_000)
    delays = [delay_ms(ending, 9, first_ms=500, random=lambda chance=chance: chance) for chance in (0.0, 0.5)]  # type: ignore[misc]
    assert delays == [2_000, 2_250]
