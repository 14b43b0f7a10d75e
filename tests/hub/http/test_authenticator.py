"""Tests of the authenticator: it marks what it verified, reads changed tokens, and counts only invalid ones."""

from __future__ import annotations

from typing import Any

import pytest

from hub.http.access import SESSION_COOKIE, Access
from hub.http.attempts import CLOSE_FROM
from hub.http.authenticator import Authenticator, is_verified
from hub.http.refusals import RefusalCause, RequestRefused
from hub.model.identity import Identity, Role

VIEWER = Identity("v", Role.VIEWER)


class Tokens:
    """Tokens that are known, and one that another process has created, which the next refresh reads."""

    def __init__(self) -> None:
        self.known = {"old": VIEWER}
        self.refreshes = 0
        self.authenticator = Authenticator(Access(self.known.get, {"page": VIEWER}.get), self.refresh)

    async def refresh(self) -> None:
        self.refreshes += 1
        self.known["new"] = VIEWER


def request(token: str | None = None, *, cookie: str = "", client: str = "192.0.2.1") -> dict[str, Any]:
    """Return the scope of a request with a token or a cookie."""
    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    if cookie:
        headers.append((b"cookie", f"{SESSION_COOKIE}={cookie}".encode()))
    return {"type": "http", "method": "GET", "path": "/x", "client": (client, 1), "headers": headers}


async def test_a_verified_request_is_marked() -> None:
    """A request without a credential, or with an invalid one, is not."""
    tokens = Tokens()
    for scope, identity in ((request("old"), VIEWER), (request(cookie="page"), VIEWER), (request("wrong"), None)):
        assert await tokens.authenticator.identify(scope) == identity
        assert is_verified(scope) is (identity is not None)
    nothing = request()
    assert await tokens.authenticator.identify(nothing) is None
    assert (is_verified(nothing), tokens.authenticator.refusals.counts) == (
        False,
        {RefusalCause.NOT_AUTHENTICATED: 1},
    )


async def test_a_token_that_another_process_created_is_found() -> None:
    """The tokens are read again only for one that is not known."""
    tokens = Tokens()
    assert await tokens.authenticator.identify_token(request(), "old") == VIEWER
    assert tokens.refreshes == 0
    assert await tokens.authenticator.identify_token(request(), "new") == VIEWER
    assert (tokens.refreshes, tokens.authenticator.refusals.counts.total()) == (1, 0)


async def test_recognising_a_token_waits_for_nothing_and_counts_nothing() -> None:
    """A cookie is not recognised: its request may come from the page of another site."""
    tokens = Tokens()
    recognised = [tokens.authenticator.recognise(scope) for scope in (request("old"), request("new"), request())]
    assert recognised == [VIEWER, None, None]
    assert tokens.authenticator.recognise(request(cookie="page")) is None
    assert (tokens.refreshes, tokens.authenticator.refusals.counts.total()) == (0, 0)


async def test_too_many_failures_of_one_address_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid token from the same address is accepted at once."""
    monkeypatch.setattr("hub.http.attempts.DELAY_STEP_S", 0.0)
    tokens = Tokens()

    async def fail_often() -> None:
        for _ in range(2 * CLOSE_FROM):
            assert await tokens.authenticator.identify(request("wrong")) is None

    with pytest.raises(RequestRefused) as refused:
        await fail_often()
    assert refused.value.reason is RefusalCause.TOO_MANY_FAILURES
    assert await tokens.authenticator.identify(request("old")) == VIEWER
    assert await tokens.authenticator.identify(request("wrong", client="192.0.2.2")) is None
