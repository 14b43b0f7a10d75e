"""Requests of a Modbus bus: what is read together, and in which order slaves are asked."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.sources.modbus.polling import (
    FAILING_SHARE,
    MAX_RETRY_S,
    PollSchedule,
    RegisterBlock,
    blocks_of,
    halves,
)
from device_agent.sources.modbus.settings import PolledMap
from formats.modbus import Register

FIELDS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(
        Register,
        address=st.integers(0, 200),
        type=st.sampled_from(["u16", "f32", "f64", "string"]),
        length=st.integers(1, 5),
    ),
    min_size=1,
    max_size=30,
)


def polled(slave: int, *addresses: int, **settings: object) -> PolledMap:
    fields = {f"r{address}": {"address": address} for address in addresses or (0,)}
    return msgspec.convert({"slave": slave, "fields": fields, **settings}, PolledMap)


def simulate(
    maps: list[PolledMap], dead: set[int], *, until_s: float, answer_s: float = 0.01
) -> list[tuple[int, float]]:
    """Run a bus whose dead slaves cost the timeout of one second; return the slaves in the order of their polls."""
    schedule = PollSchedule(maps, timeout_s=1.0, now_s=0.0)
    asked: list[tuple[int, float]] = []
    now_s = 0.0
    while now_s < until_s:
        poll, due_s = schedule.next()
        now_s = max(now_s, due_s)
        asked.append((poll.slave, now_s))
        if poll.slave in dead:
            now_s += 1.0
            schedule.missed(poll, now_s)
        else:
            now_s += answer_s
            schedule.answered(poll, now_s)
    return asked


def test_registers_that_follow_each_other_are_one_request() -> None:
    """A gap ends a request unless it is allowed; fields may share registers."""
    fields = {
        "b": Register(2, "u32"), "a": Register(0), "bit": Register(0, "bit", bit=3), "c": Register(4), "d": Register(9),
    }  # fmt: skip
    assert blocks_of(fields, limit=125, max_gap=1) == [
        RegisterBlock(0, 5, ("a", "bit", "b", "c")),
        RegisterBlock(9, 1, ("d",)),
    ]
    assert [block.start for block in blocks_of(fields, limit=125, max_gap=0)] == [0, 2, 9]
    assert blocks_of(fields, limit=125, max_gap=4) == [RegisterBlock(0, 10, ("a", "bit", "b", "c", "d"))]


@given(FIELDS, st.integers(5, 125), st.integers(0, 20))
def test_each_field_is_read_whole_by_exactly_one_request(fields: dict[str, Register], limit: int, gap: int) -> None:
    """No request is above the limit, and none has registers at its ends that no field needs."""
    blocks = blocks_of(fields, limit=limit, max_gap=gap)
    assert Counter(name for block in blocks for name in block.fields) == Counter([*fields])
    for start, size, names in blocks:
        assert size <= limit
        assert start == min(fields[name].address for name in names)
        assert start + size == max(fields[name].address + fields[name].count for name in names)


@given(FIELDS)
def test_a_refused_request_is_halved_down_to_the_registers_that_are_refused(fields: dict[str, Register]) -> None:
    """The parts have the same fields, no register twice, and end at fields that share registers."""
    waiting = blocks_of(fields, limit=125, max_gap=9)
    found: list[str] = []
    while waiting:
        block = waiting.pop()
        parts = halves(block, fields)
        if parts is None:
            found += block.fields
            continue
        first, second = parts
        assert first.fields + second.fields == block.fields
        assert first.start + first.size <= second.start
        waiting += parts
    assert Counter(found) == Counter([*fields])


def test_a_map_is_polled_by_its_interval_without_drift() -> None:
    """A slow map does not wait for the fast one; the times are multiples of the interval."""
    asked = simulate([polled(1, interval_s=1), polled(2, interval_s=5)], set(), until_s=20)
    times = {slave: [time_s for asked_slave, time_s in asked if asked_slave == slave] for slave in (1, 2)}
    assert times[1][:20] == pytest.approx(list(range(20)), abs=0.03)
    assert times[2][:4] == pytest.approx([0, 5, 10, 15], abs=0.03)


def test_a_dead_neighbour_does_not_slow_the_others() -> None:
    """Between two requests to it there are ever more polls of the others, from the second request on."""
    asked = [slave for slave, _ in simulate([polled(1), polled(2), polled(3)], {2}, until_s=300)]
    places = [place for place, slave in enumerate(asked) if slave == 2]
    between = [later - earlier - 1 for earlier, later in pairwise(places)]
    assert between[1:] == sorted(between[1:])
    assert min(between[1:]) >= 15
    assert Counter(asked)[1] >= 280


def test_many_dead_slaves_share_a_tenth_of_the_bus() -> None:
    """Thirty of them cost no more, and each is asked again and again."""
    asked = simulate([polled(slave) for slave in range(1, 32)], set(range(2, 32)), until_s=1000)
    late = [slave for slave, time_s in asked if time_s > 100]
    assert Counter(late)[1] >= 900 * (1 - FAILING_SHARE) * 0.99
    counts = Counter(late)
    assert min(counts[slave] for slave in range(2, 32)) >= 2


def test_a_bus_on_which_nothing_works_is_asked_without_a_share() -> None:
    """No other slave is slowed down, so each is seen within the longest delay."""
    asked = simulate([polled(1), polled(2)], {1, 2}, until_s=1000)
    times = [time_s for slave, time_s in asked if slave == 1]
    delays = [later - earlier for earlier, later in pairwise(times)]
    assert delays[-1] >= MAX_RETRY_S > 20 * delays[0]
    assert max(later - earlier for earlier, later in pairwise(times)) <= MAX_RETRY_S + 2


def test_a_slave_that_recovers_is_polled_by_its_interval_again() -> None:
    """One answer is enough, for all of its maps."""
    maps = [polled(1), polled(2), polled(2, 50)]
    schedule = PollSchedule(maps, timeout_s=1.0, now_s=0.0)
    now_s = 0.0
    asked: list[tuple[int, int]] = []
    while now_s < 200:
        poll, due_s = schedule.next()
        now_s = max(now_s, due_s)
        if poll.slave == 2 and now_s < 100:
            now_s += 1
            schedule.missed(poll, now_s)
        else:
            now_s += 0.01
            schedule.answered(poll, now_s)
            asked.append((poll.slave, poll.blocks[0].start))
    recovered = asked.index((2, 0))
    assert Counter(asked[recovered + 9 :])[2, 50] >= 30


def test_a_map_that_a_working_slave_ignores_is_left_out_alone() -> None:
    """Some slaves do not answer at all to a function that they do not know."""
    maps = [polled(1), polled(1, 9, table="input")]
    schedule = PollSchedule(maps, timeout_s=1.0, now_s=0.0)
    now_s, answered = 0.0, 0
    while now_s < 200:
        poll, due_s = schedule.next()
        now_s = max(now_s, due_s)
        if poll.polled.table == "input":
            now_s += 1
            schedule.missed(poll, now_s)
        else:
            now_s += 0.01
            answered += 1
            schedule.answered(poll, now_s)
    assert answered >= 170
    assert not schedule.slaves[1].is_failing
    assert schedule.polls[1].misses.is_failing


def test_a_late_answer_has_time_to_arrive_before_the_next_request() -> None:
    """RTU has no numbers: the answer to the first request would be taken for that to the second one."""
    schedule = PollSchedule([polled(1)], timeout_s=1.0, now_s=0.0)
    schedule.missed(schedule.polls[0], 1.0)
    assert schedule.next()[1] == 2.0


def test_refused_registers_are_left_out_for_a_while() -> None:
    """The others are read meanwhile."""
    (poll,) = PollSchedule([polled(1, 0, 1, 2)], timeout_s=1.0, now_s=0.0).polls
    parts = poll.split(poll.blocks[0])
    assert parts is not None
    poll.refuse(parts[0], 5.0)
    assert poll.wanted(6.0) == [parts[1]]
    assert poll.wanted(66.0) == list(parts)


def test_maps_that_cannot_keep_their_interval_share_the_bus() -> None:
    """The order of the maps in the settings gives none of them more."""
    asked = simulate([polled(slave, interval_s=0.5) for slave in (1, 2, 3)], set(), until_s=100, answer_s=0.3)
    counts = Counter(slave for slave, _ in asked)
    assert min(counts.values()) >= 0.8 * max(counts.values())
