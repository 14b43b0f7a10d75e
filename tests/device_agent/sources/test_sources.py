"""The schedule of readings, and warnings that repeat."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.sources import RepeatedWarning, next_tick, ticks

moments = st.floats(0, 1e6)


@given(moments, st.floats(0.01, 3600), moments)
def test_the_next_tick_is_the_first_after_now(start: float, period: float, later: float) -> None:
    """It is after now and at most a period away, whatever was missed."""
    now = start + later
    tick = next_tick(start, period, now)
    assert now - 1e-6 <= tick <= now + period * (1 + 1e-9) + 1e-6
    whole = (tick - start) / period
    assert abs(whole - round(whole)) < 1e-3


async def test_a_schedule_begins_at_once_and_keeps_its_times() -> None:
    """The first tick is not waited for; each of the others comes a period later, and none before its time."""
    clock = asyncio.get_running_loop().time
    period_s = 0.01
    began_s = clock()
    schedule = ticks(period_s)
    async with asyncio.timeout(0):  # ends whatever waits, were it for a turn of the loop
        await anext(schedule)
    for number in range(1, 4):
        await anext(schedule)
        assert clock() - began_s >= number * period_s - 1e-6


def test_an_episode_is_reported_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Between the first trouble and enough quiet nothing is logged; the number of times is."""
    caplog.set_level(logging.INFO)
    episode = RepeatedWarning(logging.getLogger("test"), "bad line", quiet=2)
    for trouble in (True, True, False, True, False, False, False, True, False, False):
        episode.record_failure("noise") if trouble else episode.record_success()
    assert [record.getMessage() for record in caplog.records] == [
        "bad line: noise",
        "bad line: over, it happened 3 times",
        "bad line: noise",
    ]
    assert episode.total == 4
