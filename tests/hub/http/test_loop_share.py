"""Tests of the share of the event loop: an address gets it in the long run, and no other one pays for it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.loop_share import BURST_S, MAX_DELAY_S, ROUND, SHARE, LoopShares, TurnQueues

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def test_a_burst_is_free_and_only_the_address_that_used_it_waits() -> None:
    """Then it waits until its share has paid for what is beyond the burst."""
    shares = LoopShares()
    shares.charge(ONE, BURST_S, 0.0)
    assert shares.delay_s(ONE, 0.0) == 0
    shares.charge(ONE, SHARE / 2, 0.0)
    assert abs(shares.delay_s(ONE, 0.0) - 0.5) < 1e-9
    assert shares.delay_s(ONE, 0.5) < 1e-9
    assert shares.delay_s(OTHER, 0.0) == 0


@given(st.lists(st.floats(0, 0.02), min_size=1, max_size=200), st.floats(0, 0.01))
def test_one_request_after_the_other_uses_no_more_than_the_share(costs: list[float], pause_s: float) -> None:
    """Over any time, apart from the burst and the last request."""
    shares, now_s, used_s = LoopShares(), 0.0, 0.0
    for cost in costs:
        now_s += pause_s
        while delay_s := shares.delay_s(ONE, now_s):
            now_s += delay_s + 1e-9
        assert used_s <= BURST_S + SHARE * now_s + max(costs) + 1e-6
        now_s += cost
        used_s += cost
        shares.charge(ONE, cost, now_s)


def test_the_delay_is_bounded_and_ends_soon() -> None:
    """However much an address has used."""
    shares = LoopShares()
    shares.charge(ONE, 1000.0, 0.0)
    assert shares.delay_s(ONE, 0.0) == MAX_DELAY_S
    assert shares.delay_s(ONE, 3 * MAX_DELAY_S) == 0


def test_memory_is_bounded() -> None:
    """The address that was silent for longest is removed; the addresses of one machine count as one."""
    shares = LoopShares(max_addresses=3)
    for number in (1, 2, 3, 1, 4):
        shares.charge(f"192.0.2.{number}", 10.0, 0.0)
    assert shares.addresses == 3
    assert [shares.delay_s(f"192.0.2.{number}", 0.0) > 0 for number in (1, 2, 3, 4)] == [True, False, True, True]
    shares.charge("2001:db8::1", 10.0, 0.0)
    assert shares.delay_s("2001:db8::2", 0.0) > 0


async def test_the_turns_of_an_address_are_taken_one_after_the_other() -> None:
    """However many connections wait: after each turn the share is checked again."""
    loop = asyncio.get_running_loop()
    shares = LoopShares(share=1.0)
    queues, taken_s = TurnQueues(shares), list[float]()
    shares.charge(ONE, 0.5, loop.time())
    finished = asyncio.Event()

    def turn() -> None:
        taken_s.append(loop.time())
        shares.charge(ONE, 0.02, loop.time())
        if len(queues) == 0:
            finished.set()

    begin_s = loop.time()
    for owner in range(20):
        queues.wait(ONE, owner, turn)
    assert (queues.has_room(ONE, loop.time()), queues.has_room(OTHER, loop.time())) == (False, True)
    await finished.wait()
    assert len(taken_s) == 20
    assert taken_s[-1] - begin_s >= 19 * 0.02


async def test_new_connections_and_first_and_later_turns_alternate() -> None:
    """Within a kind the oldest one precedes."""
    shares, order = LoopShares(), list[object]()
    queues = TurnQueues(shares)
    finished = asyncio.Event()

    def taken(owner: str) -> None:
        order.append(owner)
        if len(queues) == 0:
            finished.set()

    for owner, is_new, is_first in (
        ("later 1", False, False),
        ("new 1", True, False),
        ("later 2", False, False),
        ("new 2", True, False),
        ("first 1", False, True),
        ("new 3", True, False),
        ("gone", False, False),
        ("first 2", False, True),
    ):
        queues.wait(ONE, owner, partial(taken, owner), is_new=is_new, is_first=is_first)
    queues.leave("gone")
    assert (queues.count_new(ONE), queues.oldest_new(ONE)) == (3, "new 1")
    await finished.wait()
    assert order == ["new 1", "first 1", "later 1", "new 2", "first 2", "later 2", "new 3"]


class Strangers:
    """Clients without a token at the address of one that has a token, and connects after some of their turns.

    Their turns are counted until that one has had its two.
    """

    def __init__(self, most: int, earlier: int = 0) -> None:
        """Give up after `most` turns. `earlier` turns precede the client."""
        self.queues = TurnQueues(LoopShares())
        self._most = most
        self._turns = -earlier
        self._finished = asyncio.Event()

    def take_turn(self) -> None:
        self._turns += 1
        if self._turns == 0:
            self.connect_client()
        elif self._turns >= self._most:
            self._finished.set()

    def connect_client(self) -> None:
        def send() -> None:
            self.queues.wait(ONE, "client", self._finished.set, is_first=True)

        self.queues.wait(ONE, "client", send, is_new=True)

    def connect(self, owner: int) -> None:
        """Connect, send a first request, close, and connect again, without end."""
        self.queues.wait(ONE, owner, partial(self._send, owner), is_new=True)

    def _send(self, owner: int) -> None:
        self.take_turn()
        self.queues.wait(ONE, owner, partial(self._close, owner), is_first=True)

    def _close(self, owner: int) -> None:
        self.take_turn()
        if not self._finished.is_set():
            self.connect(owner)

    async def turns_before_client(self) -> int:
        """Return the number of their turns from the connection of the client until it has had its two turns."""
        if self._turns == 0:
            self.connect_client()
        await self._finished.wait()
        return self._turns


@pytest.mark.parametrize("earlier", range(4))
@pytest.mark.parametrize("count", [1, 2, 4, 32, ROUND - 1])
async def test_a_client_waits_for_one_round_however_fast_others_connect_again(count: int, earlier: int) -> None:
    """Each of the other connections of its address has two turns meanwhile, at most."""
    strangers = Strangers(1000, earlier)
    for owner in range(count):
        strangers.connect(owner)
    assert await strangers.turns_before_client() <= 2 * (count + 1)


async def test_a_client_does_not_wait_for_a_crowd_that_is_there() -> None:
    """Beyond a round, the newest has every second turn of its kind."""
    strangers = Strangers(1000)
    for owner in range(1000):
        kind = owner % 3
        strangers.queues.wait(ONE, owner, strangers.take_turn, is_new=kind == 0, is_first=kind == 1)
    assert await strangers.turns_before_client() <= 12


@pytest.mark.parametrize("earlier", range(4))
async def test_a_crowd_whose_clients_connect_again_starves_nobody(earlier: int) -> None:
    """Every second turn is that of the oldest."""
    strangers = Strangers(10_000, earlier)
    for owner in range(4 * ROUND):
        strangers.connect(owner)
    assert await strangers.turns_before_client() <= 4 * (4 * ROUND + 1)


async def test_a_refund_wakes_the_next_turn() -> None:
    """The turns of a client with a valid token do not wait for the time that it gets back."""
    loop = asyncio.get_running_loop()
    shares = LoopShares(share=1e-6)
    queues, taken = TurnQueues(shares), asyncio.Event()
    shares.charge(ONE, BURST_S * 1.5, loop.time())
    begin_s = loop.time()
    queues.wait(ONE, "owner", taken.set)
    shares.refund(ONE, BURST_S, loop.time())
    await taken.wait()
    assert loop.time() - begin_s < MAX_DELAY_S / 2
    assert shares.delay_s(ONE, loop.time()) == 0


async def test_refunds_do_not_postpone_the_next_turn() -> None:
    """A client that gets time back again and again, beside one that uses more, does not delay its own address."""
    loop = asyncio.get_running_loop()
    shares = LoopShares()
    queues, taken = TurnQueues(shares), asyncio.Event()
    shares.charge(ONE, BURST_S + 0.1 * SHARE, loop.time())
    begin_s = loop.time()
    queues.wait(ONE, "owner", taken.set)
    while not taken.is_set() and loop.time() < begin_s + 3 * MAX_DELAY_S:
        shares.charge(ONE, 2 * SHARE, loop.time())
        shares.refund(ONE, 0.0, loop.time())
        await asyncio.sleep(0)
    assert taken.is_set()
