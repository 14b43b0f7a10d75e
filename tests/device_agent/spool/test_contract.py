"""Ranges of lost numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from device_agent.spool.contract import Gaps
from wire.device import Gap

REASONS = ("full", "too large")


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from(REASONS)), max_size=30), st.integers(0, 30))
def test_gaps_hold_the_numbers_that_were_lost(losses: list[tuple[int, str]], acked: int) -> None:
    """Numbers lost one by one are the same numbers as ranges, in order, as few as they can be, and trimmed exactly."""
    gaps = Gaps()
    lost: dict[int, str] = {}
    for number, reason in losses:
        if number not in lost:
            lost[number] = reason
            gaps = gaps.add(number, number, reason)
    for number in range(1, 31):
        gap = gaps.at(number)
        assert (gap.reason if gap else None) == lost.get(number)
        if gap is not None:
            assert all(lost.get(other) == gap.reason for other in range(number, gap.to + 1))
            assert lost.get(gap.to + 1) != gap.reason
    for before, after in itertools.pairwise(gaps.ranges):
        assert before.to < after.from_seq
    assert gaps.count(acked) == sum(number > acked for number in lost)
    left = {number for gap in gaps.trim(acked).ranges for number in range(gap.from_seq, gap.to + 1)}
    assert left == {number for number in lost if number > acked}


@given(st.sets(st.integers(1, 30)))
def test_numbers_can_be_lost_together(numbers: set[int]) -> None:
    """Many numbers at once are the same as one after the other."""
    one_by_one = Gaps()
    for number in numbers:
        one_by_one = one_by_one.add(number, number, "full")
    assert Gaps().add_each(sorted(numbers), "full") == one_by_one


def test_gaps_after_a_number_can_move() -> None:
    """A shift moves what comes after the number, and nothing else."""
    gaps = Gaps((Gap(1, 2, "full"), Gap(5, 6, "too large")))
    assert gaps.shift(2, 3) == Gaps((Gap(1, 2, "full"), Gap(8, 9, "too large")))
