"""Access requests of agents without a token, after the device authorization grant (RFC 8628). Pure.

An agent asks, and shows a short code. An operator compares the code and decides. The agent polls with a secret, and
receives its token once. The requests are in memory: a stranger writes nothing to the disk, and an agent asks again
after a restart of the hub.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from hub.http.leaky_bucket import LeakyBuckets
from hub.http.refusals import client_of

CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Letters of a code: no vowels, so that no words arise, and none that looks like a digit (RFC 8628, 6.1)."""

CODE_LENGTH = 8
"""34 bits. A code is compared by a person and grants nothing, so it needs no more."""

SECRET_BYTES = 32
"""256 random bits, with which the agent polls."""

LIFETIME_S = 600.0
"""Time for a person to decide. Then the agent asks again, with another code."""

COLLECT_S = 60.0
"""Least time to collect the token after the decision, for one that is made at the end of the lifetime."""

INTERVAL_S = 3.0
"""Time between two polls (RFC 8628, 3.2), and what a poll that comes too early adds to it (3.5)."""

EARLY_S = 1.0
"""A poll may come this much too early: timers and networks are not exact."""

MAX_POLLS = 400
"""Polls of one request: almost twice those of an agent that keeps the interval. At the bound the request ends."""

MAX_WAITING = 128
"""Requests that wait for a decision: more than a person can compare. At the bound the oldest of the client that has
most ends, unless the new one's client has as many."""

MAX_WAITING_OF_CLIENT = 8
"""Waiting requests of one address. At the bound a new request is refused until one of them is decided or expires."""

MAX_DECIDED = 256
"""Decided requests whose agent has not polled since. At the bound the oldest is removed, and its agent asks again."""

MAX_BURST = 16
"""Requests of one address at once."""

REQUESTS_PER_S = 1 / 60
"""Requests of one address in the long run."""

MAX_CLIENTS = 4_096
"""Addresses whose requests are counted, in about 1 MB. At the bound the one that asked first starts again at 0."""


class RequestState(StrEnum):
    """State of a request. `COLLECTING` lasts while the hub creates the token."""

    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    COLLECTING = "collecting"
    COLLECTED = "collected"


@dataclass(slots=True, eq=False)
class AccessRequest:
    """A request of an agent. Times are seconds of a monotonic clock. `token_id` names the token that it received."""

    code: str
    digest: bytes
    device: str
    program: str
    address: str
    asked_s: float
    expires_s: float
    next_poll_s: float
    interval_s: float = INTERVAL_S
    state: RequestState = RequestState.WAITING
    polls: int = 0
    token_id: str | None = None

    @property
    def client(self) -> str:
        """The client that the bounds count."""
        return client_of(self.address)


class NewRequest(NamedTuple):
    """A request with its secret, which only the agent receives."""

    request: AccessRequest
    secret: str


PollState = Literal["waiting", "slow_down", "approved", "refused", "expired"]


class PollOutcome(NamedTuple):
    """Answer to a poll: the state for the agent, and the request if the hub has to act on it.

    `approved` comes with the request to create a token for. A request that was collected before is `expired`, and its
    token has to be revoked: the answer with the token was lost, or somebody else has the secret.
    """

    state: PollState
    interval_s: float = INTERVAL_S
    request: AccessRequest | None = None


def random_code() -> str:
    """Return a new code, such as WDJB-MJHT."""
    letters = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def written_code(text: str) -> str:
    """Return a code as the hub writes it; people leave the hyphen out, or type small letters."""
    letters = "".join(letter for letter in text.upper() if letter not in " -")
    return f"{letters[:4]}-{letters[4:]}"


