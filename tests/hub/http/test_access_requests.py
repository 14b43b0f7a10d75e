"""Access requests as a state machine: agents, operators and strangers in any order, at any time."""

from __future__ import annotations

import re

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.http.access_requests import (
    CODE_LETTERS,
    COLLECT_S,
    INTERVAL_S,
    LIFETIME_S,
    MAX_BURST,
    MAX_DECIDED,
    MAX_POLLS,
    MAX_WAITING,
    MAX_WAITING_OF_CLIENT,
    AccessRequest,
    AccessRequests,
    NewRequest,
    RequestState,
)

DEVICES = st.sampled_from(["boiler", "pump", *(f"d{number}" for number in range(12))])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"])


class AccessMachine(RuleBasedStateMachine):
    """A model of what each agent may learn: nothing without its secret, and the token once, after an approval."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = AccessRequests()
        self.now_s = 0.0
        self.asked: list[NewRequest] = []
        self.approved: set[str] = set()
        self.refused: set[str] = set()
        self.tokens: dict[str, int] = {}
        self.collecting: list[AccessRequest] = []

    @rule(device=DEVICES, address=ADDRESSES)
    def ask(self, device: str, address: str) -> None:
        asked = self.requests.ask(device, "agent/1", address, self.now_s)
        if isinstance(asked, float):
            assert asked > 0
            return
        assert re.fullmatch(f"[{CODE_LETTERS}]{{4}}-[{CODE_LETTERS}]{{4}}", asked.request.code)
        assert len(asked.secret) >= 43
        self.asked.append(asked)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), is_approved=st.booleans())
    def decide(self, data: st.DataObject, is_approved: bool) -> None:
        asked = data.draw(st.sampled_from(self.asked))
        waits = asked.request in self.requests.waiting(self.now_s)
        code = asked.request.code.replace("-", "").lower()
        decided = self.requests.decide(code, is_approved=is_approved, now_s=self.now_s)
        assert (decided is asked.request) == waits
        if waits:
            (self.approved if is_approved else self.refused).add(asked.request.code)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def poll(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.asked))
        code = asked.request.code
        outcome = self.requests.poll(asked.secret, self.now_s)
        if outcome.state == "approved":
            assert code in self.approved
            assert outcome.request is asked.request
            self.tokens[code] = self.tokens.get(code, 0) + 1
            self.collecting.append(asked.request)
        elif outcome.state == "refused":
            assert code in self.refused
        elif outcome.request is not None:
            assert (outcome.state, outcome.request.token_id) == ("expired", code)
        elif outcome.state == "slow_down":
            assert outcome.interval_s > INTERVAL_S

    @precondition(lambda self: self.collecting)
    @rule(is_created=st.booleans())
    def create(self, is_created: bool) -> None:
        request = self.collecting.pop()
        if is_created:
            self.requests.finish(request, request.code)
        else:
            self.tokens[request.code] -= 1
            self.requests.restore(request)

    @rule(guess=st.text(max_size=60))
    def guess(self, guess: str) -> None:
        """Neither a guess nor a code is a secret."""
        for secret in (guess, *(asked.request.code for asked in self.asked[-3:])):
            assert self.requests.poll(secret, self.now_s) == ("expired", INTERVAL_S, None)

    @rule(seconds=st.sampled_from([0.1, INTERVAL_S, 60.0, LIFETIME_S]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def nobody_receives_two_tokens(self) -> None:
        assert all(count <= 1 for count in self.tokens.values())

    @invariant()
    def lists_are_bounded(self) -> None:
        waiting = self.requests.waiting(self.now_s)
        assert len({request.code for request in waiting}) == len(waiting) <= MAX_WAITING
        for client in {request.client for request in waiting}:
            own = [request.device for request in waiting if request.client == client]
            assert len(set(own)) == len(own) <= MAX_WAITING_OF_CLIENT
        assert all(0 <= self.now_s - request.asked_s < LIFETIME_S for request in waiting)


TestAccessMachine = AccessMachine.TestCase
TestAccessMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def ask(requests: AccessRequests, device: str, address: str, now_s: float = 0.0) -> NewRequest:
    asked = requests.ask(device, "", address, now_s)
    assert isinstance(asked, NewRequest), asked
    return asked


def test_one_address_cannot_fill_the_list() -> None:
    """It has eight requests at most; another address still has room. After a decision there is room again."""
    requests = AccessRequests()
    own = [ask(requests, f"d{number}", "10.0.0.1") for number in range(MAX_WAITING_OF_CLIENT)]
    assert requests.ask("one-more", "", "10.0.0.1", 1.0) == LIFETIME_S - 1.0
    ask(requests, "other", "10.0.0.2", 1.0)
    requests.decide(own[0].request.code, is_approved=False, now_s=2.0)
    ask(requests, "one-more", "10.0.0.1", 2.0)


def test_an_agent_that_starts_again_replaces_its_request() -> None:
    """The list shows it once, with the new code. The old secret is worthless. In a loop it has to wait."""
    requests = AccessRequests()
    first = ask(requests, "boiler", "2001:db8::1")
    second = ask(requests, "boiler", "2001:db8::2", 1.0)
    assert requests.waiting(1.0) == [second.request]
    assert requests.poll(first.secret, 10.0).state == "expired"
    for _ in range(MAX_BURST - 2):
        ask(requests, "boiler", "2001:db8::1", 1.0)
    wait_s = requests.ask("boiler", "", "2001:db8::1", 1.0)
    assert isinstance(wait_s, float)
    ask(requests, "boiler", "2001:db8::1", 1.0 + wait_s + 0.1)


def test_many_addresses_displace_those_with_most_requests() -> None:
    """The newcomer replaces the oldest request of the address that has most, unless it has as many itself."""
    requests = AccessRequests()
    for client in range(MAX_WAITING // 4):
        for number in range(4):
            ask(requests, f"d{number}", f"10.0.1.{client}")
    newcomer = ask(requests, "boiler", "10.0.0.1", 1.0)
    waiting = requests.waiting(1.0)
    assert newcomer.request in waiting
    assert len(waiting) == MAX_WAITING
    alone = AccessRequests()
    for client in range(MAX_WAITING):
        ask(alone, "d", f"10.0.1.{client}")
    assert alone.ask("boiler", "", "10.0.0.1", 1.0) == LIFETIME_S - 1.0


def test_a_token_is_collected_once() -> None:
    """A second poll after the token was returned is `expired`, with the token to revoke; a third one is unknown."""
    requests = AccessRequests()
    asked = ask(requests, "boiler", "10.0.0.1")
    requests.decide(asked.request.code, is_approved=True, now_s=1.0)
    assert requests.poll(asked.secret, 5.0) == ("approved", INTERVAL_S, asked.request)
    assert requests.poll(asked.secret, 10.0).state == "waiting"  # its token is created meanwhile
    requests.finish(asked.request, "abc")
    assert requests.poll(asked.secret, 15.0) == ("expired", INTERVAL_S, asked.request)
    assert requests.poll(asked.secret, 20.0) == ("expired", INTERVAL_S, None)


def test_polls_have_a_pace_and_a_bound() -> None:
    """Each early poll adds five seconds to the interval. A request whose secret is polled without end is removed."""
    requests = AccessRequests()
    asked = ask(requests, "boiler", "10.0.0.1")
    assert requests.poll(asked.secret, 5.0) == ("waiting", INTERVAL_S, None)
    assert requests.poll(asked.secret, 6.0) == ("slow_down", 2 * INTERVAL_S, None)
    assert requests.poll(asked.secret, 16.0) == ("waiting", 2 * INTERVAL_S, None)
    states = {requests.poll(asked.secret, 16.0).state for _ in range(MAX_POLLS)}
    assert states == {"slow_down", "expired"}
    assert requests.waiting(16.0) == []


def test_a_late_decision_leaves_time_to_collect() -> None:
    """An approval in the last second is collected afterwards; decisions that nobody collects are bounded."""
    requests = AccessRequests()
    asked = ask(requests, "boiler", "10.0.0.1")
    decided_s = LIFETIME_S - 1
    requests.decide(asked.request.code, is_approved=True, now_s=decided_s)
    assert requests.poll(asked.secret, decided_s + COLLECT_S - 1).state == "approved"
    for number in range(MAX_DECIDED + 10):
        code = ask(requests, "d", f"10.1.{number // 250}.{number % 250}").request.code
        requests.decide(code, is_approved=False, now_s=1.0)
    assert len(requests) <= MAX_DECIDED + 1
    assert all(request.state is RequestState.WAITING for request in requests.waiting(1.0))
