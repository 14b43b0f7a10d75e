"""Tests of the bounds of attempts: failures to authenticate are penalised, and sign-ins have a rate."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.attempts import CLOSE_FROM, FREE_FAILURES, MAX_SIGN_IN_BURST, SIGN_INS_PER_S, FailedAttempts, SignInRate
from wire.limits import AUTHENTICATION_SECONDS

gaps_s = st.floats(0, 60)


def test_a_loop_of_failures_is_slowed_down_and_then_closed() -> None:
    """The first answers are immediate, the next ones later and later, then there are none."""
    failed = FailedAttempts()
    delays_s = [failed.record_failure("192.0.2.1", 0.0) for _ in range(3 * CLOSE_FROM)]
    assert delays_s[:FREE_FAILURES] == [0.0] * FREE_FAILURES
    assert delays_s[CLOSE_FROM - 1 :] == [None] * (2 * CLOSE_FROM + 1)
    rising = [delay_s for delay_s in delays_s[FREE_FAILURES - 1 : CLOSE_FROM - 1] if delay_s is not None]
    assert len(rising) == CLOSE_FROM - FREE_FAILURES
    assert all(later > earlier for earlier, later in pairwise(rising))


def test_each_address_has_its_own_penalty() -> None:
    """Other addresses get immediate answers."""
    failed = FailedAttempts()
    for _ in range(CLOSE_FROM):
        failed.record_failure("192.0.2.1", 0.0)
    assert failed.record_failure("192.0.2.2", 0.0) == 0.0


def test_failures_expire() -> None:
    """Any number of them expires within a minute."""
    failed = FailedAttempts()
    for _ in range(10_000):
        failed.record_failure("192.0.2.1", 0.0)
    assert failed.record_failure("192.0.2.1", 60.0) == 0.0


@given(st.lists(gaps_s, max_size=50))
def test_no_answer_waits_longer_than_an_unauthenticated_connection(gaps: list[float]) -> None:
    """This holds for any pattern of failures."""
    failed = FailedAttempts()
    now_s = 0.0
    for gap_s in gaps:
        now_s += gap_s
        delay_s = failed.record_failure("192.0.2.1", now_s)
        assert delay_s is None or 0.0 <= delay_s < AUTHENTICATION_SECONDS


@given(st.lists(st.tuples(gaps_s, st.integers(0, 10)), max_size=60))
def test_memory_is_bounded(failures: list[tuple[float, int]]) -> None:
    """This holds for any number of addresses."""
    failed = FailedAttempts(max_addresses=3)
    now_s = 0.0
    for gap_s, address in failures:
        now_s += gap_s
        failed.record_failure(f"192.0.2.{address}", now_s)
        assert len(failed) <= 3


def test_the_address_with_the_oldest_failure_is_removed_first() -> None:
    """A loop cannot reset its own count with one other address."""
    failed = FailedAttempts(max_addresses=2)
    for _ in range(CLOSE_FROM):
        failed.record_failure("192.0.2.1", 0.0)
        failed.record_failure("192.0.2.2", 0.0)
    failed.record_failure("192.0.2.1", 0.0)
    failed.record_failure("192.0.2.3", 0.0)
    assert failed.record_failure("192.0.2.1", 0.0) is None
    assert failed.record_failure("192.0.2.2", 0.0) == 0.0


def test_the_ipv6_addresses_of_one_machine_are_one_client() -> None:
    """A machine has a whole /64. An IPv4 address in IPv6 form is that IPv4 address. Any other text is a name."""
    failed = FailedAttempts()
    for number in range(CLOSE_FROM):
        failed.record_failure(f"2001:db8:0:1::{number:x}", 0.0)
        failed.record_failure(("::ffff:192.0.2.1", "192.0.2.1")[number % 2], 0.0)
        failed.record_failure("x" * 100 + str(number), 0.0)
    assert failed.record_failure("2001:db8:0:1:ffff::1", 0.0) is None
    assert failed.record_failure("192.0.2.1", 0.0) is None
    assert failed.record_failure("2001:db8:0:2::1", 0.0) == 0.0
    assert len(failed) == 4


def test_sign_ins_have_a_burst_and_a_rate() -> None:
    """After the burst a token waits; a refused sign-in does not count, and other tokens do not wait."""
    rate = SignInRate()
    assert [rate.record("a", 0.0) for _ in range(MAX_SIGN_IN_BURST)] == [0.0] * MAX_SIGN_IN_BURST
    waits = [rate.record("a", 0.0) for _ in range(1_000)]
    assert waits == [pytest.approx(1 / SIGN_INS_PER_S)] * 1_000
    assert rate.record("b", 0.0) == 0.0
    assert rate.record("a", 1.001 / SIGN_INS_PER_S) == 0.0
    assert rate.record("a", 1.001 / SIGN_INS_PER_S) > 0.0


def test_counted_sign_ins_are_bounded() -> None:
    """The token with the oldest last sign-in starts again."""
    rate = SignInRate(max_tokens=2)
    for token in ("a", "b", "c"):
        for _ in range(MAX_SIGN_IN_BURST):
            rate.record(token, 0.0)
    assert [rate.record(token, 0.0) > 0 for token in ("b", "c", "a")] == [True, True, False]