class AccessRequests:
    """The requests that wait for a decision, or for their agent. `now_s` is the time of a monotonic clock."""

    def __init__(self, new_code: Callable[[], str] = random_code) -> None:
        self._new_code = new_code
        self._requests: dict[bytes, AccessRequest] = {}
        self._rate = LeakyBuckets(leak_per_s=REQUESTS_PER_S, capacity=MAX_BURST, max_sources=MAX_CLIENTS)

    def __len__(self) -> int:
        return len(self._requests)

    def ask(self, device: str, program: str, address: str, now_s: float) -> NewRequest | float:
        """Add a request; return the seconds after which the client may ask again at one of the bounds.

        It replaces a waiting one of the same address for the same device: the agent was started again.
        """
        self._expire(now_s)
        client = client_of(address)
        wait_s = (self._rate.level(client, now_s) + 1 - MAX_BURST) / REQUESTS_PER_S
        if wait_s > 0:
            return wait_s
        earlier = [request for request in self.waiting(now_s) if request.client == client]
        kept = [request for request in earlier if request.device != device]
        if len(kept) >= MAX_WAITING_OF_CLIENT:
            return kept[0].expires_s - now_s
        for request in earlier:
            if request.device == device:
                self._remove(request)
        wait_s = self._make_room(len(kept), now_s)
        if wait_s > 0:
            return wait_s
        self._rate.add(client, 1, now_s)
        secret = secrets.token_urlsafe(SECRET_BYTES)
        request = AccessRequest(
            self._unused_code(), _digest(secret), device, program, address, now_s, now_s + LIFETIME_S,
            now_s + INTERVAL_S - EARLY_S,
        )  # fmt: skip
        self._requests[request.digest] = request
        return NewRequest(request, secret)

    def waiting(self, now_s: float) -> list[AccessRequest]:
        """Return the requests that wait for a decision, the oldest first."""
        self._expire(now_s)
        return [request for request in self._requests.values() if request.state is RequestState.WAITING]

    def decide(self, code: str, *, is_approved: bool, now_s: float) -> AccessRequest | None:
        """Approve or refuse the waiting request with this code; None if there is none."""
        code = written_code(code)
        request = next((found for found in self.waiting(now_s) if found.code == code), None)
        if request is None:
            return None
        request.state = RequestState.APPROVED if is_approved else RequestState.REFUSED
        request.expires_s = max(request.expires_s, now_s + COLLECT_S)
        decided = [found for found in self._requests.values() if found.state is not RequestState.WAITING]
        for oldest in decided[: max(0, len(decided) - MAX_DECIDED)]:
            self._remove(oldest)
        return request

    def poll(self, secret: str, now_s: float) -> PollOutcome:
        """Return the state of the request with this secret: `waiting`, `slow_down`, `approved`, `refused` or `expired`.

        An approved request is COLLECTING afterwards: `finish` or `restore` must follow.
        """
        self._expire(now_s)
        request = self._requests.get(_digest(secret))
        if request is None:
            return PollOutcome("expired")
        request.polls += 1
        if request.polls > MAX_POLLS:
            self._remove(request)
            return PollOutcome("expired")
        is_early = now_s < request.next_poll_s
        if is_early:
            request.interval_s += INTERVAL_S
        request.next_poll_s = now_s + request.interval_s - EARLY_S
        if is_early:
            return PollOutcome("slow_down", request.interval_s)
        return self._answer(request)

    def _answer(self, request: AccessRequest) -> PollOutcome:
        match request.state:
            case RequestState.APPROVED:
                request.state = RequestState.COLLECTING
                return PollOutcome("approved", request.interval_s, request)
            case RequestState.REFUSED:
                self._remove(request)
                return PollOutcome("refused")
            case RequestState.COLLECTED:
                self._remove(request)
                return PollOutcome("expired", request=request)
            case _:
                return PollOutcome("waiting", request.interval_s)

    def finish(self, request: AccessRequest, token_id: str) -> None:
        """Record that the agent receives this token now."""
        request.state, request.token_id = RequestState.COLLECTED, token_id

    def restore(self, request: AccessRequest) -> None:
        """Let the agent try again: its token could not be created."""
        request.state = RequestState.APPROVED

    def _make_room(self, own: int, now_s: float) -> float:
        """End the oldest request of the client that has most, if there are too many; return the seconds to wait."""
        waiting = self.waiting(now_s)
        if len(waiting) < MAX_WAITING:
            return 0.0
        counts = Counter(request.client for request in waiting)
        client, most = counts.most_common(1)[0]
        if most <= own + 1:
            return max(1.0, waiting[0].expires_s - now_s)
        self._remove(next(request for request in waiting if request.client == client))
        return 0.0

    def _unused_code(self) -> str:
        used = {request.code for request in self._requests.values()}
        while (code := self._new_code()) in used:
            pass
        return code

    def _expire(self, now_s: float) -> None:
        for request in list(self._requests.values()):
            if now_s >= request.expires_s and request.state is not RequestState.COLLECTING:
                self._remove(request)

    def _remove(self, request: AccessRequest) -> None:
        self._requests.pop(request.digest, None)


def _digest(secret: str) -> bytes:
    """Return the digest of a secret: the time of a lookup reveals nothing that helps to find the input of a SHA-256."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()
