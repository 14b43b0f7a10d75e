"""The clock of time-outs: it continues where the wall clock is set back, and follows one that is set forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from hub.model.steady_clock import SteadyClock


class Step(NamedTuple):
    """Time that passes, and then the change of the wall clock."""

    passes_ns: int
    set_ns: int


@dataclass
class Clocks:
    """A wall clock that can be set, and a monotonic one."""

    wall_ns: int = 1_000_000
    monotonic_ns: int = 5

    def take(self, step: Step) -> None:
        self.wall_ns += step.passes_ns + step.set_ns
        self.monotonic_ns += step.passes_ns


STEPS = st.lists(st.builds(Step, st.integers(0, 1000), st.sampled_from([0, 0, -500, 700, -10_000])), max_size=30)


@given(STEPS)
def test_what_has_passed_always_counts_and_no_time_is_before_the_wall_clock(steps: list[Step]) -> None:
    clocks = Clocks()
    clock = SteadyClock(lambda: clocks.wall_ns, lambda: clocks.monotonic_ns)
    before_ns = clock()
    ahead_ns = 0
    for step in steps:
        clocks.take(step)
        now_ns = clock()
        assert now_ns >= before_ns + step.passes_ns
        # It is ahead of the wall clock by what that was set back, less what it was set forward since.
        ahead_ns = max(0, ahead_ns - step.set_ns)
        assert now_ns == clocks.wall_ns + ahead_ns
        before_ns = now_ns
